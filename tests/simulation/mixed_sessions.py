"""Sessions whose workflow has every kind of step, whose callers meddle, and whose schedule adds tasks of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from tasker import PermanentError, RetryableError, StepContext, Template
from tasker.client.requests import TaskHandle
from tasker.errors import CommandRejected, Unavailable
from tasker.replay.state_at import folded
from tasker.service.domain.state import TaskStatus
from tasker.service.domain.steps.compensate import failed_undo
from tasker.templates import compile_template
from tasker.testing.world import World
from tests.reference.names import name_of
from tests.simulation.mixed import PEOPLE, SIGNALS, WORK, workflows
from tests.simulation.sessions import HEALED_S, Session

SCHEDULE = "rounds"
ROUND_S = 45.0
ROUNDS_MAX = 40
OPERATOR: Any = {"requested_by": "ada", "reason": "a session"}


class MixedSession(Session):
    """A session of dynamic steps."""

    def _templates(self) -> list[Template]:
        draw = self.draw
        takes_s, fails = draw.choice([0.0, 0.0, 0.01, 0.5, 2.0]), draw.choice([0.0, 0.1, 0.3])

        async def body(ctx: StepContext) -> None:
            self.runs[ctx.task_id, ctx.step, ctx.attempt] += 1
            ctx.usage(model="m", tokens_in=ctx.attempt, cost="0.1")
            if takes_s:
                await asyncio.sleep(takes_s)
            chance = draw.random()
            if chance < fails:
                raise PermanentError("never") if chance < fails / 10 else RetryableError("not yet")
            self.effects[ctx.idempotency_key] += 1

        templates = workflows(draw, body)
        self._shapes = [compile_template(one.spec()) for one in templates]
        return templates

    async def _caller(self, world: World, number: int) -> None:
        """Create a task and meddle with it."""
        if number == 0:
            every = {"template": WORK, "every_s": self.draw.choice([4, 7]), "input": {"n": 1}}
            overlap = self.draw.choice(["skip", "buffer_one", "cancel_running", "allow"])
            await _ask(world.client.schedules.create(SCHEDULE, {**every, "overlap": overlap}))
        await super()._caller(world, number)
        if (handle := self.handles.get(f"key-{number}")) is None:
            return
        draw = random.Random(f"meddler {self.seed} {number}")
        for turn in range(draw.randint(2, 6)):
            await asyncio.sleep(draw.uniform(0.0, 3.0))
            await self._meddle(world, handle, draw, f"{number}-{turn}")

    async def _meddle(self, world: World, handle: TaskHandle, draw: random.Random, name: str) -> None:
        client, steps = world.client, folded(world.recorded(handle.task_id)).steps
        step = draw.choice(list(steps) or ["s0"])
        by: Any = {**OPERATOR, "command_id": name}
        what = draw.choice(
            [*("signal", "approve") * 2, *("reject", "pause", "retry", "skip", "queue", "limit", "update", "circuit")]
        )
        self.happened.append(f"{world.loop.time():.3f} {what} {step} of {handle.task_id}")
        match what:
            case "signal":
                await _ask(client.signal(handle, draw.choice(SIGNALS), draw.random(), **by))
            case "approve" | "reject":
                for one in [at for at, held in steps.items() if held.waits == "approval"]:
                    ask = client.approvals.approve if what == "approve" else client.approvals.reject
                    for who in PEOPLE:
                        await _ask(ask(handle.task_id, one, requested_by=who))
            case "pause":
                await _ask(client.pause(handle, **by))
                await asyncio.sleep(draw.uniform(0.0, 5.0))
                await _ask(client.resume(handle, **OPERATOR))
            case "retry":
                await _ask(client.retry(handle, **by))
            case "skip":
                await _ask(client.step_skip(handle, step, result=0, **by))
            case "queue":
                await _ask(client.controls.pause("queue", WORK, **by))
                await asyncio.sleep(draw.uniform(0.0, 5.0))
                await _ask(client.controls.resume("queue", WORK, ramp_s=1.0, **OPERATOR))
            case "circuit":
                await _ask(client.controls.open_circuit(name_of(step), open_s=draw.uniform(1.0, 4.0), **by))
            case "update":
                await _ask(client.update(handle, priority=draw.randint(-100, 100), tags={"by": name}, **by))
            case _:
                await _ask(client.controls.set_limit("queue", WORK, per_s=20.0, burst=5, **by))

    # ---------------------------------------------------------------- to the end

    async def _heal(self, world: World) -> None:
        """Take back what holds, end by hand what is blocked, and let all tasks there are come to their end."""
        with world.loop.passing(world.loop.time() + HEALED_S):
            await self._release(world)
        rounds = 0
        while standing := await self._standing(world):
            rounds += 1
            assert rounds < ROUNDS_MAX, f"these do not end: {standing}"
            await world.advance(ROUND_S)
            with world.loop.passing(world.loop.time() + HEALED_S):
                for task_id, status in standing.items():
                    if status is TaskStatus.BLOCKED:
                        await self._end(world, task_id)
        await super()._heal(world)

    @staticmethod
    async def _end(world: World, task_id: str) -> None:
        """Cancel a blocked task; give up what it cannot undo."""
        state = folded(world.recorded(task_id))
        if (undo := failed_undo(state)) is not None:
            await _ask(world.client.step_skip(task_id, undo, **OPERATOR))
        else:
            await _ask(world.client.cancel(task_id, grace_s=0.0))

    async def _release(self, world: World) -> None:
        client = world.client
        await _ask(client.schedules.delete(SCHEDULE))
        for task_id, status in (await self._standing(world)).items():
            if status is TaskStatus.PAUSED:
                await _ask(client.resume(task_id, **OPERATOR))
        await _ask(client.controls.resume("queue", WORK, **OPERATOR))
        await _ask(client.controls.remove_limit("queue", WORK, **OPERATOR))

    @staticmethod
    async def _standing(world: World) -> dict[str, TaskStatus]:
        """Return the tasks that have not ended, children and those of the schedule among them."""
        found: dict[str, TaskStatus] = {}
        for shard in range((await world.log.info()).shards):
            for event in await world.log.read(shard, after=0, limit=1_000_000):
                if event.type == "task_created":
                    state = folded(world.recorded(str(event.stream_id)))
                    if not state.ended:
                        found[str(event.stream_id)] = TaskStatus.PAUSED if state.paused else state.status
        return found

    def _check_effect(self, task_id: str, step: str) -> None:
        for shape in self._shapes:
            if name_of(step) in shape.steps:
                spec = shape.step(step)
                is_list = (spec.each is not None or spec.batches is not None) and "[" not in step
                if spec.kind == "handler" and not is_list:
                    super()._check_effect(task_id, step)


async def _ask(command: Awaitable[object]) -> None:
    """Ask for something that may make no sense, of a service that may not answer."""
    with suppress(CommandRejected, Unavailable):
        await command
