"""Group commit: units of events to the log, in order per shard, many in one statement.

A *unit* is what one turn of one actor decided: its events are recorded together or not at all. A unit
without events is an answer that must be fenced: it is given only after everything before it has
committed and our ownership was confirmed afterwards, by the shard's own append or by one read of the
heads for all that wait.

    submit -> shard's queue -> (one batch in flight a shard; the shards of a connection share its
    statement) -> append -> per shard: APPENDED  each unit's `done(None, last position)`
                                       FENCED    the whole queue fails; `on_fenced(shard)`
                                       REFUSED   the batch is halved until the unit at fault stands alone; it and
                                                 everything queued behind it of its stream fails
                                       UNKNOWN   the log is asked (`settle`); if even that cannot tell, the batch fails
                                                 with `OutcomeUnknown` and the shard is given up

Under load the batch grows while a statement is in flight; nothing waits when idle.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol
from uuid import UUID

import structlog

from tasker.errors import Fenced, OutcomeUnknown, TaskerError, Unavailable, Undecodable
from tasker.events.chain import digest_of_batch, leaves_of
from tasker.events.envelope import NewEvent
from tasker.events.log import AppendOutcome, EventLog, Head, ShardAppend
from tasker.failpoints import failpoint
from tasker.metrics import Histogram
from tasker.outages import Outage
from tasker.service.runtime.actor import ids_of
from tasker.settings import Limits

SETTLE_PAUSE_S: Final = 0.2
PAUSED_POLL_S: Final = 0.05
TROUBLE_S: Final = 2.0
"""A shard of which nothing could be written for so long is said to be in trouble."""


_log = structlog.get_logger(__name__)

Done = Callable[[TaskerError | None, int], None]
"""Called once: None and the position of the unit's last event (of the shard's head, for a unit without
events), or why it is not recorded."""


class Unit:
    """What one turn decided."""

    __slots__ = ("done", "events", "payload_bytes", "stream_id")

    def __init__(self, stream_id: UUID, events: Sequence[NewEvent], done: Done) -> None:
        self.stream_id = stream_id
        self.events = events
        self.done = done
        size = 0
        for event in events:
            size += len(event.payload) + len(event.meta)
        self.payload_bytes = size


class CommitListener(Protocol):
    """Who wants to know what was committed (the publisher, the due book, readers' wake-ups)."""

    def on_committed(self, shard: int, first_position: int, events: Sequence[NewEvent]) -> None:
        """Take note of events that are durable now. Called in order per shard, before the units' `done`."""
        ...

    def on_fenced(self, shard: int) -> None:
        """Take note that `shard` is no longer ours, or that we no longer know its head."""
        ...


class ShardQueue:
    """One shard's place in the log and the units that wait for it."""

    __slots__ = (
        "alone",
        "committer",
        "digest",
        "epoch",
        "in_flight",
        "position",
        "queue",
        "seqs",
        "shard",
        "unwritten_since_s",
    )

    def __init__(self, head: Head, digest: bytes, epoch: int, committer: int) -> None:
        self.shard = head.shard
        self.epoch = epoch
        self.position = head.position
        self.digest = digest
        self.committer = committer
        self.queue: deque[Unit] = deque()
        self.in_flight: list[Unit] = []
        self.alone = 0
        """While above 0, so many units at the front are being isolated: batches take half of them."""
        self.seqs: dict[UUID, tuple[int | None, int]] = {}
        """stream -> (last seq handed over, units waiting): only of streams with something queued or in flight."""

        self.unwritten_since_s: float | None = None
        """Since when nothing of the shard could be written; None: what was tried last is."""

    def holds(self, stream_id: UUID) -> bool:
        """Return whether something of the stream is queued or in flight."""
        return stream_id in self.seqs


class Committer:
    """Writes the units of all shards that this process owns."""

    def __init__(
        self, log: EventLog, owner: str, listener: CommitListener, *, committers: int = 2, limits: Limits | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._log = log
        self._owner = owner
        self._listener = listener
        self._shards: dict[int, ShardQueue] = {}
        self._wakes = [asyncio.Event() for _ in range(committers)]
        self._runners: list[asyncio.Task[None]] = []
        self._stopping = False
        self._idle = asyncio.Event()
        self._paused: Callable[[], bool] = lambda: False
        self._unsettled = Outage(_log, "outcome_unknown", time.monotonic)
        self.append_durations = Histogram("tasker_append_duration_seconds")
        self.append_sizes = Histogram("tasker_append_batch_events")
        self.backlog = 0
        """How many units wait or are in flight."""

        self.fenced = 0
        """How often we were told that another node has taken a shard."""

    # ---------------------------------------------------------------- for its owner

    def start(self, *, paused: Callable[[], bool]) -> None:
        """Begin to write. While `paused()` (the clock is not trusted) nothing is appended."""
        self._paused = paused
        self._runners = [
            asyncio.create_task(self._run(number), name=f"committer-{number}") for number in range(len(self._wakes))
        ]

    async def watch(self) -> None:
        """Return when the writers have ended; raises what ended one of them, so that the process does not limp on."""
        await asyncio.gather(*self._runners)

    async def stop(self) -> None:
        """Write what is queued, then end. The shards stay open, for what is written behind."""
        self._stopping = True
        for wake in self._wakes:
            wake.set()
        await asyncio.gather(*self._runners)

    def open_shard(self, head: Head, epoch: int) -> None:
        """Take up a shard that was just taken: it goes on behind `head`.

        Raises:
            Undecodable: the log of the shard ends within a batch.
        """
        if head.digest is None:
            raise Undecodable(
                f"event {head.position} of shard {head.shard} ends the log but no batch: it has no chain digest. "
                "`tasker log verify` says what else is damaged; restore the database"
            )
        self._shards[head.shard] = ShardQueue(head, head.digest, epoch, head.shard % len(self._wakes))

    def close_shard(self, shard: int, error: TaskerError) -> None:
        """Let a shard go; everything queued fails with `error`."""
        queue = self._shards.pop(shard, None)
        if queue is not None:
            self._fail(queue, list(queue.queue), error)
            queue.queue.clear()

    def queue_of(self, shard: int) -> ShardQueue | None:
        """Return the shard's queue; None when the shard is not ours."""
        return self._shards.get(shard)

    def position_of(self, shard: int) -> int:
        """Return the position of the last committed event."""
        return self._shards[shard].position

    def trouble(self, shard: int) -> str | None:
        """Return what keeps events of a shard from being written, in words; None: nothing that lasts."""
        queue = self._shards.get(shard)
        if queue is None or queue.unwritten_since_s is None:
            return None
        lasts_s = time.monotonic() - queue.unwritten_since_s
        if lasts_s < TROUBLE_S:
            return None
        return f"nothing can be written for {lasts_s:.0f} s: {self._log.append_error(shard) or 'no answer comes'}"

    def submit(self, shard: int, unit: Unit) -> None:
        """Queue a unit.

        Raises:
            Fenced: the shard is not ours.
            AssertionError: it does not continue the last `seq` of its stream that was handed over.
        """
        queue = self._shards.get(shard)
        if queue is None:
            raise Fenced(f"shard {shard} is not ours")
        last, waiting = queue.seqs.get(unit.stream_id, (None, 0))
        if unit.events:
            first = unit.events[0].seq
            if last is not None and first != last + 1:
                message = f"unit of {unit.stream_id} continues {first - 1}, not {last}"
                raise AssertionError(message)
            last = unit.events[-1].seq
        queue.seqs[unit.stream_id] = (last, waiting + 1)
        queue.queue.append(unit)
        self.backlog += 1
        self._wakes[queue.committer].set()

    # ---------------------------------------------------------------- one connection

    async def _run(self, number: int) -> None:
        wake = self._wakes[number]
        while True:
            await wake.wait()
            wake.clear()
            # One more pass of the loop, so that what is ready now rides along.
            await asyncio.sleep(0)
            while queues := [q for q in self._shards.values() if q.committer == number and q.queue]:
                if self._paused() and not self._stopping:
                    # The clock has nobody to tell us; and what waits now may be all that comes for a long time.
                    await asyncio.sleep(PAUSED_POLL_S)
                else:
                    await self._write(queues)
            if self._stopping:
                return

    async def _write(self, queues: Sequence[ShardQueue]) -> None:
        parts: list[ShardAppend] = []
        confirms: dict[int, tuple[int, int]] = {}
        by_shard: dict[int, ShardQueue] = {}
        for queue in queues:
            units = self._take(queue)
            queue.in_flight = units
            by_shard[queue.shard] = queue
            events = [event for unit in units for event in unit.events]
            if events:
                parts.append(self._part(queue, events))
            else:
                confirms[queue.shard] = (queue.epoch, queue.position)
        if parts:
            failpoint("before_append")
            started_s = time.perf_counter()
            outcomes = await self._log.append(parts)
            self.append_durations.add(time.perf_counter() - started_s)
            self.append_sizes.add(sum(len(part.events) for part in parts))
            failpoint("after_append")
            for part in parts:
                await self._settled(by_shard[part.shard], part, outcomes[part.shard])
        if confirms:
            await self._confirm(confirms, by_shard)

    def _take(self, queue: ShardQueue) -> list[Unit]:
        """Return the next batch: whole units, within the bounds and one partition; one across its end stands alone."""
        room = self._log.partition_end(queue.position + 1) - queue.position
        limit = len(queue.queue) if not queue.alone else max(1, queue.alone // 2)
        units: list[Unit] = []
        count = size = 0
        while queue.queue and len(units) < limit:
            unit = queue.queue[0]
            if units and (
                count + len(unit.events) > min(self._limits.batch_events_max, room)
                or size + unit.payload_bytes > self._limits.batch_bytes_max
            ):
                break
            units.append(queue.queue.popleft())
            count += len(unit.events)
            size += unit.payload_bytes
        return units

    def _part(self, queue: ShardQueue, events: Sequence[NewEvent]) -> ShardAppend:
        first = queue.position + 1
        leaves = leaves_of(events, shard=queue.shard, position=first, epoch=queue.epoch)
        digest = queue.digest
        border: tuple[int, bytes] | None = None
        before = self._log.partition_end(first) - queue.position
        if before < len(events):
            digest = digest_of_batch(digest, leaves[:before])
            border = (before, digest)
            del leaves[:before]
        return ShardAppend(
            shard=queue.shard,
            epoch=queue.epoch,
            position=queue.position,
            known=queue.digest,
            digest=digest_of_batch(digest, leaves),
            events=events,
            border=border,
        )

    async def _settled(self, queue: ShardQueue, part: ShardAppend, outcome: AppendOutcome) -> None:
        """Bring one shard's part of a statement to its end."""
        if outcome is AppendOutcome.UNKNOWN and queue.unwritten_since_s is None:
            queue.unwritten_since_s = time.monotonic()
        while outcome is AppendOutcome.UNKNOWN:
            try:
                outcome, epoch = await self._log.settle(self._owner, part)
            except Unavailable as error:
                self._unsettled.goes_on(error.detail)
                if self._stopping or self._shards.get(part.shard) is not queue:
                    break
                await asyncio.sleep(SETTLE_PAUSE_S)
                continue
            self._unsettled.is_over()
            queue.epoch = epoch
            if outcome is AppendOutcome.UNKNOWN:
                break
            if outcome is AppendOutcome.REFUSED:
                # It is not there and no stray copy can land any more: the same events again, under the new epoch.
                part = self._part(queue, part.events)
                outcome = (await self._log.append([part]))[part.shard]
                if outcome is AppendOutcome.UNKNOWN:
                    # It answers and cannot write, as with a full disk: that takes its time.
                    if self._stopping or self._shards.get(part.shard) is not queue:
                        break
                    await asyncio.sleep(SETTLE_PAUSE_S)
        units, queue.in_flight = queue.in_flight, []
        closed = self._shards.get(queue.shard) is not queue
        if closed and outcome is AppendOutcome.APPENDED:
            # Closed meanwhile: who serves the shard now reads these from the log, so nobody here may count them.
            outcome = AppendOutcome.UNKNOWN
        match outcome:
            case AppendOutcome.APPENDED:
                self._appended(queue, part, units)
            case AppendOutcome.REFUSED if closed:
                # Nobody is left to look for the unit at fault.
                self._fail(queue, units, Fenced(f"shard {queue.shard} was given up"))
            case AppendOutcome.REFUSED:
                self._refused(queue, units)
            case AppendOutcome.FENCED:
                self._lost(queue, units, Fenced(f"shard {queue.shard} has another owner"))
            case AppendOutcome.UNKNOWN:
                self._lost(queue, units, OutcomeUnknown())

    def _appended(self, queue: ShardQueue, part: ShardAppend, units: Sequence[Unit]) -> None:
        first = part.position + 1
        if queue.unwritten_since_s is not None:
            lasted_s = time.monotonic() - queue.unwritten_since_s
            queue.unwritten_since_s = None
            if lasted_s >= TROUBLE_S:
                _log.info("written_again", shard=queue.shard, lasted_s=round(lasted_s, 1))
        queue.position += len(part.events)
        queue.digest = part.digest
        queue.alone = max(0, queue.alone - len(units))
        self._listener.on_committed(queue.shard, first, part.events)
        position = first - 1
        for unit in units:
            position += len(unit.events)
            self._forget(queue, unit)
            unit.done(None, position)

    def _refused(self, queue: ShardQueue, units: Sequence[Unit]) -> None:
        """Isolate the unit at fault: alone it fails, with what is queued behind it of its stream."""
        with_events = [unit for unit in units if unit.events]
        if len(with_events) > 1:
            queue.queue.extendleft(reversed(units))
            queue.alone = len(units)
            return
        culprit = with_events[0]
        _log.error("unit_refused", shard=queue.shard, **ids_of(culprit.events[0].kind, culprit.stream_id))
        queue.alone = max(0, queue.alone - len(units))
        behind = [unit for unit in queue.queue if unit.stream_id == culprit.stream_id]
        kept = [unit for unit in units if unit is not culprit and unit.stream_id != culprit.stream_id]
        dropped = [unit for unit in units if unit.stream_id == culprit.stream_id] + behind
        rest = [unit for unit in queue.queue if unit.stream_id != culprit.stream_id]
        queue.queue.clear()
        queue.queue.extend((*kept, *rest))
        self._fail(queue, dropped, Unavailable("the log refused the event; repeat the command", retry_after_s=1.0))

    async def _confirm(self, ends: dict[int, tuple[int, int]], by_shard: dict[int, ShardQueue]) -> None:
        try:
            ours = await self._log.confirm(ends)
        except Unavailable as error:
            for shard in ends:
                queue = by_shard[shard]
                units, queue.in_flight = queue.in_flight, []
                self._fail(queue, units, error)
            return
        for shard in ends:
            queue = by_shard[shard]
            units, queue.in_flight = queue.in_flight, []
            if shard not in ours:
                self._lost(queue, units, Fenced(f"shard {shard} has another owner"))
                continue
            for unit in units:
                self._forget(queue, unit)
                unit.done(None, queue.position)

    def _lost(self, queue: ShardQueue, units: Sequence[Unit], error: TaskerError) -> None:
        """Give the shard up: it is another's, or its head is unknown to us."""
        if isinstance(error, Fenced):
            self.fenced += 1
        waiting = list(queue.queue)
        queue.queue.clear()
        if self._shards.get(queue.shard) is queue:
            del self._shards[queue.shard]
            self._listener.on_fenced(queue.shard)
        self._fail(queue, units, error)
        self._fail(queue, waiting, Fenced(f"shard {queue.shard} was given up"))

    def _fail(self, queue: ShardQueue, units: Sequence[Unit], error: TaskerError) -> None:
        for unit in units:
            self._forget(queue, unit)
        for unit in units:
            unit.done(error, 0)

    def _forget(self, queue: ShardQueue, unit: Unit) -> None:
        self.backlog -= 1
        last, waiting = queue.seqs[unit.stream_id]
        if waiting == 1:
            del queue.seqs[unit.stream_id]
        else:
            queue.seqs[unit.stream_id] = (last, waiting - 1)
