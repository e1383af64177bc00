"""What the owner of a task says of it where a dead letter is concerned."""

import uuid

import pytest

from tasker.errors import TaskerError, TaskPoisoned
from tasker.service.actors.investigation_actor import SubjectMessage
from tasker.service.actors.poisoned_task import PoisonedActor
from tasker.service.domain.dead_letters.investigation import Subject


@pytest.mark.parametrize(
    ("tenant", "step", "is_told"), [("default", "", True), ("default", "charge", False), ("acme", "", False)]
)
def test_a_poisoned_task_is_dead_as_a_whole_and_to_its_tenant_alone(tenant: str, step: str, is_told: bool) -> None:  # noqa: FBT001 - the table
    actor = PoisonedActor(uuid.uuid4(), 0, "event 3 cannot be read", tenant="default")
    told: list[Subject] = []
    refused: list[TaskerError] = []
    turn = actor.receive(SubjectMessage(tenant=tenant, step=step, answered=told.append, fail=refused.append), 1)
    assert turn is not None
    assert turn.events == ()
    turn.committed(7)
    assert told == ([Subject("", 0, is_dead=True)] if is_told else [])
    assert [type(error) for error in refused] == ([] if is_told else [TaskPoisoned])
