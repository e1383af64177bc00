"""The checker of `max_ready` itself: neither does it find what is right, nor does it miss what is wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tasker import StepContext
from tasker.events.envelope import RecordedEvent
from tasker.events.stored import from_recorded, meta_of
from tasker.service.actors.dispatch import backlogs
from tasker.service.domain.evolve import evolve
from tasker.service.domain.state import TaskState
from tasker.templates import compile_template
from tasker.testing.sources import registry_of
from tasker.testing.virtual_loop import VirtualLoop
from tasker.testing.world import SHARDS, World
from tests.simulation.test_limits_machine import READY_MAX, limited
from tests.simulation.watched import Life, Watched

RUNS_S = 3.0


async def body(ctx: StepContext, input: dict[str, Any]) -> None:
    await asyncio.sleep(RUNS_S)


TEMPLATE = limited("ready", body)


async def recorded(world: World) -> list[RecordedEvent]:
    events = [one for shard in range(SHARDS) for one in await world.log.read(shard, after=0, limit=10_000)]
    return sorted((one for one in events if one.kind == "task"), key=lambda one: (one.at_us, one.shard, one.position))


async def story(*starts_s: float) -> list[RecordedEvent]:
    """Return what is recorded of starts at these times, at a worker with one slot."""
    world = World(registry_of([TEMPLATE]), seed=1, slots=1)
    await world.open()
    begin_s = world.loop.time()
    for at_s in starts_s:
        await world.loop.pass_until(begin_s + at_s)
        with world.loop.passing(begin_s + at_s + 0.01):
            await world.client.create(TEMPLATE, {"key": "a", "n": 0})
    await world.advance((len(starts_s) + 1) * RUNS_S)
    events = await recorded(world)
    await world.close()
    return events


def watch(events: list[RecordedEvent]) -> None:
    shape = compile_template(TEMPLATE.spec())
    watched, states = Watched({shape.hash: shape}), dict[str, TaskState]()
    for one in events:
        state, found = states.setdefault(str(one.stream_id), TaskState()), from_recorded(one)
        life = watched.lives.setdefault(str(one.stream_id), Life(state))
        watched.before(life, one)
        meta = meta_of(one)
        evolve(state, found, at_us=one.at_us, command_id=meta.command_id, request=meta.request)  # type: ignore[arg-type]
        watched.after(life, one, found, is_calm=True)


def run(*starts_s: float) -> list[RecordedEvent]:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story(*starts_s))


def test_a_start_between_a_slot_and_the_record_of_its_use_is_right() -> None:
    """The first in line has the slot of the one that ended, and says so 5 ms later: one waits, of two."""
    events = run(0.0, 0.5, 0.7, RUNS_S + 0.001)
    assert [one.type for one in events].count("task_created") == READY_MAX + 2
    watch(events)


def test_a_start_behind_a_full_line_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlogs, "_take", lambda *_: True)
    events = run(0.0, 0.5, 0.7, 1.0)
    with pytest.raises(AssertionError, match="wait, of 2"):
        watch(events)
