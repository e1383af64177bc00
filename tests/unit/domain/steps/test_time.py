"""What time does: each obligation, when it is open and what happens when it is due."""

import pytest

from tasker.errors import TaskEnded
from tasker.events.task_events import (
    ErrorInfo,
    PlaceRequested,
    StepAttemptFailed,
    StepCancelled,
    StepCancelRequested,
    StepDispatched,
    StepFailed,
    StepRetryScheduled,
    StepSkipped,
    TaskBlocked,
    TaskFailed,
    TaskStarted,
    TaskStopping,
)
from tasker.service.domain.obligations import Kind, obligations_of, parse_obligation
from tasker.service.domain.state import TaskStatus
from tests.runs import DIAMOND, T0_US, Run, linear, template

S = 1_000_000


def test_an_obligation_names_its_kind_step_and_attempt() -> None:
    assert parse_obligation("finish_by:charge:12") == (Kind.FINISH_BY, "charge", 12)
    assert parse_obligation("deadline") == (Kind.DEADLINE, "", 0)


def test_a_dispatched_step_is_offered_at_once() -> None:
    """The offer stays open until the step starts; firing it decides nothing."""
    run = Run(linear(1))
    run.create()
    assert run.owes() == {"offer:s1:1": T0_US}
    assert run.fire("offer:s1:1") == ()


def test_a_started_step_owes_a_sign_of_life_and_an_outcome() -> None:
    """The owner waits two seconds longer than `start_to_close`: the worker's own report says more."""
    run = Run(linear(1, start_to_close_s=30.0, heartbeat_s=10.0))
    run.create()
    run.wait(1)
    run.start("s1")
    assert run.owes() == {"finish_by:s1:1": T0_US + 33 * S, "heartbeat:s1:1": T0_US + 11 * S}


def test_start_to_close_fails_the_attempt() -> None:
    run = Run(linear(1))
    run.create()
    run.start("s1")
    failed, scheduled = run.fire_at("finish_by:s1:1")
    assert failed == StepAttemptFailed(
        step="s1",
        attempt=1,
        error=ErrorInfo(type="timeout", message="the attempt had no outcome within 30.0 s of its start"),
    )
    assert isinstance(scheduled, StepRetryScheduled)


def test_a_silent_worker_is_lost() -> None:
    run = Run(linear(1))
    run.create()
    run.start("s1", worker="w9")
    failed, _ = run.fire_at("heartbeat:s1:1")
    assert isinstance(failed, StepAttemptFailed)
    assert failed.error == ErrorInfo(type="worker_lost", message="worker w9 gave no sign of life for 10.0 s")


def test_schedule_to_start_fails_an_attempt_that_nobody_took() -> None:
    run = Run(linear(1, schedule_to_start_s=5.0))
    run.create()
    assert run.owes() == {"offer:s1:1": T0_US, "start_by:s1:1": T0_US + 5 * S}
    failed, _ = run.fire_at("start_by:s1:1")
    assert isinstance(failed, StepAttemptFailed)
    assert failed.error == ErrorInfo(type="timeout", message="no worker started the attempt within 5.0 s")


def test_a_start_closes_schedule_to_start() -> None:
    run = Run(linear(1, schedule_to_start_s=5.0))
    run.create()
    run.start("s1")
    assert run.fire("start_by:s1:1") == ()


def test_an_obligation_of_an_older_attempt_is_closed() -> None:
    run = Run(linear(1, retry={"backoff": "none"}))
    run.create()
    run.start("s1")
    run.fail("s1")
    run.start("s1", 2)
    for kind in ("finish_by", "heartbeat", "retry", "grace", "start_by", "offer"):
        assert run.fire(f"{kind}:s1:1") == ()


# ---------------------------------------------------------------- not before


def test_a_task_with_a_start_time_waits_for_it() -> None:
    run = Run(linear(1))
    assert len(run.create(not_before_us=T0_US + 60 * S)) == 1
    assert run.state.status is TaskStatus.PENDING
    assert run.owes() == {"not_before": T0_US + 60 * S}
    assert run.fire_at("not_before") == (TaskStarted(), StepDispatched(step="s1", attempt=1))
    assert run.fire("not_before") == ()


def test_what_a_person_does_to_a_step_before_the_task_begins_lets_nothing_begin() -> None:
    run = Run(linear(2))
    run.create(not_before_us=T0_US + 60 * S)
    assert [type(event) for event in run.skip("s1")] == [StepSkipped]
    assert run.offered() == []
    assert run.fire_at("not_before") == (TaskStarted(), StepDispatched(step="s2", attempt=1))


def test_nothing_begins_before_the_task_has_its_place_whatever_a_person_does() -> None:
    run = Run(template({"a": [], "b": ["a"]}, concurrency={"key": "'k'"}))
    run.create(not_before_us=T0_US + 60 * S)
    run.resolve("a", 1)
    assert run.offered() == []
    assert [type(event) for event in run.fire_at("not_before")] == [TaskStarted, PlaceRequested]
    assert run.take()[-1] == StepDispatched(step="b", attempt=1)


def test_a_task_whose_steps_are_all_done_by_hand_completes_when_it_begins() -> None:
    run = Run(linear(1))
    run.create(not_before_us=T0_US + 60 * S)
    run.resolve("s1", 7)
    assert set(run.owes()) == {"not_before"}
    run.fire_at("not_before")
    assert run.state.status is TaskStatus.COMPLETED


def test_a_start_time_that_has_passed_is_none() -> None:
    run = Run(linear(1))
    run.create(not_before_us=T0_US)
    assert (run.state.status, run.state.not_before_us) == (TaskStatus.RUNNING, None)


# ---------------------------------------------------------------- deadline


def test_the_timeout_counts_from_the_creation() -> None:
    run = Run(linear(1))
    run.create(timeout_s=3600, not_before_us=T0_US + 60 * S)
    assert run.owes() == {"deadline": T0_US + 3600 * S, "not_before": T0_US + 60 * S}


def test_a_task_whose_timeout_is_over_fails() -> None:
    run = Run(linear(1))
    run.create(timeout_s=60)
    assert run.fire_at("deadline") == (
        TaskStopping(ending="failed", cause="timeout"),
        StepCancelled(step="s1", attempt=1, reason="the task is stopping: timeout"),
        TaskFailed(
            cause="timeout",
            error=ErrorInfo(type="timeout", message="the task's timeout was over", retryable=False),
        ),
    )
    assert run.fire("deadline") == ()


def test_running_steps_are_told_when_the_timeout_is_over() -> None:
    """They have their grace; then the task fails."""
    run = Run(template(DIAMOND))
    run.create(timeout_s=60)
    run.complete("a")
    run.start("b")
    events = run.fire_at("deadline")
    assert events[1:] == (
        StepCancelRequested(step="b", attempt=1, grace_until_us=T0_US + 70 * S),
        StepCancelled(step="c", attempt=1, reason="the task is stopping: timeout"),
    )
    assert isinstance(run.fire_at("grace:b:1")[-1], TaskFailed)


def test_a_task_may_fail_before_its_start_time() -> None:
    run = Run(linear(1))
    run.create(timeout_s=60, not_before_us=T0_US + 3600 * S)
    assert isinstance(run.fire_at("deadline")[-1], TaskFailed)


def test_a_blocked_task_has_its_timeout_too() -> None:
    run = Run(linear(1, retry={"max_attempts": 1}))
    run.create(timeout_s=60)
    run.fail("s1")
    assert run.owes() == {"deadline": T0_US + 60 * S}
    assert isinstance(run.fire_at("deadline")[-1], TaskFailed)


def test_a_waiting_retry_is_cancelled_by_the_timeout() -> None:
    run = Run(linear(1))
    run.create(timeout_s=0.5)
    run.fail("s1")
    assert [type(one) for one in run.fire_at("deadline")] == [TaskStopping, StepCancelled, TaskFailed]


# ---------------------------------------------------------------- nothing is owed


def test_an_ended_task_owes_nothing() -> None:
    run = Run(linear(1))
    run.create(timeout_s=60)
    run.complete("s1")
    assert obligations_of(run.state) == run.owes() == {}
    for obligation in ("deadline", "not_before", "retry:s1:2", "finish_by:s1:1"):
        assert run.fire(obligation) == ()
    with pytest.raises(TaskEnded):
        run.cancel()


def test_no_time_is_so_short_that_nobody_wakes_for_it() -> None:
    """What is due at the moment of its own event wakes nobody: that is how an offer is told from a timer."""
    run = Run(linear(2, schedule_to_start_s=1e-9))
    run.create(timeout_s=1e-9)
    assert run.state.deadline_us is not None
    assert run.state.deadline_us > run.now_us
    assert run.owes()["start_by:s1:1"] > run.now_us
    run.start("s1")
    run.cancel(grace_s=1e-9)
    assert run.state.ended or run.owes()["grace:s1:1"] > run.now_us


# ---------------------------------------------------------------- over all attempts


def closing(**keys: object) -> Run:
    run = Run(template({"a": [], "b": ["a"]}, steps={"a": {"schedule_to_close_s": 60, **keys}}))
    run.create()
    return run


def test_schedule_to_close_counts_from_the_first_offer_over_all_attempts() -> None:
    run = closing(retry={"max_attempts": 100, "backoff": "constant", "delay_s": 10.0, "jitter": 0.0})
    assert run.events[1] == StepDispatched(step="a", attempt=1, close_by_us=T0_US + 60 * S)
    assert run.owes() == {"offer:a:1": T0_US, "close_by:a:1": T0_US + 60 * S}
    run.wait(1)
    run.start("a")
    assert run.owes()["close_by:a:1"] == T0_US + 60 * S
    run.fail("a")
    assert run.owes() == {"retry:a:2": T0_US + 11 * S, "close_by:a:1": T0_US + 60 * S}
    [again] = run.fire_at("retry:a:2")
    assert again == StepDispatched(step="a", attempt=2)
    assert run.owes()["close_by:a:2"] == T0_US + 60 * S


def test_it_fails_a_step_whatever_it_does() -> None:
    offered, running, waiting = closing(), closing(), closing(retry={"delay_s": 3000.0, "delay_s_max": 3000.0})
    running.start("a")
    waiting.fail("a")
    for run in (offered, running, waiting):
        *_, failed, blocked = run.fire_at("close_by:a:1")
        assert isinstance(failed, StepFailed)
        assert (failed.reason, failed.error.type, failed.error.retryable) == ("retries_exhausted", "timeout", False)
        assert "within 60 s of its first offer" in failed.error.message
        assert isinstance(blocked, TaskBlocked)
        assert run.owes() == {}
    assert isinstance(running.events[-3], StepAttemptFailed)
    assert running.complete("a") == (), "what the late worker says is stale"


def test_a_part_that_goes_on_later_has_the_same_limit_and_a_persons_retry_a_new_one() -> None:
    run = closing()
    run.give_back("a", delay_s=5.0)
    assert run.owes()["close_by:a:1"] == T0_US + 60 * S
    run.fire_at("retry:a:2")
    assert run.owes()["close_by:a:2"] == T0_US + 60 * S
    run.fire_at("close_by:a:2")
    run.wait(100)
    run.retry("a")
    assert run.owes()["close_by:a:3"] == run.now_us + 60 * S
    run.complete("a", 3)
    assert run.owes() == {"offer:b:1": run.now_us}


def test_each_item_has_it_and_a_pause_does_not_stop_it() -> None:
    run = Run(template({"m": []}, steps={"m": {"each": "[1, 2]", "max_parallel": 1, "schedule_to_close_s": 60}}))
    run.create()
    run.wait(10)
    run.complete("m[0]")
    assert run.owes()["close_by:m[1]:1"] == T0_US + 70 * S
    run.pause()
    assert run.owes() == {}
    run.wait(100)
    run.resume()
    assert run.owes()["close_by:m[1]:1"] == run.now_us + 1
    run.fire_at("close_by:m[1]:1")
    assert run.state.steps["m"].status == "failed"
