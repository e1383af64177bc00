"""Children whose parent stops while they are being started."""

import pytest

from tasker.events.history import History
from tasker.service.actors.children.child_news import ChildHint, ChildNews
from tasker.service.actors.task_actor import TaskActor
from tasker.service.domain.commands import NoteChild
from tasker.service.domain.state import ChildrenTold
from tests.runs import T0_US, Run, template
from tests.unit.actors.test_factory import Bench, recorded


class Children:
    """Notes what would be told to the owners of children."""

    def __init__(self) -> None:
        self.held: list[tuple[str, int, ChildrenTold]] = []
        self.cancelled: list[tuple[str, int]] = []

    def start(self, actor: TaskActor, step: str, attempt: int) -> None:
        pass

    def ask(self, actor: TaskActor, step: str, attempt: int) -> None:
        pass

    def cancel(self, actor: TaskActor, step: str, attempt: int) -> None:
        self.cancelled.append((step, attempt))

    def hold(self, actor: TaskActor, step: str, attempt: int, told: ChildrenTold) -> None:
        self.held.append((step, attempt, told))

    def tell_parent(self, tenant: str, task_id: str, step: str, attempt: int) -> None:
        pass


@pytest.mark.parametrize("stops", [True, False])
async def test_a_child_that_has_started_behind_its_parents_cancel_is_cancelled_at_once(*, stops: bool) -> None:
    """Not only when its step is looked at again, seconds later."""
    bench, children = Bench(), Children()
    factory = await bench.factory()
    bench.dispatcher.children = children
    run = Run(template({"kid": []}, steps={"kid": {"child": "parcel"}}))
    run.create()
    if stops:
        run.cancel()
    factory._directory.keep(run.template)
    actor = await factory.revive(run.task_id, History.of(recorded(run)), "task")
    assert isinstance(actor, TaskActor)
    news = ChildNews("kid", 1, lambda at_us: NoteChild(step="kid", attempt=1, child="c1", at_us=at_us))
    turn = actor.receive(news, T0_US)
    assert turn is not None
    turn.committed(1)
    assert children.cancelled == ([("kid", 1)] if stops else [])


@pytest.mark.parametrize("pauses", [True, False])
async def test_a_child_that_has_started_behind_its_parents_pause_is_paused_at_once(*, pauses: bool) -> None:
    bench, children = Bench(), Children()
    factory = await bench.factory()
    bench.dispatcher.children = children
    run = Run(template({"kid": []}, steps={"kid": {"child": "parcel"}}))
    run.create()
    run.pause(children=pauses)
    told = run.state.children_told
    factory._directory.keep(run.template)
    actor = await factory.revive(run.task_id, History.of(recorded(run)), "task")
    assert isinstance(actor, TaskActor)
    news = ChildNews("kid", 1, lambda at_us: NoteChild(step="kid", attempt=1, child="c1", at_us=at_us))
    turn = actor.receive(news, T0_US)
    assert turn is not None
    turn.committed(1)
    assert children.held == ([("kid", 1, told)] if pauses else [])


async def test_a_child_that_has_answered_is_not_told_again() -> None:
    bench, children = Bench(), Children()
    factory = await bench.factory()
    bench.dispatcher.children = children
    run = Run(template({"kid": []}, steps={"kid": {"child": "parcel"}}))
    run.create()
    run.child("kid", "c1")
    run.pause(children=True)
    factory._directory.keep(run.template)
    actor = await factory.revive(run.task_id, History.of(recorded(run)), "task")
    assert isinstance(actor, TaskActor)
    for _ in range(2):
        actor.receive(ChildHint(tenant=actor.tenant, task_id=str(run.task_id), step="kid", attempt=1), T0_US)
    assert len(children.held) == 2
    actor.children_told["kid"] = children.held[0][2]
    actor.receive(ChildHint(tenant=actor.tenant, task_id=str(run.task_id), step="kid", attempt=1), T0_US)
    assert len(children.held) == 2
