"""The I/O side of a worker: takes work from its queues, has it run, and reports to the owners.

An attempt's way:

    delivered, by the work stream or by a node itself (`direct.py`)
               |
               +- first delivery, first offer, young ------> run; `started` beside it --+-> ended -> `completed` or
               |                                                                        |            `failed`
               +- redelivered, offered again, or old -> `claim` -- run: true ---------> +                 |
                                                           |                                          answered
                                                           +- gone: forgotten                             |
                                                                                                      forgotten
- The work message is acked when the owner has answered `started`, `claim` or the outcome, not before: until then a
  crash of this process gives it to another worker. From there on the owner's timers are the only lease. Work from a
  node has no such message: until it is begun, the node's own watch is the lease.
- `started` waits a moment: an attempt that ends meanwhile is told of by its outcome alone, which implies it.
- A slot is held until nothing of the attempt runs any more. The outcome may still be on its way then; too many of
  those stop the claiming.
- Times are watched by one tick, set to the next due moment of any attempt.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import enum
import os
import re
import secrets
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import msgspec
import structlog

from tasker.bus.bus import Bus, Message, Subscription
from tasker.bus.jetstream import StreamMissing, api_request
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import ensure_streams, ensure_work_consumer, stream_created
from tasker.clock import Clock, SystemClock
from tasker.errors import StateForbids, TaskerError, Unavailable, Undecodable
from tasker.events.codec import decode_message, encode_message
from tasker.events.messages import (
    DEFAULT_TENANT,
    HEADER_RELEASED,
    CancelAttempt,
    Progress,
    Report,
    ReportKind,
    ReportReply,
    Work,
)
from tasker.events.subjects import Subjects
from tasker.events.task_events import NULL, ErrorInfo
from tasker.handlers.context import StepContext
from tasker.handlers.direct import DirectInbox, Room
from tasker.handlers.limits import Limits, return_s
from tasker.handlers.outcome import (
    RESULT_INVALID,
    cancelled_info,
    cut_message,
    timeout_info,
    worker_lost_info,
)
from tasker.handlers.progress import TELL_S
from tasker.handlers.reports import Outgoing, Reporter
from tasker.handlers.runner import Invocable, Job, Life, Runner
from tasker.handlers.server_clock import ServerClock
from tasker.handlers.slots import QueueSlots, Slots
from tasker.handlers.vitals import Vitals
from tasker.settings import StreamSettings, WorkerSettings
from tasker.tracing import SpanKind, tracing_of_process

SLOTS_DEFAULT: Final = WorkerSettings().slots
DRAIN_S_DEFAULT: Final = WorkerSettings().drain_s
YOUNG_US: Final = 2_000_000
"""A first delivery older than this asks before it runs: it may have been offered again meanwhile."""

STARTED_DELAY_S: Final = 0.005
BEATS_PER_TIMEOUT: Final = 3
STOP_GRACE_S: Final = 1.0
"""How long an attempt past its time has to end, and a blocked loop to come back."""

IN_PROGRESS_S: Final = 10.0
"""How often a message without an answer from the owner is kept from being delivered again."""

LOST_DRAIN_S: Final = 5.0
SETTLE_S: Final = 5.0
NAK_DELAY_S: Final = 1.0
HOLD_S: Final = 0.25
"""How long an item that a node sent waits for a slot; then the node offers it to others."""

AHEAD_SHARE: Final = 4
"""Items a slot that nodes may send ahead while handlers are quick: the next one is there when one ends."""

QUICK_S: Final = 0.02
"""The mean time of an attempt up to which handlers count as quick: what is held then waits far less than `HOLD_S`."""

_MEAN_WEIGHT: Final = 0.05

UNANSWERED_MAX: Final = 5_000
_TICK_S_MIN: Final = 0.01
_SILENT_S_MAX: Final = 0.9 * STOP_GRACE_S
_RETRY_S: Final = 1.0
_WARN_S: Final = 5.0

_log = structlog.get_logger(__name__)
_decode_work = msgspec.json.Decoder(Work).decode

Key = tuple[str, str, int]


class Handlers(Protocol):
    """What a worker can run (`registry.Registry` is one)."""

    def queues(self) -> Iterable[tuple[str, str]]:
        """Return namespace and queue of all work that these handlers take."""
        ...

    def lookup(self, namespace: str, queue: str, handler: str) -> Invocable | None:
        """Return the handler that work of the queue names; None: there is none here."""
        ...


class _Stop(enum.Enum):
    """Why an attempt was asked to stop."""

    TIMEOUT = enum.auto()
    CANCELLED = enum.auto()
    DROPPED = enum.auto()  # its outcome is of no interest
    LOST = enum.auto()  # the worker goes


class _Attempt(Job):
    """One attempt that this worker holds.

    Attributes:
        delivery, node: the work message, or the node that sent it itself.
        recorded: the owner knows that it runs here.
        acked: the owner has answered, so the work message is done with; from a node there is none.
        started, claim, beat: the report on its way, or the last one.
        submitted: it is with the runner, so it ends there.
        reported: its outcome is on its way or answered. holds_slot: something of it may still run.
        since_s: when it came.
        due_s: when to look at it next. kill_s: when to report it, ended or not.
    """

    __slots__ = (
        "acked",
        "beat",
        "beat_s",
        "claim",
        "deadline_s",
        "delivery",
        "holds_slot",
        "key",
        "kill_s",
        "node",
        "progress",
        "progress_told",
        "queue",
        "recorded",
        "reported",
        "running",
        "since_s",
        "started",
        "stop",
        "submitted",
        "touch_s",
        "work",
    )

    def __init__(  # noqa: PLR0917 - what an attempt is made of
        self,
        work: Work,
        delivery: Delivery | None,
        node: str | None,
        queue: _Queue,
        handler: Invocable,
        key: Key,
        now_s: float,
    ) -> None:
        super().__init__(handler, None, bytes(work.input), work.results, is_async=queue.is_async(handler))
        self.work = work
        self.delivery = delivery
        self.node = node
        self.queue = queue
        self.key = key
        self.recorded = False
        self.acked = delivery is None
        self.running = False
        self.reported = False
        self.holds_slot = True
        self.submitted = False
        self.beat: Outgoing | None = None
        self.progress: Progress | None = None
        self.progress_told = True
        self.stop: _Stop | None = None
        self.started: Outgoing | None = None
        self.claim: Outgoing | None = None
        self.deadline_s = self.beat_s = self.kill_s = _NEVER
        self.since_s = now_s
        self.touch_s = self.since_s + IN_PROGRESS_S

    def due_s(self) -> float:
        """Return when something of it is due."""
        return min(self.deadline_s, self.beat_s, self.kill_s, _NEVER if self.acked else self.touch_s)


_NEVER: Final = float("inf")


class _Port:
    """What contexts ask of the worker, from their threads."""

    __slots__ = ("_attempt", "_worker")

    def __init__(self, worker: Worker, attempt: _Attempt) -> None:
        self._worker = worker
        self._attempt = attempt

    def ask_result(self, step: str) -> concurrent.futures.Future[bytes]:
        return self._worker.ask_result(self._attempt, step)

    def beat(self) -> None:
        self._worker.beat_now(self._attempt)

    def tell_progress(self, progress: Progress) -> None:
        self._worker.tell_progress(self._attempt, progress)

    def now_us(self) -> int:
        return self._worker.now_us()


class _Queue:
    """One queue that this worker serves."""

    __slots__ = ("_async", "name", "namespace", "pull", "slots", "unknown_s")

    def __init__(self, namespace: str, name: str, slots: QueueSlots) -> None:
        self.namespace = namespace
        self.name = name
        self.slots = slots
        self.pull: PullLoop | None = None
        self.unknown_s = -_NEVER
        self._async: dict[int, bool] = {}

    def is_async(self, handler: Invocable) -> bool:
        """Return `handler.is_async`, looked at once: it inspects the function each time."""
        known = self._async.get(id(handler))
        if known is None:
            known = self._async[id(handler)] = handler.is_async
        return known


class WorkerCounts(msgspec.Struct):
    """What a worker did since its start."""

    delivered: int = 0
    run: int = 0
    claimed: int = 0
    gone: int = 0
    completed: int = 0
    failed: int = 0
    refused: int = 0
    unknown_handler: int = 0
    undecodable: int = 0
    returned: int = 0


class Worker:
    """Runs handlers for the work of their queues, until it is drained or stopped.

    Args:
        bus: connected; the worker does not close it.
        handlers: what it can run.
        slots: how many attempts at a time, all queues together.
        worker_id: a token; drawn when absent. A new one for each start of a process.
        drain_s: how long `drain` lets running attempts go on.
        streams: settings with which a missing stream or consumer is made.
        clock: what every time of an attempt is measured by.
        limits: of single handlers.
        life: opened and closed with the handlers' loop.
        runner: makes what runs the handlers. pull: makes what takes work from a queue.
    """

    def __init__(
        self,
        bus: Bus,
        handlers: Handlers,
        *,
        subjects: Subjects | None = None,
        tenant: str = DEFAULT_TENANT,
        slots: int = SLOTS_DEFAULT,
        worker_id: str | None = None,
        drain_s: float = DRAIN_S_DEFAULT,
        streams: StreamSettings | None = None,
        clock: Clock | None = None,
        limits: Limits[_Attempt] | None = None,
        life: Life | None = None,
        runner: Callable[..., Runner] = Runner,
        pull: Callable[..., PullLoop] = PullLoop,
    ) -> None:
        self.id = worker_id or new_worker_id()
        self.counts = WorkerCounts()
        self.lost_why: str | None = None
        self._bus = bus
        self._handlers = handlers
        self._subjects = subjects or Subjects()
        self._tenant = tenant
        self._drain_s = drain_s
        self._streams = streams or StreamSettings()
        self._slots = Slots(slots)
        self._queues = [_Queue(namespace, name, self._slots.queue()) for namespace, name in sorted(handlers.queues())]
        self._attempts: dict[Key, _Attempt] = {}
        self._stuck: set[_Attempt] = set()
        self._young: deque[tuple[float, _Attempt]] = deque()
        self._young_timer: asyncio.TimerHandle | None = None
        self._unanswered = 0
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tick_s = _NEVER
        self._reporter = Reporter(bus)
        self._runner = runner(self._on_ended, life=life)
        self._limits: Limits[_Attempt] = limits or Limits()
        self._open_pull = pull
        self._time = clock or SystemClock()
        self._clock = ServerClock(bus, self._subjects.work_stream, self._time)
        self._direct = DirectInbox(
            bus, self._subjects, tenant, self.id, room=self._room, on_work=self._on_direct, clock=self._time
        )
        self._by_name = {(queue.namespace, queue.name): queue for queue in self._queues}
        self._held: deque[tuple[float, _Queue, Work, str, int | None]] = deque()
        self._mean_s = _NEVER
        """Of the time that attempts held their slots lately; nothing is known of it at first."""
        self._keepers: list[asyncio.Task[None]] = []
        self._cancels: Subscription | None = None
        self._unhook: Callable[[], object] | None = None
        self._ensuring: set[_Queue] = set()
        self._changed = asyncio.Event()
        self._ready = asyncio.Event()
        self._lost = asyncio.Event()
        self._tracing = tracing_of_process()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining = False
        self._stopped = False

    # -------------------------------------------------------- life

    async def start(self) -> None:
        """Begin to serve the queues; returns before NATS has answered: see `ready`."""
        self._loop = asyncio.get_running_loop()
        self._runner.start()
        cancels = self._subjects.worker_cancel(self._tenant, self.id)
        self._cancels = self._bus.subscribe(cancels, self._on_cancel_message)
        self._unhook = self._bus.on_reconnect(self._on_reconnect)
        self._keepers.append(asyncio.create_task(self._serve(), name="tasker-worker-serve"))

    async def ready(self) -> None:
        """Return when the worker pulls from all its queues."""
        await self._ready.wait()

    async def lost(self) -> None:
        """Return when the handlers' loop or half of the slots are lost: then only a new process helps."""
        await self._lost.wait()

    @property
    def running(self) -> int:
        """How many attempts hold a slot."""
        return self._slots.busy

    def vitals(self) -> Vitals:
        """Return how the worker is; the handlers' loop is asked for a sign of life."""
        self._runner.ping()
        return Vitals(
            worker=self.id,
            connected=self._bus.connected,
            claiming=not self._slots.closed,
            slots=self._slots.total,
            busy=self._slots.busy,
            waiting=self._limits.waiting,
            unanswered=self._unanswered,
            stuck=len(self._stuck),
            handlers_silent_s=round(self._runner.silent_s, 3),
            lost_why=self.lost_why,
        )

    @property
    def heartbeat_s_max(self) -> float:
        """The longest heartbeat timeout of what runs now; 0: nothing runs."""
        return max((attempt.work.heartbeat_s for attempt in self._attempts.values()), default=0.0)

    async def drain(self, timeout_s: float | None = None) -> None:
        """Take nothing more, let what runs end (at most `timeout_s`), report it, and stop. Twice is fine."""
        if not self._stopped:
            limit_s = self._drain_s if timeout_s is None else timeout_s
            ends_s = self._time.monotonic_s() + limit_s
            await self._stop_claiming()
            # A claim that is answered `run` belongs to us already: it runs.
            await self._wait_for(lambda: not self._claims(), min(limit_s, SETTLE_S))
            self._give_back_claims()
            await self._wait_for(lambda: not self._running_attempts(), max(0.0, ends_s - self._time.monotonic_s()))
        await self.stop()

    async def retire(self) -> None:
        """After `lost`: let end what still can, report everything else as `worker_lost`, and stop."""
        await self.drain(LOST_DRAIN_S)

    async def stop(self, *, settle_s: float = SETTLE_S) -> None:
        """End at once: what still runs is cancelled and reported as `worker_lost`. Twice is fine."""
        if self._stopped:
            return
        self._stopped = True
        if self._loop is None:
            await self._runner.stop()
            return
        await self._stop_claiming()
        self._give_back_claims()
        why = self.lost_why or f"the worker {self.id} was stopped before the handler ended"
        for attempt in list(self._attempts.values()):
            if attempt.running and not attempt.reported:
                self._report_outcome(attempt, worker_lost_info(why))
                self._interrupt(attempt, _Stop.LOST)
        await self._wait_for(lambda: not self._attempts, settle_s)
        self._reporter.stop()
        self._direct.stop()
        if self._cancels is not None:
            self._cancels.unsubscribe()
        if self._unhook is not None:
            self._unhook()
        for timer in (self._tick_timer, self._young_timer):
            if timer is not None:
                timer.cancel()
        if self._bus.connected:
            try:
                await self._bus.flush(timeout_s=SETTLE_S)
            except Unavailable as error:
                _log.debug("last_acks_not_confirmed", error=str(error))
        await self._runner.stop()

    async def _stop_claiming(self) -> None:
        if self._draining:
            return
        self._draining = True
        self._slots.closed = True
        for attempt in self._limits.give_up():
            self._nak(attempt, 0.0)
            self._forget(attempt)
        for keeper in self._keepers:
            keeper.cancel()
        self._direct.tell()
        while self._held:
            self._return_first_held()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(queue.pull.stop() for queue in self._queues if queue.pull is not None))

    def _claims(self) -> list[_Attempt]:
        return [attempt for attempt in self._attempts.values() if attempt.claim is not None]

    def _give_back_claims(self) -> None:
        """Let another worker ask for what the owner has not answered yet."""
        for attempt in self._claims():
            if attempt.claim is not None:
                attempt.claim.void = True
            self._nak(attempt, 0.0)
            self._release(attempt)
            self._forget(attempt)

    def _running_attempts(self) -> bool:
        return any(attempt.running and not attempt.reported for attempt in self._attempts.values())

    async def _wait_for(self, condition: Callable[[], bool], limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            _log.warning("worker_not_done", attempts=len(self._attempts), waited_s=limit_s)

    # -------------------------------------------------------- queues

    async def _serve(self) -> None:
        for queue in self._queues:
            await self._ensure(queue)
            queue.pull = self._open_pull(
                self._bus,
                self._subjects.work_stream,
                self._subjects.work_consumer(self._tenant, queue.namespace, queue.name),
                lambda delivery, queue=queue: self._on_work(queue, delivery),
                lambda queue=queue: self._credit(queue),
                on_missing=lambda queue=queue: self._on_missing(queue),
            )
            queue.slots.promised = lambda pull=queue.pull: pull.outstanding  # type: ignore[misc]
        self._direct.start()
        self._keepers.append(asyncio.create_task(self._direct.keep(), name="tasker-worker-slots"))
        self._ready.set()
        _log.info("worker_ready", worker=self.id, queues=[f"{queue.namespace}/{queue.name}" for queue in self._queues])
        await self._clock.keep()

    async def _ensure(self, queue: _Queue) -> None:
        """Make stream and consumer where they are missing; go on trying until NATS answers."""
        failures = 0
        while True:
            try:
                # Only when missing: their settings are the service's to choose.
                if await stream_created(self._bus, self._subjects.work_stream) is None:
                    await ensure_streams(self._bus, self._subjects, self._streams)
                if not await self._consumer_exists(queue):
                    await ensure_work_consumer(
                        self._bus,
                        self._subjects,
                        self._streams,
                        tenant=self._tenant,
                        namespace=queue.namespace,
                        queue=queue.name,
                    )
                await self._clock.refresh()
            except Unavailable as error:
                failures += 1
                if failures in (1, 30):
                    _log.warning("queue_not_there", queue=queue.name, namespace=queue.namespace, error=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _consumer_exists(self, queue: _Queue) -> bool:
        name = self._subjects.work_consumer(self._tenant, queue.namespace, queue.name)
        try:
            await api_request(self._bus, f"CONSUMER.INFO.{self._subjects.work_stream}.{name}", None, dict)
        except StreamMissing:
            return False
        return True

    def _on_missing(self, queue: _Queue) -> None:
        if queue in self._ensuring or self._draining:
            return
        self._ensuring.add(queue)
        _log.warning("queue_gone", queue=queue.name, namespace=queue.namespace)
        self._keepers = [keeper for keeper in self._keepers if not keeper.done()]
        self._keepers.append(asyncio.create_task(self._remake(queue), name="tasker-worker-remake"))

    async def _remake(self, queue: _Queue) -> None:
        try:
            await self._ensure(queue)
            if queue.pull is not None:
                queue.pull.restart()
        finally:
            self._ensuring.discard(queue)

    def _on_reconnect(self) -> None:
        self._reporter.hurry()
        self._direct.tell()

    # -------------------------------------------------------- work comes in

    def _on_work(self, queue: _Queue, delivery: Delivery) -> None:
        self.counts.delivered += 1
        if queue.slots.backlog != (delivery.pending > 0):
            queue.slots.backlog = not queue.slots.backlog
            self._direct.tell()
        try:
            work = _decode_work(delivery.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self.counts.undecodable += 1
            _log.error("work_undecodable", subject=delivery.subject, error=str(error))
            self._pull(queue).term(delivery)
            return
        key = (work.task_id, work.step, work.attempt)
        known = self._attempts.get(key)
        if known is not None:
            self._on_copy(known, delivery)
            return
        handler = self._handlers.lookup(work.namespace, queue.name, work.handler)
        if handler is None:
            self._on_unknown_handler(queue, work, delivery)
            return
        attempt = _Attempt(work, delivery, None, queue, handler, key, self._time.monotonic_s())
        if self._limits.enter(handler):
            self._take_up(attempt, may_run=self._may_run(delivery, work))
        else:
            self._put_off(attempt, delivery)

    def _may_run(self, delivery: Delivery, work: Work) -> bool:
        """Return whether work of the stream may run without its owner's word."""
        return delivery.num_delivered == 1 and work.offer == 0 and self._is_young(delivery)

    def _take_up(self, attempt: _Attempt, *, may_run: bool) -> None:
        """Hold a slot for an attempt, and run it or ask its owner first."""
        self._attempts[attempt.key] = attempt
        attempt.queue.slots.take()
        attempt.holds_slot = True
        if may_run:
            self._begin(attempt)
        else:
            self.counts.claimed += 1
            attempt.claim = self._send(attempt, "claim", lambda reply: self._on_claim_answer(attempt, reply))
            self._arm(attempt.touch_s)

    # -------------------------------------------------------- handlers at their limit

    def _credit(self, queue: _Queue) -> int:
        """Return how many messages the queue may ask for: never more than its handlers have places."""
        room = self._limits.room((queue.namespace, queue.name))
        credit = queue.slots.credit()
        return credit if room is None else min(credit, room)

    def _put_off(self, attempt: _Attempt, delivery: Delivery) -> None:
        """Keep work whose handler is at its limit in hand, without a slot; or give it back for a while."""
        if not self._draining and self._limits.wait(attempt.handler, attempt):
            attempt.holds_slot = False
            self._attempts[attempt.key] = attempt
            self._arm(attempt.touch_s)
            return
        self._pull(attempt.queue).nak(delivery, delay_s=return_s(delivery.num_delivered))

    def _admit(self) -> None:
        """Take up what waits for a place, where there is one, and a slot."""
        while self._limits.waiting and self._slots.busy < self._slots.total and not self._draining:
            attempt = self._limits.next()
            if attempt is None:
                return
            attempt.since_s = self._time.monotonic_s()
            delivery = attempt.delivery
            self._take_up(attempt, may_run=delivery is not None and self._may_run(delivery, attempt.work))

    # -------------------------------------------------------- work comes in from nodes

    def _room(self) -> Room:
        """Return what nodes are told: nothing of a queue with a backlog in the stream, or with a limited handler."""
        queues = [
            (queue.namespace, queue.name)
            for queue in self._queues
            if not queue.slots.backlog and not self._limits.is_limited((queue.namespace, queue.name))
        ]
        slots = self._slots.total if self._mean_s > QUICK_S else self._slots.total * (1 + AHEAD_SHARE)
        running = self._direct.held() - len(self._held)
        return Room(
            slots=0 if self._slots.closed else slots, elsewhere=max(0, self._slots.busy - running), queues=queues
        )

    def _on_direct(self, work: Work, node: str, age_us: int | None) -> None:
        self.counts.delivered += 1
        queue = self._by_name.get((work.namespace, work.queue))
        known = self._attempts.get((work.task_id, work.step, work.attempt))
        if known is not None:
            self._direct.release(node)  # a copy of what we hold
        elif queue is None or self._draining or self._lost.is_set():
            self._return(work, node)
        elif self._slots.busy >= self._slots.total or self._held:
            self._hold(queue, work, node, age_us)
        else:
            self._take_direct(queue, work, node, age_us)

    def _take_direct(self, queue: _Queue, work: Work, node: str, age_us: int | None) -> None:
        handler = self._handlers.lookup(work.namespace, queue.name, work.handler)
        if handler is None:
            self.counts.unknown_handler += 1
            self._warn_unknown(queue, work)
            self._return(work, node)
            return
        if not self._limits.enter(handler):
            self._return(work, node)
            return
        key = (work.task_id, work.step, work.attempt)
        attempt = _Attempt(work, None, node, queue, handler, key, self._time.monotonic_s())
        self._take_up(attempt, may_run=work.offer == 0 and age_us is not None and age_us <= YOUNG_US)

    def _hold(self, queue: _Queue, work: Work, node: str, age_us: int | None) -> None:
        """Keep an item for a moment: the stream filled the slots that were promised to its node."""
        now_s = self._time.monotonic_s()
        self._held.append((now_s, queue, work, node, age_us))
        if len(self._held) == 1:
            self._event_loop.call_later(HOLD_S, self._look_at_held)

    def _take_held(self) -> None:
        while self._held and self._slots.busy < self._slots.total:
            since_s, queue, work, node, age_us = self._held.popleft()
            waited_us = round((self._time.monotonic_s() - since_s) * 1e6)
            self._take_direct(queue, work, node, None if age_us is None else age_us + waited_us)

    def _look_at_held(self) -> None:
        now_s = self._time.monotonic_s()
        while self._held and self._held[0][0] <= now_s - HOLD_S:
            self._return_first_held()
        if self._held:
            self._event_loop.call_later(max(0.0, self._held[0][0] + HOLD_S - now_s), self._look_at_held)

    def _return_first_held(self) -> None:
        _, _, work, node, _ = self._held.popleft()
        self._return(work, node)

    def _return(self, work: Work, node: str) -> None:
        """Have the owner offer it to others: it has not begun, and shall not here."""
        self.counts.returned += 1
        self._direct.release(node)
        report = Report(kind="returned", task_id=work.task_id, step=work.step, attempt=work.attempt, worker=self.id)
        self._reporter.send(work.report_to, Outgoing(encode_message(report), _ignore))

    # -------------------------------------------------------- odd deliveries

    def _is_young(self, delivery: Delivery) -> bool:
        age_us = self._clock.age_us(delivery.at_us)
        return age_us is not None and age_us <= YOUNG_US

    def _on_copy(self, known: _Attempt, delivery: Delivery) -> None:
        """The message of an attempt that we hold came again: its ack goes to the latest copy."""
        known.delivery, stale = delivery, known.delivery
        if known.acked or stale is None:
            self._pull(known.queue).ack(delivery)
        elif stale.stream_seq != delivery.stream_seq:
            # A further offer is another message: the older one is done with, this one waits for the answer.
            self._pull(known.queue).ack(stale)

    def _on_unknown_handler(self, queue: _Queue, work: Work, delivery: Delivery) -> None:
        self.counts.unknown_handler += 1
        self._pull(queue).nak(delivery, delay_s=NAK_DELAY_S)
        self._warn_unknown(queue, work)

    def _warn_unknown(self, queue: _Queue, work: Work) -> None:
        now_s = self._time.monotonic_s()
        if now_s - queue.unknown_s >= _WARN_S:
            queue.unknown_s = now_s
            _log.warning(
                "handler_unknown",
                handler=work.handler,
                namespace=work.namespace,
                queue=queue.name,
                task_id=work.task_id,
            )

    def _begin(self, attempt: _Attempt) -> None:
        attempt.running = True
        self.counts.run += 1
        work = attempt.work
        now_s = self._time.monotonic_s()
        attempt.deadline_s = now_s + work.start_to_close_s
        attempt.beat_s = now_s + work.heartbeat_s / BEATS_PER_TIMEOUT
        traceparent = work.traceparent
        if self._tracing is not None:
            traceparent = self._begin_span(attempt)
        ends_in_s = min(work.start_to_close_s, _NEVER if work.deadline_in_s is None else work.deadline_in_s)
        attempt.context = StepContext(
            task_id=work.task_id,
            step=work.step,
            attempt=work.attempt,
            tenant=self._tenant,
            namespace=work.namespace,
            template=work.template,
            idempotency_key=work.idempotency_key,
            worker=self.id,
            deadline_s=now_s + ends_in_s,
            port=_Port(self, attempt),
            correlation_id=work.correlation_id,
            traceparent=traceparent,
            clock=self._time,
        )
        if work.results_ref:
            self._fetch_results(attempt)
        else:
            self._submit(attempt)
        if not attempt.recorded:
            self._young.append((now_s + STARTED_DELAY_S, attempt))
            if self._young_timer is None:
                self._young_timer = self._event_loop.call_later(STARTED_DELAY_S, self._send_started)
        self._arm(attempt.due_s())

    def _begin_span(self, attempt: _Attempt) -> str:
        """Begin the span of an attempt; returns what names it."""
        assert self._tracing is not None  # noqa: S101 - the caller looked
        work = attempt.work
        attempt.tracing = self._tracing
        attempt.span = self._tracing.start(
            f"tasker.handler {work.handler}",
            SpanKind.CONSUMER,
            parent=work.traceparent,
            attributes={"task_id": work.task_id, "step": work.step, "attempt": work.attempt, "worker": self.id},
        )
        return self._tracing.traceparent(attempt.span)

    @staticmethod
    def _end_span(attempt: _Attempt, failed: str | None) -> None:
        span = attempt.span
        if span is not None and attempt.tracing is not None:
            if failed is not None:
                attempt.tracing.fail(span, failed)
            span.end()
            attempt.span = None

    def _fetch_results(self, attempt: _Attempt) -> None:
        """Ask the owner for the results that did not fit into the message, then run."""
        wanted = attempt.work.results_ref
        results: dict[str, msgspec.Raw] = {}

        def on_answer(step: str, reply: ReportReply) -> None:
            if attempt.reported or attempt.ended:
                return
            if not reply.ok or (reply.reason is not None and not reply.recorded):
                why = f"the owner did not give the result of {step}: {_why(reply)}"
                attempt.error = worker_lost_info(why)
                self._end_unrun(attempt)
                return
            results[step] = msgspec.Raw(bytes(reply.result))
            if len(results) == len(wanted):
                attempt.results = {**attempt.work.results, **results}
                self._submit(attempt)

        for step in wanted:
            self._send(attempt, "result", lambda reply, step=step: on_answer(step, reply), of=step)  # type: ignore[misc]

    def _submit(self, attempt: _Attempt) -> None:
        attempt.submitted = True
        self._runner.submit(attempt)

    def _end_unrun(self, attempt: _Attempt) -> None:
        """End an attempt that never came to its handler."""
        attempt.ended = True
        attempt.interrupted = attempt.error is None
        self._on_ended(attempt)

    def _send_started(self) -> None:
        self._young_timer = None
        now_s = self._time.monotonic_s()
        young = self._young
        while young and young[0][0] <= now_s + _TICK_S_MIN / 10:
            attempt = young.popleft()[1]
            if attempt.running and not attempt.reported and not attempt.recorded and attempt.stop is not _Stop.DROPPED:
                attempt.started = self._send(
                    attempt,
                    "started",
                    lambda reply, attempt=attempt: self._on_started_answer(attempt, reply),  # type: ignore[misc]
                )
        if young:
            self._young_timer = self._event_loop.call_later(max(0.0, young[0][0] - now_s), self._send_started)

    # -------------------------------------------------------- the owner answers

    def _on_claim_answer(self, attempt: _Attempt, reply: ReportReply) -> None:
        attempt.claim = None
        self._ack(attempt)
        if reply.ok and reply.run:
            attempt.recorded = True
            if reply.cancel:
                attempt.running = True
                self._end_unrun(attempt)
            else:
                self._begin(attempt)
            return
        if not reply.ok:
            _log.error("claim_refused", **_ids(attempt), error=_why(reply))
        self.counts.gone += 1
        self._release(attempt)
        self._forget(attempt)

    def _on_started_answer(self, attempt: _Attempt, reply: ReportReply) -> None:
        attempt.started = None
        if not reply.ok:
            # The outcome will be answered; until then the message stays ours.
            _log.error("started_refused", **_ids(attempt), error=_why(reply))
            return
        self._ack(attempt)
        self._follow(attempt, reply)

    def _on_beat_answer(self, attempt: _Attempt, reply: ReportReply) -> None:
        if reply.ok:
            self._follow(attempt, reply)

    def _follow(self, attempt: _Attempt, reply: ReportReply) -> None:
        """Do what the owner's answer on a running attempt asks for."""
        if attempt.reported or not attempt.running:
            return
        if not reply.recorded and reply.reason is not None:
            self.counts.gone += 1
            _log.info("attempt_dropped", **_ids(attempt), reason=reply.reason)
            self._stop_attempt(attempt, _Stop.DROPPED, 0.0 if reply.grace_s is None else reply.grace_s)
            return
        attempt.recorded = True
        if reply.cancel:
            self._stop_attempt(attempt, _Stop.CANCELLED, reply.grace_s or 0.0)

    def _on_outcome_answer(self, attempt: _Attempt, reply: ReportReply) -> None:
        if not reply.ok and attempt.result is not None:
            _log.error("outcome_refused", **_ids(attempt), error=_why(reply))
            attempt.result = None
            error = ErrorInfo(type=RESULT_INVALID, message=cut_message(_why(reply)), retryable=False)
            self._send_outcome(attempt, error)
            return
        if not reply.ok or not reply.recorded:
            self.counts.refused += 1
            _log.info("outcome_not_recorded", **_ids(attempt), error=_why(reply))
        self._ack(attempt)
        self._unanswered -= 1
        self._choke()
        self._forget(attempt)

    def _on_cancel_message(self, message: Message) -> None:
        try:
            cancel = decode_message(message.data, CancelAttempt)
        except Undecodable as error:
            _log.error("cancel_undecodable", error=str(error))
            return
        attempt = self._attempts.get((cancel.task_id, cancel.step, cancel.attempt))
        if attempt is not None and attempt.running and not attempt.reported:
            self._stop_attempt(attempt, _Stop.CANCELLED, cancel.grace_s)

    # -------------------------------------------------------- an attempt ends

    def _on_ended(self, attempt: _Attempt) -> None:
        """Nothing of the attempt runs any more."""
        self._release(attempt)
        self._stuck.discard(attempt)
        if attempt.reported:
            return
        if attempt.stop is _Stop.DROPPED:
            self._drop(attempt)
            return
        self._report_outcome(attempt, self._error_of(attempt))

    def _error_of(self, attempt: _Attempt) -> ErrorInfo | None:
        """Return how the attempt failed; None when it has a result."""
        if attempt.stop is _Stop.TIMEOUT:
            attempt.result = None
            return timeout_info(attempt.work.start_to_close_s, stack=attempt.stack)
        if attempt.interrupted:
            return cancelled_info()
        return attempt.error

    def _report_outcome(self, attempt: _Attempt, error: ErrorInfo | None) -> None:
        attempt.reported = True
        attempt.deadline_s = attempt.beat_s = attempt.kill_s = _NEVER
        if attempt.started is not None:
            attempt.started.void = True
            attempt.started = None
        if error is None:
            self.counts.completed += 1
        else:
            self.counts.failed += 1
        self._unanswered += 1
        self._choke()
        self._send_outcome(attempt, error)
        self._end_span(attempt, None if error is None else error.type)

    def _send_outcome(self, attempt: _Attempt, error: ErrorInfo | None) -> None:
        kind: ReportKind = "completed" if error is None else "failed"
        result = attempt.result if error is None else None
        self._send(attempt, kind, lambda reply: self._on_outcome_answer(attempt, reply), result=result, error=error)

    def _drop(self, attempt: _Attempt) -> None:
        """Forget an attempt whose outcome nobody wants."""
        self._end_span(attempt, "dropped")
        attempt.reported = True
        attempt.deadline_s = attempt.beat_s = attempt.kill_s = _NEVER
        self._forget(attempt)

    # -------------------------------------------------------- stopping one

    def _stop_attempt(self, attempt: _Attempt, why: _Stop, grace_s: float) -> None:
        if attempt.stop is None:
            now_s = self._time.monotonic_s()
            left_s = max(0.0, attempt.deadline_s - now_s) + STOP_GRACE_S
            attempt.kill_s = now_s + min(max(0.0, grace_s), left_s)
            self._interrupt(attempt, why)
            self._arm(attempt.kill_s)
        elif why is _Stop.DROPPED:
            attempt.stop = why

    def _interrupt(self, attempt: _Attempt, why: _Stop) -> None:
        attempt.stop = attempt.stop or why
        attempt.deadline_s = _NEVER
        if attempt.stopping or attempt.ended:
            return
        if attempt.submitted:
            self._runner.interrupt(attempt)
        else:
            self._end_unrun(attempt)

    def _give_up(self, attempt: _Attempt) -> None:
        """Report an attempt that did not end when it was told to; its slot stays taken until it does."""
        attempt.kill_s = _NEVER
        self._stuck.add(attempt)
        _log.warning("handler_does_not_end", **_ids(attempt), error=str(attempt.stop))
        if attempt.stop is _Stop.DROPPED:
            self._drop(attempt)
        elif attempt.stop is _Stop.TIMEOUT:
            stack = attempt.stack or self._runner.stack_of(attempt)
            blocked = None
            if attempt.asyncio_task is not None and self._runner.silent_s:
                if stack is None:
                    stack = self._runner.loop_stack()
                blocked = self._blocker_text(attempt)
            self._report_outcome(attempt, timeout_info(attempt.work.start_to_close_s, stack=stack, blocked=blocked))
        else:
            self._report_outcome(attempt, cancelled_info(self._runner.stack_of(attempt)))

    def _blocker(self) -> _Attempt | None:
        live = (one for one in (*self._attempts.values(), *self._stuck) if not one.ended)
        return next((one for one in live if self._runner.is_blocking(one)), None)

    def _blocker_text(self, attempt: _Attempt) -> str:
        blocker = self._blocker()
        if blocker is attempt:
            return "it blocks the handlers' loop; the stack shows where"
        by = "" if blocker is None else f" by step {blocker.work.step} of task {blocker.work.task_id}"
        return f"the handlers' loop was blocked{by}; the stack shows where"

    def _look_for_loss(self) -> None:
        """See whether this process can still do its work."""
        if self._lost.is_set() or not self._stuck:
            return
        if 2 * len(self._stuck) >= self._slots.total:
            self._lose(f"{len(self._stuck)} of {self._slots.total} slots are held by handlers that do not end")
            return
        if self._runner.silent_s < _SILENT_S_MAX:
            return
        blocker = self._blocker()
        if blocker is None or blocker.stop is not None:
            self._lose("the handlers' loop is blocked and does not come back")

    def _lose(self, why: str) -> None:
        self.lost_why = f"the worker {self.id} gives up: {why}"
        _log.error("worker_lost", worker=self.id, error=why)
        self._slots.closed = True
        if self._runner.silent_s < _SILENT_S_MAX:
            self._lost.set()
            return
        for attempt in list(self._attempts.values()):
            # What runs on the blocked loop cannot end any more; what runs in a thread may.
            if attempt.running and not attempt.reported and attempt.is_async:
                if attempt.stop is _Stop.TIMEOUT:
                    # Its own time is over, too: whoever else is stuck, this one is told with its line.
                    self._give_up(attempt)
                else:
                    self._report_outcome(attempt, worker_lost_info(self.lost_why))
                self._interrupt(attempt, _Stop.LOST)
        self._lost.set()

    # -------------------------------------------------------- time

    def _arm(self, at_s: float) -> None:
        if at_s >= self._tick_s:
            return
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        self._tick_s = at_s
        delay_s = max(_TICK_S_MIN, at_s - self._time.monotonic_s())
        self._tick_timer = self._event_loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._tick_timer = None
        self._tick_s = _NEVER
        now_s = self._time.monotonic_s()
        next_s = _NEVER
        for attempt in list(self._attempts.values()):
            self._look_at(attempt, now_s)
            due_s = attempt.due_s()
            next_s = min(next_s, due_s)
        self._look_for_loss()
        if self._stuck and not self._lost.is_set():
            self._runner.ping()
            next_s = min(next_s, now_s + STOP_GRACE_S / 2)
        if next_s < _NEVER:
            self._arm(max(next_s, now_s + _TICK_S_MIN))

    def _look_at(self, attempt: _Attempt, now_s: float) -> None:
        if now_s >= attempt.deadline_s:
            self._runner.ping()
            self._stop_attempt(attempt, _Stop.TIMEOUT, STOP_GRACE_S)
        elif now_s >= attempt.kill_s:
            self._give_up(attempt)
        if now_s >= attempt.beat_s:
            attempt.beat_s = now_s + attempt.work.heartbeat_s / BEATS_PER_TIMEOUT
            if attempt.recorded:
                self._beat(attempt)
        if now_s >= attempt.touch_s:
            attempt.touch_s = now_s + IN_PROGRESS_S
            if not attempt.acked and attempt.delivery is not None:
                self._pull(attempt.queue).in_progress(attempt.delivery)

    def _beat(self, attempt: _Attempt) -> None:
        if attempt.beat is None or attempt.beat.sent:  # one that waits in its lane is enough
            attempt.progress_told = True
            attempt.beat = self._send(
                attempt, "heartbeat", lambda reply: self._on_beat_answer(attempt, reply), progress=attempt.progress
            )

    # -------------------------------------------------------- asked by contexts, from any thread

    def beat_now(self, attempt: _Attempt) -> None:
        """Send a heartbeat of the attempt."""

        def beat() -> None:
            if attempt.running and not attempt.reported:
                self._beat(attempt)

        self._event_loop.call_soon_threadsafe(beat)

    def tell_progress(self, attempt: _Attempt, progress: Progress) -> None:
        """Have the progress leave with a heartbeat within a second."""
        attempt.progress = progress
        if not attempt.progress_told:
            return
        attempt.progress_told = False

        def hurry() -> None:
            if attempt.running and not attempt.reported:
                attempt.beat_s = min(attempt.beat_s, self._time.monotonic_s() + TELL_S)
                self._arm(attempt.beat_s)

        self._event_loop.call_soon_threadsafe(hurry)

    def now_us(self) -> int:
        """Return the time by the server's clock."""
        return self._clock.now_us()

    def ask_result(self, attempt: _Attempt, step: str) -> concurrent.futures.Future[bytes]:
        """Return the coming result of another step of the attempt's task."""
        future: concurrent.futures.Future[bytes] = concurrent.futures.Future()

        def on_answer(reply: ReportReply) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if reply.error is not None:
                future.set_exception(TaskerError.from_problem(reply.error))
            elif reply.reason is not None and not reply.recorded:
                future.set_exception(StateForbids(f"the owner gives no result of {step}: {reply.reason}"))
            else:
                future.set_result(bytes(reply.result))

        self._event_loop.call_soon_threadsafe(lambda: self._send(attempt, "result", on_answer, of=step))
        return future

    # -------------------------------------------------------- small parts

    @property
    def _event_loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "the worker was not started"  # noqa: S101 - a bug of ours
        return self._loop

    def _pull(self, queue: _Queue) -> PullLoop:
        assert queue.pull is not None  # noqa: S101 - it gave us the message
        return queue.pull

    def _send(
        self,
        attempt: _Attempt,
        kind: ReportKind,
        on_answer: Callable[[ReportReply], None],
        *,
        result: bytes | None = None,
        error: ErrorInfo | None = None,
        of: str | None = None,
        progress: Progress | None = None,
    ) -> Outgoing:
        work = attempt.work
        body = encode_message(
            Report(
                kind=kind,
                task_id=work.task_id,
                step=work.step,
                attempt=work.attempt,
                worker=self.id,
                result=NULL if result is None else msgspec.Raw(result),
                error=error,
                of=of,
                progress=progress,
                traceparent=None if attempt.span is None or attempt.context is None else attempt.context.traceparent,
            )
        )
        node = attempt.node
        outgoing = Outgoing(body, on_answer, lasting=kind != "heartbeat", home=work.report_to)
        if node is None:
            self._reporter.send(work.report_to, outgoing)
        else:
            self._reporter.send_by(
                self._subjects.report_to_node(self._tenant, node), lambda: self._released_header(node), outgoing
            )
        return outgoing

    def _released_header(self, node: str) -> dict[str, str]:
        return {HEADER_RELEASED: str(self._direct.released(node))}

    def _ack(self, attempt: _Attempt) -> None:
        if not attempt.acked and attempt.delivery is not None:
            attempt.acked = True
            self._pull(attempt.queue).ack(attempt.delivery)

    def _nak(self, attempt: _Attempt, delay_s: float) -> None:
        """Let others have what was not begun."""
        if attempt.delivery is None:
            self._send(attempt, "returned", _ignore)
        elif not attempt.acked:
            attempt.acked = True
            self._pull(attempt.queue).nak(attempt.delivery, delay_s=delay_s)

    def _release(self, attempt: _Attempt) -> None:
        if attempt.holds_slot:
            attempt.holds_slot = False
            held_s = self._time.monotonic_s() - attempt.since_s
            was_quick = self._mean_s <= QUICK_S
            self._mean_s = held_s if self._mean_s == _NEVER else self._mean_s + _MEAN_WEIGHT * (held_s - self._mean_s)
            if was_quick != (self._mean_s <= QUICK_S):
                self._direct.tell()
            attempt.queue.slots.release()
            if attempt.node is not None:
                self._direct.release(attempt.node)
            self._limits.leave(attempt.handler)
            if self._limits.waiting:
                self._admit()
            if self._held:
                self._take_held()
            self._wake()
            self._changed.set()

    def _choke(self) -> None:
        """Claim nothing while too many outcomes wait for their answer."""
        closed = self._draining or self._lost.is_set() or self._unanswered >= UNANSWERED_MAX
        if closed != self._slots.closed:
            self._slots.closed = closed
            self._direct.tell()
            self._wake()

    def _wake(self) -> None:
        for queue in self._queues:
            if queue.pull is not None:
                queue.pull.wake()

    def _forget(self, attempt: _Attempt) -> None:
        self._attempts.pop(attempt.key, None)
        self._changed.set()


def new_worker_id() -> str:
    """Return `<host>-<pid>-<random>`, one NATS token."""
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:40] or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def _ids(attempt: _Attempt) -> Mapping[str, str | int]:
    return {"task_id": attempt.work.task_id, "step": attempt.work.step, "attempt": attempt.work.attempt}


def _ignore(_reply: ReportReply) -> None:
    """Take an answer that changes nothing here."""


def _why(reply: ReportReply) -> str:
    if reply.error is not None:
        return f"{reply.error.code}: {reply.error.detail}"
    return reply.reason or "no reason told"
