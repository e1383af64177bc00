"""Nodes, workers that follow a script, and what of the work on offer has begun: all in virtual time.

The nodes are real, over one log and one broker in memory.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final
from uuid import UUID

from tasker.bus.bus import Message
from tasker.bus.memory_bus import MemoryBroker
from tasker.bus.pull import PullLoop
from tasker.errors import Unavailable
from tasker.events.memory_log import MemoryLog
from tasker.events.stored import from_recorded
from tasker.events.subjects import Subjects
from tasker.events.task_events import TaskCreated
from tasker.ids import RESERVED_NAMESPACE, SystemIds
from tasker.labels import work_queue
from tasker.replay.checkers.tried import read_openings, unexplained
from tasker.replay.content import Contents
from tasker.replay.findings import Findings
from tasker.replay.shard import ShardVerifier
from tasker.replay.state_at import folded, schedule_folded
from tasker.service.domain.schedules.state import ScheduleStatus
from tasker.service.domain.state import STEP_DISPATCHED, TaskState
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.write_side import WriteSide
from tasker.settings import Pace
from tasker.templates.built_in import BULK
from tasker.testing.clock import LoopClock
from tasker.testing.virtual_loop import VirtualLoop
from tests.simulation.bulks import BulkSide
from tests.simulation.scripted import PLAIN, QUEUE, STREAMS, Key, ScriptedWorker

SHARDS: Final = 4
LIFE_S: Final = 1e6
SOON_S: Final = 10.0
"""Within this begins what may: a worker's silence takes 4 s, a node's lease 5 s."""

PLACES: Final = 2
PLACE_S_MAX: Final = 75.0
"""The same for a place under a key, where words between tasks and key were lost: tasks ask again after 60 s at most."""

FRAGILE_S: Final = 150.0
"""The same behind a circuit: a trial that a worker took with it has to time out first, and the wait doubles."""

DEAD_S: Final = STREAMS.ack_wait_s + 2.0
"""The same where a message died with its worker: the stream waits for its ack first."""

BULK_S: Final = 75.0
"""The same of a part of a bulk: a worker that died with it is missed first, and few of them are out at a time."""

SOON_S_OF: Final = {"fragile": FRAGILE_S, BULK: BULK_S}


class Stage:
    """Nodes over one log, and who works for them.

    Attributes:
        tasks, bulks: all that there are, as of the last look. schedules: their streams.
        made: tasks whose creation was answered.
        bulk_side: the worker of the service's own queue.
        busy: workers that live and may be full: what is kept for one of them has to wait.
        died_s: when a worker died last while messages were in hand, or messages were lost last.
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
        self.bulks: list[str] = []
        self.made: list[str] = []
        self.schedules: list[UUID] = []
        self.bulk_side: BulkSide | None = None
        self.busy: set[str] = set()
        self.died_s = float("-inf")
        self.told: dict[Key, set[str]] = {}
        self._looked = dict.fromkeys(range(SHARDS), 0)
        self._commands = 0
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
        """Start one more node; again while one ends because nobody answers it, as a supervisor does."""
        while True:
            try:
                return await self._start_node()
            except Unavailable:
                await asyncio.sleep(1)

    async def _start_node(self) -> WriteSide:
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
        is_ready = asyncio.create_task(ready.wait())
        await asyncio.wait([running, is_ready], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            is_ready.cancel()
            del self.nodes[side]
            bus.cut()
            self.broker.forget(bus)
            await running
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
        """Return what a command is answered; busy ones are given again, and it may come twice."""
        noun, _, what = verb.partition(".")
        self._commands += 1
        named = {} if verb in {"task.create", "template.register"} else {"command_id": f"command-{self._commands}"}
        data = json.dumps(body | named).encode()
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
        self.made.append(made["task_id"])
        if made["task_id"] not in self.tasks:
            self.tasks.append(made["task_id"])
        return str(made["task_id"])

    async def work(self, name: str, *, takes_stream: bool = True, runs: bool = False, **more: Any) -> ScriptedWorker:
        """Start a worker that holds what it gets, or runs it."""
        worker = ScriptedWorker(self, name, **more)
        if runs:
            worker.on_item = worker.run
        self.workers.append(worker)
        await worker.start(takes_stream=takes_stream)
        return worker

    async def healthy(self, name: str = "healthy", **more: Any) -> ScriptedWorker:
        """Start a worker that runs what it gets."""
        return await self.work(name, runs=True, **more)

    async def serve_bulks(self) -> None:
        """Have a worker for bulks."""
        if self.bulk_side is None:
            self.bulk_side = BulkSide(self)
            await self.bulk_side.start()

    async def kill_bulks(self) -> None:
        """End that worker as by SIGKILL."""
        if self.bulk_side is not None:
            side, self.bulk_side = self.bulk_side, None
            if self.in_hands:
                self.died_s = self.loop.time()
            await side.kill()

    # ---------------------------------------------------------------- what is promised

    def look(self) -> None:
        """Find tasks and schedules that are new in the log."""
        for number, shard in self.log._shards.items():
            for event in shard.events[self._looked[number] :]:
                if event.type == "task_created":
                    made = from_recorded(event)
                    assert isinstance(made, TaskCreated)
                    known = self.bulks if made.template.namespace == RESERVED_NAMESPACE else self.tasks
                    if str(event.stream_id) not in known:
                        known.append(str(event.stream_id))
                elif event.type == "schedule_created":
                    self.schedules.append(event.stream_id)
            self._looked[number] = len(shard.events)

    def state_of(self, task_id: str) -> TaskState:
        """Return a task as the log has it."""
        return folded(self.recorded(task_id))

    def waiting(self) -> list[tuple[Key, float]]:
        """Return the attempts that may begin, or have the next free place, and have not, and how long they may need.

        Schedules that should have fired are among them.
        """
        self.look()
        found: list[tuple[Key, float]] = []
        asking: list[Key] = []
        places_held = 0
        for task_id in (*self.tasks, *self.bulks):
            state = self.state_of(task_id)
            for place in () if state.ended else state.places.values():
                if place.held:
                    places_held += 1
                elif not place.denied and not state.held:
                    asking.append((task_id, place.request.step, place.request.attempt))
            if not state.ended and not state.held:
                within_s = SOON_S_OF.get(state.template.name, SOON_S)
                steps = state.steps.items()
                found += [
                    ((task_id, name, one.attempt), within_s)
                    for name, one in steps
                    if one.status is STEP_DISPATCHED and one.kept_for not in self.busy
                ]
        for stream_id in self.schedules:
            schedule = schedule_folded(self.log.events_of(stream_id))
            is_due = schedule.due_us is not None and schedule.due_us < self.clock.now_us()
            if schedule.status is ScheduleStatus.ACTIVE and is_due:
                found.append(((schedule.name, "fire", schedule.due_us or 0), SOON_S))
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
        since_s: dict[Key, float] = {}
        while waiting := self.waiting():
            now_s = self.loop.time()
            since_s = {key: since_s.get(key, now_s) for key, _ in waiting}
            late = [key for key, soon_s in waiting if now_s > max(since_s[key] + soon_s, began_s + within_s)]
            assert not late, f"{late} stood still for {now_s - since_s[late[0]]:g} s"
            await asyncio.sleep(0.1)
        return self.loop.time() - began_s

    def check_made(self) -> None:
        """Hold that the log has what was accepted."""
        lost = [task_id for task_id in self.made if not self.recorded(task_id)]
        assert not lost, lost

    async def check_log(self) -> None:
        """Hold that the log is what `log verify` says that it has to be."""
        findings = Findings()
        contents, openings = Contents(self.log), await read_openings(self.log)
        failures = []
        for shard in range(SHARDS):
            verifier = ShardVerifier(self.log, shard, findings.add, contents=contents, openings=openings)
            failures.append((await verifier.verify()).failures)
        for finding in unexplained(openings, failures):
            findings.add(finding)
        assert not findings.total, findings.kept

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
_LABELS: Final = {"gpu": "a100"}
LABELLED: Final = ("default", work_queue(QUEUE, _LABELS))
SHOP: Final = ("shop", QUEUE)
QUEUES: Final = (PLAIN, LABELLED, SHOP)
"""Namespace and name of all that tasks of these templates are in."""

TEMPLATES: Final[list[dict[str, Any]]] = [
    {"name": "t", "steps": [{"name": "only"} | _STEP]},
    {"name": "keyed", "steps": [{"name": "only", "concurrency": {"key": "'k'", "limit": PLACES}} | _STEP]},
    {"name": "fragile", "steps": [{"name": "only"} | _FRAGILE]},
    {"name": "paced", "steps": [{"name": "only", "handler": "paced", "rate_limit": {"per_s": 5}} | _STEP]},
    {"name": "two", "steps": [{"name": "one"} | _STEP, {"name": "other"} | _STEP]},
    {"name": "sticky", "steps": [{"name": "a"} | _STEP, {"name": "b", "after": ["a"], "sticky": "a"} | _STEP]},
    {"name": "labelled", "steps": [{"name": "only", "requires": _LABELS} | _STEP]},
    {"name": "limited", "steps": [{"name": "only", "handler": "limited"} | _STEP]},
    {
        "name": "kept",
        "steps": [
            {"name": "a", "handler": "limited"} | _STEP,
            {"name": "b", "handler": "limited", "after": ["a"], "sticky": "a", "sticky_wait_s": 20} | _STEP,
        ],
    },
    {"name": "shop", "namespace": "shop", "steps": [{"name": "only"} | _STEP]},
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
