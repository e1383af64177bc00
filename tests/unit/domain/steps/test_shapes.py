"""What is dispatched when: the order of a task's steps, and its result."""

import pytest

from tasker.events.task_events import (
    StepCompleted,
    StepDispatched,
    StepStarted,
    TaskCompleted,
    TaskCreated,
)
from tasker.service.domain.state import TaskStatus
from tests.runs import DIAMOND, T0_US, Run, linear, raw, template


def names(events: tuple[object, ...]) -> list[str]:
    return [one.step for one in events if isinstance(one, StepDispatched)]


def test_a_task_is_created_with_its_first_step_dispatched() -> None:
    """One unit: the task was never without something that moves it."""
    run = Run(linear(2))
    events = run.create(key="order-17", tags={"team": "core"})
    assert events == (
        TaskCreated(
            template=run.state.template,
            input=raw({"n": 6}),
            request_hash="cd" * 32,
            idempotency_key="order-17",
            tags={"team": "core"},
        ),
        StepDispatched(step="s1", attempt=1),
    )
    assert (run.state.status, run.state.created_us) == (TaskStatus.RUNNING, T0_US)


def test_a_second_creation_changes_nothing() -> None:
    run = Run(linear(2))
    run.create()
    assert run.create() == ()


def test_a_start_is_recorded_with_its_limits() -> None:
    run = Run(linear(1, start_to_close_s=5.0, heartbeat_s=2.0))
    run.create()
    run.wait(1)
    assert run.start("s1", worker="w7") == (
        StepStarted(step="s1", attempt=1, worker="w7", finish_by_us=T0_US + 6_000_000, heartbeat_s=2.0),
    )
    assert run.start("s1", worker="w7") == ()


def test_a_result_dispatches_the_next_step() -> None:
    run = Run(linear(2))
    run.create()
    run.start("s1")
    assert run.complete("s1", result=[1]) == (
        StepCompleted(step="s1", attempt=1, result=raw([1])),
        StepDispatched(step="s2", attempt=1),
    )


def test_a_result_implies_the_start() -> None:
    """A fast handler reports both in one message."""
    run = Run(linear(1))
    run.create()
    events = run.complete("s1", worker="w3")
    assert [type(one) for one in events] == [StepStarted, StepCompleted, TaskCompleted]
    assert run.state.steps["s1"].worker == "w3"


def test_the_last_result_completes_the_task() -> None:
    run = Run(linear(2))
    run.create()
    run.complete("s1", result=1)
    assert run.complete("s2", result=2)[-1] == TaskCompleted(result=raw(2))
    assert (run.state.status, run.state.result) == (TaskStatus.COMPLETED, raw(2))
    assert run.complete("s2", result=2) == ()


def test_a_diamond_joins_when_both_parents_have_a_result() -> None:
    run = Run(template(DIAMOND))
    assert names(run.create()) == ["a"]
    assert names(run.complete("a")) == ["b", "c"]
    assert names(run.complete("c")) == []
    assert names(run.complete("b")) == ["d"]
    assert isinstance(run.complete("d")[-1], TaskCompleted)


def test_a_tree_dispatches_children_in_declared_order() -> None:
    run = Run(template({"root": [], "z": ["root"], "a": ["root"], "m": ["root"]}))
    run.create()
    assert names(run.complete("root")) == ["z", "a", "m"]


def test_several_roots_begin_together() -> None:
    run = Run(template({"b": [], "a": [], "join": ["a", "b"]}))
    assert names(run.create()) == ["b", "a"]


@pytest.mark.parametrize("order", [("b", "c"), ("c", "b")])
def test_several_last_steps_give_a_result_by_name(order: tuple[str, str]) -> None:
    """In canonical form, whichever came last."""
    run = Run(template({"a": [], "c": ["a"], "b": ["a"]}))
    run.create()
    run.complete("a")
    for name in order:
        run.complete(name, result=f"of {name}")
    assert run.state.result == raw({"b": "of b", "c": "of c"})


def test_a_template_may_name_the_step_whose_result_counts() -> None:
    """Also one that is not the last."""
    run = Run(template(DIAMOND, result="b"))
    run.create()
    run.complete("a")
    run.complete("b", result={"total": 12345678901234567890})
    run.complete("c")
    run.complete("d", result="ignored")
    assert bytes(run.state.result or b"") == b'{"total":12345678901234567890}'


def test_a_null_result_is_a_result() -> None:
    run = Run(linear(2))
    run.create()
    run.complete("s1", result=None)
    run.complete("s2", result=None)
    assert run.state.result == raw(None)
    assert run.state.status is TaskStatus.COMPLETED


def test_schedule_to_start_is_recorded_with_the_dispatch() -> None:
    run = Run(linear(2, schedule_to_start_s=5.0))
    assert run.create()[1] == StepDispatched(step="s1", attempt=1, start_by_us=T0_US + 5_000_000)
    run.wait(1)
    assert run.complete("s1")[-1] == StepDispatched(step="s2", attempt=1, start_by_us=T0_US + 6_000_000)
