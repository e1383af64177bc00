"""Who goes first under a rate limit, in the real service on a virtual clock."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tasker import Fairness, RateLimit, Template
from tasker.events.envelope import US_PER_S
from tasker.events.reads import TurnFacts
from tasker.ids import slot_of
from tasker.service.actors.dispatch.gate import Gate
from tasker.service.domain.limits.ranks import OLD_EVERY, OLD_S
from tasker.service.http.turn_facts import BusTurns
from tasker.testing import TaskerTest
from tasker.times import from_rfc3339

BEGUN: list[str] = []
WHO: dict[str, Any] = {"requested_by": "ada", "reason": "the bank asks for it"}

mails = Template("mails")


@mails.step(rate_limit=RateLimit(per_s=1))
async def mail(input: str) -> str:
    BEGUN.append(input)
    return input


calls = Template("calls", queue="mails", fairness=Fairness(key="input.team", weight="input.team == 'big' ? 3 : 1"))


@calls.step(rate_limit=RateLimit(per_s=1), schedule_to_start_s=3600)
async def call(input: dict[str, str]) -> str:
    BEGUN.append(input["team"])
    return input["team"]


letters = Template("letters")


@letters.step(queue="post")
async def stamp(input: str) -> str:
    return input


@letters.step(queue="post", rate_limit=RateLimit(per_s=0.2))
async def post(stamp: str) -> str:
    return stamp


stamps = Template("stamps")


@stamps.step(queue="post")
async def cancel_stamp(input: str) -> str:
    return input


@pytest.fixture
def tasker_templates() -> list[Template]:
    BEGUN.clear()
    return [mails, calls, letters, stamps]


async def start(tasker: TaskerTest, names: Any, template: Template = mails, **more: Any) -> list[Any]:
    return [await tasker.start(name, template=template, **more) for name in names]


async def reprioritized(tasker: TaskerTest, run: Any, priority: int) -> None:
    await tasker._do(tasker._command(tasker._world.client.update(run.task_id, priority=priority)))


async def pause(tasker: TaskerTest, run: Any) -> None:
    await tasker._do(tasker._command(tasker._world.client.pause(run.task_id, **WHO)))


async def resume(tasker: TaskerTest, run: Any) -> None:
    await tasker._do(tasker._command(tasker._world.client.resume(run.task_id, **WHO)))


def gate_of(tasker: TaskerTest) -> Gate:
    side = tasker._world._side
    assert side is not None
    return side._gate


async def test_the_customer_who_waits_does_not_wait_behind_the_newsletter(tasker: TaskerTest) -> None:
    await start(tasker, map(str, range(100)), priority=-10)
    await tasker.advance(5.5)
    before = len(BEGUN)
    [urgent] = await start(tasker, ["customer"], priority=100)
    await urgent.wait(within_s=2)
    assert urgent.state == "completed"
    await start(tasker, ["usual"])
    await tasker.advance(120)
    names = list(BEGUN)
    assert names.index("customer") == before
    assert names.index("usual") <= before + 3
    assert [name for name in names if name.isdigit()] == [str(number) for number in range(100)]
    assert gate_of(tasker).held == len(gate_of(tasker)._turns) == 0


async def test_the_owner_tells_when_a_step_has_its_turn(tasker: TaskerTest) -> None:
    async def asked(run: Any) -> TurnFacts | None:
        """What the owner of a task says, over the bus."""
        world = tasker._world
        info = await world.log.info()
        turns = BusTurns(world.broker.connect(), world.subjects, lambda stream: info.shard_of_slot[slot_of(stream)])
        found = await turns(UUID(run.task_id), {"mail": 1, "other": 1})
        assert set(found) <= {"mail"}
        return found.get("mail")

    runs = await start(tasker, map(str, range(20)))
    await tasker.advance(2.5)
    begun = len(BEGUN)
    found = await tasker._do(asked(runs[-1]))
    assert found is not None
    assert found.ahead == 20 - begun - 1
    await runs[-1].wait(within_s=60)
    assert abs(from_rfc3339(found.at) / US_PER_S - tasker.now.timestamp()) < 1.5
    assert await tasker._do(asked(runs[-1])) is None


async def test_turns_are_shared_among_keys_by_their_weights(tasker: TaskerTest) -> None:
    for _ in range(40):
        await start(tasker, [{"team": "small"}, {"team": "big"}], template=calls)
    before = len(tasker.calls("call"))
    await tasker.advance(40)
    teams = BEGUN[before:]
    assert abs(teams.count("big") - 3 * teams.count("small")) <= 3
    assert len(teams) >= 39


async def test_what_is_old_gets_each_sixteenth_turn(tasker: TaskerTest) -> None:
    await start(tasker, ["old"], priority=-100)
    for number in range(round(OLD_S) + 3 * OLD_EVERY):
        await start(tasker, [f"new{number}"], priority=50)
        await tasker.advance(0.9)
    assert OLD_S - 2 <= BEGUN.index("old") <= OLD_S + OLD_EVERY + 2


async def test_a_priority_that_changes_moves_what_waits(tasker: TaskerTest) -> None:
    runs = await start(tasker, map(str, range(30)))
    await tasker.advance(2.5)
    before = len(BEGUN)
    await reprioritized(tasker, runs[29], 10)
    await reprioritized(tasker, runs[before], -10)
    await tasker.advance(60)
    names = list(BEGUN)
    assert names[before] == "29"
    assert names[-1] == str(before)


async def test_who_is_cancelled_or_paused_costs_no_turn(tasker: TaskerTest) -> None:
    """Planted bug: of forty that leave each had a second, in which nobody begins."""
    runs = await start(tasker, map(str, range(60)))
    await tasker.advance(1)
    cancelled, paused = runs[10:20], runs[20:40]
    for run in cancelled:
        await run.cancel()
    for run in paused:
        await pause(tasker, run)
    before = len(BEGUN)
    assert before < 8
    assert len(gate_of(tasker)._turns) <= gate_of(tasker).held <= 30
    await tasker.advance(30 - before)
    assert 29 <= len(BEGUN) <= 30
    for run in paused:
        await resume(tasker, run)
    await tasker.advance(60)
    assert len(BEGUN) == 50
    assert gate_of(tasker).held == len(gate_of(tasker)._turns) == 0


async def test_a_pause_beside_a_limit_costs_the_others_no_turn(tasker: TaskerTest) -> None:
    controls = tasker._world.client.controls
    await tasker._do(tasker._command(controls.set_limit("queue", "mails", per_s=1, **WHO)))
    await start(tasker, map(str, range(40)), priority=5)
    await start(tasker, [{"team": "a"}] * 20, template=calls)
    await tasker.advance(2)
    await tasker._do(tasker._command(controls.pause("template", "mails", **WHO)))
    before = len(tasker.calls("call"))
    await tasker.advance(20)
    assert len(tasker.calls("call")) - before >= 17
    assert len(tasker.calls("mail")) < 10
    await tasker._do(tasker._command(controls.resume("template", "mails", **WHO)))
    await tasker.advance(60)
    assert len(tasker.calls("mail")) == 40
    assert len(tasker.calls("call")) == 20


async def test_after_a_restart_who_comes_competes_again(tasker: TaskerTest) -> None:
    await start(tasker, map(str, range(20)), priority=-10)
    await start(tasker, ["urgent0", "urgent1"], priority=10)
    await tasker.crash_service()
    await tasker.advance(10)
    await start(tasker, ["late"], priority=20)
    await tasker.advance(60)
    names = list(BEGUN)
    assert len(names) == 23
    assert names.index("late") < 12
    assert len(set(names)) == 23


async def test_a_limit_that_is_set_anew_keeps_the_order(tasker: TaskerTest) -> None:
    controls = tasker._world.client.controls
    await tasker._do(tasker._command(controls.set_limit("handler", "mail", per_s=0.001, **WHO)))
    await start(tasker, map(str, range(10)), priority=-10)
    await start(tasker, ["urgent"], priority=10)
    await tasker.advance(10)
    before = len(BEGUN)
    await tasker._do(tasker._command(controls.set_limit("handler", "mail", per_s=1, **WHO)))
    await tasker.advance(4)
    assert BEGUN[before] == "urgent"
    await tasker._do(tasker._command(controls.remove_limit("handler", "mail", **WHO)))
    await tasker.advance(30)
    assert len(BEGUN) == 11
    assert gate_of(tasker).held == len(gate_of(tasker)._turns) == 0


async def test_a_limit_that_comes_to_another_one_holds_for_who_waits_already(tasker: TaskerTest) -> None:
    """Planted bug: who comes gives its turn to one that knows of the first limit alone."""
    await start(tasker, map(str, range(20)), priority=-10)
    await start(tasker, map(str, range(20)), priority=10)
    controls = tasker._world.client.controls
    await tasker._do(tasker._command(controls.set_limit("queue", "mails", per_s=0.1, **WHO)))
    before = len(BEGUN)
    await tasker.advance(60)
    assert 4 <= len(BEGUN) - before <= 7


async def test_two_limits_at_once(tasker: TaskerTest) -> None:
    """A limit of a queue, and one of a step in it: what is urgent passes by both lines, and neither stands still."""
    controls = tasker._world.client.controls
    await tasker._do(tasker._command(controls.set_limit("queue", "post", per_s=1, **WHO)))
    await start(tasker, map(str, range(60)), template=stamps, priority=-10)
    await tasker.advance(2)
    [urgent] = await start(tasker, ["urgent"], template=letters, priority=10)
    await urgent.wait(within_s=12)
    assert urgent.state == "completed"
    before = len(tasker.calls())
    await start(tasker, map(str, range(10)), template=letters)
    await tasker.advance(30)
    assert 29 <= len(tasker.calls()) - before <= 31
    await tasker.advance(300)
    assert len(tasker.calls("post")) == 11
    assert len(tasker.calls("cancel_stamp")) == 60


async def test_more_than_is_remembered_comes_as_well(tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.service.actors.dispatch.gate.HELD_MAX", 5)
    await start(tasker, map(str, range(30)), priority=-10)
    [urgent] = await start(tasker, ["urgent"], priority=10)
    assert gate_of(tasker).held == len(gate_of(tasker)._turns) == 5
    await tasker.advance(60)
    assert len(set(BEGUN)) == 31
    assert urgent.state == "completed"
