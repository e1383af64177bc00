"""What a person does to a step by hand; the repaired task goes on by itself."""

import msgspec
import pytest

from tasker.errors import StateForbids, StepUnknown, TaskEnded
from tasker.events.task_events import (
    ErrorInfo,
    ParentsOverridden,
    PathsClosed,
    StepAttemptsReset,
    StepCancelled,
    StepCompleted,
    StepDispatched,
    StepReleased,
    StepResolved,
    StepResultEdited,
    StepRouted,
    StepSkipped,
    TaskBlocked,
    TaskCompleted,
    TaskResumed,
)
from tasker.service.domain.state import StepStatus, TaskStatus
from tests.runs import DIAMOND, Run, created, linear, raw, template, types

FINAL = ErrorInfo(type="NoSuchCard", message="no", retryable=False)


# ---------------------------------------------------------------- skip, resolve


def test_a_failed_step_is_skipped_and_the_task_goes_on() -> None:
    run = created(Run(linear(2)))
    run.fail("s1", error=FINAL)
    assert run.skip("s1", {"n": 1}) == (
        TaskResumed(),
        StepSkipped(step="s1", attempt=1, result=raw({"n": 1}), failed=True),
        StepDispatched(step="s2", attempt=1),
    )
    assert run.result_of("s1") == {"n": 1}
    run.finish()
    assert run.state.status is TaskStatus.COMPLETED


def test_a_task_with_another_failure_stays_blocked() -> None:
    run = created(Run(template({"a": [], "b": []})))
    run.fail("a", error=FINAL)
    run.fail("b", error=FINAL)
    events = run.resolve("a", 1)
    assert types(events) == [TaskResumed, StepResolved, TaskBlocked]
    assert list(run.state.failed) == ["b"]


def test_an_attempt_that_runs_is_of_no_interest_any_more() -> None:
    run = created(Run(linear(2)))
    run.start("s1")
    run.resolve("s1", 7)
    assert run.complete("s1", result=8) == ()
    assert run.fail("s1") == ()
    assert run.result_of("s1") == 7


def test_a_retry_that_waits_does_not_come() -> None:
    run = created(Run(linear(1)))
    run.fail("s1")
    assert types(run.skip("s1")) == [StepSkipped, TaskCompleted]
    assert run.fire("retry:s1:2") == ()
    assert run.result() is None


def test_a_step_is_skipped_before_its_turn() -> None:
    run = created(Run(linear(3)))
    assert run.skip("s2", 5) == (
        StepSkipped(step="s2", attempt=0, result=raw(5)),
        StepDispatched(step="s3", attempt=1),
    )
    assert run.complete("s1")[-1] == StepCompleted(step="s1", attempt=1, result=raw(1))
    run.complete("s3")
    assert run.state.status is TaskStatus.COMPLETED


def test_an_item_is_resolved_and_its_step_goes_on() -> None:
    steps = {"process": {"batches": "a", "failure_strategy": "isolate"}}
    run = created(Run(template({"a": [], "process": ["a"]}, steps=steps)))
    run.complete("a", result=[1, 2])
    run.fail("process[0]", error=FINAL)
    run.complete("process[1]", result=20)
    assert run.state.status is TaskStatus.BLOCKED
    run.resolve("process[0]", 10)
    assert run.result() == [10, 20]


def test_a_step_for_items_is_skipped_as_a_whole() -> None:
    run = created(Run(template({"a": [], "b": ["a"]}, steps={"a": {"each": "[1, 2, 3]", "max_parallel": 2}})))
    run.complete("a[0]")
    events = run.skip("a", "none")
    assert types(events) == [StepCancelled, StepCancelled, StepSkipped, StepDispatched]
    assert run.result_of("a") == "none"
    run.finish()
    assert run.state.status is TaskStatus.COMPLETED


def test_a_decision_is_made_by_hand() -> None:
    shape: dict[str, list[str]] = {"route": [], "x": ["route"], "y": ["route"]}
    run = created(Run(template(shape, steps={"route": {"routes": ["x", "y"]}})))
    with pytest.raises(StateForbids, match="x, y"):
        run.resolve("route", None)
    with pytest.raises(StateForbids, match="none of its routes"):
        run.resolve("route", None, "z")
    assert types(run.resolve("route", None, "y")) == [StepRouted, StepResolved, StepDispatched, PathsClosed]
    skipped = created(Run(template(shape, steps={"route": {"routes": ["x", "y"]}})))
    assert types(skipped.skip("route"))[-1] is TaskCompleted
    with pytest.raises(StateForbids, match="declares no routes"):
        created(Run(linear(1))).skip("s1", None, "s1")


def test_what_cannot_be_completed_by_hand() -> None:
    run = created(Run(template({"a": [], "b": ["a"], "c": ["a"]}, steps={"a": {"routes": ["b"]}})))
    run.choose("a")
    with pytest.raises(StateForbids, match="step edit"):
        run.skip("a")
    with pytest.raises(StateForbids, match="will not run"):
        run.skip("b")
    with pytest.raises(StepUnknown, match="step list"):
        run.skip("z")
    run.skip("c")
    with pytest.raises(TaskEnded):
        run.skip("c")


def test_an_earlier_visit_is_history() -> None:
    steps = {"check": {"routes": ["again", "done"]}, "again": {"back_to": "check"}}
    run = created(Run(template({"check": [], "again": ["check"], "done": ["check"]}, steps=steps)))
    run.choose("check", "again")
    run.complete("again")
    with pytest.raises(StateForbids, match="check#2 is"):
        run.skip("check")
    run.skip("check#2", None, "done")
    assert run.offered() == ["done"]


def test_a_child_that_runs_is_not_left_behind() -> None:
    run = created(Run(template({"a": []}, steps={"a": {"child": "parcel"}})))
    run.child("a", "01234567-89ab-8def-8123-456789abcdef")
    with pytest.raises(StateForbids, match="task cancel"):
        run.skip("a")
    run.child("a", "01234567-89ab-8def-8123-456789abcdef", state="cancelled")
    assert types(run.skip("a"))[-1] is TaskCompleted


def test_repairs_of_a_paused_task_count_when_it_is_resumed() -> None:
    run = created(Run(template(DIAMOND)))
    run.fail("a", error=FINAL)
    run.pause()
    assert types(run.skip("a", 1)) == [StepSkipped]
    assert types(run.resolve("b", 2)) == [StepResolved]
    assert types(run.edit("a", 3)) == [StepResultEdited]
    with pytest.raises(StateForbids, match="task resume"):
        run.release("d")
    assert types(run.resume())[1:] == [StepDispatched]
    run.complete("c")
    run.complete("d")
    assert run.state.status is TaskStatus.COMPLETED


def test_what_was_resolved_is_undone_and_what_was_skipped_is_not() -> None:
    steps = {"a": {"compensate": "undo_a"}, "b": {"compensate": "undo_b"}}
    run = created(Run(template({"a": [], "b": ["a"], "c": ["b"]}, steps=steps, on_failure="fail")))
    run.skip("a")
    run.resolve("b", 1)
    run.fail("c", error=FINAL)
    assert run.offered() == ["b~undo"]
    with pytest.raises(StateForbids, match="ending as failed"):
        run.skip("b~undo")
    run.complete("b~undo")
    assert run.state.status is TaskStatus.FAILED


# ---------------------------------------------------------------- reset, edit


def test_attempts_are_given_back() -> None:
    run = created(Run(linear(1, retry={"max_attempts": 2, "backoff": "none"})))
    assert run.reset("s1") == ()
    run.fail("s1")
    assert run.reset("s1") == (StepAttemptsReset(step="s1", attempt=2),)
    run.fail("s1", 2)
    assert run.state.steps["s1"].attempt == 3
    run.fail("s1", 3)
    with pytest.raises(StateForbids, match="step retry"):
        run.reset("s1")


def test_attempts_are_given_back_before_a_retry() -> None:
    run = created(Run(linear(1, retry={"max_attempts": 2})))
    run.fail("s1")
    assert run.reset("s1") == (StepAttemptsReset(step="s1", attempt=2),)
    run.fire_at("retry:s1:2")
    run.fail("s1", 2)
    assert run.state.steps["s1"].status is StepStatus.WAITING


def test_a_result_is_edited_and_what_used_it_stays() -> None:
    run = created(Run(template({"a": [], "b": ["a"], "c": ["b"]}, steps={"c": {"transform": "results.a"}}, result="c")))
    run.complete("a", result=1)
    assert run.edit("a", 2) == (StepResultEdited(step="a", result=raw(2)),)
    assert run.edit("a", 2) == ()
    assert run.offered() == ["b"]
    run.complete("b")
    assert run.result() == 2
    recorded = [msgspec.json.decode(one.payload) for unit in run.units for one in unit if one.type == "step_completed"]
    assert recorded[0]["result"] == 1


def test_an_items_result_is_edited_in_the_list() -> None:
    run = created(Run(template({"a": [], "b": ["a"]}, steps={"a": {"each": "[1, 2]"}})))
    run.complete("a[0]", result=1)
    run.complete("a[1]", result=2)
    assert run.result_of("a") == [1, 2]
    with pytest.raises(StateForbids, match="edit one of those"):
        run.edit("a", [])
    run.edit("a[1]", 3)
    assert run.result_of("a") == [1, 3]


def test_a_result_that_was_too_large_is_edited_and_the_task_completes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.service.domain.task_result.TASK_RESULT_BYTES_MAX", 20)
    run = created(Run(linear(1)))
    run.complete("s1", result="x" * 30)
    assert run.state.blocked_reason == "result_limit"
    assert types(run.edit("s1", "x" * 25)) == [TaskResumed, StepResultEdited, TaskBlocked]
    assert types(run.edit("s1", "short")) == [TaskResumed, StepResultEdited, TaskCompleted]


def test_only_a_result_is_edited() -> None:
    run = created(Run(linear(2)))
    with pytest.raises(StateForbids, match="step resolve"):
        run.edit("s1", 1)
    with pytest.raises(StateForbids, match="pending"):
        run.edit("s2", 1)


# ---------------------------------------------------------------- release


def test_a_retry_comes_now() -> None:
    run = created(Run(linear(1)))
    run.fail("s1")
    assert run.release("s1") == (StepReleased(step="s1", attempt=1), StepDispatched(step="s1", attempt=2))


def test_a_time_comes_now() -> None:
    run = created(Run(template({"nap": []}, steps={"nap": {"delay_s": 3600}})))
    assert types(run.release("nap")) == [StepReleased, StepCompleted, TaskCompleted]


def test_what_is_released_during_a_pause_comes_with_its_end() -> None:
    run = created(Run(template({"nap": []}, steps={"nap": {"delay_s": 3600}})))
    run.pause()
    assert types(run.release("nap")) == [StepReleased]
    run.resume()
    assert types(run.fire("timer:nap:1")) == [StepCompleted, TaskCompleted]


def test_a_step_begins_without_its_parents() -> None:
    run = created(Run(template(DIAMOND)))
    run.complete("a")
    run.complete("b")
    assert run.release("d") == (ParentsOverridden(step="d", parents=("c",)), StepDispatched(step="d", attempt=1))
    run.complete("c")
    run.complete("d")
    assert run.state.status is TaskStatus.COMPLETED


def test_what_waits_for_nothing_is_not_released() -> None:
    steps = {"a": {"each": "[1, 2, 3]", "max_parallel": 1}}
    run = created(Run(template({"a": [], "b": []}, steps=steps)))
    with pytest.raises(StateForbids, match="waits for its items"):
        run.release("a")
    with pytest.raises(StateForbids, match="has not begun"):
        run.release("a[2]")
    with pytest.raises(StateForbids, match="with the workers"):
        run.release("b")
    run.fail("b", error=FINAL)
    with pytest.raises(StateForbids, match="step retry"):
        run.release("b")
    run.skip("b")
    with pytest.raises(StateForbids, match="is completed"):
        run.release("b")
    later = Run(linear(1))
    later.create(not_before_us=later.now_us + 1_000_000)
    with pytest.raises(StateForbids, match="start time"):
        later.release("s1")
