"""Nodes, workers that follow a script, and what of the work on offer has begun: all in virtual time.

The nodes are real, over one log and one broker in memory. The workers speak the wire protocol by themselves, so that
they can do what a worker may do at any moment, and a well-made one hardly ever does: die with work in hand, ask for it
first, ask and die, give it back, say farewell and die.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec

from tasker.bus.bus import Message
from tasker.bus.memory_bus import MemoryBroker
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import ensure_work_consumer
from tasker.errors import TaskerError, Unavailable
from tasker.events.memory_log import MemoryLog
from tasker.events.messages import ReportKind, Work, WorkArray
from tasker.events.subjects import Subjects
from tasker.ids import SystemIds
from tasker.replay.state_at import folded
from tasker.service.domain.state import STEP_DISPATCHED
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.write_side import WriteSide
from tasker.settings import Pace, StreamSettings
from tasker.testing.clock import LoopClock
from tasker.testing.virtual_loop import VirtualLoop

SHARDS: Final = 4
LIFE_S: Final = 1e6
QUEUE: Final = "t"
QUEUE_NAMES: Final = ("default", "default", QUEUE)
STREAMS: Final = StreamSettings()
SOON_S: Final = 10.0
"""Within this begins what may: a worker's silence takes 4 s, a node's lease 5 s."""

PLACES: Final = 2
PLACE_S_MAX: Final = 75.0
"""The same for a place under a key, where words between tasks and key were lost: tasks ask again after 60 s at most."""

FRAGILE_S: Final = 150.0
"""The same behind a circuit: a trial that a worker took with it has to time out first, and the wait doubles."""

DEAD_S: Final = STREAMS.ack_wait_s + 2.0
"""The same where a message died with its worker: the stream waits for its ack first."""

Key = tuple[str, str, int]


class Item:
    """Work that a worker has in hand."""

    def __init__(self, work: Work, delivery: Delivery | None, node: str, age_us: int) -> None:
        self.work = work
        self.delivery = delivery
        self.node = node
        self.age_us = age_us
        self.key: Key = (work.task_id, work.step, work.attempt)

    @property
    def may_run(self) -> bool:
        """Whether it runs without a question."""
        is_first = self.work.offer == 0 and (self.delivery is None or self.delivery.num_delivered == 1)
        return is_first and self.age_us <= 2_000_000


class ScriptedWorker:
    """A worker of the queue, that does by itself what `on_item` does with what it gets.

    Attributes:
        hands: what it holds: from the stream, or from a node.
        ran: what it began.
    """

    def __init__(self, stage: Stage, name: str, *, slots: int = 100, hears_nodes: bool = True) -> None:
        self.stage = stage
        self.name = name
        self.slots = slots
        self.bus = stage.broker.connect()
        self.hands: dict[Key, Item] = {}
        self.ran: list[Key] = []
        self.on_item: Callable[[Item], Awaitable[None]] = _hold
        self.is_dead = False
        self._hears_nodes = hears_nodes
        self._takes = True
        self._sums: dict[str, list[int]] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._pull: PullLoop | None = None

    async def start(self, *, takes_stream: bool = True) -> None:
        """Take work from now on."""
        stage, subjects = self.stage, self.stage.subjects
        await self._make_consumer()
        name = subjects.work_consumer(*QUEUE_NAMES)
        if self._hears_nodes:
            self.bus.subscribe(f"{subjects.worker_work('default', self.name, '*')}", self._on_array)
            self.do(self._tell_always())
        if takes_stream:
            self._pull = PullLoop(
                self.bus,
                subjects.work_stream,
                name,
                self._on_delivery,
                self._credit,
                on_missing=lambda: self.do(self._make_consumer()),
                draw=stage.draw.random,
            )

    async def _make_consumer(self) -> None:
        tenant, namespace, queue = QUEUE_NAMES
        place = {"tenant": tenant, "namespace": namespace, "queue": queue}
        while True:
            try:
                await ensure_work_consumer(self.bus, self.stage.subjects, STREAMS, **place)
            except TaskerError:
                await asyncio.sleep(0.2)
            else:
                return

    async def die(self) -> None:
        """End as by SIGKILL."""
        self.is_dead = True
        if self.bus.connected:
            self.bus.cut()
            self.stage.broker.forget(self.bus)
        for one in self._running:
            one.cancel()
        if self.stage.in_hands:
            self.stage.died_s = self.stage.loop.time()
        if self._pull is not None:
            with contextlib.suppress(TaskerError):
                await self._pull.stop()

    def farewell(self) -> None:
        """Say that it takes nothing more."""
        self._takes = False
        self._tell()

    # ---------------------------------------------------------------- what it does with what it has

    async def ask(self, item: Item, kind: ReportKind) -> Any:
        """Return the owner's answer to a report, however long that takes."""
        report: dict[str, Any] = {"kind": kind, "task_id": item.key[0], "step": item.key[1], "attempt": item.key[2]}
        if kind == "failed":
            report["error"] = {"type": "Broken", "message": "the other side is down", "retryable": True}
        body = json.dumps(report | {"worker": self.name}).encode()
        while True:
            try:
                reply = await self.bus.request(item.work.report_to, body, timeout_s=2.0)
                told = json.loads(reply.data)
            except Unavailable:
                told = {}
            if told.get("ok") or told.get("error", {}).get("status", 503) != 503:
                if told.get("run") and kind == "claim":
                    self.stage.told.setdefault(item.key, set()).add(self.name)
                return told
            await asyncio.sleep(0.2)

    def ack(self, item: Item) -> None:
        """Be done with it."""
        self.hands.pop(item.key, None)
        if item.delivery is not None and self._pull is not None:
            self._pull.ack(item.delivery)
        else:
            self._released(item)

    async def give_back(self, item: Item) -> None:
        """Let others have it."""
        self.hands.pop(item.key, None)
        if item.delivery is not None and self._pull is not None:
            self._pull.nak(item.delivery)
        else:
            self._released(item)
            await self.ask(item, "returned")

    async def run(self, item: Item, takes_s: float = 0.5) -> None:
        """Run it as a worker does: at once, or after a question; then report how it ended."""
        if item.may_run:
            self.ran.append(item.key)
            await self.ask(item, "started")
        else:
            told = await self.ask(item, "claim")
            if not told.get("run"):
                self.ack(item)
                return
            self.ran.append(item.key)
        if item.delivery is not None and self._pull is not None:
            self._pull.ack(item.delivery)
        await asyncio.sleep(takes_s)
        await self.ask(item, "completed")
        self.hands.pop(item.key, None)
        if item.delivery is None:
            self._released(item)
        elif self._pull is not None:
            self._pull.wake()

    # ---------------------------------------------------------------- what comes

    def _credit(self) -> int:
        return max(0, self.slots - len(self.hands)) if self._takes else 0

    def _on_delivery(self, delivery: Delivery) -> None:
        work = msgspec.json.decode(delivery.data, type=Work)
        self._take(Item(work, delivery, "", self.stage.clock.now_us() - delivery.at_us))

    def _on_array(self, message: Message) -> None:
        node = message.subject.rpartition(".")[2]
        array = msgspec.json.decode(message.data, type=WorkArray)
        self._sums.setdefault(node, [0, 0])[0] += len(array.work)
        for work in array.work:
            self._take(Item(work, None, node, self.stage.clock.now_us() - array.sent_at_us))

    def _take(self, item: Item) -> None:
        known = self.hands.get(item.key)
        if known is not None:
            if item.delivery is None:
                self._released(item)
            elif self._pull is not None:
                self._pull.nak(item.delivery, delay_s=1.0)
            return
        self.hands[item.key] = item
        self.do(self.on_item(item))

    def do(self, what: Awaitable[None]) -> None:
        """Do something beside the rest."""
        task = asyncio.ensure_future(what)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # ---------------------------------------------------------------- what it says

    def _released(self, item: Item) -> None:
        self._sums[item.node][1] += 1
        self._tell()

    async def _tell_always(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(1.0)

    def _tell(self) -> None:
        if self.is_dead or not self._hears_nodes:
            return
        elsewhere = sum(item.delivery is not None for item in self.hands.values())
        said = {"worker": self.name, "slots": self.slots if self._takes else 0, "elsewhere": elsewhere}
        said |= {"queues": [["default", QUEUE]], "nodes": self._sums}
        with contextlib.suppress(Unavailable):
            self.bus.publish(self.stage.subjects.slots("default"), json.dumps(said).encode())


async def _hold(_item: Item) -> None:
    """Keep it in hand."""


class Stage:
    """Nodes over one log, and who works for them.

    Attributes:
        died_s: when a worker died last while messages were in hand.
        told: which workers were told that they may run an attempt.
    """

    def __init__(self, seed: int = 0) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.clock = LoopClock(loop)
        self.draw = random.Random(f"stage {seed}")
        self.subjects = Subjects()
        self.log = MemoryLog(clock=self.clock, shards=SHARDS)
        self.broker = MemoryBroker(clock=self.clock)
        self.bus = self.broker.connect()
        self.nodes: dict[WriteSide, tuple[asyncio.Task[None], Any, asyncio.Event]] = {}
        self.workers: list[ScriptedWorker] = []
        self.tasks: list[str] = []
        self.died_s = float("-inf")
        self.told: dict[Key, set[str]] = {}
        self._ids = SystemIds(random.Random(f"ids {seed}").randbytes, lambda: self.clock.now_us() * 1000)

    # ---------------------------------------------------------------- nodes

    async def begin(self, nodes: int) -> None:
        """Start so many nodes; the first owns every shard."""
        for _ in range(nodes):
            await self.start_node()
        for template in TEMPLATES:
            told = await self.ask("template.register", {"template": template})
            assert told["ok"], told

    async def start_node(self) -> WriteSide:
        """Start one more node."""
        bus, ready, stop = self.broker.connect(), asyncio.Event(), asyncio.Event()
        side = WriteSide(
            self.log,
            await self.log.info(),
            bus,
            self.subjects,
            STREAMS,
            Pace(),
            ids=self._ids,
            clock=NodeClock(self.clock.monotonic_s),
            draw=self.draw.random,
            pull=partial(PullLoop, draw=self.draw.random),
        )
        running = asyncio.create_task(side.run(stop, ready.set), name="node")
        self.nodes[side] = (running, bus, stop)
        await ready.wait()
        return side

    async def kill_node(self, side: WriteSide) -> None:
        """End a node as by SIGKILL."""
        running, bus, _ = self.nodes.pop(side)
        bus.cut()
        self.broker.forget(bus)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def stop_node(self, side: WriteSide) -> None:
        """Drain a node."""
        running, bus, stop = self.nodes.pop(side)
        stop.set()
        await running
        await bus.close()

    def drop_stream(self) -> None:
        """Delete the work stream with all that it holds."""
        self.broker.accept(Message(f"$JS.API.STREAM.DELETE.{self.subjects.work_stream}", b""))

    async def hand_over(self, shard: int, giver: WriteSide, taker: WriteSide) -> None:
        """Move a shard from one node to the other, as when a lease runs out."""
        self.log._shards[shard].lease_until_us = 0
        await taker._node.placement._round()
        await giver._node.placement._round()
        while not taker._shards.owns(shard):  # noqa: ASYNC110 - restoring tells nobody
            await asyncio.sleep(0.01)

    # ---------------------------------------------------------------- callers

    async def ask(self, verb: str, body: dict[str, Any]) -> Any:
        """Return what a command is answered; busy ones are given again."""
        noun, _, what = verb.partition(".")
        data = json.dumps(body).encode()
        while True:
            try:
                reply = await self.bus.request(self.subjects.command("default", noun, what), data, timeout_s=5)
                told = json.loads(reply.data)
            except Unavailable:
                told = {}
            if told.get("ok") or told.get("error", {}).get("status", 503) not in {429, 503}:
                return told
            await asyncio.sleep(0.2)

    async def command(self, verb: str, **body: Any) -> Any:
        """Give an operator's command; it is taken."""
        told = await self.ask(verb, {"requested_by": "ada", "reason": "a test"} | body)
        assert told["ok"], told
        return told

    async def create(self, **more: Any) -> str:
        """Return the id of a new task."""
        made = await self.ask("task.create", {"template": QUEUE} | more)
        assert made["ok"], made
        self.tasks.append(made["task_id"])
        return str(made["task_id"])

    async def work(
        self, name: str, *, slots: int = 100, hears_nodes: bool = True, takes_stream: bool = True
    ) -> ScriptedWorker:
        """Start a worker that holds what it gets."""
        worker = ScriptedWorker(self, name, slots=slots, hears_nodes=hears_nodes)
        self.workers.append(worker)
        await worker.start(takes_stream=takes_stream)
        return worker

    async def healthy(self, name: str = "healthy", **more: Any) -> ScriptedWorker:
        """Start a worker that runs what it gets."""
        worker = await self.work(name, **more)
        worker.on_item = worker.run
        for item in list(worker.hands.values()):
            await worker.run(item)
        return worker

    # ---------------------------------------------------------------- what is promised

    def waiting(self) -> list[tuple[Key, float]]:
        """Return the attempts that may begin, or have the next free place, and have not, and how long they may need."""
        found: list[tuple[Key, float]] = []
        asking: list[Key] = []
        places_held = 0
        for task_id in self.tasks:
            state = folded(self.recorded(task_id))
            for place in () if state.ended else state.places.values():
                if place.held:
                    places_held += 1
                elif not place.denied and not state.held:
                    asking.append((task_id, place.request.step, place.request.attempt))
            if not state.ended and not state.held:
                within_s = FRAGILE_S if state.template.name == "fragile" else SOON_S
                steps = state.steps.items()
                found += [
                    ((task_id, name, one.attempt), within_s) for name, one in steps if one.status is STEP_DISPATCHED
                ]
        return found + [(key, PLACE_S_MAX) for key in (asking if places_held < PLACES else ())]

    @property
    def in_hands(self) -> int:
        """Return how many messages are delivered, or on their way, and not done with."""
        stream = self.broker.jetstream._streams.get(self.subjects.work_stream)
        return 0 if stream is None else sum(len(consumer.open) for consumer in stream.consumers.values())

    def recorded(self, task_id: str) -> Any:
        """Return the events of a task."""
        return self.log.events_of(UUID(task_id))

    async def until_begun(self, within_s: float = 0.0) -> float:
        """Return how long it took until all that may begin has begun; `within_s`: so long it may need at least."""
        began_s = self.loop.time()
        while waiting := self.waiting():
            took_s = self.loop.time() - began_s
            late = [key for key, soon_s in waiting if took_s > max(soon_s, within_s)]
            assert not late, f"{late} stood still for {took_s:g} s"
            await asyncio.sleep(0.1)
        return self.loop.time() - began_s

    def check_told(self) -> None:
        """Hold that nobody was told to run what another one was told to."""
        twice = {key: workers for key, workers in self.told.items() if len(workers) > 1}
        assert not twice, twice

    async def close(self) -> None:
        """End everything."""
        mine = asyncio.current_task()
        tasks = [one for one in asyncio.all_tasks() if one is not mine]
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_STEP: Final = {"queue": QUEUE, "start_to_close_s": 7200, "heartbeat_s": 3600}
_FRAGILE: Final[dict[str, Any]] = {
    "handler": "fragile",
    "queue": QUEUE,
    "start_to_close_s": 5,
    "heartbeat_s": 3,
    "retry": {"max_attempts": 1000, "backoff": "constant", "delay_s": 1},
    "circuit_breaker": {"min_attempts": 1, "open_s": 2, "open_s_max": 8, "probes": 1},
}
TEMPLATES: Final[list[dict[str, Any]]] = [
    {"name": "t", "steps": [{"name": "only"} | _STEP]},
    {"name": "keyed", "steps": [{"name": "only", "concurrency": {"key": "'k'", "limit": PLACES}} | _STEP]},
    {"name": "fragile", "steps": [{"name": "only"} | _FRAGILE]},
    {"name": "paced", "steps": [{"name": "only", "handler": "paced", "rate_limit": {"per_s": 5}} | _STEP]},
    {"name": "two", "steps": [{"name": "one"} | _STEP, {"name": "other"} | _STEP]},
    {"name": "sticky", "steps": [{"name": "a"} | _STEP, {"name": "b", "after": ["a"], "sticky": "a"} | _STEP]},
]


def staged(scenario: Callable[[Stage], Awaitable[None]], *, nodes: int = 1, seed: int = 0) -> None:
    """Live through a scenario on a new stage."""

    async def run() -> None:
        stage = Stage(seed)
        with stage.loop.passing(stage.loop.time() + LIFE_S, exactly=True):
            try:
                await stage.begin(nodes)
                await scenario(stage)
            finally:
                await stage.close()

    random.seed(f"process {seed}")
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
