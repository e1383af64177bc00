"""What is owed and lost is found and brought back: each kind of loss is planted; a healthy service loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from tasker import Retry, Template
from tasker.events.stored import from_recorded
from tasker.events.task_events import TaskReconciled
from tasker.ids import shard_of
from tasker.service.runtime.due import DueBook
from tasker.service.runtime.reconciler import Reconciler
from tasker.testing import TaskerTest
from tasker.testing.async_kit import Run
from tasker.testing.world import SHARDS

retried = Template("retried", timeout_s=7200)


@retried.step(retry=Retry(max_attempts=2, delay_s=40, delay_s_max=3600, jitter=0), timeout_s=600)
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
overdue.wait("go", "go", deadline_s=45, on_deadline="continue")


@pytest.fixture
async def tasker() -> AsyncIterator[TaskerTest]:
    async with TaskerTest(retried, later, asked, overdue) as kit:
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

    def book(self, run: Run) -> DueBook:
        found = self.shards.book_of(shard_of(UUID(run.task_id), SHARDS))
        assert found is not None
        return found

    def drop_wakes(self, run: Run) -> None:
        """Nothing wakes the task any more."""
        book = self.book(run)
        book._heap = [wake for wake in book._heap if str(wake[2]) != run.task_id]

    def drop_owed(self, run: Run) -> None:
        """The book and the rows know nothing of the task."""
        book, stream_id = self.book(run), UUID(run.task_id)
        for known in (book._open, book._dirty, book._writing, book._rows):
            known.pop(stream_id, None)
        self.drop_rows(run)

    def drop_rows(self, run: Run, kept: str = "") -> None:
        due = self.kit._world.log._shards[self.book(run).shard].due
        for key in [key for key in due if str(key[0]) == run.task_id and key[1] != kept]:
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
