"""What people do: cancel, and retry what failed."""

import pytest

from tasker.errors import StateForbids, StepUnknown, TaskEnded, TaskUnknown
from tasker.events.task_events import (
    ErrorInfo,
    StepAttemptFailed,
    StepCancelled,
    StepCancelRequested,
    StepCompleted,
    StepDispatched,
    StepFailed,
    StepRetried,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskResumed,
    TaskStopping,
)
from tasker.service.domain.state import StepStatus, TaskStatus
from tests.runs import DIAMOND, ERROR, T0_US, Run, linear, template

NEVER = ErrorInfo(type="ValueError", message="never", retryable=False)

ONCE = {"max_attempts": 1}
STOPPING = TaskStopping(ending="cancelled", cause="cancel")


def diamond(**keys: object) -> Run:
    """A diamond whose middle steps are dispatched; no step is tried twice."""
    run = Run(template(DIAMOND, steps={name: {"retry": ONCE} for name in DIAMOND}, **keys))
    run.create()
    run.complete("a")
    return run


# ---------------------------------------------------------------- cancel


def test_a_task_without_running_steps_is_cancelled_at_once() -> None:
    run = diamond()
    reason = "the task is stopping: cancel"
    assert run.cancel() == (
        STOPPING,
        StepCancelled(step="b", attempt=1, reason=reason),
        StepCancelled(step="c", attempt=1, reason=reason),
        TaskCancelled(),
    )
    assert run.state.status is TaskStatus.CANCELLED


def test_running_steps_are_told_and_have_their_grace() -> None:
    run = diamond()
    run.start("b")
    events = run.cancel(grace_s=5)
    assert events[1] == StepCancelRequested(step="b", attempt=1, grace_until_us=T0_US + 5_000_000)
    assert run.owes() == {"grace:b:1": T0_US + 5_000_000}
    assert run.state.status is TaskStatus.RUNNING


def test_a_step_that_completes_within_its_grace_keeps_its_result() -> None:
    run = diamond()
    run.start("b")
    run.cancel()
    run.wait(1)
    assert [type(one) for one in run.complete("b")] == [StepCompleted, TaskCancelled]
    assert run.state.steps["b"].status is StepStatus.COMPLETED


def test_a_step_that_gives_up_within_its_grace_is_cancelled() -> None:
    run = diamond()
    run.start("b")
    run.cancel()
    assert [type(one) for one in run.fail("b")] == [StepAttemptFailed, StepCancelled, TaskCancelled]


def test_the_last_running_step_ends_the_task() -> None:
    run = diamond()
    run.start("b")
    run.start("c")
    run.cancel()
    assert [type(one) for one in run.complete("c")] == [StepCompleted]
    assert [type(one) for one in run.fire_at("grace:b:1")] == [StepCancelled, TaskCancelled]


def test_a_grace_that_is_over_cancels_the_step() -> None:
    run = diamond()
    run.start("b")
    run.cancel(grace_s=5)
    assert run.fire_at("grace:b:1") == (
        StepCancelled(step="b", attempt=1, reason="it did not stop within its grace"),
        TaskCancelled(),
    )
    assert run.complete("b") == ()


def test_no_grace_cancels_running_steps_at_once() -> None:
    run = diamond()
    run.start("b")
    assert isinstance(run.cancel(grace_s=0)[-1], TaskCancelled)


def test_timers_of_a_step_that_was_told_are_closed() -> None:
    """Its grace alone decides."""
    run = diamond()
    run.start("b")
    run.cancel(grace_s=3600)
    assert run.fire("heartbeat:b:1") == run.fire("finish_by:b:1") == ()


def test_nothing_is_dispatched_while_the_task_stops() -> None:
    run = diamond()
    run.start("b")
    run.start("c")
    run.cancel()
    run.complete("b")
    assert "d" not in run.state.steps
    run.complete("c")
    assert run.state.status is TaskStatus.CANCELLED


def test_a_task_that_has_not_begun_is_cancelled_at_once() -> None:
    run = Run(linear(1))
    run.create(not_before_us=T0_US + 1)
    assert run.cancel() == (STOPPING, TaskCancelled())
    assert run.fire("not_before") == ()


def test_a_blocked_task_is_cancelled_at_once() -> None:
    run = Run(linear(1, retry=ONCE))
    run.create()
    run.fail("s1")
    assert run.cancel() == (STOPPING, TaskCancelled())


def test_a_waiting_retry_is_cancelled() -> None:
    run = Run(linear(1))
    run.create()
    run.fail("s1")
    assert [type(one) for one in run.cancel()] == [TaskStopping, StepCancelled, TaskCancelled]
    assert run.fire("retry:s1:2") == ()


def test_a_second_cancel_changes_nothing() -> None:
    run = diamond()
    run.start("b")
    run.cancel()
    assert run.cancel() == ()
    run.fire_at("grace:b:1")
    assert run.cancel() == ()


def test_an_ended_task_cannot_be_cancelled() -> None:
    run = Run(linear(1))
    run.create()
    run.complete("s1")
    with pytest.raises(TaskEnded, match="completed"):
        run.cancel()


def test_a_task_that_is_failing_cannot_be_cancelled() -> None:
    run = diamond(on_failure="fail")
    run.start("b")
    run.fail("c")
    with pytest.raises(StateForbids, match="ending as failed"):
        run.cancel()


def test_no_task_no_command() -> None:
    run = Run(linear(1))
    for command in (run.cancel, run.retry, lambda: run.retry("s1")):
        with pytest.raises(TaskUnknown):
            command()


# ---------------------------------------------------------------- failed steps


def test_independent_steps_go_on_after_a_failure() -> None:
    """The task is blocked only when nothing can move."""
    run = diamond()
    assert run.fail("b")[-1] == StepFailed(step="b", attempt=1, reason="retries_exhausted", error=ERROR)
    assert run.state.status == "running"
    assert run.complete("c")[-1] == TaskBlocked(reason="step_failed", steps=("b",))
    assert run.state.status == "blocked"


def test_a_blocked_task_names_all_failed_steps() -> None:
    run = diamond()
    run.fail("c")
    assert run.fail("b")[-1] == TaskBlocked(reason="step_failed", steps=("c", "b"))


def test_a_task_may_fail_with_its_step() -> None:
    """`on_failure: fail`: the others are cancelled, and the task ends with the step's error."""
    run = diamond(on_failure="fail")
    events = run.fail("b")
    assert events[2:] == (
        StepFailed(step="b", attempt=1, reason="retries_exhausted", error=ERROR),
        TaskStopping(ending="failed", cause="step_failed", step="b"),
        StepCancelled(step="c", attempt=1, reason="the task is stopping: step_failed"),
        TaskFailed(cause="step_failed", step="b", error=ERROR),
    )
    assert (run.state.status, run.state.error) == (TaskStatus.FAILED, ERROR)


def test_a_failing_task_waits_for_its_running_steps() -> None:
    run = diamond(on_failure="fail")
    run.start("c")
    run.fail("b")
    assert run.state.status is TaskStatus.RUNNING
    assert run.complete("c")[-1] == TaskFailed(cause="step_failed", step="b", error=ERROR)


# ---------------------------------------------------------------- retry


def blocked() -> Run:
    run = diamond()
    run.fail("b")
    run.fail("c")
    return run


def test_a_retry_of_the_task_gives_every_failed_step_fresh_attempts() -> None:
    run = blocked()
    assert run.retry() == (
        TaskResumed(),
        StepRetried(step="b", attempt=2),
        StepRetried(step="c", attempt=2),
        StepDispatched(step="b", attempt=2),
        StepDispatched(step="c", attempt=2),
    )
    assert (run.state.status, list(run.state.failed)) == (TaskStatus.RUNNING, [])


def test_a_retry_of_the_task_looks_at_no_failed_step_before_all_are_open_again() -> None:
    """What fails at once is judged with the others on their way; what can do with failed parents waits for them."""
    shape: dict[str, list[str]] = {"a": [], "b": [], "j": ["a", "b"]}
    steps = {
        "a": {"concurrency": {"key": "input.m"}},
        "b": {"on_timeout": {"heartbeat": "block"}},
        "j": {"join": "any"},
    }
    run = Run(template(shape, steps=steps, on_failure="fail"))
    run.create()
    run.start("b")
    run.fire_at("heartbeat:b:1")
    assert run.state.status is TaskStatus.BLOCKED
    run.retry()
    assert (run.state.status, run.offered()) == (TaskStatus.RUNNING, ["b"])
    run.complete("b", 2)
    assert run.offered() == ["j"]

    late = {"j": {"join": "all_settled", "when": "state.n > 0"}}
    run = Run(template({**shape, "k": ["a"]}, steps=late))
    run.create()
    run.release("j")
    run.fail("a", error=NEVER)
    run.complete("b")
    assert list(run.state.failed) == ["j", "a"]
    run.retry()
    assert list(run.state.failed) == []
    assert run.offered() == ["a"]


def test_after_a_retry_the_task_goes_on_by_itself() -> None:
    run = blocked()
    run.retry()
    run.complete("b", 2)
    assert run.complete("c", 2)[-1] == StepDispatched(step="d", attempt=1)
    assert isinstance(run.complete("d")[-1], TaskCompleted)


def test_fresh_attempts_are_as_many_as_the_template_says() -> None:
    run = Run(linear(1, retry={"max_attempts": 2}))
    run.create()
    run.fail("s1", 1)
    run.fire_at("retry:s1:2")
    run.fail("s1", 2)
    run.retry()
    run.fail("s1", 3)
    assert run.owes() == {"retry:s1:4": run.now_us + 1_000_000}
    run.fire_at("retry:s1:4")
    assert isinstance(run.fail("s1", 4)[-1], TaskBlocked)


def test_a_retry_of_one_step_leaves_the_others_failed() -> None:
    run = blocked()
    assert run.retry("c") == (TaskResumed(), StepRetried(step="c", attempt=2), StepDispatched(step="c", attempt=2))
    assert run.complete("c", 2)[-1] == TaskBlocked(reason="step_failed", steps=("b",))


def test_a_failed_step_of_a_task_that_moves_can_be_retried() -> None:
    run = diamond()
    run.fail("b")
    assert run.retry("b") == (StepRetried(step="b", attempt=2), StepDispatched(step="b", attempt=2))


def test_a_retry_may_name_the_attempt_that_was_seen_to_fail() -> None:
    """A second click does not retry what the first one started."""
    run = blocked()
    run.retry("b", attempt=1)
    run.fail("b", 2)
    with pytest.raises(StateForbids, match="failed at attempt 2, not 1"):
        run.retry("b", attempt=1)
    run.retry("b", attempt=2)


def test_only_a_failed_step_can_be_retried() -> None:
    run = diamond()
    with pytest.raises(StateForbids, match="step b is dispatched"):
        run.retry("b")
    with pytest.raises(StateForbids, match="step d is pending"):
        run.retry("d")
    with pytest.raises(StateForbids, match="no failed step"):
        run.retry()
    with pytest.raises(StepUnknown):
        run.retry("x")


def test_a_step_is_not_retried_once_its_loop_has_turned() -> None:
    """It ran beside its next visit, and the verifier found it out of order."""
    shape = {"a": [], "x": ["a"], "y": ["a"], "b": ["x", "y"]}
    run = Run(template(shape, steps={"b": {"join": "any", "back_to": "a"}, "x": {"retry": ONCE}}))
    run.create()
    run.complete("a")
    run.fail("x")
    run.complete("y")
    run.complete("b")
    with pytest.raises(StateForbids, match="x is no current visit of step x; x#2 is"):
        run.retry("x")


def test_a_retry_of_the_task_leaves_items_alone_without_which_their_list_goes_on() -> None:
    steps = {"a": {"each": "[1, 2]", "on_item_failure": "continue"}, "b": {"retry": ONCE}}
    run = Run(template({"a": [], "b": []}, steps=steps))
    run.create()
    run.fail("a[0]", error=NEVER)
    with pytest.raises(StateForbids, match="no failed step"):
        run.retry()
    run.fail("b")
    assert run.retry() == (StepRetried(step="b", attempt=2), StepDispatched(step="b", attempt=2))


def test_a_task_that_ended_or_ends_cannot_be_retried() -> None:
    run = blocked()
    run.retry("b")
    run.start("b", 2)
    run.cancel()
    for step in (None, "c"):
        with pytest.raises(StateForbids, match="ending as cancelled"):
            run.retry(step)
    run.complete("b", 2)
    for step in (None, "c"):
        with pytest.raises(TaskEnded, match="cancelled"):
            run.retry(step)
