"""How a step joins its parents, and what the failure or absence of one of them means."""

from typing import Any

import pytest

from tasker.events.task_events import (
    ErrorInfo,
    PathsClosed,
    StepCancelled,
    StepDispatched,
    StepFailed,
    StepFailureAccepted,
    TaskBlocked,
    TaskCompleted,
)
from tasker.service.domain.state import StepStatus, TaskStatus
from tests.runs import Run, template

NEVER = ErrorInfo(type="ValueError", message="never", retryable=False)
THREE: dict[str, list[str]] = {"a": [], "b": [], "c": [], "j": ["a", "b", "c"]}


def three(join: str, **keys: Any) -> Run:
    """A join of three first steps."""
    run = Run(template(THREE, steps={"j": {"join": join, **keys}}))
    run.create()
    return run


def kinds(events: tuple[Any, ...]) -> list[type]:
    return [type(event) for event in events][2:]  # after started and the outcome


def test_any_takes_the_first_and_cancels_the_rest() -> None:
    run = three("any")
    run.start("c")
    events = run.complete("b", result="first")
    assert [type(one) for one in events[2:]] == [StepDispatched, StepCancelled, StepCancelled]
    assert [getattr(one, "step", None) for one in events[2:]] == ["j", "a", "c"]
    run.complete("j", result="joined")
    assert run.state.status is TaskStatus.COMPLETED
    assert run.result() == "joined"


def test_any_cancels_whole_branches_and_closes_what_has_not_begun() -> None:
    run = Run(template({"a": [], "a2": ["a"], "b": [], "j": ["a2", "b"]}, steps={"j": {"join": "any"}}))
    run.create()
    events = run.complete("b")
    assert PathsClosed(steps=("a2",), by="j", reason="step j has the results that it waited for") in events
    assert run.state.steps["a"].status is StepStatus.CANCELLED
    run.complete("j")
    assert run.state.status is TaskStatus.COMPLETED


def test_any_leaves_alone_what_others_need() -> None:
    run = Run(template({"a": [], "b": [], "j": ["a", "b"], "k": ["a"]}, steps={"j": {"join": "any"}}))
    run.create()
    run.complete("b")
    assert run.offered() == ["a", "j"]
    run.finish()
    assert run.state.status is TaskStatus.COMPLETED


def test_any_survives_failures_while_another_may_come() -> None:
    run = three("any")
    run.fail("a", error=NEVER)
    run.fail("b", error=NEVER)
    accepted = [one.step for one in run.complete("c") if isinstance(one, StepFailureAccepted)]
    assert accepted == ["a", "b"]
    run.complete("j")
    assert run.state.status is TaskStatus.COMPLETED


def test_any_without_a_result_blocks_on_all_failures_and_a_retry_of_one_repairs_it() -> None:
    run = three("any")
    run.fail("a", error=NEVER)
    run.fail("b", error=NEVER)
    assert run.fail("c", error=NEVER)[-1] == TaskBlocked(reason="step_failed", steps=("a", "b", "c"))
    run.retry("c")
    run.complete("c", 2)
    run.complete("j")
    assert run.state.status is TaskStatus.COMPLETED


def test_a_failure_that_a_join_can_do_without_can_be_retried_and_then_counts() -> None:
    run = three("n_of", join_count=2)
    run.fail("a", error=NEVER)
    run.retry("a")
    run.complete("a", 2)
    run.complete("b")
    assert run.offered() == ["j"]
    run.complete("j")
    assert run.state.status is TaskStatus.COMPLETED


def test_n_of_waits_for_so_many() -> None:
    run = three("n_of", join_count=2)
    run.complete("a")
    assert "j" not in run.state.steps
    run.complete("c")
    assert run.offered() == ["j"]
    assert run.state.steps["b"].status is StepStatus.CANCELLED


def test_all_settled_takes_failures_too() -> None:
    run = three("all_settled")
    run.complete("a")
    run.fail("b", error=NEVER)
    assert "j" not in run.state.steps
    run.fail("c", error=NEVER)
    assert run.offered() == ["j"]
    run.complete("j")
    assert run.state.status is TaskStatus.COMPLETED


def test_all_waits_for_every_one_and_a_failure_holds_it_up() -> None:
    run = three("all")
    run.complete("a")
    run.complete("b")
    assert run.fail("c", error=NEVER)[-1] == TaskBlocked(reason="step_failed", steps=("c",))


@pytest.mark.parametrize("join", ["any", "n_of", "all_settled"])
def test_a_failure_is_only_accepted_when_every_child_can_do_without(join: str) -> None:
    keys = {"join": join} | ({"join_count": 1} if join == "n_of" else {})
    run = Run(template({"a": [], "b": [], "j": ["a", "b"], "k": ["a"]}, steps={"j": keys}))
    run.create()
    assert isinstance(run.fail("a", error=NEVER)[-1], StepFailed)
    assert run.state.failed == {"a": None}


def test_on_failure_fail_stops_only_for_what_is_not_accepted() -> None:
    run = Run(template(THREE, steps={"j": {"join": "any"}}, on_failure="fail"))
    run.create()
    run.fail("a", error=NEVER)
    assert not run.state.ended
    run.fail("b", error=NEVER)
    run.fail("c", error=NEVER)
    assert run.state.status is TaskStatus.FAILED


def test_results_stand_in_declared_order_whatever_finished_first() -> None:
    run = Run(template({"a": [], "b": [], "c": []}))
    run.create()
    for name in "cab":
        run.complete(name, result=name)
    assert list(run.result()) == ["a", "b", "c"]
    assert isinstance(run.events[-1], TaskCompleted)


def test_what_a_join_closes_is_not_closed_again_by_the_edge_before_it() -> None:
    small = [{"step": "a", "when": "input.n > 7"}]
    shape = {"a": [], "b": [], "small": small, "j": ["a", "b", "small"]}
    run = Run(template(shape, steps={"j": {"join": "any"}}))  # type: ignore[arg-type]
    run.create()
    run.complete("a")
    closed = [name for event in run.events if isinstance(event, PathsClosed) for name in event.steps]
    assert closed == ["small"]
    run.complete("j")
    assert run.state.status is TaskStatus.COMPLETED


@pytest.mark.parametrize("on_failure", ["fail", "block"])
def test_a_failure_counts_as_soon_as_too_few_others_can_complete(on_failure: str) -> None:
    shape = {"d": [], "a": [], "b": ["d"], "c": [], "j": ["a", "b", "c"]}
    keys = {"d": {"routes": ["b"]}, "j": {"join": "n_of", "join_count": 2}}
    run = Run(template(shape, steps=keys, on_failure=on_failure))
    run.create()
    run.fail("a", error=NEVER)
    assert run.state.status is TaskStatus.RUNNING
    run.choose("d")
    run.complete("c")
    if on_failure == "fail":
        assert (run.state.status, run.state.stopping and run.state.stopping.step) == (TaskStatus.FAILED, "a")
    else:
        assert run.events[-1] == TaskBlocked(reason="step_failed", steps=("a",))


def test_a_failure_holds_nothing_up_once_what_needed_it_does_not_run() -> None:
    run = Run(template({"x": [], "d": [], "y": ["x", "d"]}, steps={"d": {"routes": ["y"]}}))
    run.create()
    run.fail("x", error=NEVER)
    run.choose("d")
    assert run.state.status is TaskStatus.COMPLETED


def test_a_failure_holds_nothing_up_once_a_person_let_its_child_begin() -> None:
    run = Run(template({"x": [], "y": ["x"]}))
    run.create()
    run.fail("x", error=NEVER)
    run.release("y")
    run.complete("y", result="without")
    assert (run.state.status, run.result()) == (TaskStatus.COMPLETED, "without")


def test_a_step_that_failed_at_a_condition_waits_for_its_parents_when_it_is_retried() -> None:
    run = Run(template({"a": [], "b": [], "c": [{"step": "a", "when": "results.a.ok"}, "b"]}))  # type: ignore[list-item]
    run.create()
    run.complete("a", result={})
    assert run.state.steps["c"].status is StepStatus.FAILED
    run.edit("a", {"ok": True})
    run.retry("c")
    assert run.offered() == ["b"]
    run.complete("b")
    assert run.offered() == ["c"]


def test_what_is_behind_a_step_that_is_cancelled_at_its_condition_does_not_run() -> None:
    run = Run(template({"a": [], "b": ["a"], "c": ["b"]}, steps={"b": {"when": "results.a.ok"}}))
    run.create()
    run.complete("a", result={})
    run.edit("a", {"ok": False})
    run.retry("b")
    assert run.state.status is TaskStatus.COMPLETED


def test_a_join_that_failed_at_a_condition_still_needs_its_parents() -> None:
    """A retry looks at its parents again, so that their failures hold the task up with it, in either order."""
    steps = {
        "a": {"retry": {"max_attempts": 1}},
        "b": {},
        "j": {"after": ["a", {"step": "b", "when": "results.b.size() > 1"}]},
    }
    for order in ("ab", "ba"):
        run = Run(template({"a": [], "b": [], "j": []}, steps=steps))
        run.create()
        for step in order:
            run.fail("a") if step == "a" else run.complete("b", result=1)
        assert isinstance(run.events[-1], TaskBlocked)
        assert set(run.events[-1].steps) == {"a", "j"}
        run.edit("b", [1, 2])
        run.retry()
        run.complete("a", 2)
        run.complete("j")
        assert run.state.status is TaskStatus.COMPLETED


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_all_settled_begins_whatever_ended_last_also_while_others_wait_for_a_retry(order: str) -> None:
    steps = {"a": {"retry": {"max_attempts": 1}}, "settled": {"join": "all_settled"}}
    run = Run(template({"a": [], "b": [], "settled": ["a", "b"], "needs": ["a"]}, steps=steps))
    run.create()
    for step in order:
        run.fail("a") if step == "a" else run.complete("b")
    assert run.offered() == ["settled"]
    run.complete("settled")
    assert run.events[-1] == TaskBlocked(reason="step_failed", steps=("a",))
