"""What a worker's report amounts to, and what it is answered."""

from typing import Any

import msgspec
import pytest

from tasker.events.messages import Report, ReportReply
from tasker.events.task_events import ErrorInfo
from tasker.service.domain.commands import AnyTaskCommand, CompleteAttempt, FailAttempt, StartAttempt
from tasker.service.domain.reports import accepted, command_of
from tests.runs import ERROR, T0_US, Run, linear, raw


def report(kind: str, attempt: int = 1, *, worker: str = "w1", step: str = "s1", **more: Any) -> Report:
    if kind == "failed":
        more.setdefault("error", ERROR)
    if kind == "completed":
        more.setdefault("result", raw(1))
    return Report(kind=kind, task_id="t", step=step, attempt=attempt, worker=worker, **more)  # type: ignore[arg-type]


def judge(run: Run, what: Report) -> AnyTaskCommand | ReportReply:
    return command_of(run.state, what, at_us=run.now_us, jitter=0.25)


def stale(reason: Any) -> ReportReply:
    return ReportReply(ok=True, recorded=False, reason=reason)


DUPLICATE = ReportReply(ok=True, recorded=True, duplicate=True)


def dispatched() -> Run:
    run = Run(linear(2, retry={"max_attempts": 2, "backoff": "none"}))
    run.create()
    return run


def running() -> Run:
    run = dispatched()
    run.start("s1")
    return run


# ---------------------------------------------------------------- of an open attempt


@pytest.mark.parametrize("kind", ["started", "claim"])
def test_the_first_worker_starts_the_attempt(kind: str) -> None:
    assert judge(dispatched(), report(kind)) == StartAttempt(step="s1", attempt=1, worker="w1", at_us=T0_US)


def test_the_same_worker_again_is_a_duplicate() -> None:
    """Its answer was lost; a claim may still run."""
    assert judge(running(), report("started")) == DUPLICATE
    assert judge(running(), report("claim")) == ReportReply(ok=True, recorded=True, duplicate=True, run=True)


def test_another_worker_may_not_run_it() -> None:
    assert judge(running(), report("claim", worker="w2")) == stale("gone")
    assert judge(running(), report("started", worker="w2")) == stale("started_elsewhere")


@pytest.mark.parametrize("make", [dispatched, running])
def test_an_outcome_is_a_command(make: Any) -> None:
    """Whether or not the start was heard before: an outcome implies it."""
    assert judge(make(), report("completed", result=raw([1]))) == CompleteAttempt(
        step="s1", attempt=1, worker="w1", result=raw([1]), at_us=T0_US
    )
    assert judge(make(), report("failed")) == FailAttempt(
        step="s1", attempt=1, worker="w1", error=ERROR, jitter=0.25, at_us=T0_US
    )


def test_what_is_reserved_may_run_and_is_not_recorded() -> None:
    assert judge(dispatched(), report("reserve")) == ReportReply(ok=True, recorded=False, run=True)
    assert judge(running(), report("reserve")) == stale("gone")
    assert judge(running(), report("reserve", worker="w2")) == stale("gone")
    assert judge(dispatched(), report("reserve", attempt=2)) == stale("gone")


def test_what_is_held_or_over_is_reserved_for_nobody() -> None:
    held = dispatched()
    held.pause()
    assert judge(held, report("reserve")) == stale("gone")
    over = running()
    over.complete("s1")
    assert judge(over, report("reserve")) == stale("gone")


def test_who_asks_for_progress_changes_nothing() -> None:
    assert judge(running(), report("peek")) == ReportReply(ok=True, recorded=False)


def test_a_heartbeat_is_answered_and_leaves_no_event() -> None:
    assert judge(running(), report("heartbeat")) == ReportReply(ok=True, recorded=True)
    assert judge(running(), report("heartbeat", worker="w2")) == stale("gone")
    assert judge(dispatched(), report("heartbeat")) == stale("gone")


def test_a_heartbeat_tells_a_worker_to_stop() -> None:
    run = running()
    run.cancel(grace_s=10)
    run.wait(4)
    assert judge(run, report("heartbeat")) == ReportReply(ok=True, recorded=True, cancel=True, grace_s=6.0)


def test_a_recorded_report_is_answered_with_what_the_state_says_now() -> None:
    run = running()
    answer = accepted(report("claim"), run.state.steps["s1"], at_us=T0_US)
    assert answer == ReportReply(ok=True, recorded=True, run=True)


# ---------------------------------------------------------------- of a closed attempt


def test_a_repeated_result_is_a_duplicate() -> None:
    run = running()
    run.complete("s1", result={"a": 1})
    assert judge(run, report("completed", result=raw({"a": 1}))) == DUPLICATE
    assert judge(run, report("completed", result=raw({"a": 2}))) == stale("not_open")
    assert judge(run, report("failed")) == stale("not_open")


def test_a_repeated_failure_is_a_duplicate_even_when_the_next_attempt_is_out() -> None:
    run = running()
    run.fail("s1")
    assert run.state.steps["s1"].attempt == 2
    assert judge(run, report("failed")) == DUPLICATE
    assert judge(run, report("failed", error=ErrorInfo(type="Other", message=""))) == stale("stale_attempt")
    assert judge(run, report("completed")) == stale("stale_attempt")


def test_a_late_start_of_the_recorded_worker_is_a_duplicate() -> None:
    """The start and a fast outcome travel side by side; the start may come second."""
    run = running()
    run.complete("s1")
    assert judge(run, report("started")) == DUPLICATE
    assert judge(run, report("started", worker="w2")) == stale("not_open")


def test_an_attempt_that_was_given_up_takes_no_report() -> None:
    run = running()
    run.fire_at("heartbeat:s1:1")
    assert judge(run, report("heartbeat")) == stale("stale_attempt")
    assert judge(run, report("claim")) == stale("gone")
    assert judge(run, report("completed")) == stale("stale_attempt")


def test_an_attempt_that_was_never_dispatched_takes_no_report() -> None:
    assert judge(dispatched(), report("completed", attempt=7)) == stale("stale_attempt")
    assert judge(dispatched(), report("completed", step="s2")) == stale("stale_attempt")


def test_an_ended_task_says_so() -> None:
    run = running()
    run.cancel(0)
    assert judge(run, report("completed")) == stale("task_ended")
    assert judge(run, report("claim")) == stale("gone")


def test_a_waiting_retry_takes_no_report() -> None:
    run = Run(linear(1))
    run.create()
    run.fail("s1")
    assert judge(run, report("completed")) == stale("not_open")


def test_no_task_no_report() -> None:
    run = Run(linear(1))
    assert judge(run, report("completed")) == stale("task_unknown")
    assert judge(run, report("claim")) == stale("gone")


# ---------------------------------------------------------------- results asked for


def test_a_result_is_given_to_who_asks() -> None:
    run = dispatched()
    run.complete("s1", result={"big": [1, 2]})
    answer = judge(run, report("result", step="s2", of="s1"))
    assert isinstance(answer, ReportReply)
    assert (answer.ok, answer.recorded, msgspec.json.decode(answer.result)) == (True, False, {"big": [1, 2]})


@pytest.mark.parametrize("attempt", [1, 9])
def test_whoever_asks_for_a_result_is_given_it(attempt: int) -> None:
    """Workers share one answer among the items of a list, whatever became of the one that asked."""
    run = dispatched()
    run.complete("s1", result=[1])
    run.complete("s2")
    given = judge(run, report("result", attempt, step="s2", of="s1", worker="w9"))
    assert given == ReportReply(ok=True, recorded=False, result=raw([1]))


def test_a_result_that_is_not_there_is_not_given() -> None:
    assert judge(dispatched(), report("result", of="s1")) == stale("not_open")
    assert judge(dispatched(), report("result")) == stale("not_open")
    assert judge(Run(linear(1)), report("result", of="s1")) == stale("task_unknown")
