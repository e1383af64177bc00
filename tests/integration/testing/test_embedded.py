"""The kit on real servers: what a test says to the twin, it can say to the real thing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tasker import Retry, RetryableError, TaskerClient, Template
from tasker.testing import TaskerTest
from tasker.testing.embedded import EmbeddedTasker

greeting = Template("greeting")


@greeting.step(retry=Retry(max_attempts=3, delay_s=0.01))
async def compose(input: dict[str, str]) -> str:
    return f"Hello, {input['name']}!"


@greeting.step
def shout(compose: str) -> str:
    return compose.upper()


@pytest.fixture
def tasker_templates() -> list[Template]:
    return [greeting]


def told(run: Any) -> list[tuple[str, Any]]:
    return [(event.type, getattr(event.data, "step", None)) for event in run.events]


async def test_the_same_test_on_the_twin_and_on_real_servers(
    tasker: TaskerTest, embedded_tasker: EmbeddedTasker
) -> None:
    for kit in (tasker, embedded_tasker):
        kit.fail("compose", times=2, error=RetryableError("not yet"))
    twin = await tasker.run({"name": "Ada"})
    real = await embedded_tasker.run({"name": "Ada"})
    assert real.result == twin.result == "HELLO, ADA!"
    assert real.steps["compose"].attempts == twin.steps["compose"].attempts == 3
    assert told(real) == told(twin)
    assert [call.step for call in embedded_tasker.calls()] == [call.step for call in tasker.calls()]


@pytest.fixture
async def client(embedded_tasker: EmbeddedTasker) -> AsyncIterator[TaskerClient]:
    async with embedded_tasker.client() as client:
        yield client


films = Template("films")


@films.step(requires={"gpu": "a100"})
async def render() -> str:
    return "rendered"


@films.step
async def check(render: str) -> str:
    return render


@films.step(requires={"gpu": "h100"})
async def grade(check: str) -> str:
    return check


@pytest.mark.tasker(films, labels={"gpu": "a100", "zone": "eu"})
async def test_a_step_goes_to_a_worker_that_has_its_labels(
    embedded_tasker: EmbeddedTasker, client: TaskerClient
) -> None:
    task = await embedded_tasker.start()
    async for event in client.events(task.task_id):
        if event.type == "step_dispatched" and getattr(event.data, "step", None) == "grade":
            break
    assert [call.step for call in embedded_tasker.calls()] == ["render", "check"]
    why = await client.explain(task.task_id, "grade", at_least=event.position)
    assert "no worker has ever served queue films of namespace default with the labels gpu=h100" in why.sentence
    await client.cancel(task.task_id, reason="nobody has one")


async def test_a_client_of_the_tests_own_meets_the_same_service(
    embedded_tasker: EmbeddedTasker, client: TaskerClient
) -> None:
    embedded_tasker.stub("compose", "hush")
    run = await embedded_tasker.start({"name": "Ada"}, idempotency_key="k-1")
    again = await client.create(greeting, {"name": "Ada"}, idempotency_key="k-1")
    assert (again.task_id, again.duplicate) == (run.task_id, True)
    view = await client.wait(again, timeout_s=20)
    assert (view.state, (await run.wait()).result) == ("completed", "HUSH")
