"""Steps that require labels, in the real service on a virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tasker import Template
from tasker.errors import Busy
from tasker.testing import TaskerTest

WHO: dict[str, Any] = {"requested_by": "ada", "reason": "the studio is closed"}

films = Template("films", queue="studio")


@films.step
async def cut(input: str) -> str:
    return input


@films.step(requires={"gpu": "a100"}, schedule_to_start_s=60)
async def render(cut: str) -> str:
    return cut


@films.compensation("render")
async def remove() -> None:
    return None


@films.step
async def show(render: str) -> str:
    return render


trailers = Template("trailers", queue="studio", max_ready=2)


@trailers.step(requires={"gpu": "a100"})
async def shade(input: int) -> int:
    return input


@pytest.fixture
def tasker_templates() -> list[Template]:
    return [films]


async def test_by_default_the_kits_worker_has_all_labels(tasker: TaskerTest) -> None:
    run = await tasker.run("film")
    assert (run.state, run.result) == ("completed", "film")


@pytest.mark.tasker(films, labels={"gpu": "a100", "zone": "eu"})
@pytest.mark.parametrize("priority", [0, 10])
async def test_a_worker_that_has_them_gets_all_of_a_task(tasker: TaskerTest, priority: int) -> None:
    run = await tasker.run("film", priority=priority)
    assert [call.step for call in tasker.calls()] == ["cut", "render", "show"]
    assert run.state == "completed"


@pytest.mark.tasker(films, labels={"gpu": "h100"})
@pytest.mark.parametrize("priority", [0, 10])
async def test_without_a_worker_that_has_them_it_waits_until_its_limit(tasker: TaskerTest, priority: int) -> None:
    run = await tasker.start("film", priority=priority)
    await tasker.advance(59)
    assert (run.state, run.steps["render"].state) == ("running", "dispatched")
    await tasker.advance(3600)
    assert [call.step for call in tasker.calls()] == ["cut"]
    assert run.state == "blocked"


@pytest.mark.tasker(trailers, labels={})
async def test_what_waits_for_labels_counts_for_max_ready(tasker: TaskerTest) -> None:
    await _fill(tasker)


@pytest.mark.tasker(trailers)
async def test_what_a_pause_of_the_queue_holds_counts_for_max_ready(tasker: TaskerTest) -> None:
    await tasker._do(tasker._command(tasker._world.client.controls.pause("queue", "studio", **WHO)))
    await _fill(tasker)


async def _fill(tasker: TaskerTest) -> None:
    for number in range(2):
        await tasker.start(number)
        await tasker.advance(10)
    with pytest.raises(Busy, match="queue default/studio~gpu=a100"):
        await tasker.start(2)


async def test_a_pause_of_the_queue_holds_it_too(tasker: TaskerTest) -> None:
    tasker.stub("cut", _paused_meanwhile)
    run = await tasker.start("film")
    await tasker._do(tasker._command(tasker._world.client.controls.pause("queue", "studio", **WHO)))
    await tasker.advance(3600)
    assert "render" not in [call.step for call in tasker.calls()]
    await tasker._do(tasker._command(tasker._world.client.controls.resume("queue", "studio", **WHO)))
    await run.wait(within_s=60)
    assert run.state == "completed"


async def _paused_meanwhile(input: str) -> str:
    await asyncio.sleep(20)
    return input
