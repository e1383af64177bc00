"""A state machine over a whole service: commands, signals, answers, timers, crashes and bad messages in any order.

Unlike a session, which lives through a script of its seed, each move is hypothesis' own: what fails is made short.
After each move every task is held against what always holds; at the end the log and the views are verified.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from tasker import PermanentError, RetryableError, StepContext
from tasker.errors import TaskerError
from tasker.events.log import EventLog
from tasker.events.stored import from_recorded, meta_of
from tasker.events.task_events import ENDING_TYPES
from tasker.projections.views import PROJECTIONS
from tasker.replay.checkers.tried import read_openings, unexplained
from tasker.replay.content import Contents
from tasker.replay.findings import Findings
from tasker.replay.shard import ShardVerifier, views_at
from tasker.replay.state_at import folded
from tasker.service.domain.dry_run import copied
from tasker.service.domain.evolve import evolve
from tasker.service.domain.obligations import obligations_of
from tasker.service.domain.state import TaskState, TaskStatus
from tasker.service.domain.state_document import state_hash
from tasker.templates import CompiledTemplate, compile_template
from tasker.testing.network import MessageKind
from tasker.testing.sources import registry_of
from tasker.testing.virtual_loop import VirtualLoop
from tasker.testing.world import World
from tests.moves import Moving, move
from tests.properties.test_domain import check_waits
from tests.simulation.mixed import PEOPLE, SIGNALS, WORK, workflows

ASKED = os.environ.get("TASKER_MACHINE_EXAMPLES")
EXAMPLES = int(ASKED or "16")
IS_LONG = ASKED is not None
"""A long run looks for what is not known: each time with other examples."""
TASKS_MAX = 4
CALLS_MAX = 3
"""Calls of the client in one move; each may use up its timeout, and virtual time has to pass for it."""
BY: Any = {"requested_by": "ada", "reason": "a move"}
MESSAGES: list[MessageKind] = ["work", "started", "completed", "failed", "answer"]
SECONDS = [0.0, 0.3, 1.0, 5.0, 12.0, 60.0, 600.0]


class Machine(Moving):
    """One world, its tasks, and what they were."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.world: World
        self.shapes: dict[str, CompiledTemplate] = {}
        self.tasks: list[str] = []
        self.seen: dict[str, tuple[int, bool]] = {}
        self.commands = 0
        self.last: Callable[[], Awaitable[object]] | None = None

    @initialize(
        seed=st.integers(0, 10_000), fails=st.sampled_from([0.0, 0.3]), takes_s=st.sampled_from([0.0, 0.5, 3.0])
    )
    def open(self, *, seed: int, fails: float, takes_s: float) -> None:
        """Open a world with a workflow of every kind of step."""
        draw = random.Random(f"machine {seed}")

        async def body(ctx: StepContext) -> None:
            ctx.usage(model="m", tokens_in=ctx.attempt, cost="0.1")
            if takes_s:
                await asyncio.sleep(takes_s)
            chance = draw.random()
            if chance < fails:
                raise PermanentError("never") if chance < fails / 3 else RetryableError("not yet")

        templates = workflows(draw, body)
        shapes = [compile_template(one.spec()) for one in templates]
        self.shapes = {shape.hash: shape for shape in shapes}
        self.work = shapes[0]

        async def opened() -> World:
            world = World(registry_of(templates), seed=seed)
            await world.open()
            return world

        self.world = self.runner.run(opened())

    # ---------------------------------------------------------------- moves

    def _do(self, command: Callable[[], Awaitable[object]]) -> None:
        """Give a command and let what it causes happen; a refusal is an answer."""
        self.last = command

        async def given() -> None:
            with self.world.loop.passing(self.world.loop.time() + CALLS_MAX * self.world.client.timeout_s):
                try:
                    await command()
                except TaskerError as error:
                    note(f"  refused: {error.code}: {error}")
            await self.world.settle()

        self.runner.run(given())

    def _named(self) -> Any:
        self.commands += 1
        return {**BY, "command_id": f"c{self.commands}"}

    @move(
        weight=4,
        when=lambda self: len(self.tasks) < TASKS_MAX,
        n=st.integers(0, 8),
        key=st.sampled_from(["a", "b", "c"]),
    )
    def create(self, *, n: int, key: str) -> None:
        async def create() -> None:
            made = await self.world.client.create(WORK, {"n": n}, idempotency_key=f"{key}{n}", requested_by="ada")
            if made.task_id not in self.tasks:
                self.tasks.append(made.task_id)

        self._do(create)

    @move(
        weight=3,
        when=lambda self: self.tasks,
        grace_s=st.sampled_from([0.0, 2.0]),
        seconds=st.sampled_from([None, 0.5, 500.0]),
    )
    def command_task(self, *, data: st.DataObject, grace_s: float, seconds: float | None) -> None:
        client, task, by = self.world.client, data.draw(st.sampled_from(self.tasks)), self._named()
        verbs: dict[str, Callable[[], Awaitable[object]]] = {
            "pause": lambda: client.pause(task, children=grace_s > 0, **by),
            "resume": lambda: client.resume(task, children=grace_s > 0, **by),
            "retry": lambda: client.retry(task, **by),
            "deadline": lambda: client.set_deadline(task, within_s=seconds, **by),
            "update": lambda: client.update(task, priority=7, tags={"moved": "yes"}, **by),
            "budget": lambda: client.set_budget(task, cost_max="100", **by),
            "cancel": lambda: client.cancel(task, grace_s=grace_s, command_id=by["command_id"]),
            "complete": lambda: client.complete(task, result=1, grace_s=grace_s, **by),
            "fail": lambda: client.fail(task, message="enough", grace_s=grace_s, **by),
            "restart": lambda: client.restart(task, **by),
        }
        often = ["pause", "resume", "resume", "retry", "retry", "deadline", "update", "budget"]
        verb = data.draw(st.sampled_from([*often, *often, "cancel", "complete", "fail", "restart"]), label="verb")
        self._do(verbs[verb])

    @move(weight=3, when=lambda self: self.tasks, value=st.integers(0, 3))
    def command_step(self, *, data: st.DataObject, value: int) -> None:
        client, task, by = self.world.client, data.draw(st.sampled_from(self.tasks)), self._named()
        begun = list(folded(self.world.recorded(task)).steps)
        step = data.draw(st.sampled_from([*begun, *self.work.steps]), label="step")
        verbs: dict[str, Callable[[], Awaitable[object]]] = {
            "retry": lambda: client.step_retry(task, step, **by),
            "skip": lambda: client.step_skip(task, step, result=value, **by),
            "resolve": lambda: client.step_resolve(task, step, result=value, **by),
            "reset": lambda: client.step_reset(task, step, **by),
            "edit": lambda: client.step_edit(task, step, result=value, **by),
            "release": lambda: client.step_release(task, step, **by),
        }
        self._do(verbs[data.draw(st.sampled_from(sorted(verbs)), label="verb")])

    @move(weight=3, when=lambda self: self.tasks, name=st.sampled_from(SIGNALS), value=st.integers(0, 3))
    def signal(self, *, data: st.DataObject, name: str, value: int) -> None:
        task, by = data.draw(st.sampled_from(self.tasks)), self._named()
        self._do(lambda: self.world.client.signal(task, name, value, **by))

    @move(
        weight=4,
        when=lambda self: self._asked(),
        by=st.sampled_from([*PEOPLE, "carol"]),
        to=st.sampled_from(["bob", "carol"]),
    )
    def answer(self, *, data: st.DataObject, by: str, to: str) -> None:
        task, step = data.draw(st.sampled_from(self._asked()))
        people, name = self.world.client.approvals, self._named()["command_id"]
        match data.draw(st.sampled_from(["approve", "approve", "reject", "delegate"]), label="answer"):
            case "approve":
                self._do(lambda: people.approve(task, step, requested_by=by, command_id=name))
            case "reject":
                self._do(lambda: people.reject(task, step, requested_by=by, command_id=name))
            case _:
                self._do(lambda: people.delegate(task, step, requested_by=by, to=to, command_id=name))

    def _asked(self) -> list[tuple[str, str]]:
        return [
            (task, name)
            for task in self.tasks
            for name, step in folded(self.world.recorded(task)).steps.items()
            if step.waits == "approval"
        ]

    @move(when=lambda self: self.last is not None)
    def repeat(self) -> None:
        """Give the last command once more, as a caller does that lost the answer."""
        assert self.last is not None
        before = {task: len(self.world.recorded(task)) for task in self.tasks}
        self._do(self.last)
        assert before.keys() <= set(self.tasks)

    @move(hold=st.booleans())
    def control(self, *, hold: bool) -> None:
        controls = self.world.client.controls
        self._do(lambda: (controls.pause if hold else controls.resume)("queue", WORK, **BY))

    @move(weight=5, seconds=st.sampled_from(SECONDS))
    def pass_time(self, *, seconds: float) -> None:
        self.runner.run(self.world.advance(seconds))

    @move(down_s=st.sampled_from([0.0, 1.0, 30.0]))
    def kill_service(self, *, down_s: float) -> None:
        """The service dies; another takes its shards over."""

        async def killed() -> None:
            await self.world.kill_service()
            await self.world.advance(down_s)
            await self.world.start_service()
            await self.world.settle()

        self.runner.run(killed())

    @move()
    def kill_worker(self) -> None:
        self.runner.run(self.world.replace_worker())

    @move(
        weight=2,
        kind=st.sampled_from(MESSAGES),
        how=st.sampled_from(["lose", "duplicate", "delay"]),
        times=st.integers(1, 3),
        by_s=st.sampled_from([0.1, 4.0, 40.0]),
    )
    def bad_messages(self, *, kind: MessageKind, how: str, times: int, by_s: float) -> None:
        network = self.world.network
        match how:
            case "lose":
                network.lose(kind, step=None, times=times)
            case "duplicate":
                network.duplicate(kind, step=None, times=times, apart_s=by_s)
            case _:
                network.delay(kind, step=None, times=times, by_s=by_s)

    # ---------------------------------------------------------------- what always holds

    @invariant()
    def every_task_is_sound(self) -> None:
        for task in self.tasks:
            self._check(task)

    def _check(self, task: str) -> None:
        events = self.world.recorded(task)
        assert [one.seq for one in events] == list(range(1, len(events) + 1)), "seq has a gap"
        ends = [index for index, one in enumerate(events) if one.type in ENDING_TYPES]
        assert ends in ([], [len(events) - 1]), "something follows an ending"
        before, had_ended = self.seen.get(task, (0, False))
        assert len(events) >= before, "what was recorded is there no more"
        assert not had_ended or len(events) == before, "an end is final"
        self.seen[task] = len(events), bool(ends)

        state, half = TaskState(), TaskState()
        for index, one in enumerate(events):
            if index == len(events) // 2:
                half = copied(state)
            if index >= len(events) // 2:
                _take(half, one)
            _take(state, one)
        assert state_hash(half) == state_hash(state), "a snapshot with the rest is not the fold"
        assert not any(one.type == "task_reconciled" for one in events), "an obligation was lost"
        if state.ended:
            assert obligations_of(state) == {}
        elif state.status is not TaskStatus.ABSENT:
            check_waits(state, self.shapes[state.template.hash])

    def teardown(self) -> None:
        """Let what is on its way arrive, verify the log and the views, and end it all."""
        try:
            if hasattr(self, "world"):
                findings = self.runner.run(self._verified())
                assert not findings.total, [msgspec.json.encode(one).decode() for one in findings.kept[:10]]
                self.every_task_is_sound()
        finally:
            if hasattr(self, "world"):
                self.runner.run(self.world.close())
            self.runner.close()

    async def _verified(self) -> Findings:
        world, findings = self.world, Findings()
        world.network.calm()
        await world.advance(120.0)
        log: EventLog = world.log
        contents, openings = Contents(log), await read_openings(log)
        failures = []
        async with world.views.snapshot() as snapshot:
            views = await views_at(snapshot, PROJECTIONS)
            for shard in range((await log.info()).shards):
                verifier = ShardVerifier(log, shard, findings.add, contents=contents, views=views, openings=openings)
                failures.append((await verifier.verify()).failures)
        for finding in unexplained(openings, failures):
            findings.add(finding)
        return findings


def _take(state: TaskState, one: Any) -> None:
    meta = meta_of(one)
    evolve(state, from_recorded(one), at_us=one.at_us, command_id=meta.command_id, request=meta.request)  # type: ignore[arg-type]


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=EXAMPLES,
    derandomize=not IS_LONG,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
