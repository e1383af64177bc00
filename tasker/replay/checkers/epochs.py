"""I3: the events of a shard never go back to a lower owner epoch, nor in time."""

from __future__ import annotations

from tasker.events.envelope import RecordedEvent
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report


class EpochsChecker:
    """Checks one shard."""

    def __init__(self, shard: int, report: Report) -> None:
        self._shard = shard
        self._report = report
        self._epoch = 0
        self._at_us = 0

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:  # noqa: ARG002 - the checkers' protocol
        """Check the next event of the shard."""
        if recorded.epoch < self._epoch:
            self._find(recorded, f"epoch {recorded.epoch} follows {self._epoch}")
        if recorded.at_us < self._at_us:
            self._find(recorded, f"its time lies {self._at_us - recorded.at_us} us before that of the event before it")
        self._epoch = recorded.epoch
        self._at_us = recorded.at_us

    def close(self) -> None:
        """Do nothing: every event was compared."""

    def _find(self, recorded: RecordedEvent, detail: str) -> None:
        self._report(
            Finding(
                invariant=Invariant.EPOCHS,
                shard=self._shard,
                position=recorded.position,
                task_id=str(recorded.stream_id),
                detail=detail,
            )
        )
