"""What a check found: which promise is broken, and where.

The invariants are those of `docs/explanation/failure-model.md`; each has its checker in `checkers/`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

FINDINGS_KEPT: Final = 1_000
"""A collection keeps so many findings and counts the rest: a damaged log must not fill the memory."""


class Invariant(StrEnum):
    """A promise that a checker holds the log, the stream, the views or a sink to."""

    ACKNOWLEDGED = "I1"
    COMPLETE = "I2"
    EPOCHS = "I3"
    PUBLISHED = "I4"
    PROJECTED = "I5"
    ONCE = "I7"
    ORDER = "I8"
    TIMELY = "I9"
    BOUNDED = "I11"
    METERED = "I13"
    SNAPSHOT = "snapshot"
    """Every snapshot is what the events up to its own give."""
    FOLD = "fold"
    """Every recorded event is understood and folds into its task."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place where a promise is broken.

    Attributes:
        position: of the event, or of the first one concerned; last_position: of the last one, when they are several.
    """

    invariant: Invariant
    detail: str
    shard: int | None = None
    position: int | None = None
    last_position: int | None = None
    task_id: str | None = None


Report = Callable[[Finding], None]
"""Takes a finding: what every checker is given."""


class Findings:
    """Collects findings, the first `FINDINGS_KEPT` of them in full.

    Attributes:
        kept: the first ones, in the order in which they were found.
        counts: how many there are of each invariant, all of them counted.
    """

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.counts: dict[Invariant, int] = {}

    @property
    def total(self) -> int:
        """Return how many there are."""
        return sum(self.counts.values())

    def add(self, finding: Finding) -> None:
        """Take `finding`."""
        self.counts[finding.invariant] = self.counts.get(finding.invariant, 0) + 1
        if len(self.kept) < FINDINGS_KEPT:
            self.kept.append(finding)

    def take(self, others: Findings) -> None:
        """Take all that others have collected; what they did not keep is counted."""
        for invariant, count in others.counts.items():
            self.counts[invariant] = self.counts.get(invariant, 0) + count
        self.kept += others.kept[: FINDINGS_KEPT - len(self.kept)]
