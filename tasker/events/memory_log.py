"""The event log in memory: the twin of `PostgresLog`, with its semantics and with faults on request.

Each append is prepared, waits where it is told to, and then commits in one step of the event loop; so
everything that a lost or late answer does to an owner happens here as well, and as often as a test
likes. The clock of leases is handed in.

Faults, each for one append (`MemoryLog.faults`): `Fault.LOST_BEFORE` the statement never arrives,
`Fault.LOST_AFTER` its answer does not, `Fault.REFUSED` the store refuses it, `Fault.FENCED` another owner
takes its shards first, `Fault.STRAY` the answer is lost at once and the statement arrives later, when
`deliver_strays` is called. `delay` is awaited before each append commits.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from enum import Enum
from typing import Final
from uuid import UUID

from tasker.clock import Clock, SystemClock
from tasker.errors import Unavailable
from tasker.events.chain import GENESIS
from tasker.events.envelope import US_PER_S, NewEvent, RecordedEvent
from tasker.events.log import (
    HISTORY_PAGE_EVENTS,
    AppendOutcome,
    Due,
    DueChange,
    Head,
    Lease,
    Loaded,
    LogInfo,
    ShardAppend,
    Snapshot,
)
from tasker.ids import SLOTS

PARTITION_SIZE: Final = 10_000_000
DUE_PAGE_ROWS: Final = 1_000
STRANGER: Final = "stranger"
"""The owner that `Fault.FENCED` lets take a shard."""

_INT32_MAX: Final = 2**31 - 1
_INT64_MAX: Final = 2**63 - 1


class Fault(Enum):
    """What goes wrong with one append."""

    LOST_BEFORE = "lost_before"
    LOST_AFTER = "lost_after"
    REFUSED = "refused"
    FENCED = "fenced"
    STRAY = "stray"


class _Shard:
    """One shard: its head and its events, position 1 first."""

    __slots__ = ("checkpoint", "cursor", "due", "epoch", "events", "lease_until_us", "owner")

    def __init__(self) -> None:
        self.epoch = 0
        self.owner: str | None = None
        self.lease_until_us = 0
        self.events: list[RecordedEvent] = []
        self.due: dict[tuple[UUID, str], int] = {}
        self.checkpoint = 0
        self.cursor = 0

    def fits(self, epoch: int, position: int) -> bool:
        """Return whether an owner who knows the log up to `position` still owns the shard."""
        return self.epoch == epoch and len(self.events) >= position

    def digest_at(self, position: int) -> bytes | None:
        """Return the chain's digest at `position`; None: no batch ends there."""
        return self.events[position - 1].chain if position else GENESIS


class MemoryLog:
    """`EventLog` in memory.

    Attributes:
        faults: what happens to the next appends, one each; None in between: nothing.
        delay: awaited before each append commits, with its parts.
        unavailable: while true, everything but `append` raises `Unavailable` and appends are `UNKNOWN`.
        kept: the snapshots, by stream.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        shards: int = 16,
        partition_size: int = PARTITION_SIZE,
    ) -> None:
        self.committers = 2
        self.faults: deque[Fault | None] = deque()
        self.delay: Callable[[Sequence[ShardAppend]], Awaitable[None]] | None = None
        self.unavailable = False
        self._clock = clock or SystemClock()
        self._partition_size = partition_size
        self._info = LogInfo(log_id="memory", slots=SLOTS, shard_of_slot=tuple(slot % shards for slot in range(SLOTS)))
        self._shards = {shard: _Shard() for shard in range(shards)}
        self._streams: dict[UUID, list[RecordedEvent]] = {}
        self._places: set[tuple[UUID, int]] = set()
        self._blobs: dict[bytes, bytes] = {}
        self.kept: dict[UUID, Snapshot] = {}
        self._unknown: set[int] = set()
        self._strays: list[Sequence[ShardAppend]] = []

    async def close(self) -> None:
        """Do nothing: there is nothing to end."""

    async def info(self) -> LogInfo:
        """Return the log's constants, read once."""
        return self._info

    def partition_end(self, position: int) -> int:
        """Return the last position of the partition that holds `position`; a batch ends there at the latest."""
        return -(-position // self._partition_size) * self._partition_size

    def committer_of(self, shard: int) -> int:
        """Return the number of the connection that appends to `shard`: one append at a time on each."""
        return shard % self.committers

    async def ensure_partitions(self, ahead: int = 2) -> int:  # noqa: ARG002 - the twin has no partitions to make
        """Return 0: memory needs no partitions."""
        return 0

    # ---------------------------------------------------------------- ownership

    async def acquire(self, owner: str, shards: Sequence[int], lease_s: float) -> Lease:
        """Take those of `shards` whose lease has run out (or is ours): each one's epoch is raised."""
        self._check()
        now_us = self._clock.now_us()
        taken: dict[int, int] = {}
        for number in shards:
            shard = self._shards[number]
            if shard.owner is None or shard.owner == owner or shard.lease_until_us < now_us:
                shard.epoch += 1
                shard.owner = owner
                shard.lease_until_us = now_us + int(lease_s * US_PER_S)
                taken[number] = shard.epoch
        return Lease(epochs=taken, now_us=now_us)

    async def renew(self, owner: str, lease_s: float) -> Lease:
        """Prolong every lease that `owner` holds; returns what it still holds. Never raises an epoch."""
        self._check()
        now_us = self._clock.now_us()
        held: dict[int, int] = {}
        for number, shard in self._shards.items():
            if shard.owner == owner:
                shard.lease_until_us = now_us + int(lease_s * US_PER_S)
                held[number] = shard.epoch
        return Lease(epochs=held, now_us=now_us)

    async def release(self, owner: str) -> None:
        """Give up every lease of `owner` at once, for a quick handover."""
        self._check()
        for shard in self._shards.values():
            if shard.owner == owner:
                shard.owner = None

    async def heads(self, shards: Sequence[int]) -> list[Head]:
        """Return the heads of `shards`, ascending."""
        self._check()
        found = []
        for number in sorted(set(shards) & self._shards.keys()):
            shard = self._shards[number]
            last = shard.events[-1] if shard.events else None
            found.append(
                Head(
                    shard=number,
                    epoch=shard.epoch,
                    owner=shard.owner,
                    position=len(shard.events),
                    digest=last.chain if last else GENESIS,
                    at_us=last.at_us if last else 0,
                )
            )
        return found

    # ---------------------------------------------------------------- writing

    async def append(self, parts: Sequence[ShardAppend]) -> dict[int, AppendOutcome]:
        """Append each part as a whole or not at all; returns shard -> outcome. Never raises."""
        fault = self.faults.popleft() if self.faults else None
        if self.delay is not None:
            await self.delay(parts)
        outcomes = self._outcomes(parts, fault)
        self._unknown = {shard for shard in self._unknown if shard not in outcomes}
        self._unknown |= {shard for shard, outcome in outcomes.items() if outcome is AppendOutcome.UNKNOWN}
        return outcomes

    def _outcomes(self, parts: Sequence[ShardAppend], fault: Fault | None) -> dict[int, AppendOutcome]:
        unknown = {part.shard: AppendOutcome.UNKNOWN for part in parts}
        if self.unavailable or fault is Fault.LOST_BEFORE:
            return unknown
        if fault is Fault.STRAY:
            self._strays.append(parts)
            return unknown
        if fault is Fault.REFUSED:
            return {part.shard: AppendOutcome.REFUSED for part in parts}
        if fault is Fault.FENCED:
            for part in parts:
                self.take_over(part.shard)
        outcomes = {part.shard: self._append(part) for part in parts}
        return unknown if fault is Fault.LOST_AFTER else outcomes

    def append_error(self, shard: int) -> str | None:
        """Return why the outcome of a shard's last append is `UNKNOWN`; None: it is not, or there was none."""
        return "no answer came" if shard in self._unknown else None

    def take_over(self, shard: int, owner: str = STRANGER) -> int:
        """Let another owner take a shard, whatever its lease says; returns the new epoch."""
        taken = self._shards[shard]
        taken.epoch += 1
        taken.owner = owner
        taken.lease_until_us = _INT64_MAX
        return taken.epoch

    def deliver_strays(self) -> list[dict[int, AppendOutcome]]:
        """Let the appends that `Fault.STRAY` held back arrive; returns how each ended."""
        strays, self._strays = self._strays, []
        return [{part.shard: self._append(part) for part in parts} for parts in strays]

    def _append(self, part: ShardAppend) -> AppendOutcome:
        shard = self._shards[part.shard]
        if not shard.fits(part.epoch, part.position) or shard.digest_at(part.position) != part.known:
            return AppendOutcome.FENCED
        if len(shard.events) != part.position or not self._acceptable(part):
            return AppendOutcome.REFUSED
        digests = {part.position + len(part.events): part.digest}
        if part.border is not None:
            digests[part.position + part.border[0]] = part.border[1]
        for position, event in enumerate(part.events, part.position + 1):
            recorded = _recorded(part, position, event, digests.get(position))
            shard.events.append(recorded)
            self._streams.setdefault(event.stream_id, []).append(recorded)
            self._places.add((event.stream_id, event.seq))
        return AppendOutcome.APPENDED

    def _acceptable(self, part: ShardAppend) -> bool:
        """Return whether the store's keys and columns take these events, as those of Postgres would."""
        places = {(event.stream_id, event.seq) for event in part.events}
        if len(places) < len(part.events) or not places.isdisjoint(self._places):
            return False
        if not part.fits(self.partition_end):
            return False
        return all(
            "\0" not in event.kind + event.type + event.tenant + event.encoding
            and 0 < event.seq <= _INT32_MAX
            and abs(event.at_us) <= _INT64_MAX
            for event in part.events
        )

    async def settle(self, owner: str, part: ShardAppend) -> tuple[AppendOutcome, int]:
        """Find out how an append with outcome `UNKNOWN` ended; returns the outcome and our epoch."""
        self._check()
        shard = self._shards[part.shard]
        last = part.position + len(part.events)
        if len(shard.events) >= last and shard.events[last - 1].chain == part.digest:
            return AppendOutcome.APPENDED, part.epoch
        if (shard.owner, shard.epoch, len(shard.events)) != (owner, part.epoch, part.position):
            return AppendOutcome.FENCED, part.epoch
        shard.epoch += 1
        return AppendOutcome.REFUSED, shard.epoch

    async def confirm(self, ends: dict[int, tuple[int, int]]) -> set[int]:
        """Return those shards whose epoch is still the one given and whose log has the position."""
        self._check()
        return {shard for shard, (epoch, position) in ends.items() if self._shards[shard].fits(epoch, position)}

    async def put_blob(self, digest: bytes, data: bytes) -> None:
        """Store `data` under its sha256. Twice is fine."""
        self._check()
        self._blobs.setdefault(digest, data)

    async def get_blob(self, digest: bytes) -> bytes | None:
        """Return the bytes with this sha256, or None."""
        self._check()
        return self._blobs.get(digest)

    # ---------------------------------------------------------------- reading

    async def streams(self, stream_ids: Sequence[UUID]) -> dict[UUID, tuple[int, int]]:
        """Return stream -> (shard, first position) of those that exist."""
        self._check()
        firsts = {stream_id: self._streams[stream_id][0] for stream_id in stream_ids if stream_id in self._streams}
        return {stream_id: (first.shard, first.position) for stream_id, first in firsts.items()}

    async def load(self, stream_ids: Sequence[UUID]) -> dict[UUID, list[RecordedEvent]]:
        """Return each existing stream's events, by `seq`."""
        self._check()
        return {stream_id: list(self._streams[stream_id]) for stream_id in stream_ids if stream_id in self._streams}

    async def last_events(self, stream_ids: Sequence[UUID]) -> dict[UUID, RecordedEvent]:
        """Return each existing stream's last event."""
        self._check()
        return {stream_id: self._streams[stream_id][-1] for stream_id in stream_ids if stream_id in self._streams}

    async def load_histories(self, stream_ids: Sequence[UUID]) -> dict[UUID, Loaded]:
        """Return what each existing stream is folded from."""
        self._check()
        found: dict[UUID, Loaded] = {}
        for stream_id in stream_ids:
            if stream_id in self._streams:
                snapshot = self.kept.get(stream_id)
                after = 0 if snapshot is None else snapshot.seq - 1
                page = await self.load_stream(stream_id, after_seq=after, limit=HISTORY_PAGE_EVENTS)
                found[stream_id] = Loaded(snapshot, page)
        return found

    async def load_stream(self, stream_id: UUID, *, after_seq: int, limit: int) -> list[RecordedEvent]:
        """Return a page of a stream's events, by `seq`."""
        self._check()
        events = self._streams.get(stream_id, [])
        start = bisect.bisect_right(events, after_seq, key=lambda event: event.seq)
        return events[start : start + limit]

    async def read(self, shard: int, *, after: int, limit: int) -> list[RecordedEvent]:
        """Return up to `limit` events of `shard` behind position `after`, in order."""
        self._check()
        return self._shards[shard].events[after : after + limit]

    def events_of(self, stream_id: UUID) -> Sequence[RecordedEvent]:
        """Return a stream's events at once, for whoever looks at the log from outside."""
        return tuple(self._streams.get(stream_id, ()))

    # ---------------------------------------------------------------- snapshots

    async def write_snapshots(self, snapshots: Sequence[Snapshot], epochs: dict[int, int]) -> set[UUID]:
        """Keep these, each in place of its stream's last; returns the streams whose was kept."""
        self._check()
        ours = {
            one.stream_id: one
            for one in snapshots
            if one.shard in epochs and self._shards[one.shard].fits(epochs[one.shard], one.position)
        }
        self.kept.update(ours)
        return set(ours)

    async def snapshots(self, shard: int, *, after: UUID | None, limit: int) -> list[Snapshot]:
        """Return a page of a shard's snapshots, by stream."""
        self._check()
        found = (one for one in self.kept.values() if one.shard == shard and (after is None or one.stream_id > after))
        return sorted(found, key=lambda one: one.stream_id)[:limit]

    # ---------------------------------------------------------------- due

    def next_due_us(self, *, after_us: int) -> int | None:
        """Return the earliest time of a due row behind `after_us`, for whoever looks at the log from outside."""
        times = (at_us for shard in self._shards.values() for at_us in shard.due.values())
        return min((at_us for at_us in times if at_us > after_us), default=None)

    async def write_due(self, changes: Sequence[DueChange]) -> set[int]:
        """Write the changes with their checkpoints; returns the shards that were written."""
        self._check()
        written: set[int] = set()
        for change in changes:
            shard = self._shards[change.shard]
            if not shard.fits(change.epoch, change.position):
                continue
            for stream_id, name in change.deletes:
                shard.due.pop((stream_id, name), None)
            for stream_id, name, at_us in change.upserts:
                shard.due[stream_id, name] = at_us
            shard.checkpoint = change.position
            written.add(change.shard)
        return written

    async def due_checkpoint(self, shards: Sequence[int]) -> dict[int, int]:
        """Return shard -> the position up to which `due` is complete (0 at first)."""
        self._check()
        return {shard: self._shards[shard].checkpoint for shard in shards}

    async def due_between(
        self, shards: Sequence[int], after_us: int, until_us: int, *, born_before_us: int | None = None
    ) -> AsyncIterator[list[Due]]:
        """Yield pages of the rows with `after_us` < time <= `until_us`, earliest first.

        `born_before_us`: only those of streams whose first event is older.
        """
        self._check()
        rows = sorted(
            (at_us, stream_id, name, shard)
            for shard in shards
            for (stream_id, name), at_us in self._shards[shard].due.items()
            if after_us < at_us <= until_us and (born_before_us is None or self._is_older(stream_id, born_before_us))
        )
        for start in range(0, len(rows), DUE_PAGE_ROWS):
            page = rows[start : start + DUE_PAGE_ROWS]
            yield [Due(shard=shard, stream_id=stream, obligation=name, at_us=at) for at, stream, name, shard in page]

    def _is_older(self, stream_id: UUID, than_us: int) -> bool:
        events = self._streams.get(stream_id)
        return events is not None and events[0].at_us < than_us

    async def due_of(self, shard: int, stream_ids: Sequence[UUID]) -> dict[UUID, set[str]]:
        """Return stream -> the obligations that its rows name, of those that have some."""
        self._check()
        found: dict[UUID, set[str]] = {}
        wanted = set(stream_ids)
        for stream_id, name in self._shards[shard].due:
            if stream_id in wanted:
                found.setdefault(stream_id, set()).add(name)
        return found

    async def open_streams(
        self, shard: int, kind: str, ending_types: Sequence[str], *, after: int, limit: int
    ) -> list[UUID]:
        """Return the streams of `kind` that were born at the `limit` positions behind `after` and have no ending."""
        born = [
            event.stream_id
            for event in await self.read(shard, after=after, limit=limit)
            if event.seq == 1 and event.kind == kind
        ]
        streams = await self.load(born)
        return [one for one in born if not any(event.type in ending_types for event in streams[one])]

    # ---------------------------------------------------------------- publication

    async def publish_cursors(self, shards: Sequence[int]) -> dict[int, int]:
        """Return shard -> the position up to which the event stream has acknowledged (0 at first)."""
        self._check()
        return {shard: self._shards[shard].cursor for shard in shards}

    async def move_publish_cursors(self, moves: Sequence[tuple[int, int, int]]) -> set[int]:
        """Move cursors; `moves` are (shard, epoch, position). Returns the shards that were moved."""
        self._check()
        moved: set[int] = set()
        for number, epoch, position in moves:
            shard = self._shards[number]
            if shard.fits(epoch, position):
                shard.cursor = position
                moved.add(number)
        return moved

    def _check(self) -> None:
        if self.unavailable:
            raise Unavailable("the log is switched off")


def _recorded(part: ShardAppend, position: int, event: NewEvent, digest: bytes | None) -> RecordedEvent:
    return RecordedEvent(
        shard=part.shard,
        position=position,
        epoch=part.epoch,
        stream_id=event.stream_id,
        kind=event.kind,
        seq=event.seq,
        type=event.type,
        version=event.version,
        tenant=event.tenant,
        at_us=event.at_us,
        meta=event.meta,
        payload=event.payload,
        encoding=event.encoding,
        chain=digest,
    )
