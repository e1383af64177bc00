"""A node: takes shards, brings each to where its log ends, then serves it until it is lost.

    lease -> head, due rows, log behind the rows' checkpoint -> actors of the streams in it -> serve

Everything that serves a shard is told through `ShardService`: it opens after the restore and closes at
once when the shard is lost. Timers, the writing of due rows and passivation run here for all shards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, Protocol
from uuid import UUID

import msgspec
import structlog

from tasker.errors import Fenced, TaskerError, Unavailable
from tasker.events.envelope import US_PER_S, NewEvent, StreamKind
from tasker.events.log import DueChange, EventLog
from tasker.failpoints import failpoint
from tasker.metrics import Histogram
from tasker.outages import Outage
from tasker.service.runtime.committer import Committer
from tasker.service.runtime.due import HORIZON_US, DueBook
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.placement import Placement
from tasker.service.runtime.shards import Shards
from tasker.settings import Pace

TICK_S: Final = 0.02
WAKES_PER_TICK_MAX: Final = 200
"""Overdue timers after a takeover fire at no more than this many each tick, so that they do not drown new work."""

DUE_ROWS_MAX: Final = 2000
"""Changes of shards are written together up to so many rows: a statement that does not end in time was in vain."""

HORIZON_SCAN_S: Final = 20.0
RETRY_WAKE_US: Final = US_PER_S
PARTITIONS_S: Final = 30.0
RESTORE_PAGE_EVENTS: Final = 5_000
RESTORES_AT_ONCE: Final = 2
OFFER_PREFIX: Final = "offer:"
"""How an actor names the obligation to offer work."""

FAR_FUTURE_US: Final = 2**62

_log = structlog.get_logger(__name__)


class Wake:
    """The message that an obligation's time has come. Whoever gets it says how it ended, exactly once."""

    __slots__ = ("_book", "_now_us", "_stream_id", "obligation")

    def __init__(self, book: DueBook, stream_id: UUID, obligation: str, now_us: int) -> None:
        self._book = book
        self._stream_id = stream_id
        self._now_us = now_us
        self.obligation = obligation

    def again(self, scope: str, at_us: int, *, keep: bool = False) -> None:
        """The obligation is still open: wake for it at `at_us`; `keep` it so in the log's rows."""
        self._book.reschedule(self._stream_id, scope, self.obligation, at_us, keep=keep)

    def closed(self) -> None:
        """The obligation is closed: it was a row that outlived it."""
        self._book.forget(self._stream_id, self.obligation)

    def fail(self, error: TaskerError) -> None:  # noqa: ARG002 - every message takes an error
        """The actor could not be asked: try again shortly."""
        self.postpone(RETRY_WAKE_US)

    def postpone(self, by_us: int) -> None:
        """Wake again so much later, whatever the obligation is."""
        self._book.retry(self._stream_id, self.obligation, self._now_us + by_us)


CLOCKS_US: Final = 60 * US_PER_S
"""So much may ages differ that were told by different clocks, or a little earlier."""


class ShardService(Protocol):
    """What serves a shard besides its actors."""

    async def open_shard(self, shard: int, epoch: int) -> None:
        """Begin to serve (subscribe, publish): the shard is restored."""
        ...

    def close_shard(self, shard: int) -> None:
        """Stop serving at once."""
        ...


class Node:
    """The shards of one process, from lease to loss."""

    def __init__(
        self,
        *,
        log: EventLog,
        clock: NodeClock,
        owner: str,
        shards: Shards,
        committer: Committer,
        services: Sequence[ShardService],
        shard_numbers: Sequence[int],
        pace: Pace,
    ) -> None:
        self._log = log
        self._clock = clock
        self._shards = shards
        self._committer = committer
        self._services = services
        self._pace = pace
        self.placement = Placement(log, clock, owner, shard_numbers, pace=pace, taken=self._take, lost=self.close_shard)
        self._scanned_until_us: dict[int, int] = {}
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._restores = asyncio.Semaphore(RESTORES_AT_ONCE)
        self._writing_due = asyncio.Lock()
        """A book knows one write at a time: draining must not overlap the writer."""
        self._unwritten = Outage(_log, "due_write_failed", clock.monotonic_s)
        self._unattached = Outage(_log, "partitions_not_ensured", clock.monotonic_s)
        self.timer_delays = Histogram("tasker_timer_delay_seconds")
        self.ready = asyncio.Event()
        """Set when every shard that was taken is served."""

    # ---------------------------------------------------------------- shards

    def _take(self, epochs: dict[int, int]) -> None:
        """Restore shards beside the renewals, a few at a time, and serve each as soon as it is."""
        for shard, epoch in epochs.items():
            self._opening[shard] = asyncio.get_running_loop().create_task(
                self._open_in_turn(shard, epoch), name=f"open shard {shard}"
            )
        if not self._opening:
            self.ready.set()

    async def _open_in_turn(self, shard: int, epoch: int) -> None:
        try:
            async with self._restores:
                await self._open(shard, epoch)
        except Exception as error:  # noqa: BLE001 - one shard's fault must not stop the others
            # Without its obligations a shard must not be served; it is taken up anew in the next round.
            _log.warning("restore_failed", shard=shard, exc_info=not isinstance(error, TaskerError), error=str(error))
            self.close_shard(shard)
        finally:
            if self._opening.get(shard) is asyncio.current_task():
                del self._opening[shard]
            if not self._opening:
                self.ready.set()

    async def _open(self, shard: int, epoch: int) -> None:
        head = (await self._log.heads([shard]))[0]
        checkpoint = (await self._log.due_checkpoint([shard])).get(shard, 0)
        book = DueBook(shard)
        book.position = book.written_position = checkpoint
        self._shards.open(shard, book, head.at_us)
        self._committer.open_shard(head, epoch)
        touched: dict[UUID, None] = {}
        position = checkpoint
        while position < head.position:
            page = await self._log.read(shard, after=position, limit=RESTORE_PAGE_EVENTS)
            if not page:
                break
            touched.update((event.stream_id, None) for event in page if event.kind != StreamKind.TEMPLATE)
            position = page[-1].position
        await self._shards.restore(shard, touched, StreamKind.TASK)
        book.position = max(book.position, head.position)
        await self._scan(shard, 0, self._clock.now_us() + HORIZON_US)
        self._shards.serve(shard)
        for service in self._services:
            await service.open_shard(shard, epoch)
        _log.debug("shard_open", shard=shard, epoch=epoch, position=head.position, restored=len(touched))

    def stop_opening(self) -> None:
        """Give up shards that are being restored: nobody will serve them."""
        for opening in self._opening.values():
            opening.cancel()

    def close_shard(self, shard: int) -> None:
        """Stop serving (or restoring) a shard that is lost or given up. Twice is fine."""
        opening = self._opening.pop(shard, None)
        if opening is not None and opening is not asyncio.current_task():
            opening.cancel()
        self.placement.gave_up(shard)
        self._scanned_until_us.pop(shard, None)
        for service in self._services:
            service.close_shard(shard)
        self._committer.close_shard(shard, Fenced(f"shard {shard} is not ours"))
        self._shards.close(shard)

    # ---------------------------------------------------------------- what the committer tells

    def on_committed(self, shard: int, first_position: int, events: Sequence[NewEvent]) -> None:
        """Note how far a shard's log is."""
        self._shards.note_committed(shard, first_position, events)

    def on_fenced(self, shard: int) -> None:
        """Let go of a shard whose append was fenced, or whose head is unknown."""
        self.close_shard(shard)

    # ---------------------------------------------------------------- duties

    async def run_timers(self) -> None:
        """Wake actors whose obligations are due, for ever."""
        while True:
            await asyncio.sleep(TICK_S)
            if not self._clock.trusted():
                continue
            now_us = self._clock.now_us()
            for shard in self._shards.owned:
                book = self._shards.book_of(shard)
                if book is None:
                    continue
                found = book.pop_due(now_us, WAKES_PER_TICK_MAX)
                if found:
                    self.timer_delays.add(book.late_us / US_PER_S)
                for stream_id, obligation in found:
                    failpoint("before_timer")
                    wake = Wake(book, stream_id, obligation, now_us)
                    if obligation.startswith(OFFER_PREFIX):
                        self._shards.send_patiently(shard, stream_id, StreamKind.TASK, wake)
                    else:
                        self._shards.send(shard, stream_id, StreamKind.TASK, wake)
                    failpoint("after_timer")

    async def run_due_writer(self) -> None:
        """Write the due books behind and look ahead to the horizon, for ever."""
        scanned_s = self._clock.monotonic_s()
        while True:
            await asyncio.sleep(self._pace.due_write_s)
            try:
                await self.write_due()
                if self._shards.snapshots:
                    await self.write_snapshots()
                if self._clock.monotonic_s() - scanned_s > HORIZON_SCAN_S:
                    until_us = self._clock.now_us() + HORIZON_US
                    for shard, after_us in list(self._scanned_until_us.items()):
                        await self._scan(shard, after_us, until_us)
                    scanned_s = self._clock.monotonic_s()
                self._unwritten.is_over()
            except Unavailable as error:
                self._unwritten.goes_on(error.detail)

    async def write_due(self) -> None:
        """Write what changed since the last time, each shard with its checkpoint.

        Raises:
            Unavailable: it could not be written; nothing is lost, the next call writes it.
        """
        async with self._writing_due:
            await self._write_due()

    async def _write_due(self) -> None:
        books: list[DueBook] = []
        changes: list[DueChange] = []
        rows = 0
        for shard in self._shards.owned:
            book, queue = self._shards.book_of(shard), self._committer.queue_of(shard)
            if book is None or queue is None:
                continue
            change = book.begin_write(queue.epoch)
            if change is None:
                continue
            books.append(book)
            changes.append(change)
            rows += len(change.upserts) + len(change.deletes)
            if rows >= DUE_ROWS_MAX:
                await self._write_books(books, changes)
                books, changes, rows = [], [], 0
        if changes:
            await self._write_books(books, changes)

    async def _write_books(self, books: Sequence[DueBook], changes: Sequence[DueChange]) -> None:
        try:
            failpoint("before_due_write")
            ours = await self._log.write_due(changes)
            failpoint("after_due_write")
        except BaseException:
            for book in books:
                book.not_written()
            raise
        for book, change in zip(books, changes, strict=True):
            if change.shard in ours:
                book.written(change)
            else:
                book.not_written()

    async def write_snapshots(self) -> None:
        """Write the snapshots that are due.

        Raises:
            Unavailable: not all could be written; the next call writes the others.
        """

        def epoch_of(shard: int) -> int | None:
            queue = self._committer.queue_of(shard)
            return None if queue is None else queue.epoch

        failpoint("before_snapshot_write")
        await self._shards.snapshots.write(epoch_of)
        failpoint("after_snapshot_write")

    async def offer_again(self) -> None:
        """Wake every open offer now: the stream that held the work is new.

        Raises:
            Unavailable: the log cannot be read.
        """
        now_us = self._clock.now_us()
        owned = self._shards.owned
        for shard in owned:
            book = self._shards.book_of(shard)
            if book is not None:
                book.wake_all(OFFER_PREFIX, now_us)
        await self.offer_at_rest(owned)

    async def offer_at_rest(self, shards: Iterable[int], *, older_than_s: float = 0.0) -> None:
        """Wake now what shards have on offer by their rows alone: what memory knows this owner has offered itself.

        `older_than_s`: only of streams that are about so old, or older.

        Raises:
            Unavailable: the log cannot be read.
        """
        now_us = self._clock.now_us()
        born_before_us = now_us - round(older_than_s * US_PER_S) + CLOCKS_US
        for shard in shards:
            async for rows in self._log.due_between([shard], now_us, FAR_FUTURE_US, born_before_us=born_before_us):
                book = self._shards.book_of(shard)
                if book is None:
                    break
                offers = [row for row in rows if row.obligation.startswith(OFFER_PREFIX)]
                book.load([msgspec.structs.replace(row, at_us=now_us) for row in offers])

    async def _scan(self, shard: int, after_us: int, until_us: int) -> None:
        """Take rows with a time in (`after_us`, `until_us`] into memory."""
        async for rows in self._log.due_between([shard], after_us, until_us):
            book = self._shards.book_of(shard)
            if book is None:
                return
            book.load(rows)
        self._scanned_until_us[shard] = until_us

    async def run_partitions(self) -> None:
        """Have the log's partitions attached ahead of its end, for ever."""
        while True:
            await asyncio.sleep(PARTITIONS_S)
            try:
                await self._log.ensure_partitions()
                self._unattached.is_over()
            except Unavailable as error:
                self._unattached.goes_on(error.detail)

    async def run_passivation(self) -> None:
        """Drop idle actors, for ever."""
        while True:
            await asyncio.sleep(self._pace.passivate_s)
            self._shards.passivate(round(self._pace.idle_s * US_PER_S))
