"""The priority of a task: given at its creation, by its template, and changed while it runs."""

import pytest

from tasker.errors import BodyInvalid, TaskEnded, TemplateInvalid
from tasker.events.messages import TaskCreate
from tasker.events.task_events import TaskCreated, TaskUpdated
from tasker.service.actors.entrances.requests import check_create
from tasker.service.domain.obligations import obligations_of
from tasker.service.domain.repairs.restart import original_of
from tasker.service.domain.state_document import state_document
from tasker.templates import canonical_bytes, validate
from tasker.templates.model import document_of
from tasker.templates.yaml import load_yaml
from tests.runs import Run, linear

PLAIN = {"name": "t", "steps": [{"name": "a"}]}


def test_it_is_recorded_with_the_task_and_left_out_where_it_is_usual() -> None:
    run = Run(linear(1))
    created, *_ = run.create(priority=-7)
    assert isinstance(created, TaskCreated)
    assert (created.priority, run.state.priority) == (-7, -7)
    assert state_document(run.state)["priority"] == -7
    usual = Run(linear(1))
    usual.create()
    assert "priority" not in state_document(usual.state)


def test_it_changes_while_the_task_runs_and_what_is_owed_stays() -> None:
    run = Run(linear(1))
    run.create(priority=5)
    owed = obligations_of(run.state)
    assert run.update(priority=5) == ()
    assert run.update(priority=0) == (TaskUpdated(priority=0),)
    assert run.state.priority == 0
    assert run.update(tags={"a": "b"}) == (TaskUpdated(tags={"a": "b"}),)
    assert obligations_of(run.state) == owed


def test_a_task_that_has_ended_keeps_it_and_a_restart_takes_it_over() -> None:
    run = Run(linear(1))
    run.create(priority=5)
    run.complete("s1")
    with pytest.raises(TaskEnded):
        run.update(priority=6)
    assert original_of(run.state, run.template).priority == 5


@pytest.mark.parametrize("priority", [-101, 101])
def test_it_has_bounds(priority: int) -> None:
    with pytest.raises(BodyInvalid, match="from -100 to 100"):
        check_create(TaskCreate(template="t", priority=priority))
    with pytest.raises(TemplateInvalid, match="/priority"):
        validate(PLAIN | {"priority": priority})
    check_create(TaskCreate(template="t", priority=100))


def test_a_template_has_it_as_a_default_that_is_part_of_its_content() -> None:
    spec = load_yaml("name: t\npriority: -20\nsteps:\n  - name: a\n")
    assert spec.priority == -20
    assert document_of(spec) == PLAIN | {"priority": -20}
    assert b'"priority":-20' in canonical_bytes(spec)
    assert b"priority" not in canonical_bytes(validate(PLAIN))
    with pytest.raises(TemplateInvalid, match="line 2"):
        load_yaml("name: t\npriority: high\nsteps:\n  - name: a\n")
