"""The word to an actor that obligations of it were lost: see `runtime.reconciler`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

from tasker.errors import TaskerError

OBLIGATIONS_TOLD: Final = 100
"""Most obligations of one repair; the next pass finds the others."""


class LostObligations:
    """Obligations that nothing would ever have seen to; `repaired` gets how many of them were still open."""

    __slots__ = ("lost", "obligations", "repaired")

    def __init__(
        self, lost: Literal["forgotten", "not_woken"], obligations: Sequence[str], repaired: Callable[[int], None]
    ) -> None:
        self.lost = lost
        self.obligations = tuple(obligations)[:OBLIGATIONS_TOLD]
        self.repaired = repaired

    def fail(self, error: TaskerError) -> None:
        """Do nothing: they are found again."""
