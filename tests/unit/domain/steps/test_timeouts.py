"""What happens when a limit is over, where the template says that: of steps, and of the task's deadline."""

from typing import Any

import pytest

from tasker.errors import StateForbids
from tasker.events.task_events import (
    DomainEventRaised,
    ErrorInfo,
    StepAttemptFailed,
    StepCompleted,
    StepDispatched,
    StepFailed,
    StepFailureAccepted,
    StepRetryScheduled,
    StepTimedOut,
    TaskBlocked,
    TaskCompleted,
    TaskDeadlinePassed,
    TaskDeadlineSet,
    TaskFailed,
    TaskStopping,
)
from tasker.service.domain.obligations import obligations_of
from tasker.service.domain.state import TaskStatus
from tasker.service.domain.state_document import state_document
from tests.runs import Run, template, types

LIMITS = {
    "schedule_to_start": ({"schedule_to_start_s": 5}, "start_by:a:1", False),
    "start_to_close": ({}, "finish_by:a:1", True),
    "heartbeat": ({}, "heartbeat:a:1", True),
    "schedule_to_close": ({"schedule_to_close_s": 60}, "close_by:a:1", True),
}
"""Limit -> keys that set it, its obligation, and whether the attempt has to run for it."""


def run_of(step: dict[str, Any], **keys: Any) -> Run:
    run = Run(template({"a": [], "b": ["a"]}, steps={"a": step}, **keys))
    run.create()
    return run


def over(limit: str, then: str, **keys: Any) -> tuple[Run, tuple[Any, ...]]:
    more, obligation, runs = LIMITS[limit]
    run = run_of({"on_timeout": {limit: then}, **more}, **keys)
    if runs:
        run.start("a")
    return run, run.fire_at(obligation)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_step_that_fails_at_once_has_no_further_attempt(limit: str) -> None:
    run, events = over(limit, "fail")
    if limit == "schedule_to_close":  # as by default: nothing is said of that
        assert types(events) == [StepAttemptFailed, StepFailed, TaskBlocked]
        return
    assert types(events) == [StepAttemptFailed, StepTimedOut, StepFailed, TaskBlocked]
    assert (events[1].limit, events[1].then) == (limit, "fail")
    assert events[2].reason == "timed_out"
    assert run.state.status is TaskStatus.BLOCKED


@pytest.mark.parametrize("limit", LIMITS)
def test_a_step_that_blocks_waits_for_a_person_where_others_would_end_the_task(limit: str) -> None:
    run, events = over(limit, "block", on_failure="fail")
    assert types(events) == [StepAttemptFailed, StepTimedOut, StepFailed, TaskBlocked]
    assert events[-1] == TaskBlocked(reason="step_failed", steps=("a",))
    assert state_document(run.state)["steps"]["a"]["timed_out"] == "block"
    run.retry("a")
    assert run.offered() == ["a"]
    assert types(run.fail("a", 2, ErrorInfo(type="Bad", message="", retryable=False)))[-1] is TaskFailed


@pytest.mark.parametrize("limit", LIMITS)
def test_a_step_that_continues_completes_with_null(limit: str) -> None:
    run, events = over(limit, "continue")
    assert types(events) == [StepAttemptFailed, StepTimedOut, StepCompleted, StepDispatched]
    assert run.result_of("a") is None
    assert run.offered() == ["b"]
    assert run.complete("a", 1, 7) == ()  # what a worker says later does not count


def test_without_the_key_an_attempt_is_retried_and_no_event_is_new() -> None:
    for limit in ("schedule_to_start", "start_to_close", "heartbeat"):
        assert types(over(limit, "retry")[1]) == [StepAttemptFailed, StepRetryScheduled]


def test_each_limit_has_its_own_word() -> None:
    run = run_of({"on_timeout": {"start_to_close": "continue"}})
    run.start("a")
    assert types(run.fire_at("heartbeat:a:1")) == [StepAttemptFailed, StepRetryScheduled]


def test_a_worker_that_tells_of_the_timeout_first_says_the_same() -> None:
    run = run_of({"on_timeout": {"start_to_close": "continue"}})
    run.start("a")
    assert types(run.fail("a", 1, ErrorInfo(type="timeout", message="it ran too long"))) == [
        StepAttemptFailed,
        StepTimedOut,
        StepCompleted,
        StepDispatched,
    ]


def test_a_worker_that_was_stopped_is_no_silent_one() -> None:
    run = run_of({"on_timeout": {"heartbeat": "fail", "start_to_close": "fail"}})
    run.start("a")
    lost = ErrorInfo(type="worker_lost", message="its worker is shut down")
    assert types(run.fail("a", 1, lost)) == [StepAttemptFailed, StepRetryScheduled]


def test_between_two_attempts_the_whole_time_may_be_over_too() -> None:
    run = run_of({"schedule_to_close_s": 60, "on_timeout": {"schedule_to_close": "continue"}, "retry": {"delay_s": 30}})
    run.wait(55)
    run.fail("a")
    assert types(run.fire_at("close_by:a:1")) == [StepTimedOut, StepCompleted, StepDispatched]


def test_a_join_that_can_do_without_goes_on_without() -> None:
    """Who can do without the step does, whoever would decide about its failure."""
    shape = {"a": [], "b": [], "c": ["a", "b"]}
    steps = {"a": {"on_timeout": {"heartbeat": "block"}}, "c": {"join": "all_settled"}}
    run = Run(template(shape, steps=steps, on_failure="fail"))
    run.create()
    run.start("a")
    assert StepFailureAccepted in types(run.fire_at("heartbeat:a:1"))
    run.complete("b")
    assert types(run.complete("c"))[-1] is TaskCompleted


def test_one_item_may_be_left_for_a_person() -> None:
    step = {"each": "[1, 2]", "on_item_failure": "isolate", "on_timeout": {"heartbeat": "block"}}
    run = Run(template({"a": []}, steps={"a": step}, on_failure="fail"))
    run.create()
    run.start("a[0]")
    run.fire_at("heartbeat:a[0]:1")
    assert run.state.stopping is None
    assert types(run.complete("a[1]"))[-1] is TaskBlocked
    run.resolve("a[0]", 7)
    assert run.result() == [7, 1]


def test_an_item_that_continues_is_null_in_the_list() -> None:
    step = {"each": "[1, 2]", "on_timeout": {"start_to_close": "continue"}}
    run = Run(template({"a": []}, steps={"a": step}))
    run.create()
    run.start("a[0]")
    run.fire_at("finish_by:a[0]:1")
    run.complete("a[1]", result=2)
    assert run.result() == [None, 2]


def test_it_holds_while_the_task_stops_or_is_paused() -> None:
    run = run_of({"on_timeout": {"heartbeat": "continue"}})
    run.start("a")
    run.pause()
    assert types(run.fire_at("heartbeat:a:1")) == [StepAttemptFailed, StepTimedOut, StepCompleted]
    assert StepDispatched in types(run.resume())


def test_domain_events_tell_of_a_failure() -> None:
    emits = [{"name": "a.lost", "on": "permanent", "auto": True}, {"name": "a.done", "auto": True}]
    run = run_of({"on_timeout": {"heartbeat": "continue"}, "emits": emits})
    run.start("a")
    raised = [event for event in run.fire_at("heartbeat:a:1") if isinstance(event, DomainEventRaised)]
    assert [(event.name, event.outcome) for event in raised] == [("a.lost", "permanent")]


# ---------------------------------------------------------------- the deadline


def late(then: str, *, shape: Any = None, **keys: Any) -> Run:
    run = Run(template(shape or {"a": [], "b": ["a"]}, timeout_s=60, on_timeout=then, **keys))
    run.create(timeout_s=60)
    return run


def test_at_its_deadline_a_task_stops_by_default() -> None:
    assert types(late("fail").fire_at("deadline"))[0] is TaskStopping


def test_a_task_that_blocks_at_its_deadline_begins_nothing_more() -> None:
    run = late("block")
    run.start("a")
    assert run.fire_at("deadline") == (TaskDeadlinePassed(then="block"), TaskBlocked(reason="deadline_passed"))
    assert "finish_by:a:1" in run.owes(), "what runs may end"
    assert types(run.complete("a")) == [StepCompleted]
    with pytest.raises(StateForbids, match="tasker task deadline"):
        run.resume()
    run.wait(30)
    assert run.deadline(within_s=100) == (
        TaskDeadlineSet(deadline_us=run.now_us + 100_000_000, goes_on=True),
        StepDispatched(step="b", attempt=1),
    )
    assert "deadline" in run.owes()


def test_without_a_deadline_it_goes_on_as_well() -> None:
    run = late("block")
    run.fire_at("deadline")
    assert types(run.deadline()) == [TaskDeadlineSet]
    assert run.offered() == ["a"]
    assert obligations_of(run.state) == run.owes()


def test_what_its_running_steps_complete_is_complete() -> None:
    run = late("block", shape={"a": []})
    run.start("a")
    run.fire_at("deadline")
    assert types(run.complete("a")) == [StepCompleted, TaskCompleted]


def test_a_task_that_continues_is_told_of_its_deadline_once() -> None:
    run = late("continue")
    assert run.fire_at("deadline") == (TaskDeadlinePassed(then="continue"),)
    assert "deadline" not in run.owes()
    run.complete("a")
    assert types(run.complete("b"))[-1] is TaskCompleted


def test_a_blocked_task_whose_deadline_passes_too_waits_for_that_first() -> None:
    run = late("block")
    run.fail("a", 1, ErrorInfo(type="Bad", message="", retryable=False))
    assert run.fire_at("deadline")[-1] == TaskBlocked(reason="deadline_passed")
    assert StepDispatched not in types(run.retry("a")), "nothing begins"
    assert StepDispatched in types(run.deadline())


def test_a_paused_task_is_blocked_once_it_is_resumed() -> None:
    run = late("block")
    run.pause()
    assert run.fire_at("deadline") == (TaskDeadlinePassed(then="block"),)
    assert types(run.resume())[-1] is TaskBlocked


def test_a_task_that_has_not_begun_is_blocked_and_waits_for_its_start_behind_another_deadline() -> None:
    run = Run(template({"a": []}, on_timeout="block"))
    run.create(timeout_s=60, not_before_us=run.now_us + 90_000_000)
    assert run.fire_at("deadline")[-1] == TaskBlocked(reason="deadline_passed")
    assert run.owes() == {}
    assert run.deadline() == (TaskDeadlineSet(goes_on=True, pending=True),)
    assert run.state.status is TaskStatus.PENDING
    assert set(run.owes()) == {"not_before"}
    assert StepDispatched in types(run.fire_at("not_before"))


def test_a_task_that_was_paused_before_it_began_is_blocked_once_it_is_resumed() -> None:
    run = Run(template({"a": []}, on_timeout="block"))
    run.create(timeout_s=60, not_before_us=run.now_us + 30_000_000)
    run.pause()
    run.fire_at("deadline")
    assert run.resume()[-1] == TaskBlocked(reason="deadline_passed")
    run.pause()
    assert run.resume()[-1] == TaskBlocked(reason="deadline_passed")
    run.deadline()
    assert StepDispatched in types(run.fire_at("not_before"))


def test_a_task_that_waits_for_its_place_is_blocked_and_waits_for_it_behind_another_deadline() -> None:
    run = Run(template({"a": []}, on_timeout="block", concurrency={"key": "'k'"}))
    run.create(timeout_s=60)
    assert run.fire_at("deadline")[-1] == TaskBlocked(reason="deadline_passed")
    run.deadline()
    assert run.state.status is TaskStatus.PENDING
    assert StepDispatched in types(run.take())


def test_a_deadline_that_a_paused_task_gets_lets_it_wait_for_its_start_once_it_is_resumed() -> None:
    run = Run(template({"a": []}, on_timeout="block"))
    run.create(timeout_s=60, not_before_us=run.now_us + 90_000_000)
    run.fire_at("deadline")
    run.pause()
    assert run.deadline() == (TaskDeadlineSet(pending=True),)
    run.resume()
    assert run.state.status is TaskStatus.PENDING
    assert set(run.owes()) == {"not_before"}


def test_a_place_that_comes_to_a_task_past_its_deadline_is_used_behind_another_one() -> None:
    run = Run(template({"a": []}, on_timeout="block", concurrency={"key": "'k'"}))
    run.create(timeout_s=60)
    run.fire_at("deadline")
    run.take()
    assert run.state.status is TaskStatus.BLOCKED
    assert StepDispatched in types(run.deadline())


def test_it_may_be_cancelled_and_a_later_deadline_counts_anew() -> None:
    run = late("block")
    run.fire_at("deadline")
    run.deadline(within_s=1)
    assert run.fire_at("deadline")[-1] == TaskBlocked(reason="deadline_passed")
    run.cancel()
    assert run.state.status is TaskStatus.CANCELLED
