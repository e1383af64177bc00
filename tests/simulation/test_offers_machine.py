"""A state machine over the way of an offer: whoever dies, gives back, asks in vain or takes over, and in any order.

At each quiet moment everybody who holds something is gone, nothing is held back, and a healthy worker is there: all
that may begin begins within seconds, or, where a message died with its worker, soon after the stream has missed it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tasker.bus.bus import Message
from tasker.testing.virtual_loop import VirtualLoop
from tests.simulation.offers import DEAD_S, LIFE_S, SHARDS, TEMPLATES, Item, ScriptedWorker, Stage

ASKED = os.environ.get("TASKER_MACHINE_EXAMPLES")
EXAMPLES = int(ASKED or "8")
IS_LONG = ASKED is not None
TASKS_MAX = 8
WORKERS_MAX = 3
SECONDS = [0.1, 1.0, 2.5, 5.0, 12.0, 40.0, 130.0]
HOLDS = ["queue", "template", "limit"]
KINDS = ["claim", "reserve", "started", "completed", "failed"]
NAMES = [template["name"] for template in TEMPLATES]
picked = st.integers(0, 7)


class OffersMachine(RuleBasedStateMachine):
    """One stage."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.stage: Stage
        self.held: dict[str, None] = {}
        self.paused: dict[str, None] = {}
        self.hired = 0

    def do(self, what: Callable[[], Awaitable[Any]]) -> None:
        """Live through a move."""

        async def move() -> None:
            with self.stage.loop.passing(self.stage.loop.time() + LIFE_S, exactly=True):
                await what()

        self.runner.run(move())

    @property
    def alive(self) -> list[ScriptedWorker]:
        """Return the workers that live."""
        return [one for one in self.stage.workers if not one.is_dead]

    def item(self, number: int, which: int) -> tuple[ScriptedWorker, Item] | None:
        """Return something that a worker has in hand."""
        holders = [one for one in self.alive if one.hands]
        if not holders:
            return None
        worker = holders[number % len(holders)]
        return worker, list(worker.hands.values())[which % len(worker.hands)]

    # ---------------------------------------------------------------- moves

    @initialize(seed=st.integers(0, 10_000))
    def open(self, seed: int) -> None:
        """Open a stage with two nodes."""

        async def begin() -> None:
            self.stage = Stage(seed)
            with self.stage.loop.passing(self.stage.loop.time() + LIFE_S, exactly=True):
                await self.stage.begin(nodes=2)

        self.runner.run(begin())

    @precondition(lambda self: len(self.stage.tasks) < TASKS_MAX)
    @rule(template=st.sampled_from(NAMES), priority=st.sampled_from([0, 0, 5]))
    def create(self, template: str, priority: int) -> None:
        """Create a task."""
        self.do(lambda: self.stage.create(template=template, priority=priority))

    @precondition(lambda self: len(self.alive) < WORKERS_MAX)
    @rule(ways=st.sampled_from([(True, True), (True, False), (False, True)]), slots=st.sampled_from([1, 5]))
    def hire(self, ways: tuple[bool, bool], slots: int) -> None:
        """Start a worker that holds what it gets."""
        self.hired += 1
        name, (hears_nodes, takes_stream) = f"w{self.hired}", ways
        self.do(lambda: self.stage.work(name, slots=slots, hears_nodes=hears_nodes, takes_stream=takes_stream))

    @rule(number=picked, which=picked, kind=st.sampled_from(KINDS), is_heard=st.booleans())
    def ask(self, number: int, which: int, kind: Any, *, is_heard: bool) -> None:
        """Ask for something in hand; who hears a no is done with it."""
        found = self.item(number, which)
        if found is None:
            return
        worker, item = found

        async def asked() -> None:
            if is_heard:
                told = await worker.ask(item, kind)
                if not told.get("run") and not told.get("recorded"):
                    worker.ack(item)
            else:
                worker.do(worker.ask(item, kind))
                await asyncio.sleep(0)

        self.do(asked)

    @rule(number=picked, which=picked)
    def give_back(self, number: int, which: int) -> None:
        """Give something in hand back that was not begun."""
        found = self.item(number, which)
        if found is not None and found[1].key not in found[0].ran:
            self.do(lambda: found[0].give_back(found[1]))

    @precondition(lambda self: self.alive)
    @rule(number=picked, how=st.sampled_from(["die", "farewell", "farewell and die"]))
    def leave(self, number: int, how: str) -> None:
        """Have a worker go."""
        worker = self.alive[number % len(self.alive)]

        async def left() -> None:
            if "farewell" in how:
                worker.farewell()
                await asyncio.sleep(0)
            if "die" in how:
                await worker.die()

        self.do(left)

    @rule(what=st.sampled_from(HOLDS))
    def hold(self, what: str) -> None:
        """Hold work back, or let it go."""
        self.do(lambda: self._let_go(what) if what in self.held else self._hold(what))

    @rule(per_s=st.sampled_from([0.001, 0.05, 5.0]))
    def limit(self, per_s: float) -> None:
        """Set another rate."""
        self.held["limit"] = None
        self.do(lambda: self.stage.command("limit.set", scope="queue", name="t", per_s=per_s, burst=1))

    async def _hold(self, what: str) -> None:
        self.held[what] = None
        if what == "limit":
            await self.stage.command("limit.set", scope="queue", name="t", per_s=0.05, burst=1)
        else:
            await self.stage.command("control.pause", scope=what, name="t")

    async def _let_go(self, what: str) -> None:
        del self.held[what]
        if what == "limit":
            await self.stage.command("limit.remove", scope="queue", name="t")
        else:
            await self.stage.command("control.resume", scope=what, name="t", ramp_s=0)

    @precondition(lambda self: self.stage.tasks)
    @rule(number=picked)
    def pause(self, number: int) -> None:
        """Pause a task, or let it go on."""
        task_id = self.stage.tasks[number % len(self.stage.tasks)]

        async def told() -> None:
            verb = "resume" if task_id in self.paused else "pause"
            reply = await self.stage.ask(f"task.{verb}", {"task_id": task_id, "requested_by": "ada", "reason": "r"})
            if reply["ok"] and verb == "pause":
                self.paused[task_id] = None
            elif verb == "resume":
                del self.paused[task_id]

        self.do(told)

    @precondition(lambda self: self.stage.tasks)
    @rule(number=picked, priority=st.sampled_from([0, 5, 9]))
    def prioritize(self, number: int, priority: int) -> None:
        """Change the priority of a task."""
        task_id = self.stage.tasks[number % len(self.stage.tasks)]
        body = {"task_id": task_id, "priority": priority, "requested_by": "ada", "reason": "r"}
        self.do(lambda: self.stage.ask("task.update", body))

    @rule(
        how=st.sampled_from(["kill", "stop", "hand over", "cut"]),
        number=picked,
        gone_s=st.sampled_from([0.0, 2.0, 8.0]),
    )
    def trouble(self, how: str, number: int, gone_s: float) -> None:
        """Have a node go and another one come, or its shards, or its connection."""
        nodes = list(self.stage.nodes)
        node, other = nodes[number % 2], nodes[1 - number % 2]

        async def troubled() -> None:
            if how == "cut":
                bus = self.stage.nodes[node][1]
                bus.cut()
                await asyncio.sleep(gone_s)
                bus.mend()
            elif how == "hand over":
                shard = number % SHARDS
                if node._shards.owns(shard):
                    await self.stage.hand_over(shard, node, other)
            else:
                await (self.stage.kill_node(node) if how == "kill" else self.stage.stop_node(node))
                await asyncio.sleep(gone_s)
                await self.stage.start_node()

        self.do(troubled)

    @rule(count=st.sampled_from([1, 3]))
    def lose_answers(self, count: int) -> None:
        """Lose the next answers of the stream to what is published."""
        left = [count]

        def transit(message: Message) -> tuple[float, ...]:
            if left[0] and message.data.startswith(b'{"stream":"'):
                left[0] -= 1
                return ()
            return (0.0,)

        self.stage.broker.transit = transit

    @rule()
    def drop_stream(self) -> None:
        """Delete the work stream with all that it holds."""
        self.stage.drop_stream()
        self.do(lambda: asyncio.sleep(0))

    @rule(seconds=st.sampled_from(SECONDS))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.do(lambda: asyncio.sleep(seconds))

    # ---------------------------------------------------------------- the promise

    @precondition(lambda self: self.stage.tasks)
    @rule()
    def quiet(self) -> None:
        """Let everybody go, and hold the system to its promise."""
        self.do(self._quiet)

    async def _quiet(self) -> None:
        stage = self.stage
        stage.broker.transit = None
        for worker in self.alive:
            await worker.die()
        for what in list(self.held):
            await self._let_go(what)
        for task_id in self.paused:
            await stage.ask("task.resume", {"task_id": task_id, "requested_by": "ada", "reason": "r"})
        self.paused.clear()
        healthy = await stage.healthy(f"healthy-{len(stage.workers)}")
        await stage.until_begun(stage.died_s + DEAD_S - stage.loop.time())
        assert len(set(healthy.ran)) == len(healthy.ran), "a worker begins an attempt once"
        stage.check_told()
        await asyncio.sleep(2)
        await healthy.die()

    def teardown(self) -> None:
        """Keep the promise at the end, whatever was done last."""
        try:
            if hasattr(self, "stage"):
                if self.stage.tasks:
                    self.do(self._quiet)
                self.runner.run(self.stage.close())
        finally:
            self.runner.close()


TestOffersMachine = OffersMachine.TestCase
TestOffersMachine.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=25,
    deadline=None,
    derandomize=not IS_LONG,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
