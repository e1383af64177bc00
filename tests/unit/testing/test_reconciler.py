"""What is owed and lost is found and brought back: each kind of loss is planted; a healthy service loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal
from uuid import UUID

import pytest

from tasker import Concurrency, Retry, Template
from tasker.events.concurrency_events import ConcurrencyKeyReconciled
from tasker.events.schedule_events import ScheduleReconciled
from tasker.events.stored import from_recorded
from tasker.events.task_events import TaskReconciled
from tasker.ids import concurrency_stream_id, schedule_stream_id, shard_of
from tasker.service.actors.limits.places import Places
from tasker.service.domain import decide
from tasker.service.runtime.due import DueBook
from tasker.service.runtime.reconciler import Reconciler
from tasker.testing import TaskerTest
from tasker.testing.async_kit import Run
from tasker.testing.world import SHARDS

retried = Template("retried", timeout_s=7200)


@retried.step(retry=Retry(max_attempts=2, delay_s=40, delay_s_max=3600, jitter=0), start_to_close_s=600)
async def once_more(ctx: Any, input: dict[str, Any]) -> str:
    if ctx.attempt == 1:
        raise OSError("not yet")
    await asyncio.sleep(input.get("s", 0))
    return "done"


later = Template("later")
later.delay("sleep", 3000)
asked = Template("asked", timeout_s=50)
asked.wait("go", "go")
overdue = Template("overdue")
overdue.wait("go", "go", wait_deadline_s=45, on_wait_deadline="continue")
tills = Template("tills", concurrency=Concurrency(key="input.till", limit=1))
tills.delay("count", 100)


@pytest.fixture
async def tasker() -> AsyncIterator[TaskerTest]:
    async with TaskerTest(retried, later, asked, overdue, tills) as kit:
        yield kit


class Inside:
    """The parts of the running service that a loss is planted in."""

    def __init__(self, kit: TaskerTest) -> None:
        side = kit._world._side
        assert side is not None
        self.kit = kit
        self.shards = side._shards
        self.node = side._node
        self.reconciler: Reconciler = side._reconciler

    def book(self, of: Run | UUID) -> DueBook:
        found = self.shards.book_of(shard_of(_stream_of(of), SHARDS))
        assert found is not None
        return found

    def drop_wakes(self, of: Run | UUID) -> None:
        """Nothing wakes the stream any more."""
        book = self.book(of)
        book._heap = [wake for wake in book._heap if wake[2] != _stream_of(of)]

    def drop_owed(self, of: Run | UUID) -> None:
        """The book and the rows know nothing of the stream."""
        book = self.book(of)
        for known in (book._open, book._dirty, book._writing, book._rows):
            known.pop(_stream_of(of), None)
        self.drop_rows(of)

    def drop_rows(self, of: Run | UUID, kept: str = "") -> None:
        due = self.kit._world.log._shards[self.book(of).shard].due
        for key in [key for key in due if key[0] == _stream_of(of) and key[1] != kept]:
            del due[key]

    def is_in_memory(self, run: Run) -> bool:
        return self.shards.knows(self.book(run).shard, UUID(run.task_id))

    async def to_rows(self) -> None:
        """Let idle tasks live in their rows alone."""
        await self.kit._do(self.node.write_due())
        self.shards.passivate(-1)

    async def look(self, passes: int = 2 * SHARDS) -> None:
        for _ in range(passes):
            await self.kit._do(self.reconciler.look())
        await self.kit.advance(0.1)


def _stream_of(of: Run | UUID) -> UUID:
    return of if isinstance(of, UUID) else UUID(of.task_id)


def repairs(kit: TaskerTest, stream_id: UUID) -> list[Any]:
    """Return what was recorded in a stream that is no task's of its repairs."""
    events = [from_recorded(one) for one in kit._world.log.events_of(stream_id)]
    return [event for event in events if isinstance(event, ScheduleReconciled | ConcurrencyKeyReconciled)]


def reconciled(kit: TaskerTest, run: Run) -> list[TaskReconciled]:
    events = [from_recorded(one) for one in kit._world.log.events_of(UUID(run.task_id))]
    return [event for event in events if isinstance(event, TaskReconciled)]


CASES = {
    "retried": ("retry:once_more:2", 45, "completed"),
    "asked": ("deadline", 55, "failed"),
    "overdue": ("wait_by:go:1", 50, "completed"),
}
"""Template -> what is owed soon, how long it takes for all of it to be overdue, and how the task ends by it."""


@pytest.mark.parametrize("template", CASES)
async def test_an_obligation_without_a_wake_is_brought_back(tasker: TaskerTest, template: str) -> None:
    obligation, after_s, state = CASES[template]
    run = await tasker.start({}, template=template)
    inside = Inside(tasker)
    inside.drop_wakes(run)
    await tasker.advance(after_s)
    assert run.state == "running", "it is lost"
    await tasker.advance(31)
    await inside.look(1)
    assert run.state == state
    assert reconciled(tasker, run) == [TaskReconciled(lost="not_woken", obligations=(obligation,))]
    assert inside.reconciler.repaired == {"forgotten": 0, "not_woken": 1}


@pytest.mark.parametrize("template", CASES)
async def test_an_obligation_that_the_book_forgot_is_brought_back(tasker: TaskerTest, template: str) -> None:
    obligation, after_s, state = CASES[template]
    run = await tasker.start({}, template=template)
    inside = Inside(tasker)
    inside.drop_owed(run)
    await inside.look()
    [found] = reconciled(tasker, run)
    assert found.lost == "forgotten"
    assert obligation in found.obligations
    await tasker.advance(after_s)
    assert run.state == state


async def test_a_full_history_blocks_its_task_instead(tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its actor failed at each look, for ever, and nobody was told that the task stands still."""
    run = await tasker.start({}, template="asked")
    inside = Inside(tasker)
    inside.drop_owed(run)
    monkeypatch.setattr(decide, "HISTORY_EVENTS_MAX", decide.HISTORY_EVENTS_RESERVED)
    await inside.look()
    assert run.state == "blocked"
    assert run.events[-1].type == "task_blocked"
    assert reconciled(tasker, run) == []
    assert inside.reconciler.repaired == {"forgotten": 0, "not_woken": 0}


async def test_a_task_that_no_row_knows_is_found_in_the_log(tasker: TaskerTest) -> None:
    run = await tasker.start({}, template="later")
    inside = Inside(tasker)
    await inside.to_rows()
    assert not inside.is_in_memory(run)
    inside.drop_rows(run)
    await inside.look(1 + SHARDS)
    assert reconciled(tasker, run) == [], "once is not enough: it might be on its way"
    await inside.look(SHARDS)
    assert reconciled(tasker, run) == [TaskReconciled(lost="forgotten", obligations=("timer:sleep:1",))]
    await inside.to_rows()
    await tasker.advance(3001)
    assert run.state == "completed"
    await inside.look()
    assert len(reconciled(tasker, run)) == 1


async def test_one_lost_row_of_several_is_found_too(tasker: TaskerTest) -> None:
    run = await tasker.start({}, template="retried")
    inside = Inside(tasker)
    await tasker.advance(45)
    late = await tasker.start({"s": 0}, template="retried")
    inside.drop_owed(late)
    await inside.to_rows()
    inside.drop_rows(late, kept="deadline")
    await inside.look(3 * SHARDS)
    await tasker.advance(45)
    assert (run.state, late.state) == ("completed", "completed")
    assert reconciled(tasker, run) == []
    assert [event.lost for event in reconciled(tasker, late)] == ["forgotten"]


SCHEDULE = schedule_stream_id("default", "default", "often")
KEY = concurrency_stream_id("default", "default", "tills", "", '"a"')


LOST: tuple[Literal["not_woken", "forgotten"], ...] = ("not_woken", "forgotten")


@pytest.mark.parametrize("lost", LOST)
async def test_a_schedule_that_would_never_fire_again_is_brought_back(
    tasker: TaskerTest, lost: Literal["not_woken", "forgotten"]
) -> None:
    """With an event in its history, once; what fell due meanwhile is made up for."""
    schedule = await tasker.schedule("often", template="later", every_s=20, overlap="allow")
    await tasker.advance(50)
    inside = Inside(tasker)
    if lost == "not_woken":
        inside.drop_wakes(SCHEDULE)
        await tasker.advance(39)
        assert len(schedule.fires) == 2, "it is lost"
        await tasker.advance(2)
    else:
        inside.drop_owed(SCHEDULE)
        await tasker.advance(4)
    await inside.look()
    assert repairs(tasker, SCHEDULE) == [ScheduleReconciled(lost=lost, obligations=("fire",))]
    await tasker.advance(60)
    assert len(schedule.fires) == (7 if lost == "not_woken" else 5)
    await inside.look()
    assert inside.reconciler.repaired == {"forgotten": 0, "not_woken": 0} | {lost: 1}
    assert len(repairs(tasker, SCHEDULE)) == 1
    fires = len(schedule.fires)
    await inside.to_rows()
    await tasker.crash_service()
    await tasker.advance(40)
    assert len(schedule.fires) == fires + 2
    assert schedule.state == "active"


@pytest.mark.parametrize("lost", LOST)
async def test_a_key_that_would_never_ask_its_holders_again_is_brought_back(
    tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch, lost: Literal["not_woken", "forgotten"]
) -> None:
    monkeypatch.setattr(Places, "leave", lambda *_: None)  # nobody tells that a holder has ended
    first, second = [await tasker.start({"till": "a"}, template="tills") for _ in range(2)]
    inside = Inside(tasker)
    if lost == "not_woken":
        inside.drop_wakes(KEY)
        await tasker.advance(35)
        assert repairs(tasker, KEY) == []
        await tasker.advance(6)
    else:
        inside.drop_owed(KEY)
    await inside.look()
    assert repairs(tasker, KEY) == [ConcurrencyKeyReconciled(lost=lost, obligations=("look",))]
    await tasker.advance(300)
    assert (first.state, second.state) == ("completed", "completed")
    assert inside.reconciler.repaired == {"forgotten": 0, "not_woken": 0} | {lost: 1}


async def test_it_outlives_the_owner(tasker: TaskerTest) -> None:
    """What was brought back is in the rows again: another owner knows of it without the log."""
    run = await tasker.start({}, template="later")
    inside = Inside(tasker)
    await inside.to_rows()
    inside.drop_rows(run)
    await inside.look(3 * SHARDS)
    await inside.to_rows()
    await tasker.crash_service()
    await tasker.advance(3001)
    assert run.state == "completed"


async def test_nothing_is_found_where_nothing_is_lost(tasker: TaskerTest) -> None:
    """At any moment, with tasks in memory and in rows alone, over a crash, paused and waiting for people."""
    runs = [await tasker.start({"s": 5}, template=name) for name in (*CASES, "later") for _ in range(5)]
    paused = await tasker.start({}, template="retried")
    await tasker.schedule("often", template="later", every_s=20, overlap="allow")
    for _ in range(3):
        await tasker.start({"till": "a"}, template="tills")
    await tasker._do(tasker._command(tasker._world.client.pause(paused.task_id)))
    for seconds in (0, 20, 21, 30, 1, 100):
        inside = Inside(tasker)
        await inside.look(4)
        await tasker.advance(seconds)
        await inside.look(2 * SHARDS)
        assert inside.reconciler.repaired == {"forgotten": 0, "not_woken": 0}
        await inside.to_rows()
        await inside.look(2 * SHARDS)
        assert inside.reconciler.repaired == {"forgotten": 0, "not_woken": 0}
        if seconds == 30:
            await tasker.crash_service()
    assert all(reconciled(tasker, run) == [] for run in (*runs, paused))
    assert [repairs(tasker, stream) for stream in (SCHEDULE, KEY)] == [[], []]
