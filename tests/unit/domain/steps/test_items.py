"""A step that runs for each item of a list."""

from typing import Any

import pytest

from tasker.events.task_events import (
    ErrorInfo,
    StepCancelled,
    StepDispatched,
    StepExpanded,
    StepFailed,
    StepGathered,
    StepRetried,
    TaskBlocked,
)
from tasker.service.domain.state import StepStatus, TaskStatus
from tasker.service.domain.state_document import state_document
from tasker.service.domain.steps.begin import tolerated_of
from tests.runs import ERROR, Run, template

NEVER = ErrorInfo(type="ValueError", message="never", retryable=False)


def batches(cursors: Any, **keys: Any) -> Run:
    """Analyze gives cursors, process runs for each, aggregate joins."""
    shape = {"analyze": [], "process": ["analyze"], "aggregate": ["process"]}
    run = Run(template(shape, steps={"process": {"batches": "analyze", **keys}}))
    run.create()
    run.complete("analyze", result=cursors)
    return run


def test_one_instance_an_item_as_many_at_a_time_as_allowed() -> None:
    run = batches([10, 20, 30], parallelism=2)
    assert run.offered() == ["process[0]", "process[1]"]
    assert [bytes(item) for item in run.state.steps["process"].expansion.items] == [b"10", b"20", b"30"]  # type: ignore[union-attr]
    events = run.complete("process[1]", result="b")
    assert events[-1] == StepDispatched(step="process[2]", attempt=1)
    run.complete("process[2]", result="c")
    events = run.complete("process[0]", result="a")
    assert events[-2:] == (
        StepGathered(step="process", completed=3),
        StepDispatched(step="aggregate", attempt=1),
    )
    assert run.result_of("process") == ["a", "b", "c"]
    run.complete("aggregate")
    assert run.state.status is TaskStatus.COMPLETED


def test_no_items_still_reach_the_join() -> None:
    run = batches([])
    assert run.offered() == ["aggregate"]
    assert [type(one) for one in run.events[-3:]] == [StepExpanded, StepGathered, StepDispatched]
    assert run.result_of("process") == []


def test_what_is_no_list_fails_the_step_and_a_retry_of_the_parent_is_not_needed() -> None:
    run = batches({"not": "a list"})
    assert run.state.blocked_reason == "step_failed"
    assert run.state.failed == {"process": None}
    error = run.state.steps["process"].error
    assert error is not None
    assert "Batches" in error.message


def test_fail_fast_cancels_the_others_and_fails_the_step() -> None:
    run = batches([1, 2, 3, 4], parallelism=2)
    events = run.fail("process[0]", error=NEVER)
    assert [type(one) for one in events[2:]] == [StepFailed, StepCancelled, StepFailed, TaskBlocked]
    assert events[-1] == TaskBlocked(reason="step_failed", steps=("process",))
    failed = events[-2]
    assert isinstance(failed, StepFailed)
    assert (failed.step, failed.reason, failed.error.message) == (
        "process",
        "items_failed",
        "1 of 4 items failed: process[0]",
    )


def test_a_retry_of_the_step_runs_only_what_is_left_of_it() -> None:
    run = batches([1, 2, 3], parallelism=2)
    run.complete("process[0]")
    run.fail("process[1]", error=NEVER)
    retried = {one.step: one.cancelled for one in run.retry() if isinstance(one, StepRetried)}
    assert retried == {"process": False, "process[1]": False, "process[2]": True}
    assert run.offered() == ["process[1]", "process[2]"]
    assert run.state.steps["process[1]"].attempt == 2
    run.complete("process[1]", 2)
    run.complete("process[2]", run.state.steps["process[2]"].attempt)
    run.complete("aggregate")
    assert run.state.status is TaskStatus.COMPLETED


def test_retried_items_run_so_many_at_a_time_too() -> None:
    run = batches([1, 2, 3, 4], failure_strategy="isolate", parallelism=2)
    for index in range(4):
        run.fail(f"process[{index}]", error=NEVER)
    run.retry()
    assert run.offered() == ["process[0]", "process[1]"]
    assert run.state.steps["process[2]"].waits == "turn"
    run.complete("process[1]", 2)
    assert run.offered() == ["process[0]", "process[2]"]
    run.fail("process[0]", 2, error=NEVER)
    assert run.offered() == ["process[2]", "process[3]"]
    run.retry("process[0]", 2)
    assert run.offered() == ["process[2]", "process[3]"]
    run.complete("process[2]", 2)
    assert run.offered() == ["process[0]", "process[3]"]


@pytest.mark.parametrize(
    "keys",
    [
        {"child": "c"},
        {"event": "task_completed", "wait_deadline_s": 5},
        {"signal": "go", "wait_deadline_s": 5},
        {"approval": {"title": "?"}, "wait_deadline_s": 5},
        {"concurrency": {"key": "input.n"}},
        {},
    ],
    ids=lambda keys: next(iter(keys), "worker"),
)
def test_each_of_several_retried_items_begins_once(keys: dict[str, Any]) -> None:
    """Those that a worker does not run began twice: with the first of them, and by their own name."""
    run = Run(template({"a": []}, steps={"a": {"each": "[1, 2]", "on_item_failure": "isolate", **keys}}))
    run.create()
    for item in ("a[0]", "a[1]"):
        if "child" in keys:
            run.child(item, "c1", state="failed", error=ERROR)
        elif "concurrency" in keys or not keys:
            if keys:
                run.take(item, 1)
            run.fail(item, error=NEVER)
        else:
            run.fire_at(f"wait_by:{item}:1")
    begun = [type(event) for event in run.retry() if getattr(event, "step", "") == "a[1]"]
    assert len(begun) == len(set(begun)), begun


def test_items_that_are_retried_in_a_pause_run_so_many_at_a_time_behind_it() -> None:
    run = batches([1, 2, 3], failure_strategy="isolate", parallelism=1)
    for index in range(3):
        run.fail(f"process[{index}]", error=NEVER)
    run.pause()
    run.retry()
    assert run.offered() == []
    run.resume()
    assert run.offered() == ["process[0]"]
    run.complete("process[0]", 2)
    assert run.offered() == ["process[1]"]


def test_an_item_that_waits_for_its_turn_can_be_skipped_and_goes_with_its_task() -> None:
    run = batches([1, 2, 3], failure_strategy="isolate", parallelism=1)
    for index in range(3):
        run.fail(f"process[{index}]", error=NEVER)
    run.retry()
    run.skip("process[1]")
    run.complete("process[0]", 2)
    assert run.offered() == ["process[2]"]
    run.cancel()
    assert all(step.status is not StepStatus.WAITING for step in run.state.steps.values())


def test_continue_completes_with_null_for_the_failed() -> None:
    run = batches([1, 2], failure_strategy="continue_on_failure")
    run.fail("process[0]", error=NEVER)
    events = run.complete("process[1]", result=7)
    assert StepGathered(step="process", completed=1, failed=1) in events
    assert run.result_of("process") == [None, 7]
    run.complete("aggregate")
    assert run.state.status is TaskStatus.COMPLETED


def test_isolate_lets_the_others_go_on_and_then_waits_for_a_person() -> None:
    run = batches([1, 2, 3], failure_strategy="isolate", parallelism=1)
    run.fail("process[0]", error=NEVER)
    run.complete("process[1]")
    assert run.complete("process[2]")[-1] == TaskBlocked(reason="step_failed", steps=("process[0]",))
    run.retry()
    run.complete("process[0]", 2)
    run.complete("aggregate")
    assert run.state.status is TaskStatus.COMPLETED


def test_one_item_can_be_retried_by_name() -> None:
    run = batches([1, 2], failure_strategy="isolate")
    run.fail("process[0]", error=NEVER)
    run.retry("process[0]", 1)
    assert run.state.steps["process[0]"].status is StepStatus.DISPATCHED


@pytest.mark.parametrize(
    ("tolerate", "items", "allowed"), [(2, 100, 2), ("10%", 100, 10), ("10%", 9, 0), (None, 5, 0), ("33.3%", 10, 3)]
)
def test_so_many_failures_are_tolerated(tolerate: Any, items: int, allowed: int) -> None:
    assert tolerated_of(tolerate, items) == allowed


def test_a_failure_is_accepted_by_a_join_that_can_do_without_the_step() -> None:
    shape = {"analyze": [], "process": ["analyze"], "end": ["process"]}
    run = Run(template(shape, steps={"process": {"batches": "analyze"}, "end": {"join": "all_settled"}}))
    run.create()
    run.complete("analyze", result=[1])
    run.fail("process[0]", error=NEVER)
    run.complete("end")
    assert run.state.status is TaskStatus.COMPLETED


def test_cancel_and_timeout_reach_the_items() -> None:
    run = batches([1, 2, 3])
    run.start("process[1]")
    run.cancel()
    assert run.owes() == {"grace:process[1]:1": run.now_us + 10_000_000}
    run.complete("process[1]")
    assert run.state.status is TaskStatus.CANCELLED
    assert run.state.open == 0


def test_many_items_cost_the_same_each() -> None:
    """What one outcome causes does not grow with the list."""
    run = batches(list(range(2_000)), parallelism=10)
    longest = 0
    while offered := list(run.state.steps["process"].expansion.open):  # type: ignore[union-attr]
        for name in offered:
            longest = max(longest, len(run.complete(name, result=1)))
    assert longest <= 4
    run.complete("aggregate")
    assert run.state.status is TaskStatus.COMPLETED
    assert run.state.open == 0
    assert state_document(run.state)["steps"]["process"]["items"] == 2_000


def test_an_item_that_fails_before_it_begins_ends_the_step_and_no_other_begins() -> None:
    """Its key has no value: with `fail_fast` the step has failed before the others begin."""
    keys: dict[str, Any] = {"each": "[1, 2]", "concurrency": {"key": "item > 1 ? item : input.m"}}
    for on_failure in ("block", "fail"):
        run = Run(template({"a": []}, steps={"a": keys}, on_failure=on_failure))
        run.create()
        assert list(run.state.steps) == ["a", "a[0]"]
        assert run.owes() == {}
    run = Run(template({"a": []}, steps={"a": keys | {"on_item_failure": "isolate"}}, on_failure="fail"))
    run.create()
    assert (list(run.state.steps), run.state.status) == (["a", "a[0]"], TaskStatus.FAILED)


def test_items_that_end_at_once_are_gathered_once() -> None:
    run = Run(template({"a": [], "b": ["a"]}, steps={"b": {"each": "[1, 2]", "signal": "go", "max_parallel": 1}}))
    run.create()
    run.signal("go", 1)
    run.signal("go", 2)
    events = run.complete("a")
    assert [type(one) for one in events].count(StepGathered) == 1
    assert run.result() == [1, 2]


def test_an_item_that_fails_again_at_once_begins_no_other() -> None:
    keys = {"each": "[1, 2]", "concurrency": {"key": "item > 1 ? item : input.m"}, "on_item_failure": "tolerate"}
    run = Run(template({"a": []}, steps={"a": keys | {"tolerate": 0}}))
    run.create()
    assert run.retry()[-1] == TaskBlocked(reason="step_failed", steps=("a",))
    assert run.owes() == {}


@pytest.mark.parametrize(("items", "said"), [(10, "completed"), (18, "blocked")])
def test_an_expression_reads_what_a_long_list_gave_or_fails_its_step(items: int, said: str) -> None:
    """Above half a megabyte the task could not be decided on any more, whoever told it what."""
    run = Run(
        template(
            {"list": [], "each": ["list"], "count": ["each"]},
            steps={"each": {"batches": "list"}, "count": {"transform": "results.each.size()"}},
        )
    )
    run.create()
    run.complete("list", result=list(range(items)))
    for index in range(items):
        run.complete(f"each[{index}]", result="x" * 60_000)
    assert run.state.status == said
    error = run.state.steps["count"].error
    assert (run.result_of("count"), None if error is None else error.type) == (
        (items, None) if said == "completed" else (None, "expression_failed")
    )


@pytest.mark.parametrize(
    "wait",
    [
        {"signal": "go", "signal_when": "signal == results.each.size()"},
        {"event": "done", "event_when": "results.each.size() > 1"},
    ],
)
def test_a_wait_whose_expression_reads_too_long_a_list_fails_with_what_comes(wait: dict[str, Any]) -> None:
    steps = {"each": {"batches": "list"}, "w": wait}
    run = Run(template({"list": [], "each": ["list"], "w": ["each"]}, steps=steps))
    run.create()
    run.complete("list", result=list(range(18)))
    for index in range(18):
        run.complete(f"each[{index}]", result="x" * 60_000)
    assert run.state.steps["w"].status is StepStatus.WAITING
    if "signal" in wait:
        run.signal("go", 18)
    else:
        run.event("w", {"data": {}})
    error = run.state.steps["w"].error
    assert error is not None
    assert error.type == "expression_failed"


def test_the_results_of_a_list_are_cursors_up_to_what_an_event_carries() -> None:
    shape = {"list": [], "each": ["list"], "again": ["each"]}
    for size, said in ((20_000, "running"), (30_000, "blocked")):
        run = Run(template(shape, steps={"each": {"batches": "list"}, "again": {"batches": "each"}}))
        run.create()
        run.complete("list", result=list(range(20)))
        for index in range(20):
            run.complete(f"each[{index}]", result="x" * size)
        assert run.state.status == said
