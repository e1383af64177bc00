"""The I/O side of a worker: serves its queues, has their work run, and ends in order.

Work comes from the work stream (`stream_intake`) or from nodes themselves (`direct_intake`). Either hands attempts to
the `course`, as many as there are slots.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

import structlog

from tasker.bus.bus import Bus, Subscription
from tasker.bus.pull import PullLoop
from tasker.clock import Clock, SystemClock
from tasker.errors import Unavailable
from tasker.events.messages import DEFAULT_TENANT
from tasker.events.subjects import Subjects
from tasker.handlers.ahead import Ahead
from tasker.handlers.attempt import Attempt
from tasker.handlers.attempt_reports import AttemptReports
from tasker.handlers.course import Course
from tasker.handlers.direct import DirectInbox
from tasker.handlers.direct_intake import DirectIntake
from tasker.handlers.limits import Limits
from tasker.handlers.live import LivePublisher
from tasker.handlers.options import DRAIN_S_DEFAULT, SETTLE_S, SLOTS_DEFAULT
from tasker.handlers.reports import Reporter
from tasker.handlers.runner import Invocable, Life, Runner
from tasker.handlers.served_queues import ServedQueues
from tasker.handlers.server_clock import ServerClock
from tasker.handlers.slots import Slots
from tasker.handlers.stream_intake import StreamIntake
from tasker.handlers.vitals import Vitals, WorkerCounts
from tasker.settings import DirectSettings, StreamSettings

LOST_DRAIN_S: Final = 5.0
"""How long a lost worker lets other attempts end: it holds slots that nobody else can use."""


_log = structlog.get_logger(__name__)


class Handlers(Protocol):
    """What a worker can run (`registry.Registry` is one)."""

    def queues(self) -> Iterable[tuple[str, str]]:
        """Return namespace and queue of all work that these handlers take."""
        ...

    def lookup(self, namespace: str, queue: str, handler: str) -> Invocable | None:
        """Return the handler that work of the queue names; None: there is none here."""
        ...


class Worker:
    """Runs handlers for the work of their queues, until it is drained or stopped.

    Args:
        bus: connected; the worker does not close it.
        handlers: what it can run.
        tenant: whose work it takes; `EVERY_TENANT` for the service's own queues, from the work stream alone.
        slots: how many attempts at a time, all queues together.
        worker_id: a token; drawn when absent. A new one for each start of a process.
        drain_s: how long `drain` lets running attempts go on.
        streams: settings with which a missing stream or consumer is made.
        direct: settings of what nodes send themselves.
        clock: what every time of an attempt is measured by.
        limits: of single handlers.
        life: opened and closed with the handlers' loop.
        runner: makes what runs the handlers. pull: makes what takes work from a queue.
        draw: gives the jitter of retries, in [0, 1).
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
        direct: DirectSettings | None = None,
        clock: Clock | None = None,
        limits: Limits[Attempt] | None = None,
        life: Life | None = None,
        runner: Callable[..., Runner] = Runner,
        pull: Callable[..., PullLoop] = PullLoop,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.id = worker_id or new_worker_id()
        self.counts = WorkerCounts()
        self._bus = bus
        self._subjects = subjects or Subjects()
        self._tenant = tenant
        self._drain_s = drain_s
        self._keepers: list[asyncio.Task[None]] = []
        self._cancels: Subscription | None = None
        self._unhook: Callable[[], object] | None = None
        self._ready = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._started = False
        self._draining = False
        self._stopped = False

        time = clock or SystemClock()
        self._time = time
        self._clock = ServerClock(bus, self._subjects.work_stream, time)
        self._slots = Slots(slots)
        self._limits: Limits[Attempt] = limits or Limits()
        self._queues = ServedQueues(
            bus,
            self._subjects,
            tenant,
            streams or StreamSettings(),
            handlers.queues(),
            self._slots,
            self._clock,
            pull,
        )
        inbox = DirectInbox(bus, self._subjects, tenant, self.id, clock=time)
        self._reporter = Reporter(bus, draw=draw)
        self._reports = AttemptReports(self._reporter, self._subjects, tenant, self.id, inbox.headers)
        self._course = Course(
            self.id,
            lambda work: self._subjects.tenant_of_work(tenant, work.report_to),
            self._reports,
            self._slots,
            self.counts,
            time,
            self._clock,
            runner=lambda on_ended: runner(on_ended, life=life),
            on_released=self._on_released,
            on_choked=self._choke,
            on_lost=self._on_lost,
            live=LivePublisher(bus, self._subjects, tenant, self.id, self._clock.now_us),
        )
        self._direct = DirectIntake(
            inbox,
            handlers.lookup,
            self._course.attempts,
            self._queues,
            self._slots,
            self._limits,
            direct or DirectSettings(),
            time,
            self.counts,
            take_up=self._course.take_up,
            give_back=self._reports.return_work,
        )
        self._ahead = Ahead(
            self._course.attempts,
            self._slots,
            self._reports,
            self._course.tick,
            time,
            self.counts,
            share=lambda: self._direct.ahead_share,
            begin=partial(self._course.take_up, may_run=True),
            forget=self._course.forget,
        )
        self._stream = StreamIntake(
            handlers.lookup,
            self._course.attempts,
            self._slots,
            self._limits,
            self._course.tick,
            time,
            self._clock,
            self.counts,
            self._ahead,
            take_up=self._course.take_up,
            on_backlog=inbox.tell,
        )

    async def start(self) -> None:
        """Begin to serve the queues; returns before NATS has answered: see `ready`."""
        self._started = True
        self._course.runner.start()
        cancels = self._subjects.worker_cancel(self._tenant, self.id)
        self._cancels = self._bus.subscribe(cancels, self._course.on_cancel_message)
        self._unhook = self._bus.on_reconnect(self._on_reconnect)
        self._serving = asyncio.create_task(self._serve(), name="tasker-worker-serve")
        self._keepers.append(self._serving)

    async def ready(self) -> None:
        """Return when the worker pulls from all its queues.

        Raises:
            NotPermitted: NATS does not let its user. Whatever else it cannot begin for is raised as well.
        """
        serving, ready = self._serving, asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait([ready] if serving is None else [ready, serving], return_when=asyncio.FIRST_COMPLETED)
            if serving is not None and serving.done() and not serving.cancelled():
                serving.result()
            await ready
        finally:
            ready.cancel()

    async def lost(self) -> None:
        """Return when the handlers' loop or half of the slots are lost: then only a new process helps."""
        await self._course.stopping.lost.wait()

    @property
    def lost_why(self) -> str | None:
        """Why only a new process helps; None: this one is well."""
        return self._course.stopping.lost_why

    @property
    def running(self) -> int:
        """How many attempts hold a slot."""
        return self._slots.busy

    def vitals(self) -> Vitals:
        """Return how the worker is; the handlers' loop is asked for a sign of life."""
        self._course.runner.ping()
        return Vitals(
            worker=self.id,
            connected=self._bus.connected,
            claiming=not self._slots.closed,
            slots=self._slots.total,
            busy=self._slots.busy,
            waiting=self._limits.waiting,
            ahead=len(self._ahead) + len(self._direct.held),
            unanswered=self._course.unanswered,
            stuck=len(self._course.stopping.stuck),
            handlers_silent_s=round(self._course.runner.silent_s, 3),
            lost_why=self.lost_why,
        )

    @property
    def heartbeat_s_max(self) -> float:
        """The longest heartbeat timeout of what runs now; 0: nothing runs."""
        return max((attempt.work.heartbeat_s for attempt in self._course.attempts.values()), default=0.0)

    async def drain(self, timeout_s: float | None = None) -> None:
        """Take nothing more, let what runs end (at most `timeout_s`), report it, and stop. Twice is fine."""
        if not self._stopped:
            limit_s = self._drain_s if timeout_s is None else timeout_s
            ends_s = self._time.monotonic_s() + limit_s
            await self._stop_claiming()
            # A claim that is answered `run` belongs to us already: it runs.
            await self._wait_for(lambda: not self._course.claims(), min(limit_s, SETTLE_S))
            self._course.give_back_claims()
            await self._wait_for(lambda: not self._course.going_on(), max(0.0, ends_s - self._time.monotonic_s()))
        await self.stop()

    async def retire(self) -> None:
        """After `lost`: let end what still can, report everything else as `worker_lost`, and stop."""
        await self.drain(LOST_DRAIN_S)

    async def stop(self, *, settle_s: float = SETTLE_S) -> None:
        """End at once: what still runs is cancelled and reported as `worker_lost`. Twice is fine."""
        if self._stopped:
            return
        self._stopped = True
        if not self._started:
            await self._course.runner.stop()
            return
        await self._stop_claiming()
        self._course.give_back_claims()
        why = self.lost_why or f"the worker {self.id} was stopped before the handler ended"
        self._course.end_all(why)
        await self._wait_for(lambda: not self._course.attempts, settle_s)
        self._reporter.stop()
        self._direct.stop()
        if self._cancels is not None:
            self._cancels.unsubscribe()
        if self._unhook is not None:
            self._unhook()
        self._course.stop()
        if self._bus.connected:
            try:
                await self._bus.flush(timeout_s=SETTLE_S)
            except Unavailable as error:
                _log.debug("last_acks_not_confirmed", error=str(error))
        await self._course.runner.stop()

    async def _serve(self) -> None:
        await self._queues.open(self._stream.on_work, self._stream.credit)
        self._direct.start()
        self._keepers.append(asyncio.create_task(self._direct.keep(), name="tasker-worker-slots"))
        self._ready.set()
        _log.info("worker_ready", worker=self.id, queues=[f"{queue.namespace}/{queue.name}" for queue in self._queues])
        await self._clock.keep()

    async def _stop_claiming(self) -> None:
        if self._draining:
            return
        self._draining = True
        self._slots.closed = True
        self._stream.closed = True
        self._ahead.close()
        for attempt in self._limits.give_up():
            self._reports.give_back(attempt, 0.0)
            self._course.forget(attempt)
        for keeper in self._keepers:
            keeper.cancel()
        self._direct.close()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self._queues.close()

    async def _wait_for(self, condition: Callable[[], bool], limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                while not condition():
                    self._course.changed.clear()
                    await self._course.changed.wait()
        except TimeoutError:
            _log.warning("worker_not_done", attempts=len(self._course.attempts), waited_s=limit_s)

    def _on_reconnect(self) -> None:
        self._reporter.hurry()
        self._direct.tell()

    def _on_lost(self) -> None:
        self._direct.closed = True

    # -------------------------------------------------------- slots

    def _on_released(self, attempt: Attempt, held_s: float) -> None:
        """An attempt gave back its slot: others may have it."""
        self._direct.on_released(attempt.source, held_s)
        attempt.queue.slots.release()
        self._limits.leave(attempt.handler)
        if self._limits.waiting:
            self._stream.admit()
        if self._direct.held:
            self._direct.take_held()
        if self._ahead.waiting:
            self._ahead.admit()
        self._queues.wake()

    def _choke(self) -> None:
        """Claim nothing while too many outcomes wait for their answer."""
        closed = self._draining or self._course.stopping.lost.is_set() or self._course.is_choked
        if closed != self._slots.closed:
            self._slots.closed = closed
            self._direct.tell()
            self._queues.wake()


def new_worker_id() -> str:
    """Return `<host>-<pid>-<random>`, one NATS token."""
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:40] or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
