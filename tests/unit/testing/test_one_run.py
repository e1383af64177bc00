"""An attempt runs once, whatever is asked of its task before its owner knows that it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tasker import Template
from tasker.testing import Run, TaskerTest

WHO: Any = {"requested_by": "ada", "reason": "a test"}

orders = Template("orders")


@orders.step
async def charge(input: int) -> int:
    await asyncio.sleep(2)
    return input


@pytest.fixture
def tasker_templates() -> list[Template]:
    return [orders]


async def reprioritized(tasker: TaskerTest, run: Run) -> None:
    await tasker._do(tasker._world.client.update(run.task_id, priority=50, **WHO))


async def paused_and_resumed(tasker: TaskerTest, run: Run) -> None:
    await tasker._do(tasker._world.client.pause(run.task_id, **WHO))
    await tasker._do(tasker._world.client.resume(run.task_id, **WHO))


async def made_anew(tasker: TaskerTest, run: Run) -> None:
    side = tasker._world._side
    assert side is not None
    await tasker._do(side._node.offer_again())


@pytest.mark.tasker(orders, slots=1)
@pytest.mark.parametrize("asked", [reprioritized, paused_and_resumed, made_anew])
@pytest.mark.parametrize("priority", [None, 10])
async def test_nobody_else_is_offered_what_a_worker_may_have_begun(
    tasker: TaskerTest, asked: Callable[[TaskerTest, Run], Coroutine[Any, Any, None]], priority: int | None
) -> None:
    """The word that it has begun is on its way for as long as under heavy load."""
    await tasker._do(tasker._world._start_worker())  # a second one, with a free slot
    await tasker.advance(2)
    tasker.delay("started", delay_s=0.9)
    run = await tasker.start(7, priority=priority)
    assert len(tasker.calls("charge")) == 1
    await asked(tasker, run)
    await run.wait()
    assert run.state == "completed"
    assert len(tasker.calls("charge")) == 1
