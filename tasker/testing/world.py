"""A whole Tasker in one event loop: the real write side, views and worker over the log and the bus in memory.

Lives on a `VirtualLoop`, so that time passes only while somebody waits in here. A process that dies loses its
connection and everything it had in memory; the log, the streams and the views stay, and whoever comes after it
starts from those.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final
from uuid import UUID

from tasker.bus.bus import Bus
from tasker.bus.memory_bus import MemoryBroker, MemoryBus
from tasker.bus.pull import PullLoop
from tasker.client.attempts import RetryPolicy
from tasker.client.client import TaskerClient
from tasker.client.shared_bus import SharedBus
from tasker.clock import Clock
from tasker.errors import ConfigurationError, Unavailable
from tasker.events.envelope import RecordedEvent
from tasker.events.log import AppendOutcome, ShardAppend
from tasker.events.memory_log import MemoryLog
from tasker.events.messages import DEFAULT_TENANT
from tasker.events.subjects import Subjects
from tasker.handlers.options import GIVE_BACK_S
from tasker.handlers.registry import Registry
from tasker.handlers.runner import Job, Life, Runner
from tasker.handlers.worker import Worker
from tasker.ids import IdSource, SystemIds
from tasker.projections.checkpoints import Positions
from tasker.projections.memory_store import MemoryViewStore, first_of
from tasker.projections.runner import Runner as ViewRunner
from tasker.projections.views import PROJECTIONS
from tasker.replay.state_at import folded
from tasker.service.domain.costs.prices import PriceTable
from tasker.service.domain.state import TaskStatus
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.write_side import WriteSide
from tasker.settings import Pace, StreamSettings
from tasker.testing.clock import LoopClock
from tasker.testing.network import Network
from tasker.testing.script import Script
from tasker.testing.sleeping import sleeping_threads
from tasker.testing.virtual_loop import VirtualLoop

SHARDS: Final = 4
READY_S: Final = 60.0
TAKING_S: Final = 0.01
SETTLE_S: Final = 0.05
"""A call that does something lets so much time pass: a due timer fires, a worker says that it has begun."""

QUIET_S: Final = 10 * 365 * 86_400.0
"""A pull that waits so long does not cut a jump into pieces."""

_DUTIES: Final = frozenset(
    {
        "direct",
        "direct-feeding",
        "own-queues",
        "event-watch",
        "submissions",
        "tasker-worker-slots",
        "committer-0",
        "committer-1",
        "placement",
        "timers",
        "due-writer",
        "passivation",
        "partitions",
        "reconciler",
        "publisher",
        "cursors",
        "streams",
        "gate",
        "projections",
        "tasker-worker-serve",
    }
)
"""Tasks whose waiting does not matter by itself (see `virtual_loop`)."""

_OF_SERVICE: Final = ("open shard ", "command ")
"""How tasks are called that the write side leaves running when it is cancelled."""

_OVER: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.BLOCKED})


class _Log(MemoryLog):
    """The log, which says when it grew."""

    def __init__(self, clock: Clock, shards: int) -> None:
        super().__init__(clock=clock, shards=shards)
        self.grew = asyncio.Event()

    async def append(self, parts: Sequence[ShardAppend]) -> dict[int, AppendOutcome]:
        """Append, and say so."""
        outcomes = await super().append(parts)
        self.grew.set()
        return outcomes

    async def read_shards(self, after: Positions, *, limit: int, bytes_max: int | None = None) -> list[RecordedEvent]:
        """Return up to `limit` events of each shard of `after` behind its position."""
        return [
            event
            for shard in after
            for event in first_of(await self.read(shard, after=after[shard], limit=limit), bytes_max=bytes_max)
        ]


class _Client(TaskerClient):
    """The client, on a connection in memory."""

    def __init__(self, bus: Bus, subjects: Subjects, ids: IdSource, clock: Clock, retry: RetryPolicy) -> None:
        super().__init__(
            "memory://", "", DEFAULT_TENANT, subjects.prefix, environ={}, ids=ids, clock=clock, retry=retry
        )
        self._bus = SharedBus(self._connect, bus)


@contextmanager
def _in_real_time(loop: VirtualLoop, delay_s: float | None, call: Callable[[], None]) -> Iterator[None]:
    """Have `call` called on `loop` after `delay_s` of real time, unless this is closed before; None: never."""
    timer = threading.Timer(delay_s or 0.0, loop.call_soon_threadsafe, (call,))
    timer.daemon = True
    if delay_s is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Runner(Runner):
    """Runs handlers: async ones on the world's loop, sync ones in threads that its time waits for."""

    def __init__(self, on_ended: Any, *, loop: VirtualLoop, clock: Clock, life: Life | None = None) -> None:
        super().__init__(self._ended_here, clock=clock, loop=loop, life=life)
        self._virtual = loop
        self._told = on_ended

    def submit(self, job: Job) -> None:
        """Run a job."""
        if not job.is_async:
            self._virtual.thread_begins()
        super().submit(job)

    def _ended_here(self, job: Job) -> None:
        if not job.is_async:
            self._virtual.thread_ends()
        self._told(job)

    def _run_sync(self, job: Job) -> None:
        with sleeping_threads(self._virtual.sleep_in_thread):
            super()._run_sync(job)


class World:
    """Log, broker, service, views and worker. `open` it, `close` it.

    Args:
        registry: the templates to register and their handlers.
        seed: of every random choice: ids, jitter, the network's faults.
        prices: what usage costs.
        exact: the worker's pulls and every duty keep their real times; a jump of an hour is then many.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        seed: int = 0,
        shards: int = SHARDS,
        pace: Pace | None = None,
        slots: int = 100,
        exact: bool = False,
        prices: PriceTable | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise ConfigurationError("a World lives on a VirtualLoop: asyncio.Runner(loop_factory=VirtualLoop)")
        self.loop = loop
        self.clock = LoopClock(loop)
        self.subjects = Subjects()
        self.log = _Log(self.clock, shards)
        self.views = MemoryViewStore(PROJECTIONS)
        self.network = Network(self.subjects, DEFAULT_TENANT, random.Random(f"network {seed}"))  # noqa: S311 - seeded
        self.broker = MemoryBroker(clock=self.clock, transit=self.network)
        self.script = Script(registry, self._die, self._die_in_thread)
        self.client: TaskerClient
        self._registry = registry
        self._seed = seed
        self._shards = shards
        self._ids = SystemIds(random.Random(f"ids {seed}").randbytes, lambda: self.clock.now_us() * 1000)  # noqa: S311 - seeded
        self._jitter = random.Random(f"jitter {seed}")  # noqa: S311 - seeded
        self._pace = pace or Pace()
        self._slots = slots
        self._exact = exact
        self._prices = prices
        pull = partial(PullLoop, draw=self._drawing("pulls"))
        self._open_pull = pull if exact else partial(pull, expires_s=QUIET_S, heartbeat_s=QUIET_S)
        self._client_retry = RetryPolicy(draw=self._drawing("client"))
        self._draw_reports = self._drawing("reports")
        self._side: WriteSide | None = None
        self._side_bus: MemoryBus | None = None
        self._side_task: asyncio.Task[None] | None = None
        self._views_task: asyncio.Task[None] | None = None
        self._worker: Worker | None = None
        self._worker_bus: MemoryBus | None = None
        self._workers = 0
        self._lives: list[Life] = []
        self._replacing: asyncio.Task[None] | None = None

    def _drawing(self, name: str) -> Callable[[], float]:
        return random.Random(f"{name} {self._seed}").random  # noqa: S311 - seeded

    # ---------------------------------------------------------------- life

    async def open(self) -> None:
        """Start everything, and register the templates.

        Raises:
            TemplateInvalid, TemplateConflict: a template cannot be registered.
        """
        self.loop.background = frozenset() if self._exact else _DUTIES
        self.loop.wakes.append(self._next_wake_s)
        with self.loop.passing(self.loop.time() + 2 * READY_S, exactly=True):
            await self.start_service()
            views = ViewRunner(self.log, self.views, PROJECTIONS, shards=self._shards, clock=self.clock)
            self._views_task = asyncio.create_task(views.run(), name="projections")
            self.client = _Client(self.broker.connect(), self.subjects, self._ids, self.clock, self._client_retry)
            for document in self._registry.documents():
                await self.client.register(document)
            await self._start_worker()
        await self.loop.settled()

    async def close(self) -> None:
        """End everything, as it stands."""
        mine = asyncio.current_task()
        tasks = [one for one in asyncio.all_tasks() if one is not mine]
        for one in tasks:
            one.cancel()
        with self.loop.passing(self.loop.time() + READY_S, exactly=True):
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._worker is not None:
                await self._end_worker(self._worker)
            # A killed worker gives nothing back; but this process, and what it holds, goes on.
            while self._lives:
                await self._lives.pop().close(GIVE_BACK_S)

    # ---------------------------------------------------------------- the service

    async def start_service(self) -> None:
        """Start a service beside whoever holds the leases, and return when it serves."""
        bus = self.broker.connect()
        side = WriteSide(
            self.log,
            await self.log.info(),
            bus,
            self.subjects,
            StreamSettings(),
            self._pace,
            ids=self._ids,
            clock=NodeClock(self.clock.monotonic_s),
            draw=self._jitter.random,
            pull=self._open_pull,
            prices=self._prices,
        )
        self._side, self._side_bus = side, bus
        self._side_task = asyncio.create_task(side.run(asyncio.Event(), lambda: None), name="write-side")
        with self.loop.passing(self.loop.time() + READY_S, exactly=True):
            while side.shards_served < self._shards and not self._side_task.done():  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(TAKING_S)
        if self._side_task.done():
            await self._side_task

    async def kill_service(self) -> None:
        """End the service as SIGKILL would: nothing is drained, given up or said; its leases run out by themselves."""
        side_task, bus = self._side_task, self._side_bus
        self._side = self._side_task = self._side_bus = None
        if side_task is None or bus is None:
            return
        bus.cut()
        self.broker.forget(bus)
        left = [one for one in asyncio.all_tasks() if one.get_name().startswith(_OF_SERVICE)]
        for one in (side_task, *left):
            one.cancel()
        await asyncio.gather(side_task, *left, return_exceptions=True)

    # ---------------------------------------------------------------- the worker

    async def _start_worker(self) -> None:
        self._workers += 1
        self._worker_bus = self.broker.connect()
        equipment = self.script.equip()
        self._lives.append(equipment)
        self._worker = Worker(
            self._worker_bus,
            self.script,
            subjects=self.subjects,
            slots=self._slots,
            worker_id=f"worker-{self._workers}",
            clock=self.clock,
            limits=equipment.limits,
            life=equipment,
            runner=partial(_Runner, loop=self.loop, clock=self.clock),
            pull=self._open_pull,
            draw=self._draw_reports,
        )
        await self._worker.start()
        with self.loop.passing(self.loop.time() + READY_S, exactly=True):
            await self._worker.ready()

    async def replace_worker(self) -> None:
        """End the worker as SIGKILL would, and start another one in its place."""
        worker, bus = self._worker, self._worker_bus
        self._worker = self._worker_bus = None
        if worker is None or bus is None:
            return
        bus.cut()
        self.broker.forget(bus)
        await self._end_worker(worker)
        await self._start_worker()

    @staticmethod
    async def _end_worker(worker: Worker) -> None:
        with suppress(Unavailable):
            await worker.stop(settle_s=0)

    async def _die(self) -> None:
        """End the worker under the handler that calls this, once it is known to have begun."""
        await asyncio.sleep(SETTLE_S)
        self._replacing = asyncio.create_task(self.replace_worker(), name="replace the worker")
        await asyncio.Event().wait()

    def _die_in_thread(self) -> None:
        self.loop.sleep_in_thread(SETTLE_S)
        asyncio.run_coroutine_threadsafe(self.replace_worker(), self.loop).result()
        raise SystemExit("the worker died here")

    # ---------------------------------------------------------------- time

    def _next_wake_s(self) -> float | None:
        """Return when a timer of the service is due; now, while none of them can be."""
        if self._side is None:
            return None
        now_us = self.clock.now_us()
        if self._side.shards_served < self._shards:
            return self.loop.time()
        written = self.log.next_due_us(after_us=now_us)
        at_us = min((at for at in (self._side.next_due_us(), written) if at is not None), default=None)
        return None if at_us is None else self.clock.loop_s(at_us)

    async def settle(self) -> None:
        """Let everything happen that is about to."""
        await self.loop.settled()
        await self.advance(SETTLE_S)

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        await self.loop.pass_until(self.loop.time() + seconds)
        await self.loop.settled()

    async def until_over(self, task_id: str, *, within_s: float, within_real_s: float | None = None) -> bool:
        """Return True when the task has ended or is blocked; False when it is not, `within_s` later.

        Where what it waits for is asked after from time to time, that much may not pass `within_real_s`: False then,
        too, unless a handler is at work.
        """
        began_s, spent = self.loop.time(), False

        def spend() -> None:
            nonlocal spent
            spent = not self.loop.has_threads_at_work and self.loop.time() > began_s
            self.log.grew.set()

        try:
            with self.loop.passing(began_s + within_s), _in_real_time(self.loop, within_real_s, spend):
                async with asyncio.timeout(within_s):
                    while not self._is_over(task_id):
                        if spent:
                            return False
                        self.log.grew.clear()
                        await self.log.grew.wait()
        except TimeoutError:
            return False
        await self.settle()
        return True

    def _is_over(self, task_id: str) -> bool:
        if self._side_task is not None and self._side_task.done():
            self._side_task.result()
        return folded(self.recorded(task_id)).status in _OVER

    # ---------------------------------------------------------------- what it holds

    def recorded(self, task_id: str) -> Sequence[RecordedEvent]:
        """Return the events of a task, by `seq`."""
        return self.log.events_of(UUID(task_id))

    def steps_of(self, namespace: str, template: str) -> Sequence[str]:
        """Return the names of a template's steps."""
        for spec in self._registry.specs:
            if (spec.namespace, spec.name) == (namespace, template):
                return [step.name for step in spec.steps]
        return ()
