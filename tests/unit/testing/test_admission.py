"""Caps in the test kit: the real service lets in no more new tasks than may be there, and loses none that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tasker import Template
from tasker.errors import Busy, InputInvalid, KeyConflict, Unavailable
from tasker.events.stored import from_recorded
from tasker.ids import concurrency_stream_id
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.order import OrderChecker
from tasker.replay.checkers.placed import PlacedChecker
from tasker.replay.findings import Findings
from tasker.service.actors.limits.places import Places
from tasker.service.domain.limits.admission import MAX_RUNNING
from tasker.service.domain.limits.concurrency import ConcurrencyState, evolve_concurrency
from tasker.templates import compile_template
from tasker.testing import TaskerTest
from tasker.testing.world import SHARDS

imports = Template("imports", max_running=2)


@imports.step(start_to_close_s=86_400)
async def load(input: dict[str, Any]) -> str:
    await asyncio.sleep(input.get("s", 60))
    return "loaded"


@imports.step
async def publish(load: str) -> str:
    return "published"


families = Template.from_yaml("""
name: families
steps:
  - {name: first, child: imports}
  - {name: second, child: imports}
  - {name: third, child: imports}
""")
mails = Template("mails", max_ready=3, queue="post")


@mails.step(concurrency=1, start_to_close_s=86_400)
async def send(input: dict[str, Any]) -> str:
    await asyncio.sleep(60)
    return "sent"


@mails.step(queue="ledger")
async def book(send: str) -> str:
    return "booked"


mailing = Template.from_yaml("""
name: mailing
steps:
  - {name: all, each: input.to, child: mails}
""")
syncs = Template("syncs", singleton="input.shop", max_running=2)


@syncs.step(start_to_close_s=86_400)
async def sync(input: dict[str, Any]) -> str:
    await asyncio.sleep(60)
    return f"{input['shop']} has {input.get('n')}"


syncing = Template.from_yaml("""
name: syncing
steps:
  - {name: first, child: syncs}
""")
TEMPLATES = (imports, families, mails, mailing, syncs, syncing)


@pytest.fixture
async def tasker() -> AsyncIterator[TaskerTest]:
    async with TaskerTest(*TEMPLATES) as kit:
        yield kit
        await kit._do(assert_proved(kit))


async def assert_proved(kit: TaskerTest) -> None:
    log, findings = kit._world.log, Findings()
    templates = {made.hash: made for made in (compile_template(one.spec()) for one in TEMPLATES)}
    for shard in range(SHARDS):
        events = await log.read(shard, after=0, limit=100_000)
        feed(events, [PlacedChecker(shard, findings.add), OrderChecker(shard, findings.add, templates.get)])
    assert findings.kept == []


async def start(kit: TaskerTest, input: dict[str, Any] | None = None, **options: Any) -> Any:
    return await kit.start(input or {}, template=imports, **options)


def holders(kit: TaskerTest) -> list[str]:
    """Who has a place, by the log."""
    stream_id = concurrency_stream_id("default", "default", "imports", "", MAX_RUNNING)
    state = ConcurrencyState()
    for recorded in kit._world.log.events_of(stream_id):
        evolve_concurrency(state, from_recorded(recorded), at_us=recorded.at_us)  # type: ignore[arg-type]
    assert not state.waiting
    return [request.partition(":")[0] for request in state.holders]


async def test_one_more_is_busy_until_one_has_ended(tasker: TaskerTest) -> None:
    first, second = await start(tasker), await start(tasker)
    with pytest.raises(Busy, match="max_running") as refused:
        await start(tasker, idempotency_key="third")
    assert (refused.value.retry_after_s, refused.value.context) == (1.0, {"cap": "max_running"})
    assert sorted(holders(tasker)) == sorted([first.task_id, second.task_id])
    await tasker.advance(61)
    assert (first.state, holders(tasker)) == ("completed", [])
    third = await start(tasker, idempotency_key="third")
    await third.wait()
    assert third.state == "completed"


async def test_the_client_waits_for_room_within_its_timeout(tasker: TaskerTest) -> None:
    for seconds in (5, 500):
        await start(tasker, {"s": seconds})
    third = await start(tasker, {"s": 1})
    await third.wait()
    assert third.state == "completed"


async def test_the_same_seed_brings_the_client_back_at_the_same_time() -> None:
    """Planted bug: the jitter of its retries comes from elsewhere."""

    async def told(seed: int) -> list[Any]:
        async with TaskerTest(imports, seed=seed) as kit:
            for seconds in (5, 500):
                await start(kit, {"s": seconds})
            third = await start(kit, {"s": 1})
            await third.wait()
            return [(event.at, event.type) for event in third.events]

    first = await told(1)
    assert await told(1) == first
    assert await told(2) != first


async def test_what_is_refused_or_there_already_takes_no_place(tasker: TaskerTest) -> None:
    first = await start(tasker, idempotency_key="one")
    again = await start(tasker, idempotency_key="one")
    assert again.task_id == first.task_id
    with pytest.raises(KeyConflict):
        await start(tasker, {"s": 1}, idempotency_key="one")
    assert holders(tasker) == [first.task_id]


async def test_commands_that_meet_while_it_asks_are_one_task(tasker: TaskerTest) -> None:
    client = tasker._world.client

    async def create(seconds: int) -> Any:
        return await client.create(imports, {"s": seconds}, idempotency_key="same")

    async def all_at_once() -> list[Any]:
        made = asyncio.gather(*(create(seconds) for seconds in (60, 60, 7, 60)), return_exceptions=True)
        return list(await tasker._command(made))  # type: ignore[arg-type]

    found = await tasker._do(all_at_once())
    assert isinstance(found[2], KeyConflict)
    others = [found[0], *found[1:2], *found[3:]]
    assert len({one.task_id for one in others}) == 1
    assert sorted(one.duplicate for one in others) == [False, True, True]
    assert len(holders(tasker)) == 1


async def test_children_are_let_in_and_count(tasker: TaskerTest) -> None:
    """A task that runs never waits for one that may not begin."""
    await tasker.start({"s": 60}, template="families")
    await tasker.advance(1)
    assert len(holders(tasker)) == 3
    with pytest.raises(Busy):
        await start(tasker)
    await tasker.advance(61)
    assert holders(tasker) == []


async def test_a_schedule_that_meets_it_starts_its_task_later(tasker: TaskerTest) -> None:
    for _ in range(2):
        await start(tasker, {"s": 3_000})
    nightly = await tasker.schedule("nightly", template="imports", every_s=86_400, input={"s": 1})
    await nightly.trigger()
    await tasker.advance(2_900)
    assert len(tasker.calls("load")) == 2
    await tasker.advance(200)
    assert len(tasker.calls("load")) == 3


async def test_a_blocked_task_keeps_its_place_and_a_cancelled_one_does_not(tasker: TaskerTest) -> None:
    tasker.fail("load", error=ValueError, times=3)
    first = await start(tasker)
    await first.wait()
    assert (first.state, holders(tasker)) == ("blocked", [first.task_id])
    await first.cancel()
    await tasker.advance(1)
    assert (first.state, holders(tasker)) == ("cancelled", [])


async def mail(kit: TaskerTest) -> Any:
    return await kit.start({}, template=mails)


async def advance_a_little(kit: TaskerTest) -> None:
    """Let counts of before be old: the next one is asked of NATS."""
    await kit.advance(0.2)


class TestReady:
    async def test_no_more_new_tasks_while_so_many_steps_wait_for_a_worker(self, tasker: TaskerTest) -> None:
        """One runs, the worker takes no more at a time, and three wait."""
        runs = []
        for _ in range(4):
            runs.append(await mail(tasker))
            await advance_a_little(tasker)
        with pytest.raises(Busy, match="queue default/post") as refused:
            await mail(tasker)
        assert refused.value.context == {"cap": "max_ready", "queue": "post"}
        await tasker.advance(40)
        runs.append(await mail(tasker))
        await tasker.advance(400)
        assert [run.state for run in runs] == ["completed"] * 5

    async def test_what_operators_hold_back_waits_as_well_in_any_queue_of_the_template(
        self, tasker: TaskerTest
    ) -> None:
        controls = tasker._world.client.controls
        who: dict[str, Any] = {"requested_by": "ada", "reason": "the ledger is closed"}
        await tasker._do(tasker._command(controls.pause("queue", "ledger", **who)))
        for _ in range(3):
            await mail(tasker)
            await tasker.advance(70)
        with pytest.raises(Busy, match="queue default/ledger"):
            await mail(tasker)
        await tasker._do(tasker._command(controls.resume("queue", "ledger", **who)))
        await tasker.advance(5)
        await mail(tasker)

    async def test_children_are_let_in(self, tasker: TaskerTest) -> None:
        parent = await tasker.start({"to": list(range(8))}, template="mailing")
        await tasker.advance(1)
        with pytest.raises(Busy):
            await mail(tasker)
        await tasker.advance(600)
        assert parent.state == "completed"

    async def test_of_many_at_once_no_more_are_let_in_than_there_is_room(self, tasker: TaskerTest) -> None:
        client = tasker._world.client

        async def all_at_once() -> list[Any]:
            made = asyncio.gather(*(client.create(mails, {}) for _ in range(20)), return_exceptions=True)
            return list(await tasker._command(made))  # type: ignore[arg-type]

        await tasker._do(tasker._command(client.controls.pause("queue", "post", requested_by="ada", reason="holiday")))
        found = await tasker._do(all_at_once())
        assert sum(not isinstance(one, Busy) for one in found) == 3


async def synced(kit: TaskerTest, shop: Any, **more: Any) -> Any:
    return await kit.start({"shop": shop, **more}, template=syncs)


class TestSingleton:
    async def test_a_second_start_is_answered_with_the_one_that_runs(self, tasker: TaskerTest) -> None:
        first = await synced(tasker, "a", n=1)
        second = await synced(tasker, "a", n=2)
        other = await synced(tasker, "b")
        assert (second.task_id == first.task_id, other.task_id == first.task_id) == (True, False)
        await second.wait()
        assert second.result == "a has 1"
        third = await synced(tasker, "a", n=3)
        await third.wait()
        assert (third.task_id == first.task_id, third.result) == (False, "a has 3")

    async def test_a_repeated_start_is_told_whom_it_met_also_behind_that_ones_end(self, tasker: TaskerTest) -> None:
        """Its first answer was lost; a start of its own would do the work twice."""
        client = tasker._world.client
        first = await synced(tasker, "a", n=1)

        async def asked() -> Any:
            made = client.create(syncs, {"shop": "a", "n": 2}, idempotency_key="click")
            return await tasker._do(tasker._command(made))

        assert (await asked()).task_id == first.task_id
        await first.wait()
        await tasker.crash_service()
        again = await asked()
        assert (again.task_id, again.duplicate) == (first.task_id, True)
        assert len(tasker.calls("sync")) == 1
        other = await synced(tasker, "a", n=3)
        assert other.task_id != first.task_id
        assert (await asked()).task_id == first.task_id, "whoever runs by now"

    async def test_the_answer_says_so(self, tasker: TaskerTest) -> None:
        client = tasker._world.client
        first = await tasker._do(tasker._command(client.create(syncs, {"shop": "a"})))
        second = await tasker._do(tasker._command(client.create(syncs, {"shop": "a"})))
        assert (first.duplicate, second.duplicate, second.task_id) == (False, True, first.task_id)

    async def test_of_many_at_once_one_is_there(self, tasker: TaskerTest) -> None:
        client = tasker._world.client

        async def all_at_once() -> list[Any]:
            made = asyncio.gather(*(client.create(syncs, {"shop": "a", "n": number}) for number in range(8)))
            return list(await tasker._command(made))  # type: ignore[arg-type]

        found = await tasker._do(all_at_once())
        assert len({one.task_id for one in found}) == 1
        assert sum(not one.duplicate for one in found) == 1

    async def test_another_request_that_waits_with_one_is_not_answered_for_it(self, tasker: TaskerTest) -> None:
        """It has the key of the one that met the task, and is about something else."""
        client = tasker._world.client
        first = await synced(tasker, "a")

        async def both_at_once() -> list[Any]:
            made = (client.create(syncs, {"shop": shop}, idempotency_key="click") for shop in ("a", "b"))
            return list(await tasker._command(asyncio.gather(*made)))  # type: ignore[arg-type]

        found = await tasker._do(both_at_once())
        assert [one.task_id == first.task_id for one in found] == [True, False]

    async def test_null_is_no_key_and_none_at_all_is_refused(self, tasker: TaskerTest) -> None:
        runs = [await synced(tasker, None) for _ in range(2)]
        assert len({run.task_id for run in runs}) == 2
        with pytest.raises(InputInvalid, match="singleton"):
            await tasker.start({}, template=syncs)

    async def test_who_is_busy_for_another_cap_holds_no_key(self, tasker: TaskerTest) -> None:
        runs = [await synced(tasker, shop) for shop in ("a", "b")]
        with pytest.raises(Busy, match="max_running"):
            await synced(tasker, "c")
        await runs[0].cancel()
        await tasker.advance(1)
        assert (await synced(tasker, "c")).task_id not in {run.task_id for run in runs}

    async def test_a_child_and_a_schedule_wait_for_the_end_of_the_one_that_runs(self, tasker: TaskerTest) -> None:
        """They want a task of their own: its result, or its time."""
        first = await synced(tasker, "a", n=1)
        parent = await tasker.start({"shop": "a", "n": 2}, template="syncing")
        await tasker.advance(30)
        assert (first.state, parent.state, len(tasker.calls("sync"))) == ("running", "running", 1)
        await parent.wait(within_s=300)
        assert parent.result == "a has 2"
        third = await synced(tasker, "b")
        nightly = await tasker.schedule("nightly", template="syncs", every_s=86_400, input={"shop": "b", "n": 4})
        await nightly.trigger()
        await tasker.advance(40)
        assert len(tasker.calls("sync")) == 3
        await third.wait()
        await tasker.advance(120)
        assert len(tasker.calls("sync")) == 4

    async def test_a_word_of_the_end_that_is_lost_costs_a_moment(
        self, tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = await synced(tasker, "a", n=1)
        monkeypatch.setattr(Places, "leave_key", lambda *_: None)
        await first.wait()
        monkeypatch.undo()
        second = await synced(tasker, "a", n=2)
        await second.wait()
        assert second.result == "a has 2"

    async def test_it_outlives_the_service(self, tasker: TaskerTest) -> None:
        first = await synced(tasker, "a", n=1)
        await tasker.crash_service()
        assert (await synced(tasker, "a", n=2)).task_id == first.task_id


class TestLostWords:
    """Whoever dies between a place and its task: none is lost, and there are never more tasks than places."""

    @pytest.mark.parametrize("word", ["ask_key", "leave_key", "offer"])
    @pytest.mark.parametrize("killed", [False, True], ids=["lost", "killed"])
    async def test_every_place_comes_back(
        self, tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch, word: str, *, killed: bool
    ) -> None:
        real = getattr(Places, word)
        passes = 0
        restarts: list[asyncio.Task[None]] = []

        def dies(self: Places, *arguments: Any, **named: Any) -> None:
            nonlocal passes
            passes += 1
            if passes > 1:
                real(self, *arguments, **named)
            elif killed:
                restarts.append(asyncio.create_task(restart(tasker), name="restart"))
                raise Unavailable("killed")
            elif word == "ask_key":
                arguments[-1](None, None)

        monkeypatch.setattr(Places, word, dies)
        runs = [await start(tasker, {"s": 10}, idempotency_key=str(number)) for number in range(3)]
        await tasker.advance(700)
        assert passes >= 1
        assert [run.state for run in runs] == ["completed"] * 3
        assert holders(tasker) == []

    async def test_a_place_whose_task_was_never_created_comes_back(
        self, tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The owner dies when it has the place, before the task is in the log; nobody asks again."""
        real = Places.ask_key

        def asks(self: Places, name: Any, ask: Any, answered: Any) -> None:
            real(self, name, ask, lambda *_: None)

        monkeypatch.setattr(Places, "ask_key", asks)
        with pytest.raises(Unavailable):
            await start(tasker)
        assert len(holders(tasker)) == 1
        monkeypatch.undo()
        await tasker.crash_service()
        await tasker.advance(30)
        assert holders(tasker) == []

    async def test_who_was_let_in_is_left_alone_at_first(
        self, tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its end is told: its key asks it only later, and ever more rarely."""
        real, asked = Places.offer, list[str]()

        def offers(self: Places, actor: Any, request: str, *, evicted: bool) -> None:
            asked.append(request.partition(":")[0])
            real(self, actor, request, evicted=evicted)

        monkeypatch.setattr(Places, "offer", offers)
        first = await start(tasker)
        await tasker.advance(4)
        second = await start(tasker)
        assert asked == []
        await tasker.advance(3)
        assert asked == [first.task_id]
        await tasker.advance(6)
        assert asked == [first.task_id, second.task_id]


async def restart(kit: TaskerTest) -> None:
    await kit._world.kill_service()
    await kit._world.start_service()


def test_an_input_that_is_refused_asks_for_no_place() -> None:
    """The door is before the cap: a caller learns what is wrong, and not that it is full."""
    strict = Template("strict", max_running=1, input_schema={"type": "object"})

    @strict.step
    def only(input: dict[str, Any]) -> None: ...

    async def check() -> None:
        async with TaskerTest(strict) as kit:
            await kit.start({}, template=strict)
            with pytest.raises(InputInvalid):
                await kit.start(7, template=strict)

    asyncio.run(check())
