"""What a verification says: how much it read, how fast, and what it found."""

from __future__ import annotations

import msgspec

from tasker.replay.findings import Finding


class VerifyProgress(msgspec.Struct, frozen=True):
    """How far a verification is, in events; `of` is what the log had when it began."""

    events: int
    of: int


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a verification.

    Attributes:
        position: token of the last event of each shard that was read: the log is proved up to here.
        rows: of the views, compared at their checkpoints.
        findings: the first ones; findings_total counts all of them.
    """

    events: int
    tasks: int
    shards: int
    rows: int
    position: str
    findings: list[Finding]
    findings_total: int
    seconds: float
    events_per_s: float
    workers: int

    @property
    def ok(self) -> bool:
        """Return whether nothing was found."""
        return self.findings_total == 0
