"""A task has a bounded number of events; at the limit it can only be ended."""

import pytest

from tasker.errors import HistoryLimit
from tasker.events.task_events import (
    StepCancelled,
    StepCancelRequested,
    TaskBlocked,
    TaskCancelled,
    TaskFailed,
    TaskStopping,
)
from tasker.service.domain.state import TaskStatus
from tests.runs import Run, linear


@pytest.fixture(autouse=True)
def few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three events, of which none is kept back."""
    monkeypatch.setattr("tasker.service.domain.decide.HISTORY_EVENTS_MAX", 3)
    monkeypatch.setattr("tasker.service.domain.decide.HISTORY_EVENTS_RESERVED", 0)


def at_limit(timeout_s: float | None = None) -> Run:
    run = Run(linear(2))
    run.create(timeout_s=timeout_s)
    run.start("s1")
    return run


def test_what_would_go_beyond_the_limit_blocks_the_task() -> None:
    run = at_limit()
    assert run.complete("s1") == (TaskBlocked(reason="history_limit", detail="3 events of at most 3"),)
    assert (run.state.status, run.state.blocked_reason) == (TaskStatus.BLOCKED, "history_limit")
    assert run.owes() == {}
    assert run.complete("s1") == run.fail("s1") == run.fire("heartbeat:s1:1") == ()


def test_what_changes_nothing_does_not_block() -> None:
    run = at_limit()
    assert run.start("s1") == run.fire("retry:s1:2") == run.fire("offer:s1:1") == run.complete("s2") == ()
    assert run.state.status is TaskStatus.RUNNING


def test_a_retry_is_refused() -> None:
    run = Run(linear(1, retry={"max_attempts": 1}))
    run.create()
    run.fail("s1")
    for step in (None, "s1"):
        with pytest.raises(HistoryLimit):
            run.retry(step)


def test_a_blocked_task_can_be_cancelled_and_its_running_steps_have_their_grace() -> None:
    run = at_limit()
    run.complete("s1")
    assert [type(one) for one in run.cancel()] == [TaskStopping, StepCancelRequested]
    assert [type(one) for one in run.fire_at("grace:s1:1")] == [StepCancelled, TaskCancelled]


def test_a_step_that_was_told_may_still_complete() -> None:
    run = at_limit()
    run.complete("s1")
    run.cancel()
    assert isinstance(run.complete("s1")[-1], TaskCancelled)


def test_the_timeout_ends_a_blocked_task() -> None:
    run = at_limit(timeout_s=60)
    run.complete("s1")
    run.fire_at("deadline")
    assert isinstance(run.fire_at("grace:s1:1")[-1], TaskFailed)
