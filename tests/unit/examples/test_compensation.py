"""Orders that are undone, in process: the service, the worker and the handlers are the real ones."""

from __future__ import annotations

from typing import Any

import pytest

from examples.orders.orders import orders
from tasker import Again, PermanentError, RetryableError, StepContext, Template
from tasker.errors import InputInvalid
from tasker.testing import TaskerTest

SHIPS = {
    "order_id": "o-1",
    "customer": "Ada",
    "lines": [{"sku": "A-100", "qty": 2, "price_cents": 1250}],
    "card": "tok_visa",
}
FAILS = {
    **SHIPS,
    "lines": [{"sku": "B-100", "qty": 2, "price_cents": 1250}, {"sku": "Z-100", "qty": 1, "price_cents": 5}],
}
UNDONE = {
    "reserve_stock~undo": {"warehouse": "north", "items": 3},
    "charge~undo": {"charge_id": "ch-o-1", "amount_cents": 2505},
}
"""What the compensations of `FAILS` give, in the order in which they run."""

looped = Template("looped", on_failure="fail")
seen: list[tuple[str, int, str, float, Any]] = []


@looped.step(each="['x', 'y']", item_key="item")
def book(item: str) -> str:
    return f"room {item}"


@looped.compensation("book")
def free(ctx: StepContext, input: str, book: str, item: str) -> str | Again:
    seen.append((ctx.step, ctx.attempt, ctx.idempotency_key, ctx.remaining_s, (input, book, item, ctx.index)))
    if ctx.checkpoint() is None:
        return Again(checkpoint="half")
    return f"{book} is free"


@looped.step(after="book", back_to="ring", max_visits=2)
def ring(ctx: StepContext) -> str:
    return f"rang at {ctx.step}"


@looped.compensation("ring")
def unring(ring: str) -> str:
    return f"not {ring}"


@pytest.fixture
def tasker_templates() -> list[object]:
    return [orders, looped]


async def test_an_order_ships_and_nothing_is_undone(tasker: TaskerTest) -> None:
    run = await tasker.run(SHIPS, template=orders)
    assert (run.state, run.result) == ("completed", {"order_id": "o-1", "paid_cents": 2500, "tracking": "north-o-1"})
    assert not run.events_of("task_compensating")


async def test_an_empty_cart_is_refused(tasker: TaskerTest) -> None:
    with pytest.raises(InputInvalid) as refused:
        await tasker.run({**SHIPS, "lines": []}, template=orders)
    assert [error.pointer for error in refused.value.errors] == ["/lines"]


async def test_a_failing_ship_releases_and_refunds_in_this_order(tasker: TaskerTest) -> None:
    run = await tasker.run(FAILS, template=orders)
    assert run.state == "failed"
    assert run.error is not None
    assert run.error.message == "hazardous_goods"
    assert [call.step for call in tasker.calls()][-2:] == list(UNDONE)
    assert {name: run.steps[name].result for name in UNDONE} == UNDONE
    assert "notify" not in {call.step for call in tasker.calls()}


async def test_a_compensation_is_tried_again_under_one_key_of_its_own(tasker: TaskerTest) -> None:
    tasker.fail("charge~undo", times=2, error=RetryableError("the bank does not answer"))
    run = await tasker.run(FAILS, template=orders)
    keys = [call.idempotency_key for call in tasker.calls() if call.step.startswith("charge")]
    assert keys == [f"{run.task_id}:charge", *[f"{run.task_id}:charge~undo"] * 3]
    assert (run.state, run.steps["charge~undo"].attempts) == ("failed", 3)


async def test_what_fails_for_good_blocks_and_is_taken_up_by_a_person(tasker: TaskerTest) -> None:
    tasker.fail("reserve_stock~undo", times=1, error=PermanentError("closed"))
    run = await tasker.run(FAILS, template=orders)
    assert run.state == "blocked"
    await run.retry()
    await run.wait()
    assert (run.state, run.steps["charge~undo"].result) == ("failed", UNDONE["charge~undo"])


async def test_service_and_worker_may_be_lost_in_the_middle(tasker: TaskerTest) -> None:
    tasker.crash_worker_in("reserve_stock~undo")
    run = await tasker.start(FAILS, template=orders)
    while not run.events_of("task_compensating"):
        await tasker.advance(0.01)
    assert run.state == "compensating"
    await tasker.crash_service()
    await run.wait()
    assert run.state == "failed"
    assert run.steps["reserve_stock~undo"].attempts == 2
    assert [run.steps[name].result for name in UNDONE] == list(UNDONE.values())


async def test_visits_and_items_are_undone_with_what_each_gave(tasker: TaskerTest) -> None:
    seen.clear()
    run = await tasker.run("guest", template="looped", timeout_s=3600)
    assert run.state == "failed"
    undone = {name: step.result for name, step in run.steps.items() if name.endswith("~undo")}
    assert list(undone)[:2] == ["ring#2~undo", "ring~undo"]
    assert undone == {
        "ring#2~undo": "not rang at ring#2",
        "ring~undo": "not rang at ring",
        "book[x]~undo": "room x is free",
        "book[y]~undo": "room y is free",
    }
    assert {one[0]: one[4] for one in seen} == {
        "book[x]~undo": ("guest", "room x", "x", 0),
        "book[y]~undo": ("guest", "room y", "y", 1),
    }
    assert [(step, attempt) for step, attempt, *_ in seen if step == "book[x]~undo"] == [
        ("book[x]~undo", 1),
        ("book[x]~undo", 2),
    ]


async def test_a_timeout_leaves_compensations_their_time(tasker: TaskerTest) -> None:
    seen.clear()
    tasker.fail("ring", times=3, error=RetryableError("busy"))
    run = await tasker.run("guest", template="looped", timeout_s=2)
    assert run.events_of("task_stopping")[0].cause == "timeout"
    assert (run.state, run.steps["book[x]~undo"].state) == ("failed", "completed")
    assert min(remaining_s for _, _, _, remaining_s, _ in seen) > 1
