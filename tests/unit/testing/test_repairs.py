"""What people do with tasks under test, their child tasks among them, and what a run then shows."""

from __future__ import annotations

import pytest

from tasker import Budget, PermanentError, StepContext, Template
from tasker.errors import ConfigurationError, TaskEnded
from tasker.testing import SyncTaskerTest, TaskerTest

parcel = Template("parcel")


@parcel.step
def pack(input: str) -> str:
    return f"packed {input}"


order = Template("order", budget=Budget(cost_max="0.01"))


@order.step(each="input", max_parallel=1, on_item_failure="continue")
def price(ctx: StepContext, item: str) -> str:
    ctx.meter("lookups", 1, "lookup", cost="0.004")
    if item == "sand":
        raise PermanentError("no price")
    return item


order.child("parcels", "parcel", each="results.price.filter(one, one != null)", child_input="item", after="price")


@order.compensation("parcels")
def unpack(parcels: str) -> str:
    return f"unpacked: {parcels}"


order.transform("count", "results.parcels.size()", after="parcels")


@pytest.fixture
def tasker_templates() -> list[Template]:
    return [order, parcel]


async def test_a_child_that_is_blocked_is_found_and_repaired(tasker: TaskerTest) -> None:
    tasker.fail("pack", error=PermanentError("no box"))
    run = await tasker.start(["tea"], template=order)
    await tasker.advance(1)
    child = run.child("parcels[0]")
    assert (run.state, child.state, child.steps["pack"].state) == ("running", "blocked", "failed")
    await tasker.ask(lambda client: client.step_resolve(child.task_id, "pack", "packed by hand", requested_by="ada"))
    assert (await run.wait()).result == 1
    assert child.result == "packed by hand"
    with pytest.raises(LookupError, match=r"step 'count' has started no child task; parcels\[0\] has"):
        run.child("count")


async def test_what_the_service_refuses_is_raised(tasker: TaskerTest) -> None:
    run = await tasker.run(["tea"], template=order)
    with pytest.raises(TaskEnded):
        await tasker.ask(lambda client: client.resume(run.task_id))


def test_a_task_is_paused_without_asyncio(sync_tasker: SyncTaskerTest) -> None:
    run = sync_tasker.start(["tea"], template=order)
    sync_tasker.ask(lambda client: client.controls.pause("queue", "parcel", requested_by="ada", reason="a test"))
    again = sync_tasker.start(["tea"], template=order)
    sync_tasker.advance(5)
    assert (run.state, run.child("parcels[0]").result) == ("completed", "packed tea")
    assert again.child("parcels[0]").steps["pack"].state == "dispatched"


def test_a_task_over_its_budget_says_so_and_not_what_was_tolerated_before(sync_tasker: SyncTaskerTest) -> None:
    run = sync_tasker.run(["sand", "tea", "oil", "ink"], template=order)
    assert run.state == "blocked"
    assert run.error is not None
    assert (run.error.type, run.error.message) == ("budget_exceeded", "its budget: 0.012 USD of at most 0.01")
    run.set_budget(cost_max="1")
    assert run.wait().error is None


@pytest.mark.parametrize(("step", "why"), [("parcels[0]", "it starts a child task"), ("count", r"\(transform\)")])
def test_a_step_that_no_handler_runs_has_no_rules(sync_tasker: SyncTaskerTest, step: str, why: str) -> None:
    """Planted bug: the rule is taken, and nothing ever asks for it."""
    for rule in (sync_tasker.fail, sync_tasker.crash_worker_in):
        with pytest.raises(ConfigurationError, match=why):
            rule(step)
    with pytest.raises(ConfigurationError, match=why):
        sync_tasker.stub(step, 1)


def test_what_undoes_a_child_has_rules(sync_tasker: SyncTaskerTest) -> None:
    sync_tasker.stub("parcels~undo", "gone")
    sync_tasker.fail("parcels[1]~undo", error=PermanentError("stuck"))
    run = sync_tasker.run(["tea", "ink"], template=order)
    assert run.result == 2
