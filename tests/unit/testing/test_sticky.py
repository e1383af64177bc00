"""Sticky steps, in the real service on a virtual clock: they run on the worker that an earlier step ran on."""

from __future__ import annotations

import asyncio

import pytest

from tasker import Retry, RetryableError, Template
from tasker.events.task_events import StepDispatched, StepStarted
from tasker.testing import Run, TaskerTest

films = Template("films")


@films.step
async def fetch(input: str) -> str:
    return input


films.delay("settle", 20, after="fetch")


@films.step(after="settle", sticky="fetch", retry=Retry(max_attempts=3, backoff="constant", delay_s=5))
async def cut(fetch: str) -> str:
    return fetch


@films.step(sticky="fetch", sticky_wait_s=30)
async def sign(cut: str) -> str:
    return cut


other = Template("other", queue="films")


@other.step(start_to_close_s=1000)
async def holds(input: float) -> None:
    await asyncio.sleep(input)


@pytest.fixture
def tasker_templates() -> list[Template]:
    return [films]


def kept(run: Run) -> dict[str, str | None]:
    return {f"{one.step}:{one.attempt}": one.worker for one in run.events_of(StepDispatched)}


def ran(run: Run) -> dict[str, str]:
    return {f"{one.step}:{one.attempt}": one.worker for one in run.events_of(StepStarted)}


async def test_its_steps_are_kept_for_the_worker_of_the_first(tasker: TaskerTest) -> None:
    run = await tasker.run("film")
    assert run.state == "completed"
    assert kept(run) == {"fetch:1": None, "cut:1": "worker-1", "sign:1": "worker-1"}
    assert set(ran(run).values()) == {"worker-1"}


async def test_when_that_is_gone_another_one_runs_it_and_its_retries_stay_there(tasker: TaskerTest) -> None:
    tasker.fail("cut", times=2, error=RetryableError("the disk is full"))
    run = await tasker.start("film")
    await tasker.crash_worker()
    await run.wait()
    assert run.state == "completed"
    assert kept(run) | {"fetch:1": ""} == {
        "fetch:1": "",
        "cut:1": "worker-1",
        "cut:2": "worker-2",
        "cut:3": "worker-2",
        "sign:1": "worker-1",
    }
    assert ran(run) == {"fetch:1": "worker-1", **dict.fromkeys(("cut:1", "cut:2", "cut:3", "sign:1"), "worker-2")}


@pytest.mark.tasker(films, other, slots=1)
async def test_it_waits_for_a_busy_worker_also_when_another_owner_takes_the_task(tasker: TaskerTest) -> None:
    run = await tasker.start("film", template="films")
    await tasker.start(100.0, template="other")
    await tasker.advance(30)
    assert run.steps["cut"].state == "dispatched"
    await tasker.crash_service()
    await tasker.advance(30)
    assert run.steps["cut"].state == "dispatched"
    await run.wait()
    assert ran(run)["cut:1"] == "worker-1"
