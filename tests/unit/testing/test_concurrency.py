"""Concurrency keys in the test kit: the real service, with words lost and processes killed between grant and return."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from tasker import Concurrency, Fairness, StepContext, Template
from tasker.errors import InputInvalid, Unavailable
from tasker.events.places import KeyName
from tasker.events.reads import PlaceFacts
from tasker.events.stored import from_recorded
from tasker.ids import concurrency_stream_id, slot_of
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.order import OrderChecker
from tasker.replay.checkers.placed import PlacedChecker
from tasker.replay.findings import Findings
from tasker.service.actors.limits.places import Places
from tasker.service.domain.limits.concurrency import ConcurrencyState, evolve_concurrency
from tasker.service.domain.limits.ranks import OLD_EVERY
from tasker.service.http.place_facts import BusPlaces
from tasker.templates import compile_template
from tasker.testing import TaskerTest
from tasker.testing.async_kit import Run
from tasker.testing.world import SHARDS


def limited(name: str, **concurrency: Any) -> Template:
    template = Template(name, concurrency=Concurrency(key="input.customer", **concurrency))

    @template.step(start_to_close_s=86_400)
    async def work(input: dict[str, Any]) -> str:
        await asyncio.sleep(input.get("s", 60))
        return "done"

    return template


TEMPLATES = (
    limited("queued", limit=2),
    limited("in_line"),
    limited("dropping", strategy="drop"),
    limited("oldest", strategy="cancel_oldest"),
    limited("newest", limit=2, strategy="cancel_newest"),
)

queued_by_share = Template(
    "shared",
    concurrency=Concurrency(key="input.customer"),
    fairness=Fairness(key="input.team", weight="input.team == 'big' ? 3 : 1"),
)


@queued_by_share.step(start_to_close_s=86_400)
async def share(input: dict[str, Any]) -> str:
    await asyncio.sleep(60)
    return "done"


ranked_steps = Template("ranked_steps")


@ranked_steps.step(priority=5, start_to_close_s=86_400, concurrency=Concurrency(key="input.dock"))
async def lift(input: dict[str, Any]) -> str:
    await asyncio.sleep(60)
    return "lifted"


shipping = Template("shipping")


@shipping.step
async def pack(input: dict[str, Any]) -> list[int]:
    return list(range(input.get("parcels", 1)))


@shipping.step(start_to_close_s=86_400, concurrency=Concurrency(key="input.dock"))
async def load(input: dict[str, Any], pack: list[int]) -> str:
    await asyncio.sleep(60)
    return "loaded"


@shipping.step
async def leave(load: str) -> str:
    return "gone"


parcels = Template("parcels")


@parcels.step
async def pick(input: dict[str, Any]) -> int:
    return input["n"]


@parcels.step(
    start_to_close_s=86_400, each="input.items", after="pick", concurrency=Concurrency(key="item", strategy="drop")
)
async def carry(ctx: StepContext, item: str) -> str:
    await asyncio.sleep(60)
    return item


DECLARED = (*TEMPLATES, queued_by_share, ranked_steps, shipping, parcels)


@pytest.fixture
async def tasker() -> AsyncIterator[TaskerTest]:
    async with TaskerTest(*DECLARED) as kit:
        yield kit
        await kit._do(assert_proved(kit))


async def assert_proved(kit: TaskerTest) -> None:
    """The whole log, and so every place that was ever granted, is as the checkers want it."""
    log, findings = kit._world.log, Findings()
    templates = {made.hash: made for made in (compile_template(one.spec()) for one in DECLARED)}
    for shard in range(SHARDS):
        events = await log.read(shard, after=0, limit=100_000)
        feed(events, [PlacedChecker(shard, findings.add), OrderChecker(shard, findings.add, templates.get)])
    assert findings.kept == []


async def start(kit: TaskerTest, template: str, count: int = 1, **input: Any) -> list[Run]:
    return [await kit.start({"customer": "acme", **input}, template=template) for _ in range(count)]


def states(runs: Iterable[Run]) -> list[str]:
    return [run.state for run in runs]


def key(kit: TaskerTest, template: str, text: str = '"acme"', step: str = "") -> ConcurrencyState:
    """Who holds and waits, by the log."""
    stream_id = concurrency_stream_id("default", "default", template, step, text)
    state = ConcurrencyState()
    for recorded in kit._world.log.events_of(stream_id):
        evolve_concurrency(state, from_recorded(recorded), at_us=recorded.at_us)  # type: ignore[arg-type]
    return state


def is_quiet(state: ConcurrencyState) -> bool:
    return not (state.holders or state.waiting or state.evicted)


async def asked(kit: TaskerTest, template: str, request: str, *, text: str = '"acme"') -> PlaceFacts | None:
    """What the owner of a key says of it, over the bus."""
    world = kit._world
    info = await world.log.info()
    places = BusPlaces(world.broker.connect(), world.subjects, lambda stream: info.shard_of_slot[slot_of(stream)])
    return await places(KeyName(tenant="default", namespace="default", template=template, key=text), request)


class TestWhoHolds:
    async def test_the_owner_of_a_key_tells_who_holds_its_places(self, tasker: TaskerTest):
        runs = await start(tasker, "queued", 4)
        facts = await tasker._do(asked(tasker, "queued", runs[3].task_id))
        assert facts is not None
        assert (facts.limit, facts.held, facts.waiting, facts.ahead) == (2, 2, 2, 1)
        assert [(one.task_id, one.step) for one in facts.holders] == [(run.task_id, None) for run in runs[:2]]
        assert facts.holders[0].since.startswith(f"{tasker.now:%Y-%m-%d}")
        await tasker.advance(61)
        facts = await tasker._do(asked(tasker, "queued", runs[3].task_id))
        assert facts is not None
        assert [one.task_id for one in facts.holders] == [run.task_id for run in runs[2:]]
        assert (facts.waiting, facts.ahead) == (0, None)

    async def test_of_a_key_that_nobody_asked_nothing_is_told(self, tasker: TaskerTest):
        assert await tasker._do(asked(tasker, "queued", "t1", text='"nobody"')) is None


class TestQueue:
    async def test_so_many_run_at_a_time_and_the_others_in_their_turn(self, tasker: TaskerTest):
        runs = await start(tasker, "queued", 5)
        assert states(runs) == ["running", "running", "pending", "pending", "pending"]
        await tasker.advance(61)
        assert states(runs) == ["completed", "completed", "running", "running", "pending"]
        await tasker.advance(130)
        assert states(runs) == ["completed"] * 5
        assert is_quiet(key(tasker, "queued"))

    async def test_keys_do_not_wait_for_each_other(self, tasker: TaskerTest):
        runs = [await tasker.start({"customer": number // 2}, template="queued") for number in range(6)]
        assert states(runs) == ["running"] * 6

    async def test_null_is_no_key(self, tasker: TaskerTest):
        runs = [await tasker.start({"customer": None}, template="queued") for _ in range(4)]
        assert states(runs) == ["running"] * 4

    async def test_an_input_without_a_key_is_refused_at_the_door(self, tasker: TaskerTest):
        with pytest.raises(InputInvalid, match="concurrency key"):
            await tasker.start({}, template="queued")

    async def test_who_waits_can_be_cancelled(self, tasker: TaskerTest):
        runs = await start(tasker, "queued", 4)
        await runs[2].cancel()
        assert states(runs) == ["running", "running", "cancelled", "pending"]
        assert list(key(tasker, "queued").waiting) == [runs[3].task_id]
        await tasker.advance(61)
        assert runs[3].state == "running"

    async def test_a_task_asks_when_its_start_time_has_come(self, tasker: TaskerTest):
        later = await tasker.start({"customer": "acme"}, template="queued", not_before=tasker.now.replace(hour=1))
        runs = await start(tasker, "queued", 2, s=5_000)
        await tasker.advance(hours=1)
        assert later.state == "pending"
        assert states(runs) == ["running"] * 2
        await tasker.advance(2_000)
        assert later.state == "completed"

    async def test_a_paused_task_takes_its_place_and_begins_when_resumed(self, tasker: TaskerTest):
        runs = await start(tasker, "queued", 3)
        await tasker._do(tasker._command(tasker._world.client.pause(runs[2].task_id)))
        await tasker.advance(61)
        assert runs[2].state == "paused"
        assert list(key(tasker, "queued").holders) == [runs[2].task_id]
        await tasker._do(tasker._command(tasker._world.client.resume(runs[2].task_id)))
        await tasker.advance(61)
        assert runs[2].state == "completed"


async def update(kit: TaskerTest, run: Run, priority: int) -> None:
    await kit._do(kit._command(kit._world.client.update(run.task_id, priority=priority)))


async def order_of(kit: TaskerTest, runs: list[Run]) -> list[int]:
    """Return which of the tasks, under a key with one place, began one after the other; each runs for a minute."""
    found: list[int] = []
    while len(found) < len(runs):
        found += [number for number, run in enumerate(runs) if run.state != "pending" and number not in found]
        await kit.advance(61)
    return found


class TestRanks:
    """Who gets the next place: by priority, by share, by age."""

    async def test_the_highest_priority_first(self, tasker: TaskerTest):
        given = {"customer": 1}
        runs = [await tasker.start(given, template="in_line", priority=one) for one in (0, 0, -5, 9, 9)]
        assert await order_of(tasker, runs) == [0, 3, 4, 1, 2]

    async def test_a_priority_that_changes_moves_who_waits_at_once(self, tasker: TaskerTest):
        runs = [await tasker.start({"customer": 1}, template="in_line") for _ in range(4)]
        await update(tasker, runs[3], 1)
        await update(tasker, runs[1], -1)
        await update(tasker, runs[0], 100)
        assert await order_of(tasker, runs) == [0, 3, 2, 1]

    @pytest.mark.parametrize("killed", [False, True], ids=["lost", "killed"])
    async def test_the_word_of_it_may_get_lost(
        self, tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch, *, killed: bool
    ):
        runs = [await tasker.start({"customer": 1, "s": s}, template="in_line") for s in (700, 60, 60)]
        await tasker.advance(600)  # their rows say that they ask again in an hour
        asked = 0

        def lost(_self: Places, *_arguments: Any) -> None:
            nonlocal asked
            asked += 1

        monkeypatch.setattr(Places, "ask", lost)
        await update(tasker, runs[2], 1)
        assert asked
        if killed:
            await tasker.advance(3)  # so that its rows are written: they must not say so any more
            await tasker.crash_service()
        monkeypatch.undo()
        assert await order_of(tasker, runs) == [0, 2, 1]

    async def test_shares_take_turns(self, tasker: TaskerTest):
        teams = ["big"] * 8 + ["small"] * 8
        runs = [await tasker.start({"customer": 1, "team": team}, template="shared") for team in teams]
        began = [teams[number] for number in (await order_of(tasker, runs))[1:9]]
        assert began.count("big") == 6

    async def test_a_restart_keeps_the_order(self, tasker: TaskerTest):
        teams = ["big"] * 6 + ["small"] * 6
        runs = [await tasker.start({"customer": 1, "team": team}, template="shared") for team in teams]
        found: list[int] = []
        for _ in range(4):
            await tasker.crash_service()
            found += [number for number, run in enumerate(runs) if run.state != "pending" and number not in found]
            await tasker.advance(61)
        assert sorted(teams[number] for number in found) == ["big"] * 3 + ["small"]

    async def test_of_steps_by_the_priorities_of_their_tasks(self, tasker: TaskerTest):
        runs = [await tasker.start({"dock": 1}, template="ranked_steps", priority=one) for one in (0, 0, 7)]
        assert [run.steps["lift"].state for run in runs] == ["running", "waiting", "waiting"]
        await update(tasker, runs[1], 8)
        await tasker.advance(61)
        assert [run.steps["lift"].state for run in runs] == ["completed", "running", "waiting"]
        await tasker.advance(130)
        assert states(runs) == ["completed"] * 3

    async def test_what_is_old_has_a_turn_at_times(self, tasker: TaskerTest):
        first = await tasker.start({"customer": 1}, template="in_line")
        old = await tasker.start({"customer": 1}, template="in_line", priority=-100)
        urgent = [await tasker.start({"customer": 1}, template="in_line", priority=50) for _ in range(20)]
        assert (await order_of(tasker, [first, old, *urgent])).index(1) == OLD_EVERY


class TestOtherStrategies:
    async def test_drop(self, tasker: TaskerTest):
        runs = await start(tasker, "dropping", 3)
        assert states(runs) == ["running", "cancelled", "cancelled"]
        assert runs[1].history[-3:] == ("place_denied", "task_stopping", "task_cancelled")
        assert runs[1].events_of("place_denied")[0].taken_by == runs[0].task_id
        await tasker.advance(61)
        assert states(await start(tasker, "dropping")) == ["running"]

    async def test_cancel_oldest(self, tasker: TaskerTest):
        runs = await start(tasker, "oldest", 3)
        await tasker.advance(30)
        assert states(runs) == ["cancelled", "cancelled", "running"]
        made_room_for = [run.events_of("place_denied")[0].taken_by for run in runs[:2]]
        assert made_room_for == [runs[1].task_id, runs[2].task_id]
        await tasker.advance(61)
        assert runs[2].state == "completed"
        assert is_quiet(key(tasker, "oldest"))

    async def test_cancel_newest(self, tasker: TaskerTest):
        runs = await start(tasker, "newest", 3)
        await tasker.advance(30)
        assert states(runs) == ["running", "cancelled", "running"]
        await tasker.advance(61)
        assert is_quiet(key(tasker, "newest"))


class TestSteps:
    async def test_a_step_waits_while_its_task_goes_on(self, tasker: TaskerTest):
        runs = [await tasker.start({"dock": 1}, template="shipping") for _ in range(3)]
        assert [run.steps["load"].state for run in runs] == ["running", "waiting", "waiting"]
        await tasker.advance(200)
        assert states(runs) == ["completed"] * 3
        assert is_quiet(key(tasker, "shipping", "1", "load"))

    async def test_a_dropped_item_is_cancelled_and_the_list_is_complete(self, tasker: TaskerTest):
        run = await tasker.start({"n": 1, "items": ["a", "b", "a"]}, template="parcels")
        await tasker.advance(61)
        assert run.state == "completed"
        assert run.result == ["a", "b", None]

    async def test_a_failed_step_leaves_its_place_and_a_retry_asks_again(self, tasker: TaskerTest):
        tasker.fail("load", error=ValueError, times=3)
        first = await tasker.start({"dock": 1}, template="shipping")
        second = await tasker.start({"dock": 1}, template="shipping")
        await tasker.advance(30)
        assert first.state == "blocked"
        assert second.steps["load"].state == "running"
        await first.retry()
        assert first.steps["load"].state == "waiting"
        await tasker.advance(130)
        assert states([first, second]) == ["completed"] * 2


async def restart(kit: TaskerTest) -> None:
    await kit._world.kill_service()
    await kit._world.start_service()


class TestLostWords:
    """A word between a task and its key may get lost, or its sender die right before it: nothing waits for ever."""

    @pytest.mark.parametrize("word", ["ask", "leave", "offer"])
    @pytest.mark.parametrize("at", [1, 3])
    @pytest.mark.parametrize("killed", [False, True], ids=["lost", "killed"])
    async def test_every_place_comes_back(
        self, tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch, word: str, at: int, *, killed: bool
    ):
        passes = 0
        restarts: list[asyncio.Task[None]] = []
        real = getattr(Places, word)

        def dies(self: Places, *arguments: Any, **named: Any) -> None:
            nonlocal passes
            passes += 1
            if passes < at or (killed and passes > at):
                real(self, *arguments, **named)
            elif killed:
                restarts.append(asyncio.create_task(restart(tasker), name="restart"))
                raise Unavailable("killed")

        monkeypatch.setattr(Places, word, dies)
        runs = await start(tasker, "queued", 4, s=10)
        await tasker.advance(60)
        monkeypatch.undo()
        await tasker.advance(600)
        assert passes >= at
        assert all(one.done() for one in restarts)
        assert states(runs) == ["completed"] * 4
        assert is_quiet(key(tasker, "queued"))

    async def test_a_key_that_could_not_be_reached_for_long_is_asked_soon_once_it_can(
        self, tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(Places, "ask", lambda *_: None)
        [run] = await start(tasker, "queued")
        await tasker.advance(hours=1)
        assert run.state == "pending"
        monkeypatch.undo()
        await tasker.advance(61)
        assert run.state == "running"

    async def test_a_service_that_dies_again_and_again(self, tasker: TaskerTest):
        runs = await start(tasker, "queued", 8, s=10)
        for _ in range(6):
            await tasker.crash_service()
            await tasker.advance(7)
        await tasker.advance(1_000)
        assert states(runs) == ["completed"] * 8
        assert is_quiet(key(tasker, "queued"))
