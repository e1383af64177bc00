"""The shards that this node owns: mailboxes, turns, activation and passivation.

A message finds its actor: in memory its turn runs at once, in the caller's call; otherwise it waits in
a bounded mailbox while the stream is loaded, many streams in one query; those that only a repeated look
at an offer waits for come behind those that somebody waits for. A turn decides on pending
state, so the next one need not wait for the commit; what a turn says to the world waits for it.

A stream is read from the log only when nothing of it is queued or in flight, so that what is read is
what will be continued. When a unit fails its actor is dropped: the next message rebuilds it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Final
from uuid import UUID

import structlog

from tasker.errors import Busy, Fenced, TaskerError, Unavailable
from tasker.events.envelope import NewEvent
from tasker.events.history import History
from tasker.events.log import EventLog
from tasker.service.runtime.actor import Actor, ActorFactory, Kept, Message, Turn, ids_of
from tasker.service.runtime.committer import Committer, Unit
from tasker.service.runtime.due import HORIZON_US, DueBook
from tasker.service.runtime.snapshots import SnapshotBook, SnapshotPace
from tasker.settings import Limits

LOAD_STREAMS_MAX: Final = 200
"""Streams in one load."""

LOAD_PATIENT_MIN: Final = 50
"""As many of them have room for messages that can wait, however many cannot."""

LONG_LOADS_MAX: Final = 2
"""So many streams that take more than one reading are folded at once, beside the others."""

RESTARTS_MAX: Final = 3
RESTART_WINDOW_US: Final = 60_000_000
"""An actor that failed so often in so long is left alone until the window is over."""

_log = structlog.get_logger(__name__)


class Cell:
    """The place of one actor: empty while its stream is loaded."""

    __slots__ = ("actor", "kind", "mailbox", "pace", "touched_us")

    def __init__(self, kind: str, now_us: int) -> None:
        self.kind = kind
        self.actor: Actor | None = None
        self.pace: SnapshotPace | None = None
        self.mailbox: deque[Message] = deque()
        self.touched_us = now_us


class Shards:
    """Runs the actors of every shard that this node owns."""

    def __init__(
        self,
        log: EventLog,
        committer: Committer,
        factory: ActorFactory,
        now_us: Callable[[], int],
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._log = log
        self._committer = committer
        self._factory = factory
        self._now_us = now_us
        self._cells: dict[int, dict[UUID, Cell]] = {}
        self._serving: set[int] = set()
        self._paused: set[int] = set()
        self._books: dict[int, DueBook] = {}
        self._last_us: dict[int, int] = {}
        self._to_load: dict[UUID, int] = {}
        self._to_load_later: dict[UUID, int] = {}
        """Streams that only messages wait for that can wait."""
        self._load_wake = asyncio.Event()
        self._failures: dict[UUID, list[int]] = {}
        self._long_loads = asyncio.Semaphore(LONG_LOADS_MAX)
        self.snapshots = SnapshotBook(log)
        self.waiting = 0
        """Messages in mailboxes."""

    # ---------------------------------------------------------------- shards

    def open(self, shard: int, book: DueBook, last_us: int) -> None:
        """Take a shard up, to be restored; `last_us` is the time of its last event."""
        self._cells[shard] = {}
        self._books[shard] = book
        self._last_us[shard] = last_us

    def serve(self, shard: int) -> None:
        """Take messages for a shard: it is restored."""
        self._serving.add(shard)

    def pause(self, shard: int) -> None:
        """Take no more messages for a shard; it is about to be given up."""
        self._paused.add(shard)

    def close(self, shard: int) -> None:
        """Stop serving a shard: its actors are dropped, waiting messages fail."""
        self._serving.discard(shard)
        self._paused.discard(shard)
        cells = self._cells.pop(shard, {})
        self._books.pop(shard, None)
        for stream_id, cell in cells.items():
            self._load_no_more(stream_id)
            self._fail_mailbox(cell, Fenced(f"shard {shard} is not ours"))

    def owns(self, shard: int) -> bool:
        """Return whether the shard is served here."""
        return shard in self._serving

    @property
    def owned(self) -> list[int]:
        """Return the shards served here."""
        return list(self._serving)

    def book_of(self, shard: int) -> DueBook | None:
        """Return a shard's due book."""
        return self._books.get(shard)

    def actor_of(self, shard: int, stream_id: UUID) -> Actor | None:
        """Return the actor of a stream when it is in memory."""
        cell = self._cells.get(shard, {}).get(stream_id)
        return None if cell is None else cell.actor

    def actors(self) -> int:
        """Return how many actors are in memory."""
        return sum(len(cells) for cells in self._cells.values())

    def streams(self, shard: int) -> list[UUID]:
        """Return the streams of a shard that have an actor in memory, or a place in its due book."""
        cells, book = self._cells.get(shard, {}), self._books.get(shard)
        return [*cells, *(one for one in ([] if book is None else book.streams()) if one not in cells)]

    def knows(self, shard: int, stream_id: UUID) -> bool:
        """Return whether memory has anything of a stream: its rows alone do not say how it stands."""
        queue, book = self._committer.queue_of(shard), self._books.get(shard)
        return (
            stream_id in self._cells.get(shard, {})
            or (queue is not None and queue.holds(stream_id))
            or (book is not None and book.knows(stream_id))
        )

    def is_settled(self, shard: int, stream_id: UUID) -> bool:
        """Return whether nothing of a stream is queued, in flight, or waits to be loaded."""
        queue, cell = self._committer.queue_of(shard), self._cell(shard, stream_id)
        return (queue is None or not queue.holds(stream_id)) and (cell is None or cell.actor is not None)

    # ---------------------------------------------------------------- messages

    def send(self, shard: int, stream_id: UUID, kind: str, message: Message) -> None:
        """Give `message` to the actor of a stream; it is answered through `message` itself."""
        self._give(shard, stream_id, kind, message, self._to_load)

    def send_first(self, shard: int, stream_id: UUID, kind: str, message: Message) -> None:
        """Do as `send` with the first message of a stream whose id was drawn just now: the log has none of it."""
        self._give(shard, stream_id, kind, message, self._to_load, is_drawn=True)

    def send_patiently(self, shard: int, stream_id: UUID, kind: str, message: Message) -> None:
        """Do as `send`, with a message that can wait while others wait for streams that are not in memory.

        A backlog is looked at all at once, when it is as old again as it was, and when a shard was taken.
        """
        self._give(shard, stream_id, kind, message, self._to_load_later)

    def _give(
        self,
        shard: int,
        stream_id: UUID,
        kind: str,
        message: Message,
        line: dict[UUID, int],
        *,
        is_drawn: bool = False,
    ) -> None:
        cells = self._cells.get(shard)
        if cells is None or shard not in self._serving or shard in self._paused:
            message.fail(Fenced(f"shard {shard} is not ours"))
            return
        cell = cells.get(stream_id)
        if cell is None:
            if self._committer.backlog > self._limits.backlog_units_max:
                message.fail(Busy("too much waits for the log", retry_after_s=0.5))
                return
            cell = cells[stream_id] = Cell(kind, self._now_us())
            if is_drawn:
                cell.actor = self._factory.new(shard, stream_id, kind)
            if cell.actor is None:
                line[stream_id] = shard
                self._load_wake.set()
        elif line is self._to_load and self._to_load_later.pop(stream_id, None) is not None:
            line[stream_id] = shard
        if cell.actor is not None:
            self._turn(shard, stream_id, cell, message)
        elif len(cell.mailbox) >= self._limits.mailbox_messages_max:
            message.fail(Busy("too many messages wait for this task", retry_after_s=0.5))
        else:
            cell.mailbox.append(message)
            self.waiting += 1

    def _turn(self, shard: int, stream_id: UUID, cell: Cell, message: Message) -> None:
        now_us = max(self._now_us(), self._last_us[shard])
        self._last_us[shard] = now_us
        cell.touched_us = now_us
        assert cell.actor is not None  # noqa: S101 - the caller looked
        try:
            turn = cell.actor.receive(message, now_us)
        except Exception as error:  # noqa: BLE001 - the supervisor's border: an actor's bug must not stop its shard
            self._crashed(shard, stream_id, cell, message, error)
            return
        if turn is not None:
            unit = Unit(stream_id, turn.events, partial(self._done, shard, stream_id, turn))
            if cell.pace is not None and turn.events and cell.pace.took(len(turn.events), unit.payload_bytes):
                turn.snapshot = cell.pace.take(cell.actor, shard, stream_id, turn.events[-1].seq)
            try:
                self._committer.submit(shard, unit)
            except Fenced as error:
                turn.failed(error)
            except AssertionError as error:
                self._crashed(shard, stream_id, cell, message, error)

    def _done(self, shard: int, stream_id: UUID, turn: Turn, error: TaskerError | None, position: int) -> None:
        if error is not None:
            self.drop(shard, stream_id)
            turn.failed(error)
            return
        if turn.events:
            book = self._books.get(shard)
            if book is not None and (turn.owed is None or turn.owed):
                book.apply(stream_id, turn.owed, decided_us=turn.events[0].at_us)
        if turn.snapshot is not None:
            self.snapshots.note(turn.snapshot, position)
        turn.committed(position)

    def drop(self, shard: int, stream_id: UUID) -> None:
        """Forget an actor; the next message rebuilds it from the log."""
        cell = self._cells.get(shard, {}).pop(stream_id, None)
        if cell is not None and cell.mailbox:
            self._load_no_more(stream_id)
            self._fail_mailbox(cell, Unavailable("the task is being rebuilt", retry_after_s=0.2))

    def _load_no_more(self, stream_id: UUID) -> None:
        self._to_load.pop(stream_id, None)
        self._to_load_later.pop(stream_id, None)

    def _crashed(self, shard: int, stream_id: UUID, cell: Cell, message: Message, error: Exception) -> None:
        """Supervise: drop the actor, so that it is rebuilt; leave it alone for a while when that does not help."""
        _log.exception(
            "actor_failed",
            shard=shard,
            **ids_of(cell.kind, stream_id, cell.actor.correlation_id if cell.actor else None),
            exc_info=error,
        )
        now_us = self._now_us()
        times = [at for at in self._failures.get(stream_id, ()) if at > now_us - RESTART_WINDOW_US]
        self._failures[stream_id] = [*times, now_us]
        self._cells[shard].pop(stream_id, None)
        message.fail(Unavailable("the task's actor failed; the service's log has the cause", retry_after_s=5.0))

    def _restarts_spent(self, stream_id: UUID) -> bool:
        since_us = self._now_us() - RESTART_WINDOW_US
        return sum(at > since_us for at in self._failures.get(stream_id, ())) >= RESTARTS_MAX

    # ---------------------------------------------------------------- activation

    async def run_loader(self) -> None:
        """Load streams that messages wait for, for ever."""
        async with asyncio.TaskGroup() as others:
            while True:
                await self._load_wake.wait()
                self._load_wake.clear()
                # One pass of the loop: commands that arrived together are loaded together.
                await asyncio.sleep(0)
                while batch := self._next_load():
                    try:
                        await self._load(batch, others)
                    except Unavailable as error:
                        for stream_id, shard in batch.items():
                            self.fail_waiting(shard, stream_id, error)

    def _next_load(self) -> dict[UUID, int]:
        batch = self._take(self._to_load, LOAD_STREAMS_MAX - (LOAD_PATIENT_MIN if self._to_load_later else 0))
        batch |= self._take(self._to_load_later, LOAD_PATIENT_MIN if batch else LOAD_STREAMS_MAX)
        if not batch and (self._to_load or self._to_load_later):
            asyncio.get_running_loop().call_later(0.01, self._load_wake.set)
        return batch

    def _take(self, line: dict[UUID, int], streams_max: int) -> dict[UUID, int]:
        """Take the first of those that wait out of their line, but what has events on their way to the log."""
        batch = dict(islice((one for one in line.items() if not self._is_held(*one)), streams_max))
        for stream_id in batch:
            del line[stream_id]
        return batch

    def _is_held(self, stream_id: UUID, shard: int) -> bool:
        queue = self._committer.queue_of(shard)
        return queue is not None and queue.holds(stream_id)

    async def _load(self, batch: dict[UUID, int], others: asyncio.TaskGroup) -> None:
        for stream_id, shard in list(batch.items()):
            if self._restarts_spent(stream_id):
                del batch[stream_id]
                self.fail_waiting(shard, stream_id, Unavailable("the task's actor keeps failing", retry_after_s=30.0))
        cells = {stream_id: self._cell(shard, stream_id) for stream_id, shard in batch.items()}
        found = await self._log.load_histories(list(batch))
        for stream_id, shard in batch.items():
            loaded, cell = found.get(stream_id), cells[stream_id]
            history = None if loaded is None else History(stream_id, loaded, self._log)
            if history is not None and history.is_long:
                others.create_task(self._load_long(shard, stream_id, cell, history), name=f"fold {stream_id}")
            else:
                await self._try_to_activate(shard, stream_id, cell, history)

    async def _load_long(self, shard: int, stream_id: UUID, cell: Cell | None, history: History) -> None:
        async with self._long_loads:
            await self._try_to_activate(shard, stream_id, cell, history)

    async def _try_to_activate(self, shard: int, stream_id: UUID, cell: Cell | None, history: History | None) -> None:
        try:
            await self._activate(shard, stream_id, cell, history)
        except Unavailable as error:
            self.fail_waiting(shard, stream_id, error)

    def _cell(self, shard: int, stream_id: UUID) -> Cell | None:
        return self._cells.get(shard, {}).get(stream_id)

    async def _activate(self, shard: int, stream_id: UUID, cell: Cell | None, history: History | None) -> None:
        """Fill the place that the stream had when it was read; another one since then waits for a newer reading."""
        if cell is None or cell.actor is not None or self._cell(shard, stream_id) is not cell:
            return
        actor = None if history is not None else self._factory.new(shard, stream_id, cell.kind)
        if actor is None:
            history = history or History(stream_id, None)
            actor = await self._factory.revive(stream_id, history, cell.kind)
        if self._cell(shard, stream_id) is not cell:
            self._fail_mailbox(cell, Fenced(f"shard {shard} is not ours"))
            return
        cell.actor = actor
        if history is not None:
            self._pace(shard, cell, history)
        if history is not None and history.seq:
            self._books[shard].adopt(stream_id, actor.owes(), written=True)
        while cell.mailbox and cell.actor is actor:
            self.waiting -= 1
            self._turn(shard, stream_id, cell, cell.mailbox.popleft())
            if self._cell(shard, stream_id) is not cell:
                self._fail_mailbox(cell, Unavailable("the task is being rebuilt", retry_after_s=0.2))

    def _pace(self, shard: int, cell: Cell, history: History) -> None:
        """Begin to count what an actor's state is kept after; one that took a long fold is kept at once."""
        actor: object = cell.actor
        if isinstance(actor, Kept):
            cell.pace = SnapshotPace(history)
            if cell.pace.took(0, 0):
                snapshot = cell.pace.take(actor, shard, history.stream_id, history.seq)
                self.snapshots.note(snapshot, history.position)

    def fail_waiting(self, shard: int, stream_id: UUID, error: TaskerError) -> None:
        """Fail the messages of a stream that could not be loaded."""
        cell = self._cells.get(shard, {}).pop(stream_id, None)
        if cell is not None:
            self._fail_mailbox(cell, error)

    def _fail_mailbox(self, cell: Cell, error: TaskerError) -> None:
        while cell.mailbox:
            self.waiting -= 1
            cell.mailbox.popleft().fail(error)

    async def restore(self, shard: int, stream_ids: Iterable[UUID], kind: str) -> None:
        """Fold streams whose obligations the due rows do not hold yet, and note what they owe."""
        ids = list(stream_ids)
        book = self._books[shard]
        for start in range(0, len(ids), LOAD_STREAMS_MAX):
            page = ids[start : start + LOAD_STREAMS_MAX]
            for stream_id, loaded in (await self._log.load_histories(page)).items():
                cell = Cell(kind, self._now_us())
                history = History(stream_id, loaded, self._log)
                actor = await self._factory.revive(stream_id, history, kind)
                cell.actor = actor
                self._pace(shard, cell, history)
                self._cells[shard].setdefault(stream_id, cell)
                book.adopt(stream_id, actor.owes(), written=False)

    # ---------------------------------------------------------------- passivation

    def passivate(self, idle_us: int) -> int:
        """Drop actors that had no message for `idle_us`; returns how many."""
        now_us = self._now_us()
        self._failures = {one: at for one, at in self._failures.items() if at[-1] > now_us - RESTART_WINDOW_US}
        dropped = 0
        for shard, cells in self._cells.items():
            queue = self._committer.queue_of(shard)
            book = self._books[shard]
            for stream_id, cell in list(cells.items()):
                if cell.actor is None or cell.touched_us > now_us - idle_us or not cell.actor.idle():
                    continue
                if queue is not None and queue.holds(stream_id):
                    continue
                del cells[stream_id]
                dropped += 1
            for stream_id in book.streams():
                if stream_id not in cells:
                    book.release(stream_id, now_us + HORIZON_US)
        return dropped

    def note_committed(self, shard: int, first_position: int, events: Sequence[NewEvent]) -> None:
        """Move the due book's position; the units' own changes follow before any other code runs."""
        book = self._books.get(shard)
        if book is not None:
            book.position = first_position + len(events) - 1
