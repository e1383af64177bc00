"""Direct work: a step goes straight to a worker that said it has free slots, in arrays, past the work stream.

    offer -> waiting (one queue each) -> a worker with a free slot -> its array -> reports
                |                                                        |
                `- none frees a slot in time: the work stream            `- it never arrived: offered again

What waits in a queue that moves quickly stays, however long the queue is: a burst is through sooner than by the stream,
where what is no longer young asks its owner before it runs.

A worker tells all nodes each second which queues it serves, how many slots it has and how much of them is taken
(`WorkerSlots`). What it took from this node is counted at both ends: we count what we sent, it counts what it
received and what it has released since, and says both sums; a sum that is said again or late does no harm. A queue
with a backlog in the work stream is not served directly, so that nothing overtakes what waits there.

Handlers with a limit have slots of their own, told as parts. Here a part is like a worker, and such a handler has a
line of its own: what waits for one of its few slots keeps no other work of the queue waiting. A worker of the queue
that has no such part (another version of the code, say) runs it in any of its slots.

Nothing here is durable. Nobody listens: NATS says so at once. An array that was lost on its way shows in the worker's
own sum. Then, and when a worker is silent, what it has not begun is offered again at once; everything else is found by
the offer's own obligation, as with the stream. A worker asks the owner before it runs what is not young, so a copy that
comes late does no harm.

The idea is Temporal's "sync match": a task that meets a waiting poller is not stored on its way.

A queue in which some work has a priority, or a key that shares its slots, or for which the stream has no room, is
*ordered*: its offers stay here until there is a slot (`waiting_set.py`), and the stream, which knows no order but that
of arrival, gets only what it asks for (`stream_demand.py`). What is urgent also goes to workers whose queue has a
backlog in the stream: there it gets the next slot that is free. So does what waits for one worker alone, which the
stream could give to any (`kept.py`).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from typing import Final, Protocol

import structlog

from tasker.bus.bus import Bus, Message
from tasker.errors import DeadlineExceeded, TaskerError, Unavailable, Undecodable
from tasker.events.codec import encode_message
from tasker.events.envelope import US_PER_S
from tasker.events.messages import NodeTime, SlotsPart, WorkerSlots
from tasker.events.subjects import Subjects
from tasker.failpoints import failpoint
from tasker.service.actors.dispatch.kept import KeptLine, KeptLines, kept_key
from tasker.service.actors.dispatch.lines import (
    HANDLER_TOKENS,
    QUEUE_TOKENS,
    TURN_ITEMS,
    Line,
    LineKey,
    Offered,
    Order,
    Queue,
    Worker,
)
from tasker.service.actors.dispatch.stream_demand import Demand, demand_of
from tasker.service.actors.dispatch.unbegun import Unbegun
from tasker.service.actors.dispatch.waiting_set import Waiting
from tasker.service.actors.dispatch.worker_words import slots_of
from tasker.service.actors.task_actor import TaskActor
from tasker.service.domain.limits.ranks import OLD_S, priority_of, rank_of
from tasker.service.runtime.node_clock import NodeClock
from tasker.settings import DirectSettings
from tasker.tenant_book import TenantBook

ARRIVAL_S: Final = 1.0
"""What a worker does not count as received so long after it was sent was lost on its way."""

ARRAY_BYTES_MAX: Final = 256 * 1024
"""This bound, that of an item and those below keep messages and a stranger's claims small; none is a matter of load."""

ARRAY_ITEMS_MAX: Final = 64
WORKERS_MAX: Final = 12_500
"""Workers known at once, of one tenant four fifths of them; what more of them say is not heard."""

ORDERED_S: Final = 600.0
"""A queue stays ordered for so long after the last work with a priority."""

ORDERED_MAX: Final = 200_000
"""Offers that wait in a node's ordered queues; more go to the work stream."""

LINES_MAX: Final = 12_500
"""Queues known at once, of one tenant four fifths of them; others are served by the stream alone."""

FULL_S: Final = 1.0
"""For so long nothing more of a queue goes to the stream after that had no room for it."""

_SWEEP_S: Final = 0.1

_log = structlog.get_logger(__name__)


class Offers(Protocol):
    """Where offers come from and go to when no worker takes them."""

    def encoded(self, offered: Offered) -> bytes | None:
        """Return the work's JSON; None: the attempt is no longer on offer."""
        ...

    def actor_of(self, waiting: Waiting) -> TaskActor | None:
        """Return the actor of what waited; None: it is rebuilt, and offers again what is still open."""
        ...

    def to_stream(self, offered: Offered) -> None:
        """Publish it to the work stream."""
        ...

    def again(self, offered: Offered) -> None:
        """Offer it again shortly, by the stream: a worker may or may not have it."""
        ...

    def to_anybody(self, offered: Offered) -> None:
        """Offer to any worker what waited for one."""
        ...


class DirectWork:
    """The workers that this node knows, and the offers that wait for them.

    Attributes:
        node: the name of this node.
    """

    def __init__(
        self, bus: Bus, subjects: Subjects, node: str, clock: NodeClock, settings: DirectSettings | None = None
    ) -> None:
        settings = settings or DirectSettings()
        self._wait_s = settings.wait_s
        self._waiting_max = settings.waiting_max
        self._silent_s = settings.silent_s
        self._bus = bus
        self._subjects = subjects
        self.node = node
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._offers: Offers | None = None
        self._workers: TenantBook[tuple[str, str], Worker] = TenantBook()
        self._lines: TenantBook[LineKey, Line] = TenantBook()
        self._split: Counter[LineKey] = Counter()
        """How many lines of handlers each queue has."""
        self._unbegun = Unbegun()
        self._unreachable: set[Worker] = set()
        self._leaving: dict[Worker, float] = {}
        """Workers that get nothing more, and until when they may begin, or give back, what they have."""
        self._flushing: asyncio.Handle | None = None
        self._waiting: dict[LineKey, None] = {}
        """Queues with offers that wait, the next one first."""
        self._ordered = 0
        """Offers that wait in ordered queues."""
        self._kept = KeptLines()
        self._hearing_s = self._paced_s = self._loop.time()
        """Since when workers are heard, all of which speak up each second."""
        self._open = settings.enabled
        self.sent = self.returned = self.lost = 0
        """Items: sent to workers; given back by them; offered again because a worker or a message was lost."""
        bus.on_disconnect(self._forget_workers)

    def attach(self, offers: Offers) -> None:
        """Name where offers come from; before anything else."""
        self._offers = offers

    @property
    def _source(self) -> Offers:
        assert self._offers is not None  # noqa: S101 - attached where both are made
        return self._offers

    # ---------------------------------------------------------------- offers

    def take(self, queue: Queue, actor: TaskActor, step: str, attempt: int, offer: int = 0) -> bool:
        """Take an offer for the queue's workers; False: it has none (now), so the stream has to."""
        key: LineKey = self._key_of(queue, actor, step) if queue in self._split else queue
        line = self._lines.get(key)
        assert actor.template is not None  # noqa: S101 - a task with steps has one
        if actor.state.priority or actor.template.is_ordered or (line is not None and line.order is not None):
            return self._open and self._take_ordered(key, line, actor, step, attempt, offer)
        if line is None or not line.workers or not self._open or offer:
            return False
        now_s = self._loop.time()
        if now_s < line.stream_until_s or len(line.waiting) >= self._waiting_max:
            return False
        line.waiting.append(Offered(actor, step, attempt, now_s + self._wait_s))
        self._waiting[key] = None
        self._flush_soon()
        return True

    def _take_ordered(  # noqa: PLR0917 - an offer, and where it is to wait
        self, key: LineKey, line: Line | None, actor: TaskActor, step: str, attempt: int, offer: int
    ) -> bool:
        """Let an offer wait in its place until there is a slot; False: the stream has to keep it."""
        assert actor.template is not None  # noqa: S101 - a task with steps has one
        now_s, priority = self._loop.time(), priority_of(actor.state, actor.template, step)
        line = line or self._line(key)
        if line is None:
            return False
        order = line.order
        if order is None:
            order = line.order = Order(now_s)
            waiting, line.waiting = line.waiting, deque()
            for before in waiting:
                self._add(order, before.actor, before.step, before.attempt, 0)
        if priority or actor.template.is_ordered:
            order.until_s = now_s + ORDERED_S
        known = order.waiting.find(actor.stream_id, step, attempt)
        if known is not None:
            order.waiting.move(known, priority)
        elif self._ordered >= ORDERED_MAX:
            return False
        else:
            one = self._add(order, actor, step, attempt, offer)
            if len(order.waiting) == 1:
                # It may have waited for long, here or with an owner before this one.
                order.handed_s = now_s - (self._clock.now_us() - one.since_us) / US_PER_S
        self._waiting[key] = None
        self._flush_soon()
        return True

    def take_overflow(self, queue: Queue, actor: TaskActor, step: str, attempt: int, offer: int) -> bool:
        """Take an offer for which the stream has no room, as all of its queue from now on; False: there is none here.

        It waits in its place for a slot, or until the stream has nothing left of the queue.
        """
        key = self._key_of(queue, actor, step)
        if not self._open or not self._take_ordered(key, self._lines.get(key), actor, step, attempt, offer):
            return False
        order = self._lines[key].order
        assert order is not None  # noqa: S101 - it has just been made
        now_s = self._loop.time()
        order.until_s, order.full_until_s = now_s + ORDERED_S, now_s + FULL_S
        return True

    def take_back(self, queue: Queue, actor: TaskActor, step: str, attempt: int) -> None:
        """Let an attempt that nobody shall run any more not wait here: in a queue without workers it would for ever."""
        if not self._ordered:
            return
        lines = [self._lines.get(key) for key in {queue, self._key_of(queue, actor, step)}]
        entry = actor.state.steps.get(step)
        if entry is not None and entry.kept_for is not None:
            lines += [one for one in self._kept.of((queue[0], entry.kept_for)) if one.key[:QUEUE_TOKENS] == queue]
        for line in lines:
            order = None if line is None else line.order
            one = None if order is None else order.waiting.find(actor.stream_id, step, attempt)
            if order is not None and one is not None:
                order.waiting.remove(one)
                self._ordered -= 1

    def keep(  # noqa: PLR0917 - an offer, and for whom
        self, worker: str, queue: Queue, actor: TaskActor, step: str, attempt: int, offer: int, wait_s: float | None
    ) -> bool:
        """Let an offer wait for one worker, at most so long; False: that is gone, so anybody may have it."""
        assert actor.template is not None  # noqa: S101 - a task with steps has one
        if not self._open:
            return False
        owner = (queue[0], worker)
        key = kept_key(self._workers.get(owner), queue, actor.template.step(step).handler)
        line = self._kept.find(owner, key) or self._kept_line(owner, key)
        if line is None or line.order is None:
            return False
        known = line.order.waiting.find(actor.stream_id, step, attempt)
        if not self._take_ordered((*key, worker), line, actor, step, attempt, offer):
            return False
        if known is None and wait_s is not None:
            one = line.order.waiting.find(actor.stream_id, step, attempt)
            assert one is not None  # noqa: S101 - it has just been taken
            line.limit(one, self._loop.time() + wait_s)
        return True

    def _kept_line(self, owner: tuple[str, str], key: LineKey) -> KeptLine | None:
        """Begin the line of a worker; None: it is gone, or does not serve the queue."""
        worker, now_s = self._workers.get(owner), self._loop.time()
        line = KeptLine(key, now_s, (self._hearing_s if worker is None else worker.heard_s) + self._silent_s)
        has_room = self._lines.has_room(owner[0], LINES_MAX)
        if not has_room or not (line.aim(worker) or (worker is None and now_s < line.until_s)):
            return None
        self._kept.add(owner, line)
        self._lines[*key, owner[1]] = line
        return line

    def _aim(self, owner: tuple[str, str], worker: Worker) -> None:
        """Let what is kept for a worker that spoke up wait for what it serves; what it does not is anybody's."""
        for line in self._kept.of(owner):
            line.until_s = worker.heard_s + self._silent_s
            if not line.aim(worker):
                self._let_go(owner, line)

    def _let_go(self, owner: tuple[str, str], line: KeptLine) -> None:
        """Let anybody have what was kept for a worker."""
        self._kept.remove(owner, line)
        del self._lines[*line.key, owner[1]]
        self._waiting.pop((*line.key, owner[1]), None)
        assert line.order is not None  # noqa: S101 - such a line always has one
        while (one := line.order.waiting.next(0)) is not None:
            self._to_anybody(line.order, one)

    def _to_anybody(self, order: Order, one: Waiting) -> None:
        offered = self._taken(order, one)
        if offered is not None:
            self._source.to_anybody(offered)

    def _look_after_kept(self, now_s: float) -> None:
        """Let go what waits for workers that are gone, or has waited long enough."""
        if not self._bus.connected:
            self._hearing_s = now_s
        for owner, line in self._kept:
            is_gone = not (line.workers or line.overtaken)
            if not line.count or (is_gone and now_s >= max(line.until_s, self._hearing_s + self._silent_s)):
                self._let_go(owner, line)
                continue
            for one in line.overdue(now_s):
                assert line.order is not None  # noqa: S101 - such a line always has one
                self._to_anybody(line.order, one)

    def _add(self, order: Order, actor: TaskActor, step: str, attempt: int, offer: int) -> Waiting:
        entry = actor.state.steps.get(step)
        since_us = self._clock.now_us() if entry is None else entry.dispatched_us
        assert actor.template is not None  # noqa: S101 - a task with steps has one
        priority, share, weight = rank_of(actor.state, actor.template, step)
        place = (actor.shard, actor.stream_id, step, attempt, offer)
        one = Waiting(*place, priority, since_us, share, weight)
        order.waiting.add(one)
        self._ordered += 1
        return one

    def _taken(self, order: Order, one: Waiting) -> Offered | None:
        """Return what gets a slot as an offer; None: its actor offers it again."""
        order.waiting.take(one)
        self._ordered -= 1
        actor = self._source.actor_of(one)
        return None if actor is None else Offered(actor, one.step, one.attempt, self._loop.time(), one.offer)

    def _key_of(self, queue: Queue, actor: TaskActor, step: str) -> LineKey:
        """Return the line of a step whose queue has handlers with lines of their own."""
        assert actor.template is not None  # noqa: S101 - a task with steps has one
        own = (*queue, actor.template.step(step).handler)
        return own if own in self._lines else queue

    def _flush_soon(self) -> None:
        """Hand out at the end of this turn of the loop, so that what commits together leaves together."""
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        touched: dict[Worker, None] = {}
        hungry = list(self._waiting)
        while hungry:
            # A few of each queue in turn, since they share the slots; the first one is the last next time.
            hungry = [queue for queue in hungry if self._hand_out(queue, self._lines[queue], touched)]
        waiting = [queue for queue in self._waiting if self._lines[queue].count]
        self._waiting = dict.fromkeys((*waiting[1:], *waiting[:1]))
        for worker in touched:
            self._send(worker)

    def _hand_out(self, key: LineKey, line: Line, touched: dict[Worker, None]) -> bool:
        """Hand out some offers of a queue; returns whether more of them may go now."""
        if line.order is not None:
            return self._hand_out_ordered(key, line, line.order, touched)
        waiting = line.waiting
        for _ in range(min(len(waiting), TURN_ITEMS)):
            worker = self._next_worker(key, line)
            if worker is None:
                return False
            offered = waiting.popleft()
            line.handed += 1
            self._give(line, worker, offered, touched)
        return bool(waiting)

    def _hand_out_ordered(self, key: LineKey, line: Line, order: Order, touched: dict[Worker, None]) -> bool:
        """Hand out some offers of an ordered queue; returns whether more of them may go now."""
        now_us, now_s = self._clock.now_us(), self._loop.time()
        for _ in range(TURN_ITEMS):
            one = order.waiting.next(now_us)
            if one is None:
                return False
            worker = self._next_worker(key, line)
            if worker is None and one.priority > 0:
                worker = line.worker_for_urgent()
            if worker is None:
                return False
            order.handed_s = now_s
            offered = self._taken(order, one)
            if offered is not None:
                self._give(line, worker, offered, touched)
        return bool(order.waiting)

    def _next_worker(self, key: LineKey, line: Line) -> Worker | None:
        """Return a worker with a free slot for a line."""
        worker = line.next_worker()
        if worker is None and len(key) == HANDLER_TOKENS:
            worker = max(self._unlimited(key, line), key=lambda one: one.free, default=None)
            return worker if worker is not None and worker.free > 0 else None
        return worker

    def _unlimited(self, key: LineKey, line: Line) -> list[Worker]:
        """Return the workers that run a handler as any other of its queue, while others have places of its own."""
        queue = self._lines.get(key[:QUEUE_TOKENS]) if len(key) == HANDLER_TOKENS else None
        if queue is None or len(queue.workers) <= len(line.workers):
            return []  # where all have such places, as they mostly do, none need be looked at
        return [one for one in queue.workers if not any(key in part.queues for part in one.parts.values())]

    def _give(self, line: Line, worker: Worker, offered: Offered, touched: dict[Worker, None]) -> None:
        """Put an offer into the worker's array, unless it is closed or too large."""
        data = self._source.encoded(offered)
        if data is None:
            return
        if len(data) > line.item_bytes_max:
            self._source.to_stream(offered)
            return
        if worker.items and (len(worker.items) == ARRAY_ITEMS_MAX or worker.array_bytes + len(data) > ARRAY_BYTES_MAX):
            self._send(worker)
        worker.items.append(offered)
        worker.data.append(data)
        worker.array_bytes += len(data)
        worker.sent += 1
        touched[worker] = None

    def _send(self, worker: Worker) -> None:
        """Send the array that was gathered for the worker."""
        items, worker.items = worker.items, []
        data, worker.data = worker.data, []
        worker.array_bytes = 0

        def on_reply(reply: Message | TaskerError) -> None:
            # It answers by its reports; so all there is to hear is that nobody listens, or that we lost the connection.
            if isinstance(reply, TaskerError) and not isinstance(reply, DeadlineExceeded):
                self._miss(worker, items)

        self.sent += len(items)
        self._unbegun.sent(worker, items)
        part = b'"part":"%b",' % worker.name.encode() if worker.name else b""
        body = b'{"sent_at_us":%d,%b"work":[%b]}' % (self._clock.now_us(), part, b",".join(data))
        failpoint("before_dispatch")
        try:
            self._bus.ask(worker.subject, body, on_reply, timeout_s=ARRIVAL_S)
        except TaskerError:
            self._miss(worker, items)
            return
        failpoint("after_dispatch")

    def _again(self, items: Iterable[Offered]) -> None:
        """Offer again what has not begun."""
        for offered in self._unbegun.missed(items):
            self.lost += 1
            self._source.again(offered)

    def _miss(self, worker: Worker, items: Iterable[Offered]) -> None:
        """Offer an array again that did not arrive. Its worker is dropped at the end of this turn of the loop.

        With a connection all that is on its way fails, to each worker: they are dropped together.
        """
        for one in worker.whole.all_of_it():
            one.slots = 0
        if not self._unreachable:
            self._loop.call_soon(self._drop_unreachable)
        self._unreachable.add(worker.whole)
        self._again(items)

    def _drop_unreachable(self) -> None:
        workers, self._unreachable = self._unreachable, set()
        self._drop(workers)

    # ---------------------------------------------------------------- what workers say

    def on_slots(self, message: Message) -> None:
        """Take what a worker says of its slots, and tell it our time."""
        tenant = self._subjects.tenant_of(message.subject)
        try:
            said = slots_of(message.data)
        except Undecodable as error:
            _log.warning("slots_undecodable", tenant=tenant, error=error.detail)
            return
        self._note(tenant, said)
        if message.reply and self._subjects.is_callers(message.reply):
            try:
                now = NodeTime(node=self.node, now_us=self._clock.now_us())
                self._bus.publish(message.reply, encode_message(now))
            except Unavailable as error:
                _log.debug("node_time_not_told", error=error.detail)

    def _note(self, tenant: str, said: WorkerSlots) -> None:
        key = (tenant, said.worker)
        worker = self._workers.get(key)
        if said.slots <= 0:
            if worker is not None:
                self._part_with({worker})
            for line in self._kept.of(key):
                self._let_go(key, line)
            return
        if worker is None:
            if not self._workers.has_room(tenant, WORKERS_MAX):
                _log.warning("too_many_workers", tenant=tenant, known=len(self._workers))
                return
            subject = self._subjects.worker_work(tenant, said.worker, self.node)
            worker = self._workers[key] = Worker(key, subject)
        if not self._note_one(worker, said, frozenset((tenant, *queue) for queue in said.queues)):
            return
        self._overtake(worker, frozenset((tenant, *queue) for queue in said.backlogged))
        for told in said.parts:
            part = worker.parts.get(told.name)
            if part is None:
                part = worker.parts[told.name] = Worker(key, worker.subject, worker, told.name)
            if not self._note_one(part, told, frozenset((tenant, *handler) for handler in told.handlers)):
                return
        if len(worker.parts) > len(said.parts):
            for name in worker.parts.keys() - {told.name for told in said.parts}:
                self._serve(worker.parts.pop(name), frozenset())
        self._aim(key, worker)
        self._flush_soon()

    def _note_one(self, worker: Worker, said: WorkerSlots | SlotsPart, queues: frozenset[LineKey]) -> bool:
        """Take what is said of a worker, or of a part of one; False: something was lost, so the worker is dropped."""
        received, released = said.nodes.get(self.node, (0, 0))
        now_s = self._loop.time()
        if now_s >= worker.checked_s + ARRIVAL_S:
            if received < worker.checked:
                _log.warning("work_lost_on_its_way", subject=worker.subject, items=worker.checked - received)
                self._drop({worker.whole})
                return False
            worker.checked, worker.checked_s = worker.sent, now_s
        worker.sent = max(worker.sent, received)
        worker.released = released
        worker.slots = said.slots
        worker.taken = said.elsewhere + sum(got - done for node, (got, done) in said.nodes.items() if node != self.node)
        worker.heard_s = now_s
        if queues != worker.queues:
            self._serve(worker, queues)
        return True

    def released(self, tenant: str, worker: str, count: int, part: str = "") -> None:
        """Take note of how many of our items hold no slot of the worker, or of its part, any more."""
        known = self._workers.get((tenant, worker))
        if known is not None and part:
            known = known.parts.get(part)
        if known is not None and count > known.released:
            known.released = count
            if self._waiting:
                self._flush_soon()

    def begun(self, task_id: str, step: str, attempt: int) -> None:
        """Take note that a worker reported on an attempt: it arrived."""
        self._unbegun.pop((task_id, step, attempt), None)

    @property
    def workers(self) -> int:
        """Return how many workers take work from this node."""
        return len(self._workers)

    def waiting_in(self, queue: Queue) -> int:
        """Return how many offers of a queue wait for a free slot."""
        if queue not in self._split:
            line = self._lines.get(queue)
            return (0 if line is None else line.count) + self._kept.waiting_in(queue)
        return sum(self._lines[key].count for key in self._waiting if key[:QUEUE_TOKENS] == queue)

    @property
    def waiting(self) -> int:
        """Return how many offers wait for a free slot."""
        return sum(self._lines[queue].count for queue in self._waiting)

    # ---------------------------------------------------------------- workers come and go

    def _line(self, key: LineKey) -> Line | None:
        """Return the line of a queue, or of a handler that has its own; None: there are too many to begin another."""
        line = self._lines.get(key)
        if line is None and self._lines.has_room(key[0], LINES_MAX):
            line = self._lines[key] = Line()
            if len(key) > QUEUE_TOKENS:
                self._split[key[:-1]] += 1
        return line

    def _serve(self, worker: Worker, queues: frozenset[LineKey]) -> None:
        for queue in worker.queues - queues:
            self._lines[queue].workers.remove(worker)
        for queue in queues - worker.queues:
            line = self._line(queue)
            if line is None:
                queues -= {queue}
            else:
                line.workers.append(worker)
        worker.queues = queues

    def _overtake(self, worker: Worker, queues: frozenset[LineKey]) -> None:
        """Take note of the queues of a worker that have a backlog in the stream."""
        if queues == worker.backlogged:
            return
        for queue in worker.backlogged - queues:
            self._lines[queue].overtaken.remove(worker)
        for queue in queues - worker.backlogged:
            line = self._line(queue)
            if line is None:
                queues -= {queue}
            else:
                line.overtaken.append(worker)
        worker.backlogged = queues

    def _remove(self, workers: set[Worker]) -> None:
        """Send workers nothing more."""
        gone = {one for worker in workers for one in worker.all_of_it()}
        for key in {key for one in gone for key in one.queues | one.backlogged}:
            self._lines[key].without(gone)
        for one in gone:
            one.queues = one.backlogged = frozenset()
        for worker in workers:
            if self._workers.get(worker.owner) is worker:
                del self._workers[worker.owner]
                for line in self._kept.of(worker.owner):
                    line.aim(None)

    def _part_with(self, workers: set[Worker]) -> None:
        """Send workers nothing more. What they have they report on soon; if they do not, it is offered again."""
        self._remove(workers)
        self._leaving |= dict.fromkeys(workers, self._loop.time() + self._silent_s)

    def _miss_leaving(self, now_s: float) -> None:
        """Offer again what workers that left have not begun."""
        gone = {worker for worker, until_s in self._leaving.items() if until_s <= now_s}
        for worker in gone:
            del self._leaving[worker]
        if gone:
            self._again(self._unbegun.of(gone))

    def _drop(self, workers: set[Worker]) -> None:
        """Count workers as gone: what they have not begun is offered again."""
        self._remove(workers)
        self._again(self._unbegun.of(workers))

    def _forget_workers(self) -> None:
        """Without a connection nobody is known; those who are there speak up again."""
        self._part_with(set(self._workers.values()))

    # ---------------------------------------------------------------- time

    async def run(self) -> None:
        """Send to the stream what waited too long, and miss workers that are silent, for ever."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._sweep(self._loop.time())

    async def run_feeding(self) -> None:
        """Feed the stream, for ever; beside `run`, which waits for no answer of NATS."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            if self._ordered:
                await self._feed_stream()

    async def _feed_stream(self) -> None:
        """Leave to the stream what it asks for of ordered queues whose offers find no slot here."""
        for key in list(self._waiting):
            line = self._lines.get(key)
            order = None if line is None else line.order
            if line is None or order is None or isinstance(line, KeptLine) or not self._finds_none(key, line, order):
                continue
            if order.full_until_s > self._loop.time():
                continue
            tenant, namespace, queue = key[:QUEUE_TOKENS]
            demand = await demand_of(self._bus, self._subjects, tenant, namespace, queue)
            if demand is None:
                return
            if self._open:
                self._feed(order, demand)

    def _finds_none(self, key: LineKey, line: Line, order: Order) -> bool:
        """Return whether offers of a queue find no slot, so that the stream may have some.

        While all slots hold what this node sent, the next free one is its own again: then only after very long, for the
        sake of workers that know the stream alone.
        """
        workers = [*line.workers, *self._unlimited(key, line)]
        is_shared = not workers or any(worker.taken > 0 for worker in workers)
        return order.handed_s <= self._loop.time() - (self._wait_s if is_shared else OLD_S)

    def _feed(self, order: Order, demand: Demand) -> None:
        now_us = self._clock.now_us()
        for _ in range(order.window.open(demand)):
            one = order.waiting.next(now_us)
            if one is None:
                return
            self._leave_to_stream(order, one)
        if demand.pending:
            # Others fill the stream without an end: what is old shall be served all the same.
            for _ in range(ARRAY_ITEMS_MAX):
                one = order.waiting.old(now_us)
                if one is None:
                    return
                self._leave_to_stream(order, one)

    def _leave_to_stream(self, order: Order, one: Waiting) -> None:
        offered = self._taken(order, one)
        if offered is not None:
            self._source.to_stream(offered)

    def _sweep(self, now_s: float) -> None:
        silent = [one for one in self._workers.values() if one.heard_s < now_s - self._silent_s]
        for worker in silent:
            _log.warning("worker_silent", subject=worker.subject)
        if silent:
            self._drop(set(silent))
        self._miss_leaving(now_s)
        for offered in self._unbegun.overdue(now_s):
            if offered.actor.is_offered(offered.step, offered.attempt):
                self._source.again(offered)
        self._look_after_kept(now_s)
        self._look_at_paces(now_s)
        for queue in list(self._waiting):
            line = self._lines[queue]
            if line.order is not None:
                continue
            while line.waiting and not (line.workers and (line.waiting[0].until_s > now_s or line.is_quick)):
                line.stream_until_s = now_s + self._wait_s
                self._source.to_stream(line.waiting.popleft())
            if not line.waiting:
                del self._waiting[queue]
        for queue, line in list(self._lines.items()):
            if isinstance(line, KeptLine):
                continue
            if line.order is not None and not line.order.waiting and line.order.until_s <= now_s:
                line.order = None
            is_idle = not (line.workers or line.overtaken or line.count or line.order)
            if is_idle and line.stream_until_s <= now_s and queue not in self._waiting:
                del self._lines[queue]
                if len(queue) > QUEUE_TOKENS:
                    self._split[queue[:-1]] -= 1
                    if not self._split[queue[:-1]]:
                        del self._split[queue[:-1]]

    def _look_at_paces(self, now_s: float) -> None:
        """Take note of how quickly each queue moves; over a moment's time that would say nothing."""
        elapsed_s = now_s - self._paced_s
        if elapsed_s >= _SWEEP_S / 2:
            self._paced_s = now_s
            for queue in self._waiting:
                self._lines[queue].look(elapsed_s)

    def close(self) -> None:
        """Hand out nothing more; what waits is found by the next owner."""
        self._open = False
        for owner, kept in self._kept:
            self._kept.remove(owner, kept)
            del self._lines[*kept.key, owner[1]]
        for line in self._lines.values():
            line.waiting.clear()
            line.order = None
        self._ordered = 0
        self._waiting.clear()

    # ---------------------------------------------------------------- `ShardService`

    async def open_shard(self, shard: int, epoch: int) -> None:
        """Do nothing: what its tasks offer comes by."""

    def close_shard(self, shard: int) -> None:
        """Let nothing of the shard wait any more: another node offers it from now on."""
        for line in self._lines.values():
            if line.order is not None:
                self._ordered -= line.order.waiting.remove_shard(shard)
