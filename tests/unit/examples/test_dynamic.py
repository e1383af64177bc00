"""The workloads with decisions, batches, checkpoints, loops and maps, in process."""

from __future__ import annotations

from typing import Any

import pytest

from examples import approval_routing, checkpointed_batch, csv_inventory, fanout100, polling_loop
from tasker.testing import TaskerTest

MODULES: list[Any] = [approval_routing, csv_inventory, checkpointed_batch, polling_loop, fanout100]
CASES = [
    pytest.param(module.__name__.rpartition(".")[2], given, wanted, id=f"{module.__name__}-{number}")
    for module in MODULES
    for number, (given, wanted) in enumerate(module.EXPECTED)
]


@pytest.fixture
def tasker_templates() -> list[object]:
    return MODULES


@pytest.mark.parametrize(("template", "given", "wanted"), CASES)
async def test_ends_with_the_expected_result(tasker: TaskerTest, template: str, given: object, wanted: object) -> None:
    run = await tasker.run(given, template=template)
    assert (run.state, run.result) == ("completed", wanted)


async def test_only_what_the_decision_chose_has_events(tasker: TaskerTest) -> None:
    run = await tasker.run({"amount": 3000}, template="approval_routing")
    assert {name for name, step in run.steps.items() if step.state == "not_chosen"} == {"auto", "finance"}
    assert not [event for event in run.events if getattr(event.data, "step", None) in {"auto", "finance"}]
    (routed,) = run.events_of("step_routed")
    assert (routed.chosen, routed.reason) == (("manager",), "below 5,000")


async def test_a_thousand_rows_are_five_batches(tasker: TaskerTest) -> None:
    run = await tasker.run(csv_inventory.EXPECTED[0][0], template="csv_inventory")
    assert [name for name in run.steps if name.startswith("process[")] == [f"process[{index}]" for index in range(5)]
    assert run.steps["process"].state == "completed"


async def test_a_batch_goes_on_from_its_last_checkpoint_after_its_worker_was_lost(tasker: TaskerTest) -> None:
    run = await tasker.start({"items": 100}, template="checkpointed_batch")
    while len(run.events_of("step_yielded")) < 2:
        await tasker.advance(0)
    await tasker.crash_worker()
    await run.wait()
    assert (run.state, run.result) == ("completed", 5050)
    assert len(run.events_of("step_yielded")) == 3


async def test_every_visit_of_a_loop_is_a_step_of_its_own(tasker: TaskerTest) -> None:
    run = await tasker.run({"ready_at_visit": 3}, template="polling_loop")
    assert list(run.steps) == ["check", "pause", "done", "check#2", "pause#2", "check#3"]
    assert [event.visit for event in run.events_of("loop_turned")] == [2, 3]


async def test_a_loop_ends_at_its_bound(tasker: TaskerTest) -> None:
    run = await tasker.run({"ready_at_visit": 99}, template="polling_loop")
    assert (run.state, run.steps["check#11"].state) == ("blocked", "failed")
    assert run.error is not None
    assert run.error.type == "visits_exhausted"
    assert run.steps["check#10"].state == "completed"


async def test_the_service_may_be_lost_at_any_part_of_a_dynamic_task(tasker: TaskerTest) -> None:
    run = await tasker.start({"ready_at_visit": 2}, template="polling_loop")
    for _ in range(4):
        await tasker.advance(1)
        await tasker.crash_service()
    await run.wait()
    assert run.result == {"visits": 2}


async def test_a_rule_of_a_step_is_for_its_items_and_one_of_an_item_for_that_alone(tasker: TaskerTest) -> None:
    tasker.fail("number[3]", times=2)
    tasker.crash_worker_in("number")
    run = await tasker.run({"numbers": list(range(5))}, template="fanout100")
    assert run.result == 10
    assert run.steps["number[3]"].attempts == 3
    assert len(tasker.calls()) > 6
