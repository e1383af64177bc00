"""Two things that exclude each other, told in each order: it is decided once, and the order decides."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from tasker.errors import StateForbids, TaskEnded
from tasker.events.task_events import ErrorInfo, StepCancelled, StepCompleted, StepFailed
from tasker.service.domain.state import StepStatus, TaskStatus
from tests.runs import T0_US, Run, template

OUTCOMES = (StepCompleted, StepCancelled, StepFailed)
ERROR = ErrorInfo(type="ValueError", message="never", retryable=False)


def outcomes_of(run: Run, step: str) -> list[type]:
    return [type(one) for one in run.events if isinstance(one, OUTCOMES) and one.step == step]


def task_of(**keys: Any) -> Run:
    run = Run(template({"only": []}, steps={"only": keys}, on_failure="fail"))
    run.create()
    return run


def test_a_result_before_the_cancel_wins() -> None:
    run = task_of()
    run.complete("only")
    with pytest.raises(TaskEnded):
        run.cancel()
    assert (run.state.status, outcomes_of(run, "only")) == (TaskStatus.COMPLETED, [StepCompleted])


def test_a_result_within_the_grace_is_kept_and_the_task_is_cancelled_all_the_same() -> None:
    run = task_of()
    run.start("only")
    run.cancel(10.0)
    run.complete("only")
    assert (run.state.status, outcomes_of(run, "only")) == (TaskStatus.CANCELLED, [StepCompleted])
    assert run.complete("only") == run.fail("only") == run.cancel() == ()


@pytest.mark.parametrize("is_started", [True, False])
def test_a_result_behind_the_cancel_is_late(*, is_started: bool) -> None:
    run = task_of()
    if is_started:
        run.start("only")
    run.cancel(0.0)
    assert run.complete("only") == run.fail("only") == run.start("only") == ()
    assert (run.state.status, outcomes_of(run, "only")) == (TaskStatus.CANCELLED, [StepCancelled])


def test_the_end_of_the_grace_and_a_result_exclude_each_other() -> None:
    run = task_of()
    run.start("only")
    run.cancel(10.0)
    run.fire_at("grace:only:1")
    assert run.complete("only") == ()
    assert (run.state.status, outcomes_of(run, "only")) == (TaskStatus.CANCELLED, [StepCancelled])


@pytest.mark.parametrize("order", list(permutations(["started", "ended", "cancelled"])), ids="-".join)
@pytest.mark.parametrize("policy", ["cancel", "wait", "abandon"])
@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled"])
def test_the_start_and_end_of_a_child_race_with_its_parents_cancel(
    order: tuple[str, ...], policy: str, ending: str
) -> None:
    """News of the child may come in any order, and twice; the parent may be cancelled before, between and behind."""
    run = task_of(child="c", on_parent_close=policy)

    def cancel() -> None:
        if run.state.ended:
            with pytest.raises(TaskEnded):
                run.cancel()
        else:
            run.cancel()

    moves: dict[str, Callable[[], object]] = {
        "started": lambda: run.child("only", "c1"),
        "ended": lambda: run.child("only", "c1", state=ending, error=ERROR if ending == "failed" else None),
        "cancelled": cancel,
    }
    for move in order:
        moves[move]()
    assert run.child("only", "c1") == run.child("only", "c1", state=ending) == ()

    cancelled_first = order.index("cancelled") < order.index("ended")
    status = run.state.steps["only"].status
    if cancelled_first:
        assert run.state.status is TaskStatus.CANCELLED
        gave_result = ending == "completed" and policy != "abandon"
        assert status is (StepStatus.COMPLETED if gave_result else StepStatus.CANCELLED)
    else:
        assert run.state.status is (TaskStatus.COMPLETED if ending == "completed" else TaskStatus.FAILED)
        assert status is (StepStatus.COMPLETED if ending == "completed" else StepStatus.FAILED)
    assert len(outcomes_of(run, "only")) == 1
    assert run.owes() == {}


@pytest.mark.parametrize("order", list(permutations(["approved", "rejected", "deadline"])), ids="-".join)
def test_of_an_answer_and_the_deadline_the_first_decides(order: tuple[str, ...]) -> None:
    keys = {"approval": {}, "wait_deadline_s": 5, "on_wait_deadline": "continue"}
    run = Run(template({"ask": [], "then": ["ask"]}, steps={"ask": keys}))
    run.create()
    run.now_us = T0_US + 5_000_000
    moves: dict[str, Callable[[], object]] = {
        "approved": lambda: run.approve("ask", "ada"),
        "rejected": lambda: run.reject("ask", "bob"),
        "deadline": lambda: run.fire("wait_by:ask:1"),
    }
    first, *late = order
    moves[first]()
    for move in late:
        if move == "deadline":
            assert moves[move]() == ()
        else:
            with pytest.raises(StateForbids):
                moves[move]()
    assert run.result_of("ask")["decision"] == ("expired" if first == "deadline" else first)
    assert outcomes_of(run, "ask") == [StepCompleted]
    assert run.offered() == ["then"]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_signal_counts_on_either_side_of_the_start(at: int) -> None:
    """Of its task, and of the step that waits for it."""
    order = ["start", "parent"]
    order.insert(at, "signal")
    run = Run(template({"first": [], "wait": ["first"]}, steps={"wait": {"signal": "go"}}))
    run.create(not_before_us=T0_US + 1_000_000)
    moves: dict[str, Callable[[], object]] = {
        "signal": lambda: run.signal("go", 7, command_id="s1"),
        "start": lambda: run.fire_at("not_before"),
        "parent": lambda: run.complete("first"),
    }
    for move in order:
        moves[move]()
    assert (run.state.status, run.result()) == (TaskStatus.COMPLETED, 7)
    assert outcomes_of(run, "wait") == [StepCompleted]
