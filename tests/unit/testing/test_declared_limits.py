"""Rate limits that templates give their steps, in the real service on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import pytest

from tasker import Budget, RateLimit, StepContext, Template
from tasker.testing import TaskerTest

WHO: dict[str, Any] = {"requested_by": "ada", "reason": "a better contract"}

payments = Template("payments")


@payments.step(rate_limit=RateLimit(per_s=0.5, burst=2, key="input.bank"))
async def pay(input: dict[str, Any]) -> str:
    return input["bank"]


@payments.step
async def tell(pay: str) -> str:
    return pay


plain = Template("plain")


@plain.step
async def only(ctx: StepContext) -> None:
    return None


letters = Template("letters")


@letters.step(schedule_to_start_s=25, rate_limit=RateLimit(per_s=0.1))
async def post(input: int) -> int:
    return input


rare = Template("rare", priority=5)


@rare.step(rate_limit=RateLimit(per_s=0.001, burst=3), concurrency=1, start_to_close_s=86_400)
async def slowly() -> None:
    await asyncio.sleep(200)


study = Template("study", budget=Budget(running_s_max=120))


@study.step(start_to_close_s=86_400)
async def measure() -> None:
    await asyncio.sleep(50)


@study.step(start_to_close_s=86_400)
async def compute(measure: None) -> None:
    await asyncio.sleep(100)


@study.step
async def publish(compute: None) -> None:
    return None


@pytest.fixture
def tasker_templates() -> list[Template]:
    return [payments, plain, rare, study]


async def start(tasker: TaskerTest, bank: str, count: int) -> list[Any]:
    return [await tasker.start({"bank": bank}, template=payments) for _ in range(count)]


async def completed(runs: Iterable[Any]) -> None:
    for run in runs:
        await run.wait(within_s=120)
        assert run.state == "completed"


def paid(tasker: TaskerTest) -> int:
    return len(tasker.calls("pay"))


async def test_attempts_begin_in_turn_and_each_key_has_its_own(tasker: TaskerTest) -> None:
    await tasker.advance(10)
    runs = await start(tasker, "a", 10)
    await tasker.advance(1)
    assert paid(tasker) <= 1 * 0.5 + 2 + 1
    others = await start(tasker, "b", 1)
    await others[0].wait(within_s=3)
    assert others[0].state == "completed"
    await tasker.advance(7)
    assert paid(tasker) <= 10 * 0.5 + 2 + 1
    await completed(runs)


async def test_others_do_not_even_ask(tasker: TaskerTest) -> None:
    await start(tasker, "a", 10)
    await tasker.advance(2)
    side = tasker._world._side
    assert side is not None
    assert (side._gate.held > 0, side._gate.shut) == (True, False)
    assert (await tasker.run(template=plain)).state == "completed"


async def test_it_outlives_the_service(tasker: TaskerTest) -> None:
    runs = await start(tasker, "a", 8)
    before = paid(tasker)
    await tasker.crash_service()
    await tasker.advance(4)
    assert paid(tasker) - before <= 4 * 0.5 + 2 + 1
    await completed(runs)


async def test_whose_turn_has_not_come_when_another_owner_takes_it_does_not_time_out(tasker: TaskerTest) -> None:
    """Planted bug: the time to wait for a worker counts from the dispatch, and the whole line fails at a restart."""
    async with TaskerTest(letters) as kit:
        runs = [await kit.start(number) for number in range(6)]
        await kit.advance(32)
        await kit.crash_service()
        await kit.advance(150)
        assert {run.state for run in runs} == {"completed"}
        assert [run.events_of("step_attempt_failed") for run in runs] == [()] * 6


async def test_an_operators_limit_of_the_handler_takes_its_place(tasker: TaskerTest) -> None:
    controls = tasker._world.client.controls
    await tasker._do(tasker._command(controls.set_limit("handler", "pay", per_s=0.001, **WHO)))
    runs = await start(tasker, "a", 6)
    await tasker.advance(60)
    assert paid(tasker) <= 1
    await tasker._do(tasker._command(controls.set_limit("handler", "pay", per_s=1000, burst=100, **WHO)))
    await tasker.advance(2)
    assert paid(tasker) == 6
    await tasker._do(tasker._command(controls.remove_limit("handler", "pay", **WHO)))
    more = await start(tasker, "a", 9)
    await tasker.advance(1)
    assert paid(tasker) <= 6 + 2 + 2
    await completed([*runs, *more])


async def test_a_pause_and_a_limit_hold_the_same_attempts(tasker: TaskerTest) -> None:
    controls = tasker._world.client.controls
    await tasker._do(tasker._command(controls.pause("template", "payments", **WHO)))
    runs = await start(tasker, "a", 5)
    await tasker.advance(60)
    assert paid(tasker) == 0
    await tasker._do(tasker._command(controls.resume("template", "payments", **WHO)))
    await tasker.advance(1)
    assert 1 <= paid(tasker) <= 3
    await completed(runs)
    side = tasker._world._side
    assert side is not None
    assert (side._gate.held, side._gate._need_asking) == (0, 0)


async def test_who_waits_in_order_with_a_token_takes_no_second_one(tasker: TaskerTest) -> None:
    """It is offered again while it waits; the third token is for a third attempt."""
    await tasker.advance(3600)
    first, second = [await tasker.start({}, template=rare) for _ in range(2)]
    await tasker.advance(150)
    third = await tasker.start({}, template=rare)
    await tasker.advance(460)
    assert [run.state for run in (first, second, third)] == ["completed"] * 3


async def test_a_task_runs_for_no_longer_than_its_budget_allows_and_a_person_allows_more(tasker: TaskerTest) -> None:
    """Its first step ran for 50 s: the second is over after 70, in a service that was not there for the first."""
    run = await tasker.start({}, template=study)
    await tasker.advance(55)
    await tasker.crash_service()  # it takes five seconds to be taken over
    await tasker.advance(55)
    assert (run.state, len(tasker.calls("compute"))) == ("running", 1)
    await tasker.advance(10)
    assert run.state == "blocked"
    kinds = [recorded.type for recorded in tasker._world.log.events_of(UUID(run.task_id))]
    assert kinds[-2:] == ["running_time_spent", "task_blocked"]
    await tasker.advance(60)
    assert not tasker.calls("publish")
    await run.set_budget(running_s_max=200)
    await run.wait()
    assert run.state == "completed"
