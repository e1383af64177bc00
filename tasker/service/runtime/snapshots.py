"""When the state of a long stream is kept, and how that is written.

    turn  the events since the last snapshot are many: the state is encoded, as of the turn's last event
    commit  what was encoded is noted here; a turn that fails takes it along
    behind  with the next write of due rows it goes to the log, under the shard's epoch

So a short stream costs a comparison a turn, a snapshot nobody's answer waits for, and a process that dies between
commit and write loses one that nobody misses: the fold is longer by so many events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

import msgspec

from tasker.errors import Unavailable
from tasker.events.history import History
from tasker.events.log import EventLog, Snapshot
from tasker.service.runtime.actor import Kept

SNAPSHOT_EVENTS: Final = 500
"""A state is kept after so many events, or later when they have fewer bytes than it."""

WRITE_BYTES_MAX: Final = 4 * 1024 * 1024
"""In one statement, but for one that is larger by itself."""


class SnapshotPace:
    """How long ago the state of a stream was kept: one for each actor whose state is.

    What is written is at most as much as the events themselves, however large the state is.
    """

    __slots__ = ("_bytes", "_events", "_state_bytes")

    def __init__(self, history: History) -> None:
        kept = history.snapshot
        self._state_bytes = 0 if kept is None else len(kept.state)
        self._events = history.seq - (0 if kept is None else kept.seq)
        self._bytes = self._state_bytes if self._events >= SNAPSHOT_EVENTS else 0

    def took(self, events: int, payload_bytes: int) -> bool:
        """Take note of a turn's events; returns whether the state is to be kept."""
        self._events += events
        self._bytes += payload_bytes
        return self._events >= SNAPSHOT_EVENTS and self._bytes >= self._state_bytes

    def take(self, actor: object, shard: int, stream_id: UUID, seq: int) -> Snapshot:
        """Return the actor's state as of event `seq`, its position yet unknown; the counting begins anew."""
        assert isinstance(actor, Kept)  # noqa: S101 - the state of another is not counted
        state = actor.form.encode(actor.state)
        self._events = self._bytes = 0
        self._state_bytes = len(state)
        return Snapshot(
            shard=shard,
            stream_id=stream_id,
            position=0,
            seq=seq,
            form=actor.form.number,
            kind=actor.form.kind,
            state=state,
        )


class SnapshotBook:
    """The snapshots that are to be written: the newest of each stream."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._notes: dict[UUID, Snapshot] = {}

    def __len__(self) -> int:
        return len(self._notes)

    def note(self, snapshot: Snapshot, position: int) -> None:
        """Take up a snapshot whose event was committed at `position`."""
        self._notes[snapshot.stream_id] = msgspec.structs.replace(snapshot, position=position)

    async def write(self, epoch_of: Callable[[int], int | None]) -> None:
        """Write what is noted; of a shard that is not ours any more (None) it is forgotten.

        Raises:
            Unavailable: the rest is written by the next call.
        """
        while self._notes:
            page: dict[UUID, Snapshot] = {}
            size = 0
            while self._notes and size < WRITE_BYTES_MAX:
                stream_id = next(iter(self._notes))
                snapshot = self._notes.pop(stream_id)
                if epoch_of(snapshot.shard) is not None:
                    page[stream_id] = snapshot
                    size += len(snapshot.state)
            epochs = {shard: epoch for shard in {one.shard for one in page.values()} if (epoch := epoch_of(shard))}
            if not page:
                return
            try:
                await self._log.write_snapshots(list(page.values()), epochs)
            except Unavailable:
                self._notes = {**page, **self._notes}
                raise
