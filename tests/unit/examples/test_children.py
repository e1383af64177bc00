"""Tasks that start tasks, in process, with crashes in between."""

from __future__ import annotations

from typing import Any

import pytest

from examples import parent_child
from tasker import PermanentError, Template
from tasker.testing import TaskerTest

lonely = Template("lonely")
lonely.child("kid", "nobody")


@pytest.fixture
def tasker_templates() -> list[Any]:
    return [parent_child, lonely]


@pytest.mark.parametrize(("given", "wanted"), parent_child.EXPECTED)
async def test_a_task_waits_for_its_children(tasker: TaskerTest, given: object, wanted: object) -> None:
    run = await tasker.run(given, template="shipment")
    assert (run.state, run.result) == ("completed", wanted)


async def test_a_lost_service_starts_every_child_once(tasker: TaskerTest) -> None:
    lines = {"lines": [{"sku": str(number), "qty": 1} for number in range(5)]}
    run = await tasker.start(lines, template="shipment")
    for _ in range(6):
        await tasker.crash_service()
        await tasker.advance(0.01)
    await run.wait()
    assert run.result == [f"1 x {number}" for number in range(5)]
    assert len({event.child for event in run.events_of("child_started")}) == 5
    assert len(tasker.calls("pack")) == 5


async def test_a_failed_child_blocks_its_parent_and_a_retry_starts_another(tasker: TaskerTest) -> None:
    tasker.fail("pack", error=PermanentError("no box"))
    run = await tasker.start({"lines": [{"sku": "a", "qty": 1}]}, template="shipment")
    await tasker.advance(1)
    assert run.state == "running"  # the child is blocked: a person may still help it
    (started,) = run.events_of("child_started")
    assert run.steps["parcels[0]"].state == "waiting"
    assert started.child


async def test_a_cancel_goes_down_the_tree(tasker: TaskerTest) -> None:
    tasker.fail("pack", error=PermanentError("no box"))
    run = await tasker.start({"lines": [{"sku": "a", "qty": 1}]}, template="shipment")
    await tasker.advance(1)
    await run.cancel()
    await tasker.advance(5)
    assert run.state == "cancelled"
    reasons = {event.step: event.reason for event in run.events_of("step_cancelled")}
    assert reasons["parcels[0]"] == "it was to stop, and its child is cancelled"


async def test_a_child_of_an_unknown_template_fails_its_step(tasker: TaskerTest) -> None:
    run = await tasker.start(template="lonely")
    await tasker.advance(30)
    assert (run.state, run.steps["kid"].state) == ("blocked", "failed")
    error = run.steps["kid"].error
    assert error is not None
    assert error.type == "child_refused"
    assert "nobody" in error.message
