"""A task that a person ends: completed with his result, failed with his error."""

import pytest

from tasker.errors import StateForbids, TaskEnded, TaskUnknown
from tasker.events.task_events import (
    NULL,
    ErrorInfo,
    StepCancelled,
    StepCancelRequested,
    TaskCompensating,
    TaskCompleted,
    TaskFailed,
    TaskStopping,
)
from tasker.service.domain.commands import CompleteTask
from tasker.service.domain.dry_run import would_cause
from tasker.service.domain.obligations import obligations_of
from tasker.service.domain.state import TaskStatus
from tasker.service.domain.state_document import state_hash
from tests.runs import DIAMOND, T0_US, Run, created, linear, raw, template

FINAL = ErrorInfo(type="NoSuchCard", message="no", retryable=False)
ERROR = ErrorInfo(type="failed_by_operator", message="bankrupt", retryable=False)
COMPLETED = TaskStopping(ending="completed", cause="operator", result=raw({"by": "hand"}))


def test_what_runs_has_its_grace_and_then_the_task_has_the_persons_result() -> None:
    run = created(Run(template(DIAMOND)))
    run.complete("a", result=1)
    run.start("b")
    stopping, requested, cancelled = run.force_complete({"by": "hand"})
    assert stopping == COMPLETED
    assert (type(requested), type(cancelled)) == (StepCancelRequested, StepCancelled)
    assert run.state.status is TaskStatus.RUNNING
    assert run.complete("b", result=7)[-1] == TaskCompleted(result=raw({"by": "hand"}))
    assert (run.state.status, bytes(run.state.result or NULL)) == (TaskStatus.COMPLETED, b'{"by":"hand"}')
    assert obligations_of(run.state) == {}


def test_a_handler_that_does_not_stop_is_not_waited_for() -> None:
    run = created(Run(linear(1)))
    run.start("s1")
    run.force_complete(None)
    assert run.fire_at("grace:s1:1")[-1] == TaskCompleted(result=NULL)


@pytest.mark.parametrize("how", ["pending", "blocked", "paused", "offered"])
def test_a_task_that_stands_still_ends_at_once(how: str) -> None:
    run = Run(linear(2))
    run.create(not_before_us=T0_US + 60_000_000 if how == "pending" else None)
    if how == "blocked":
        run.fail("s1", error=FINAL)
    elif how == "paused":
        run.pause()
    assert run.force_complete(None)[-1] == TaskCompleted(result=NULL)
    assert run.state.status is TaskStatus.COMPLETED


def test_a_task_that_is_made_to_fail_fails_with_the_persons_error() -> None:
    run = created(Run(linear(2)))
    assert run.force_fail(ERROR)[-1] == TaskFailed(cause="operator", error=ERROR)
    assert (run.state.status, run.state.error) == (TaskStatus.FAILED, ERROR)


def test_it_compensates_when_it_is_made_to_fail_and_not_when_it_is_made_to_complete() -> None:
    shape, steps = {"a": [], "b": ["a"]}, {"a": {"compensate": "undo"}}
    failed = created(Run(template(shape, steps=steps)))
    failed.complete("a", result=1)
    assert TaskCompensating(steps=("a",), instances=1) in failed.force_fail(ERROR)
    assert failed.complete("a~undo")[-1] == TaskFailed(cause="operator", error=ERROR)
    completed = created(Run(template(shape, steps=steps)))
    completed.complete("a", result=1)
    assert completed.force_complete(1)[-1] == TaskCompleted(result=raw(1))


def test_what_comes_behind_the_end_is_refused_or_says_nothing() -> None:
    run = Run(linear(1))
    with pytest.raises(TaskUnknown):
        run.force_complete(None)
    run.create()
    run.start("s1")
    run.force_complete(1)
    with pytest.raises(StateForbids, match="ending as completed"):
        run.force_fail(ERROR)
    with pytest.raises(StateForbids, match="ending as completed"):
        run.cancel()
    run.complete("s1", result="late")
    with pytest.raises(TaskEnded):
        run.force_complete(2)
    assert run.complete("s1", result="later") == ()


def test_a_result_that_comes_first_is_the_tasks() -> None:
    run = created(Run(linear(1)))
    run.complete("s1", result="first")
    with pytest.raises(TaskEnded):
        run.force_complete("second")


def test_a_dry_run_changes_nothing() -> None:
    run = created(Run(linear(1)))
    before = state_hash(run.state)
    command = CompleteTask(result=raw(1), grace_s=10, at_us=run.now_us)
    assert [type(one) for one in would_cause(run.state, run.template, command)][-1] is TaskCompleted
    assert state_hash(run.state) == before
