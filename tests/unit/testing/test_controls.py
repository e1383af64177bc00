"""What operators hold back, in the real service on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from typing import Any

import pytest

from tasker import StepContext, Template
from tasker.errors import Unavailable
from tasker.events.control_events import ControlScope
from tasker.events.log import Due
from tasker.service.actors.dispatch.gate import Gate
from tasker.service.runtime.node import FAR_FUTURE_US
from tasker.testing import TaskerTest

WHO: dict[str, Any] = {"requested_by": "ada", "reason": "the bank is down"}

orders = Template("orders", queue="counter")


@orders.step
async def reserve(input: int) -> int:
    return input


@orders.step(queue="till", schedule_to_start_s=60)
async def charge(reserve: int) -> int:
    return reserve


tills = Template("tills", queue="till")
tills.step(schedule_to_start_s=60)(reserve)
hogs = Template("hogs", queue="till")


@hogs.step(start_to_close_s=86_400)
async def hog(input: float) -> None:
    await asyncio.sleep(input)


others = Template("others")


@others.step
async def only(ctx: StepContext) -> None:
    return None


@pytest.fixture
def tasker_templates() -> list[Template]:
    return [orders, others]


async def pause(tasker: TaskerTest, scope: ControlScope, name: str | None = None) -> None:
    await tasker._do(tasker._command(tasker._world.client.controls.pause(scope, name, **WHO)))


async def resume(tasker: TaskerTest, scope: ControlScope, name: str | None = None, ramp_s: float = 0.0) -> None:
    await tasker._do(tasker._command(tasker._world.client.controls.resume(scope, name, ramp_s=ramp_s, **WHO)))


async def start(tasker: TaskerTest, number: int = 1) -> Any:
    return await tasker.start(number, template=orders)


@pytest.mark.parametrize(
    ("scope", "name", "begun"),
    [("queue", "till", 1), ("queue", "counter", 0), ("template", "orders", 0), ("tenant", None, 0)],
)
async def test_what_is_paused_does_not_begin_and_goes_on_by_itself(
    tasker: TaskerTest, scope: ControlScope, name: str | None, begun: int
) -> None:
    await pause(tasker, scope, name)
    run = await start(tasker)
    await tasker.advance(3600)
    assert len(tasker.calls()) == begun
    assert run.state == "running"
    await resume(tasker, scope, name)
    await run.wait(within_s=5)
    assert (run.state, run.result, len(tasker.calls())) == ("completed", 1, 2)


async def test_others_go_on(tasker: TaskerTest) -> None:
    await pause(tasker, "template", "orders")
    assert (await tasker.run(template=others)).state == "completed"
    await pause(tasker, "everything")
    run = await tasker.start(template=others)
    await tasker.advance(60)
    assert len(tasker.calls()) == 1
    await resume(tasker, "everything")
    await run.wait(within_s=5)
    assert run.state == "completed"


async def test_the_time_to_wait_for_a_worker_does_not_pass_in_a_pause(tasker: TaskerTest) -> None:
    await pause(tasker, "queue", "till")
    run = await start(tasker)
    await tasker.advance(600)
    await resume(tasker, "queue", "till")
    await run.wait(within_s=5)
    assert run.state == "completed"
    assert not run.events_of("step_attempt_failed")


async def test_nor_while_what_may_go_has_not_come_by_yet(tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted bug: of 100,000 attempts that a resume lets go the last ones time out before they are offered."""
    wake = Gate._wake

    async def slowly(gate: Gate, *, repaced: bool) -> None:
        await asyncio.sleep(90)
        await wake(gate, repaced=repaced)

    await pause(tasker, "queue", "till")
    run = await start(tasker)
    await tasker.advance(600)
    monkeypatch.setattr(Gate, "_wake", slowly)
    await resume(tasker, "queue", "till")
    await tasker.advance(80)
    assert len(tasker.calls()) == 1
    await run.wait(within_s=300)
    assert run.state == "completed"
    assert not run.events_of("step_attempt_failed")


async def test_nor_for_an_owner_that_comes_behind_the_pause(tasker: TaskerTest) -> None:
    """Planted bug: a restart behind a resume counts the time of the pause, and all that waits times out at once."""
    async with TaskerTest(tills, hogs, slots=1) as kit:
        await kit.start(640.0, template=hogs)
        await kit.advance(1)
        await pause(kit, "queue", "till")
        run = await kit.start(1, template=tills)
        await kit.advance(600)
        await resume(kit, "queue", "till")
        await kit.crash_service()
        await kit.advance(15)
        assert run.history[-1] == "step_dispatched reserve"
        await run.wait(within_s=60)
        assert run.state == "completed"
        assert not run.events_of("step_attempt_failed")


async def test_behind_a_pause_the_time_to_wait_counts_from_its_end(tasker: TaskerTest) -> None:
    async with TaskerTest(tills, hogs, slots=1) as kit:
        await kit.start(6_000.0, template=hogs)
        await kit.advance(1)
        await pause(kit, "queue", "till")
        run = await kit.start(1, template=tills)
        await kit.advance(600)
        await resume(kit, "queue", "till")
        await kit.crash_service()
        await kit.advance(45)
        assert not run.events_of("step_attempt_failed")
        await kit.advance(20)
        assert run.events_of("step_attempt_failed")


async def test_a_pause_outlives_the_service(tasker: TaskerTest) -> None:
    """The new owner has never heard of it: it reads the log before it offers anything."""
    await pause(tasker, "template", "orders")
    run = await start(tasker)
    await tasker.crash_service(down_s=60)
    later = await start(tasker, 2)
    await tasker.advance(3600)
    assert tasker.calls() == ()
    await tasker.crash_service()
    await resume(tasker, "template", "orders")
    for one in (run, later):
        await one.wait(within_s=60)
        assert one.state == "completed"


async def test_a_ramp_spreads_what_was_held_over_its_time(tasker: TaskerTest) -> None:
    await pause(tasker, "queue", "counter")
    runs = [await start(tasker, number) for number in range(40)]
    await resume(tasker, "queue", "counter", ramp_s=600)
    counts = []
    for _ in range(6):
        await tasker.advance(100)
        counts.append(len(tasker.calls("reserve")))
    assert counts[-1] == 40
    assert counts[0] < 20 < counts[4]
    assert counts == sorted(counts)
    for run in runs:
        await run.wait(within_s=5)
        assert run.history.count("step_started") <= 2


async def test_a_task_that_is_cancelled_in_a_pause_does_not_begin(tasker: TaskerTest) -> None:
    await pause(tasker, "queue", "counter")
    run = await start(tasker)
    await run.cancel()
    await resume(tasker, "queue", "counter")
    await tasker.advance(3600)
    assert (run.state, tasker.calls()) == ("cancelled", ())
    side = tasker._world._side
    assert side is not None
    assert (side._gate.held, side._gate.shut) == (0, False)


async def test_more_than_is_remembered_comes_back_as_well(tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.service.actors.dispatch.gate.HELD_MAX", 3)
    await pause(tasker, "queue", "counter")
    runs = [await start(tasker, number) for number in range(8)]
    await resume(tasker, "queue", "counter")
    for run in runs:
        await run.wait(within_s=60)
        assert run.state == "completed"
    assert len(tasker.calls("reserve")) == 8


async def test_what_comes_back_does_so_when_the_log_does_not_answer_at_that_moment(
    tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows say a time far off, and the gate does not know of it: all depends on the look at every open offer."""
    monkeypatch.setattr("tasker.service.actors.dispatch.gate.HELD_MAX", 3)
    await pause(tasker, "queue", "counter")
    runs = [await start(tasker, number) for number in range(8)]
    log, failed = tasker._world.log, list[int]()
    due_between = log.due_between

    async def fails_once(
        shards: Sequence[int], after_us: int, until_us: int, *, born_before_us: int | None = None
    ) -> AsyncIterator[list[Due]]:
        if until_us == FAR_FUTURE_US and not failed:
            failed.append(until_us)
            raise Unavailable("planted")
        async for rows in due_between(shards, after_us, until_us, born_before_us=born_before_us):
            yield rows

    monkeypatch.setattr(log, "due_between", fails_once)
    await resume(tasker, "queue", "counter")
    for run in runs:
        await run.wait(within_s=60)
    assert failed
    assert len(tasker.calls("reserve")) == 8


async def limited(tasker: TaskerTest, scope: Any, name: str, **more: Any) -> None:
    await tasker._do(tasker._command(tasker._world.client.controls.set_limit(scope, name, **more, **WHO)))


async def test_a_limit_paces_attempts_and_all_of_them_come(tasker: TaskerTest) -> None:
    await limited(tasker, "handler", "reserve", per_s=0.5, burst=2)
    await tasker.advance(60)
    begun = len(tasker.calls("reserve"))
    runs = [await start(tasker, number) for number in range(12)]
    counts = []
    for _ in range(8):
        await tasker.advance(5)
        counts.append(len(tasker.calls("reserve")))
    assert begun == 0
    assert counts[-1] == 12
    assert counts[0] <= 0.5 * 7 + 2
    assert all(after - before <= 4 for before, after in pairwise(counts))
    for run in runs:
        await run.wait(within_s=60)
        assert run.state == "completed"


async def test_a_limit_outlives_the_service_and_begins_empty(tasker: TaskerTest) -> None:
    await limited(tasker, "queue", "counter", per_s=0.1, burst=5)
    await tasker.advance(600)
    runs = [await start(tasker, number) for number in range(8)]
    before = len(tasker.calls("reserve"))
    assert before <= 6
    await tasker.crash_service()
    await tasker.advance(15)
    assert len(tasker.calls("reserve")) - before <= 3
    for run in runs:
        await run.wait(within_s=600)
        assert run.state == "completed"


async def test_a_limit_that_is_removed_lets_all_go(tasker: TaskerTest) -> None:
    await limited(tasker, "queue", "counter", per_s=0.001)
    runs = [await start(tasker, number) for number in range(5)]
    await tasker.advance(60)
    assert len(tasker.calls("reserve")) <= 1
    controls = tasker._world.client.controls
    await tasker._do(tasker._command(controls.remove_limit("queue", "counter", **WHO)))
    for run in runs:
        await run.wait(within_s=5)
        assert run.state == "completed"
