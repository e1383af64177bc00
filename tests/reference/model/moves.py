"""What follows from what: the words in which the parts of the model speak to each other.

A step that is done lets others begin, which may fail at once, which may end the task. Each of these words is said by
many parts, and has its meaning in one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from tests.reference.model.outlook import Outlook


class Moves(Outlook, ABC):
    """A task that moves."""

    @abstractmethod
    def _look(self, step: str) -> None:
        """Let a step begin if its parents say so."""

    @abstractmethod
    def _does_not_run(self, steps: Sequence[str]) -> None:
        """Settle that these steps do not run in this visit."""

    @abstractmethod
    def _next_items(self, node: str) -> None:
        """Let the next items of a list begin, or the list end."""

    @abstractmethod
    def _done(self, name: str, result: Any) -> None:
        """Let an instance be done, and others follow it."""

    @abstractmethod
    def _failed(self, name: str) -> None:
        """Let an instance have failed for good."""

    @abstractmethod
    def _cancelled(self, name: str) -> None:
        """Let an instance be cancelled."""

    @abstractmethod
    def _after(self, step: str) -> None:
        """Look at the children of a step that is done, cancelled or does not run."""

    @abstractmethod
    def _look_at_failures_ahead(self, step: str) -> None:
        """Look again at parents that failed: this step may need them no more."""

    @abstractmethod
    def _stop(self, ending: str, *, graceful: bool = True) -> None:
        """Let the task end so, once what is open has stopped."""

    @abstractmethod
    def _rest(self) -> None:
        """Say what is to be said when nothing moves by itself: a loop turns, or the task ends, undoes or is blocked."""

    def _goes_on(self) -> None:
        if self.status == "blocked":
            self.status = "compensating" if self.to_undo else "running"
