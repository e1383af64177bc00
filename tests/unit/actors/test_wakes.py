"""Obligations whose time comes while something about them is on its way to the log."""

from uuid import UUID

import pytest

from tasker.errors import Fenced
from tasker.events.history import History
from tasker.events.log import Due
from tasker.events.messages import Report, ReportReply
from tasker.service.actors.task_actor import TaskActor
from tasker.service.actors.task_messages import ReportMessage
from tasker.service.runtime.due import UNFOLDED, DueBook
from tasker.service.runtime.node import Wake
from tests.runs import T0_US, Run, linear
from tests.unit.actors.test_factory import Bench, recorded

OFFER = "offer:s1:1"


class Task:
    """A task with one step on offer, and the book of its shard, whose rows are written."""

    def __init__(self, actor: TaskActor, stream_id: UUID) -> None:
        self.actor = actor
        self.stream_id = stream_id
        self.book = DueBook(0)
        self.book.adopt(stream_id, actor.owes(), written=True)

    def deletes(self) -> list[str]:
        """What the next write takes out of the log's rows."""
        change = self.book.changes(1)
        return [] if change is None else [name for _, name in change.deletes]


@pytest.fixture
async def task() -> Task:
    factory = await Bench().factory()
    run = Run(linear(1))
    run.create()
    factory._directory.keep(run.template)
    actor = await factory.revive(run.task_id, History.of(recorded(run)), "task")
    assert isinstance(actor, TaskActor)
    return Task(actor, run.task_id)


async def test_a_task_that_can_be_folded_again_owes_what_it_owes(task: Task) -> None:
    """An older build left the one row that it could; what it did not understand is written now, and the row goes."""
    book = DueBook(0)
    book.load([Due(0, task.stream_id, UNFOLDED, 1)])
    assert book.pop_due(T0_US, 10) == [(task.stream_id, UNFOLDED)]
    book.adopt(task.stream_id, task.actor.owes(), written=True)
    # Whatever the wake comes to find: nothing is left of it.
    assert task.actor.receive(Wake(book, task.stream_id, UNFOLDED, T0_US), T0_US) is None
    change = book.changes(1)
    assert change is not None
    assert [name for _, name, _ in change.upserts] == [OFFER]
    assert [name for _, name in change.deletes] == [UNFOLDED]


@pytest.mark.parametrize("lost", [False, True])
async def test_what_a_pending_event_closes_stays_owed_until_that_is_recorded(task: Task, *, lost: bool) -> None:
    """Were the report never recorded, nobody else would know that the step is to be offered."""
    told: list[ReportReply] = []
    report = Report(kind="started", task_id=str(task.stream_id), step="s1", attempt=1, worker="w")
    started = task.actor.receive(
        ReportMessage(tenant="default", report=report, answered=told.append, fail=lambda _: None), T0_US
    )
    assert started is not None
    assert started.events
    [(stream_id, obligation)] = task.book.pop_due(T0_US, 10)
    wake = Wake(task.book, stream_id, obligation, T0_US)
    turn = task.actor.receive(wake, T0_US)
    assert (obligation, task.deletes()) == (OFFER, [])
    assert turn is not None
    assert not turn.events
    if lost:
        turn.failed(Fenced("lost"))
        assert task.deletes() == []
        assert len(task.book) == 1
    else:
        turn.committed(1)
        assert task.deletes() == [OFFER]
