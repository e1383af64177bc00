"""I2, the index of streams: it says of each stream where it begins, since loads start reading there.

A row may be gone once its task has ended (keys are kept for a time); a row that is there must be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from tasker.events.envelope import RecordedEvent
from tasker.events.task_events import ENDING_TYPES
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report


class IndexedChecker:
    """Checks one shard: births gather in `due` until they are compared."""

    def __init__(self, shard: int, report: Report) -> None:
        self._shard = shard
        self._report = report
        self._missing: dict[UUID, int] = {}
        self.due: dict[UUID, int] = {}
        """Stream -> its first position, of the streams born since the last comparison; negative once it has ended."""

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:  # noqa: ARG002 - the checkers' protocol
        """Note the births and ends of streams."""
        if recorded.seq == 1:
            self.due[recorded.stream_id] = recorded.position
        elif recorded.type in ENDING_TYPES:
            born = self.due.get(recorded.stream_id)
            if born is not None:
                self.due[recorded.stream_id] = -born
            else:
                self._missing.pop(recorded.stream_id, None)

    def compare(self, index: Mapping[UUID, tuple[int, int]]) -> None:
        """Compare what is due with its rows of the index (stream -> shard, first position)."""
        for stream_id, born in self.due.items():
            found = index.get(stream_id)
            if found is None:
                if born > 0:
                    self._missing[stream_id] = born
            elif found != (self._shard, abs(born)):
                detail = f"the index has the stream at {found[0]}:{found[1]}, it begins at {self._shard}:{abs(born)}"
                self._find(stream_id, abs(born), detail)
        self.due.clear()

    def close(self) -> None:
        """Check that every stream that goes on is in the index, after everything was compared."""
        for stream_id, born in self._missing.items():
            self._find(stream_id, born, "the stream goes on and is not in the index of streams")

    def _find(self, stream_id: UUID, position: int, detail: str) -> None:
        self._report(
            Finding(
                invariant=Invariant.COMPLETE,
                shard=self._shard,
                position=position,
                task_id=str(stream_id),
                detail=detail,
            )
        )
