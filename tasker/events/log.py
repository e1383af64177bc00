"""The event log: its protocol and what every implementation promises.

The log is divided into shards; a shard has one owner at a time, who numbers its positions. An owner
took the shard by a lease, which raised the shard's `epoch`. Every append states the epoch and the
position it continues, so a former owner's append changes nothing (`FENCED`), however late it comes. Nor does
one of an owner under whom the log was restored to an earlier time: it has its epoch, and knows of events that
the log has not. What an owner keeps beside the events (`due`, snapshots, cursors) is fenced in the same way.

An append is for several shards at once and succeeds per shard, never for a part of a shard:

| outcome    | meaning                                                                                |
|------------|----------------------------------------------------------------------------------------|
| `APPENDED` | committed, durable                                                                     |
| `FENCED`   | the epoch is no longer ours, or the log does not reach the position that the append    |
|            | continues: it was restored to an earlier time; nothing was or will be written          |
| `REFUSED`  | the epoch is ours, but these events cannot be written (a stream born twice, a position |
|            | that is taken, a value the store refuses); nothing was written; a part of them may     |
|            | succeed                                                                                |
| `UNKNOWN`  | the answer was lost; `settle` finds out                                                |

`contracts/event_log.py` in the tests holds every implementation to this.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from enum import Enum
from typing import Final, Protocol
from uuid import UUID

import msgspec

from tasker.events.envelope import NewEvent, RecordedEvent


class AppendOutcome(Enum):
    """How one shard's part of an append ended."""

    APPENDED = "appended"
    FENCED = "fenced"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class ShardAppend(msgspec.Struct, frozen=True):
    """One shard's part of an append: `events` continue `position` under `epoch`.

    Attributes:
        position: the last position before these events; 0 for an empty shard.
        known: the chain's digest there, so that nothing is joined to another past than its owner knows.
        digest: the chain's digest after these events, computed by the owner (`chain.py`).
        events: at least one. No batch of the chain crosses a partition (`partition_end`):
        border: events that do are two batches; this is the number of those before the border, and the
            digest after them. None: all are in one partition.
    """

    shard: int
    epoch: int
    position: int
    known: bytes
    digest: bytes
    events: Sequence[NewEvent]
    border: tuple[int, bytes] | None = None

    def fits(self, partition_end: Callable[[int], int]) -> bool:
        """Return whether no batch of these events crosses a partition."""
        last = self.position + len(self.events)
        end = partition_end(self.position + 1)
        if self.border is None:
            return last <= end
        return self.position + self.border[0] == end < last <= partition_end(end + 1)


class LogInfo(msgspec.Struct, frozen=True):
    """What a log says of itself.

    Attributes:
        log_id: short random id, drawn when the log is made, and anew by `renew_log` after a restore to an earlier time.
        slots: slots of the hash ring.
        shard_of_slot: the shard of each slot, by slot.
    """

    log_id: str
    slots: int
    shard_of_slot: tuple[int, ...]

    @property
    def shards(self) -> int:
        """Return how many shards the slots are dealt to."""
        return max(self.shard_of_slot) + 1


class Head(msgspec.Struct, frozen=True):
    """A shard's head: who owns it and how far it goes.

    Attributes:
        position: the last event's; 0 when empty.
        digest: the chain's digest there (`chain.GENESIS` when empty); None: the event ends no batch, which is damage:
            nobody can go on behind it.
        at_us: the last event's time; 0 when empty.
    """

    shard: int
    epoch: int
    owner: str | None
    position: int
    digest: bytes | None
    at_us: int


class Lease(msgspec.Struct, frozen=True):
    """What an owner holds.

    Attributes:
        epochs: shard -> epoch, of every shard that is ours at the moment of the answer.
        now_us: the log's clock at that moment.
    """

    epochs: dict[int, int]
    now_us: int


class Due(msgspec.Struct, frozen=True):
    """An obligation's durable home: what wakes a task's actor when nothing else does.

    A hint, never a fact: the actor is asked when `at_us` comes and decides from its state.
    """

    shard: int
    stream_id: UUID
    obligation: str
    at_us: int


class DueChange(msgspec.Struct, frozen=True):
    """One shard's changes since its last checkpoint, written in one transaction with it.

    Attributes:
        epoch: the owner's; another one changes nothing.
        position: the checkpoint: every event up to here is in the rows after this change.
        upserts: (stream, obligation, at_us).
        deletes: (stream, obligation).
    """

    shard: int
    epoch: int
    position: int
    upserts: Sequence[tuple[UUID, str, int]]
    deletes: Sequence[tuple[UUID, str]]


class Snapshot(msgspec.Struct, frozen=True):
    """A stream's state as of one of its events; see `history.py`.

    Attributes:
        seq, position: of the last event in it.
        form: how `state` is written; forms are counted by kind.
    """

    shard: int
    stream_id: UUID
    position: int
    seq: int
    form: int
    kind: str
    state: bytes


class Loaded(msgspec.Struct):
    """The newest of a stream, and how to begin with it.

    Attributes:
        snapshot: the one that is kept of it, whether or not it fits.
        events: by `seq`: from the snapshot's own event on, else from the first; at most `HISTORY_PAGE_EVENTS`, and the
            others are for `load_stream`.
    """

    snapshot: Snapshot | None
    events: list[RecordedEvent]


HISTORY_PAGE_EVENTS: Final = 2_000


class EventLog(Protocol):
    """The log as its owner and its readers see it. Every method may raise `Unavailable`."""

    async def info(self) -> LogInfo:
        """Return the log's constants, read once."""
        ...

    def partition_end(self, position: int) -> int:
        """Return the last position of the partition that holds `position`; a batch ends there at the latest."""
        ...

    # ---- ownership

    async def acquire(self, owner: str, shards: Sequence[int], lease_s: float) -> Lease:
        """Take those of `shards` whose lease has run out (or is ours): each one's epoch is raised.

        Waits for appends in flight; none under an older epoch can land afterwards.

        Raises:
            ConfigurationError: the log has another id by now than `info` says. Nothing was taken.
        """
        ...

    async def renew(self, owner: str, lease_s: float) -> Lease:
        """Prolong every lease that `owner` holds; returns what it still holds. Never raises an epoch.

        Raises:
            ConfigurationError: the log has another id by now than `info` says.
        """
        ...

    async def release(self, owner: str) -> None:
        """Give up every lease of `owner` at once, for a quick handover."""
        ...

    async def heads(self, shards: Sequence[int]) -> list[Head]:
        """Return the heads of `shards`, ascending."""
        ...

    # ---- writing

    async def append(self, parts: Sequence[ShardAppend]) -> dict[int, AppendOutcome]:
        """Append each part in one statement; returns shard -> outcome. Never raises.

        The shards all belong to one committer (`shard % committers` of the implementation), which has one
        append in flight.

        The first event of a stream (`seq` 1) also enters it into the index of streams.
        """
        ...

    def append_error(self, shard: int) -> str | None:
        """Return why the outcome of a shard's last append is `UNKNOWN`; None: it is not, or there was none."""
        ...

    async def settle(self, owner: str, part: ShardAppend) -> tuple[AppendOutcome, int]:
        """Find out how an append with outcome `UNKNOWN` ended; returns the outcome and our epoch.

        `APPENDED`: it is there. `REFUSED`: it is not, and cannot land any more: the epoch was raised
        (to the one returned) and the same events may be tried again under it. `FENCED`: the shard was taken
        since, by another or by this owner anew, or an earlier call raised the epoch and was not heard.
        `UNKNOWN`: still not known. But for `REFUSED` the epoch returned is the part's own: one that was raised
        for somebody else must never come back to whoever still has something to settle.
        """
        ...

    async def confirm(self, ends: dict[int, tuple[int, int]]) -> set[int]:
        """Return the shards that are still ours, at one moment after the call; `ends`: shard -> (epoch, position).

        Ours is one whose epoch is still this one and whose log has this position.
        """
        ...

    async def ensure_partitions(self, ahead: int = 2) -> int:
        """Make room until `ahead` empty partitions follow the highest position; returns how many were made.

        To be called now and then, long before a partition is full. Appends go on meanwhile.
        """
        ...

    async def put_blob(self, digest: bytes, data: bytes) -> None:
        """Store `data` under its sha256; it is durable on return. Twice is fine."""
        ...

    async def get_blob(self, digest: bytes) -> bytes | None:
        """Return the bytes with this sha256, or None."""
        ...

    # ---- reading

    async def streams(self, stream_ids: Sequence[UUID]) -> dict[UUID, tuple[int, int]]:
        """Return stream -> (shard, first position) of those that exist: one probe proves absence."""
        ...

    async def load(self, stream_ids: Sequence[UUID]) -> dict[UUID, list[RecordedEvent]]:
        """Return each existing stream's events, by `seq`."""
        ...

    async def last_events(self, stream_ids: Sequence[UUID]) -> dict[UUID, RecordedEvent]:
        """Return each existing stream's last event."""
        ...

    async def load_histories(self, stream_ids: Sequence[UUID]) -> dict[UUID, Loaded]:
        """Return what each existing stream is folded from."""
        ...

    async def load_stream(self, stream_id: UUID, *, after_seq: int, limit: int) -> list[RecordedEvent]:
        """Return a page of a stream's events, by `seq`."""
        ...

    async def read(self, shard: int, *, after: int, limit: int) -> list[RecordedEvent]:
        """Return up to `limit` events of `shard` behind position `after`, in order."""
        ...

    # ---- snapshots

    async def write_snapshots(self, snapshots: Sequence[Snapshot], epochs: dict[int, int]) -> set[UUID]:
        """Keep these, each in place of its stream's last; returns the streams whose was kept.

        The others' shard has another epoch, or the log does not have the event that the snapshot was made at.
        """
        ...

    async def snapshots(self, shard: int, *, after: UUID | None, limit: int) -> list[Snapshot]:
        """Return a page of a shard's snapshots, by stream."""
        ...

    # ---- due

    async def write_due(self, changes: Sequence[DueChange]) -> set[int]:
        """Write the changes with their checkpoints, in one transaction; returns the shards that were written.

        Not written is one whose epoch is another, or whose log does not have the checkpoint's position.
        """
        ...

    async def due_checkpoint(self, shards: Sequence[int]) -> dict[int, int]:
        """Return shard -> the position up to which `due` is complete (0 at first)."""
        ...

    def due_between(
        self, shards: Sequence[int], after_us: int, until_us: int, *, born_before_us: int | None = None
    ) -> AsyncIterator[list[Due]]:
        """Yield pages of the rows with `after_us` < time <= `until_us`, earliest first.

        `born_before_us`: only those of streams whose first event is older.
        """
        ...

    async def due_of(self, shard: int, stream_ids: Sequence[UUID]) -> dict[UUID, set[str]]:
        """Return stream -> the obligations that its rows name, of those that have some."""
        ...

    async def open_streams(
        self, shard: int, kind: str, ending_types: Sequence[str], *, after: int, limit: int
    ) -> list[UUID]:
        """Return the streams of `kind` that were born at the `limit` positions behind `after` and have no ending."""
        ...

    # ---- publication

    async def publish_cursors(self, shards: Sequence[int]) -> dict[int, int]:
        """Return shard -> the position up to which the event stream has acknowledged (0 at first)."""
        ...

    async def move_publish_cursors(self, moves: Sequence[tuple[int, int, int]]) -> set[int]:
        """Move cursors; `moves` are (shard, epoch, position). Returns the shards that were moved, as `write_due`."""
        ...
