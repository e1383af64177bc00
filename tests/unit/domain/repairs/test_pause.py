"""A paused task begins nothing; resumed, it goes on by itself from where it stands."""

import pytest

from tasker.errors import StateForbids, TaskEnded, TaskUnknown
from tasker.events.messages import Report
from tasker.events.task_events import (
    ErrorInfo,
    StepAttemptFailed,
    StepCompleted,
    StepDispatched,
    StepFailed,
    StepRetried,
    StepRetryScheduled,
    StepStarted,
    StepYielded,
    TaskBlocked,
    TaskCompleted,
    TaskFailed,
    TaskPaused,
    TaskStarted,
    TaskStopping,
    TaskUnpaused,
)
from tasker.service.domain.commands import CancelTask, PauseTask, RetryTask
from tasker.service.domain.dry_run import would_cause
from tasker.service.domain.repairs.pause import child_to_tell
from tasker.service.domain.reports import command_of
from tasker.service.domain.state import ChildrenTold, StepStatus, TaskStatus
from tasker.service.domain.state_document import state_hash
from tests.runs import DIAMOND, T0_US, Run, created, linear, template, types

FINAL = ErrorInfo(type="NoSuchCard", message="no", retryable=False)
S = 1_000_000


def test_what_runs_goes_on_and_nothing_else_begins() -> None:
    run = created(Run(template(DIAMOND)))
    run.start("a")
    assert run.pause() == (TaskPaused(),)
    assert run.state.paused
    assert types(run.complete("a", result=7)) == [StepCompleted]
    assert run.offered() == []
    assert run.owes() == {}
    assert run.resume() == (TaskUnpaused(), StepDispatched(step="b", attempt=1), StepDispatched(step="c", attempt=1))
    run.finish()
    assert run.state.status is TaskStatus.COMPLETED


def test_a_pause_is_said_once_and_only_a_paused_task_is_resumed() -> None:
    run = Run(linear(1))
    with pytest.raises(TaskUnknown):
        run.pause()
    run.create()
    with pytest.raises(StateForbids, match="running, not paused"):
        run.resume()
    run.pause()
    assert run.pause() == ()
    run.resume()
    run.finish()
    with pytest.raises(TaskEnded, match="`tasker task restart` runs it once more"):
        run.pause()
    with pytest.raises(TaskEnded):
        run.resume()


def test_a_task_that_is_ending_is_not_paused() -> None:
    run = created(Run(linear(1)))
    run.start("s1")
    run.cancel()
    with pytest.raises(StateForbids, match="ending as cancelled"):
        run.pause()


def test_the_last_result_ends_the_task_when_it_is_resumed() -> None:
    run = created(Run(linear(1)))
    run.start("s1")
    run.pause()
    run.complete("s1", result=3)
    assert types(run.resume()) == [TaskUnpaused, TaskCompleted]
    assert run.result() == 3


def test_an_offered_attempt_waits_and_is_offered_again() -> None:
    run = created(Run(linear(1, schedule_to_start_s=20.0)))
    run.pause()
    assert run.owes() == {}
    claim = Report(kind="claim", task_id="t", step="s1", attempt=1, worker="w1")
    answer = command_of(run.state, claim, at_us=run.now_us, jitter=0.0)
    assert (answer.recorded, answer.reason) == (False, "gone")  # type: ignore[union-attr]
    run.wait(3600)
    run.resume()
    # Its time to wait for a worker counts anew.
    assert run.owes() == {"offer:s1:1": run.now_us + 1, "start_by:s1:1": T0_US + 3620 * S}
    run.pause()
    run.wait(60)
    run.resume()
    assert run.owes()["start_by:s1:1"] == T0_US + 3680 * S
    assert types(run.fire_at("start_by:s1:1"))[0] is StepAttemptFailed


def test_a_copy_that_was_on_its_way_may_still_begin() -> None:
    """A first delivery runs at once and tells so: what happened is recorded."""
    run = created(Run(linear(2)))
    run.pause()
    assert types(run.start("s1")) == [StepStarted]
    assert types(run.complete("s1")) == [StepCompleted]
    assert types(run.resume()) == [TaskUnpaused, StepDispatched]


def test_a_retry_waits_and_comes_at_once_when_its_time_is_over() -> None:
    run = created(Run(linear(1)))
    run.start("s1")
    run.pause()
    assert types(run.fail("s1")) == [StepAttemptFailed, StepRetryScheduled]
    assert run.owes() == {}
    run.wait(3600)
    run.resume()
    # Later than the turn: what is due in it wakes nobody.
    assert run.owes() == {"retry:s1:2": run.now_us + 1}
    assert types(run.fire("retry:s1:2")) == [StepDispatched]


def test_a_retry_without_a_wait_waits_too() -> None:
    run = created(Run(linear(1, retry={"max_attempts": 3, "backoff": "none"})))
    run.start("s1")
    run.pause()
    assert types(run.fail("s1")) == [StepAttemptFailed, StepRetryScheduled]
    run.resume()
    assert types(run.fire_at("retry:s1:2")) == [StepDispatched]


def test_the_next_part_waits() -> None:
    run = created(Run(linear(1)))
    run.start("s1")
    run.pause()
    assert types(run.give_back("s1", checkpoint=1)) == [StepYielded]
    run.resume()
    assert types(run.fire_at("retry:s1:2")) == [StepDispatched]


def test_a_time_waits() -> None:
    run = created(Run(template({"nap": []}, steps={"nap": {"delay_s": 5}})))
    run.pause()
    run.wait(60)
    assert run.fire("timer:nap:1") == ()
    run.resume()
    assert types(run.fire("timer:nap:1")) == [StepCompleted, TaskCompleted]


def test_a_start_time_waits() -> None:
    run = Run(linear(1))
    run.create(not_before_us=T0_US + S)
    run.pause()
    run.wait(2)
    assert run.fire("not_before") == ()
    assert run.resume() == (TaskUnpaused(),)
    assert run.state.status is TaskStatus.PENDING
    assert types(run.fire("not_before")) == [TaskStarted, StepDispatched]


def test_the_deadline_counts_on() -> None:
    """Whoever waits for the task was promised its end by then; a pause does not move that."""
    run = Run(linear(1))
    run.create(timeout_s=60)
    run.start("s1")
    run.pause()
    assert types(run.fire_at("deadline"))[0] is TaskStopping
    assert not run.state.paused
    run.complete("s1")
    assert run.state.status is TaskStatus.FAILED


def test_conditions_of_edges_are_asked_when_the_task_is_resumed_before_anything_begins() -> None:
    run = Run(template({"a": [], "b": ["a"], "c": [{"step": "b", "when": "input.n > 7"}, "a"]}))  # type: ignore[list-item]
    run.create()
    run.complete("a")
    run.pause()
    run.resolve("b", 1)
    assert StepDispatched(step="c", attempt=1) not in run.resume()
    assert run.state.status is TaskStatus.COMPLETED


def test_a_paused_task_can_be_cancelled() -> None:
    run = created(Run(linear(1)))
    run.pause()
    run.do(CancelTask(grace_s=0, at_us=run.now_us))
    assert run.state.status is TaskStatus.CANCELLED


def test_a_failure_takes_effect_when_the_task_is_resumed() -> None:
    run = created(Run(template({"a": [], "b": []}, on_failure="fail")))
    run.start("a")
    run.pause()
    assert types(run.fail("a", error=FINAL))[-1] is StepFailed
    assert run.state.stopping is None
    assert types(run.resume())[-1] is TaskFailed


def test_a_failure_can_be_repaired_before_it_takes_effect() -> None:
    run = created(Run(template({"a": [], "b": ["a"]}, on_failure="fail")))
    run.start("a")
    run.pause()
    run.fail("a", error=FINAL)
    assert run.retry("a") == (StepRetried(step="a", attempt=2),)
    assert run.state.steps["a"].status is StepStatus.WAITING
    assert run.owes() == {}
    assert run.resume() == (TaskUnpaused(), StepDispatched(step="a", attempt=2))
    run.finish()
    assert run.state.status is TaskStatus.COMPLETED


def test_a_blocked_task_is_paused_repaired_and_resumed() -> None:
    run = created(Run(linear(1)))
    run.fail("s1", error=FINAL)
    run.pause()
    assert types(run.resume()) == [TaskUnpaused, TaskBlocked]
    run.pause()
    assert run.retry() == (StepRetried(step="s1", attempt=2),)
    assert types(run.resume()) == [TaskUnpaused, StepDispatched]


def test_items_wait_and_go_on() -> None:
    steps = {"a": {"each": "[1, 2, 3]", "max_parallel": 1, "on_item_failure": "fail_fast"}}
    run = created(Run(template({"a": [], "b": ["a"]}, steps=steps)))
    run.start("a[0]")
    run.pause()
    run.fail("a[0]", error=FINAL)
    assert run.state.steps["a"].status is StepStatus.WAITING
    run.retry("a[0]")
    assert run.resume() == (TaskUnpaused(), StepDispatched(step="a[0]", attempt=2))
    run.finish()
    assert run.state.status is TaskStatus.COMPLETED


def test_a_step_for_items_is_retried_during_a_pause() -> None:
    run = created(Run(template({"a": []}, steps={"a": {"each": "[1, 2]", "on_item_failure": "fail_fast"}})))
    run.fail("a[0]", error=FINAL)
    run.pause()
    assert types(run.retry("a")) == [StepRetried, StepRetried, StepRetried]
    assert types(run.resume()) == [TaskUnpaused, StepDispatched, StepDispatched]
    run.finish()
    assert run.state.status is TaskStatus.COMPLETED


def test_loops_and_decisions_wait() -> None:
    steps = {"check": {"routes": ["again", "done"]}, "again": {"back_to": "check"}}
    run = created(Run(template({"check": [], "again": ["check"], "done": ["check"]}, steps=steps)))
    run.start("check")
    run.pause()
    run.choose("check", "again")
    run.resume()
    run.start("again")
    run.pause()
    run.complete("again")
    run.resume()
    assert run.offered() == ["check#2"]


def test_a_dry_run_tells_what_would_happen_and_leaves_the_task_alone() -> None:
    steps = {"a": {"each": "[1, 2]", "on_item_failure": "fail_fast", "retry": {"max_attempts": 1}}}
    run = created(Run(template({"a": [], "b": []}, steps=steps)))
    run.fail("a[0]")
    run.complete("b")
    before = state_hash(run.state)
    retry = RetryTask(at_us=run.now_us)
    for command in (PauseTask(at_us=run.now_us), CancelTask(grace_s=0, at_us=run.now_us), retry):
        assert would_cause(run.state, run.template, command)
        assert state_hash(run.state) == before
    foreseen = would_cause(run.state, run.template, retry)
    assert tuple(foreseen) == run.do(retry)
    with pytest.raises(StateForbids):
        would_cause(run.state, run.template, retry)


# ---------------------------------------------------------------- with its child tasks


def parent(**keys: object) -> Run:
    """A task whose child runs."""
    run = created(Run(template({"kid": [], "end": ["kid"]}, steps={"kid": {"child": "parcel", **keys}})))
    run.child("kid", "c1")
    return run


def told(run: Run) -> ChildrenTold | None:
    return child_to_tell(run.state, run.template, "kid", 1)


def test_a_child_is_told_of_its_parents_pause_and_of_its_end() -> None:
    run = parent()
    assert told(run) is None
    assert run.pause(children=True) == (TaskPaused(children=True),)
    paused = told(run)
    assert paused is not None
    assert (paused.pause, paused.is_over) == (run.state.seq, False)
    assert run.pause(children=True) == run.pause() == ()
    assert run.resume(children=True)[0] == TaskUnpaused(children=True)
    resumed = told(run)
    assert resumed is not None
    assert (resumed.pause, resumed.is_over) == (paused.pause, True)
    run.pause()
    run.resume()
    assert told(run) is None


def test_a_task_that_is_paused_alone_can_be_paused_with_its_children() -> None:
    run = parent()
    run.do(PauseTask(at_us=run.now_us), command_id="mine")
    assert run.do(PauseTask(at_us=run.now_us, children=True), command_id="theirs") == (TaskPaused(children=True),)
    assert told(run) is not None
    assert run.state.paused_by == "mine"
    with pytest.raises(StateForbids, match="another command"):
        run.resume(paused_by="theirs")
    run.resume(paused_by="mine")
    assert run.state.status is TaskStatus.RUNNING
    assert run.state.paused_by is None


def test_who_resumes_a_task_alone_leaves_its_children_paused() -> None:
    run = parent()
    run.pause(children=True)
    run.resume()
    assert told(run) is None


def test_who_was_not_paused_with_children_has_none_to_resume() -> None:
    run = parent()
    run.pause()
    run.resume(children=True)
    assert told(run) is None


@pytest.mark.parametrize("policy", ["cancel", "wait", "abandon"])
def test_a_child_that_is_abandoned_goes_alone(policy: str) -> None:
    run = parent(on_parent_close=policy)
    run.pause(children=True)
    assert (told(run) is None) == (policy == "abandon")


def test_a_child_that_is_to_stop_or_has_ended_is_not_told() -> None:
    run = parent()
    run.pause(children=True)
    run.cancel()
    assert told(run) is None
    run = parent()
    run.pause(children=True)
    run.child("kid", "c1", state="completed")
    assert told(run) is None


def test_a_child_that_is_still_being_started_is_told_once_it_is_there() -> None:
    run = created(Run(template({"kid": []}, steps={"kid": {"child": "parcel"}})))
    run.pause(children=True)
    assert told(run) is None
    run.child("kid", "c1")
    assert told(run) is not None


def test_a_child_that_began_after_the_resumption_is_not_told_of_it() -> None:
    run = created(Run(template({"a": [], "kid": ["a"]}, steps={"kid": {"child": "parcel"}})))
    run.pause(children=True)
    run.resume(children=True)
    run.now_us += S
    run.start("a")
    run.complete("a")
    run.child("kid", "c1")
    assert told(run) is None
