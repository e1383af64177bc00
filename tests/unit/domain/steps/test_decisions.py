"""Decisions choose among their children; what is not chosen has no events."""

from typing import Any

from tasker.events.task_events import (
    NULL,
    Choice,
    ErrorInfo,
    PathsClosed,
    StepAttemptFailed,
    StepCompleted,
    StepDispatched,
    StepFailed,
    StepRouted,
    StepStarted,
    TaskBlocked,
    TaskCompleted,
)
from tasker.service.domain.state import TaskStatus
from tests.runs import Run, template

APPROVAL: dict[str, list[str]] = {
    "validate": [],
    "route": ["validate"],
    "auto": ["route"],
    "manager": ["route"],
    "finance": ["route"],
    "finalize": ["auto", "manager", "finance"],
}
ROUTES = {"route": {"routes": ["auto", "manager", "finance"]}, "finalize": {"join": "deferred"}}


def approval(**keys: Any) -> Run:
    run = Run(template(APPROVAL, steps=ROUTES, **keys))
    run.create()
    run.complete("validate")
    return run


def test_only_what_is_chosen_runs_and_the_join_waits_for_it() -> None:
    run = approval()
    assert list(run.state.steps) == ["validate", "route"]
    events = run.choose("route", "manager", "finance", reason="5,000 or more")
    assert events == (
        StepStarted(step="route", attempt=1, worker="w1", finish_by_us=run.now_us + 30_000_000, heartbeat_s=10.0),
        StepRouted(step="route", attempt=1, chosen=("manager", "finance"), closed=("auto",), reason="5,000 or more"),
        StepCompleted(step="route", attempt=1, result=run.state.steps["route"].result or NULL),
        StepDispatched(step="manager", attempt=1),
        StepDispatched(step="finance", attempt=1),
        PathsClosed(steps=("auto",), by="route", reason="route did not choose it"),
    )
    run.complete("finance")
    assert "finalize" not in run.state.steps
    run.complete("manager")
    assert run.offered() == ["finalize"]
    run.complete("finalize", result=2)
    assert (run.state.status, run.result()) == (TaskStatus.COMPLETED, 2)
    assert not any(getattr(event, "step", None) == "auto" for event in run.events)


def test_a_plain_join_behind_a_step_that_is_not_chosen_does_not_run() -> None:
    run = Run(template(APPROVAL, steps={"route": ROUTES["route"]}))
    run.create()
    run.complete("validate")
    events = run.choose("route", "auto")
    assert [one.steps for one in events if isinstance(one, PathsClosed)] == [("manager", "finance"), ("finalize",)]
    run.complete("auto", result="done")
    assert run.state.status is TaskStatus.COMPLETED
    assert run.result() is None  # of finalize, the last step


def test_a_decision_may_choose_nothing() -> None:
    run = approval()
    events = run.choose("route", reason="nothing to approve")
    assert isinstance(events[-1], TaskCompleted)
    assert set(run.state.closed) == {"auto", "manager", "finance", "finalize"}


def test_children_that_are_no_routes_run_whatever_is_chosen() -> None:
    run = Run(template({"route": [], "x": ["route"], "log": ["route"]}, steps={"route": {"routes": ["x"]}}))
    run.create()
    run.choose("route")
    assert run.offered() == ["log"]


def test_an_unknown_route_fails_the_decision_for_good() -> None:
    run = approval()
    events = run.choose("route", "boss")
    assert [type(one) for one in events] == [StepStarted, StepAttemptFailed, StepFailed, TaskBlocked]
    error = run.state.steps["route"].error
    assert error is not None
    assert error.type == "decision_invalid"
    assert "auto, manager, finance" in error.message


def test_a_decision_without_a_choice_fails() -> None:
    run = approval()
    run.complete("route")
    assert run.state.blocked_reason == "step_failed"


def test_a_choice_of_a_step_that_decides_nothing_fails() -> None:
    run = Run(template({"a": [], "b": ["a"]}))
    run.create()
    run.complete("a", choice=Choice(routes=("b",)))
    assert run.state.blocked_reason == "step_failed"


def test_a_failed_decision_is_retried_and_then_chooses() -> None:
    run = approval()
    run.fail("route", error=ErrorInfo(type="ValueError", message="no", retryable=False))
    run.retry()
    run.choose("route", "auto", attempt=2)
    run.complete("auto")
    run.complete("finalize")
    assert run.state.status is TaskStatus.COMPLETED


def test_decisions_behind_each_other() -> None:
    shape: dict[str, list[str]] = {
        "d1": [],
        "d2": ["d1"],
        "x": ["d1"],
        "y": ["d2"],
        "z": ["d2"],
        "end": ["x", "y", "z"],
    }
    steps = {"d1": {"routes": ["d2", "x"]}, "d2": {"routes": ["y", "z"]}, "end": {"join": "deferred"}}
    run = Run(template(shape, steps=steps))
    run.create()
    run.choose("d1", "d2")
    run.choose("d2", "z")
    run.complete("z")
    run.complete("end")
    assert run.state.status is TaskStatus.COMPLETED
    assert set(run.state.closed) == {"x", "y"}


def test_what_is_closed_by_what_was_not_chosen_is_not_closed_by_the_decision_as_well() -> None:
    """Counted twice, it left the task blocked with nothing to do."""
    steps = {"route": {"routes": ["extra"]}, "end": {"after": [{"step": "route", "when": "input.n > 7"}, "extra"]}}
    run = Run(template({"route": [], "extra": ["route"], "end": []}, steps=steps))
    run.create()
    run.choose("route", reason="not today")
    closed = [event for event in run.events if isinstance(event, PathsClosed) and event.steps]
    assert [(event.steps, event.by) for event in closed] == [(("extra",), "route"), (("end",), "extra")]
    assert run.state.status is TaskStatus.COMPLETED
