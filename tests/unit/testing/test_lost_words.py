"""Words between tasks may get lost, and workers die: what is owed is looked at again, without anybody's repair."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from tasker import Budget, Retry, Template
from tasker.service.actors.children.child_tasks import ChildTasks
from tasker.testing import TaskerTest
from tasker.testing.async_kit import Run

errand = Template("errand")
parent = Template("parent")
parent.child("run", "errand")
long = Template("long", budget=Budget(cost_max="5"))


@errand.step
async def runs() -> str:
    await asyncio.sleep(20)
    return "done"


@long.step(heartbeat_s=2.0, start_to_close_s=600, retry=Retry(max_attempts=2, delay_s=0.1))
async def works(ctx: Any) -> int:
    if ctx.attempt == 1:
        await asyncio.sleep(500)
    return int(ctx.attempt)


def is_repaired(kit: TaskerTest, run: Run) -> bool:
    return any(one.type == "task_reconciled" for one in kit._world.log.events_of(UUID(run.task_id)))


async def test_a_parent_asks_how_its_child_stands_when_nobody_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChildTasks, "tell_parent", lambda *_: None)
    async with TaskerTest(parent, errand) as kit:
        run = await kit.start(template="parent")
        await kit.advance(50)
        assert (run.state, run.result) == ("completed", "done")
        assert not is_repaired(kit, run)


async def test_a_dead_worker_is_noticed_also_behind_a_change_of_the_whole_task() -> None:
    """The silence of a step counts from its last beat, whatever is changed of its task meanwhile."""
    async with TaskerTest(long) as kit:
        run = await kit.start()
        await kit.advance(20)
        await run.set_budget(cost_max="7")
        await kit.crash_worker()
        await kit.advance(20)
        assert (run.state, run.result) == ("completed", 2)
        assert not is_repaired(kit, run)
