"""The time in which steps of a task run is counted by its events, and held to its budget."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.errors import StateForbids
from tasker.events.task_events import (
    AnyTaskEvent,
    RunningTimeSpent,
    StepCancelRequested,
    StepCompleted,
    StepDispatched,
    TaskBlocked,
    TaskBudgetSet,
    TaskFailed,
    TaskStopping,
    TaskUnpaused,
)
from tasker.service.domain.commands import SetBudget
from tasker.service.domain.dry_run import copied
from tasker.service.domain.state import TaskStatus
from tasker.service.domain.state_document import state_hash
from tests.runs import DIAMOND, T0_US, Run, created, linear, template, types

MINUTE: dict[str, Any] = {"running_s_max": 60}
NO_WAIT: dict[str, Any] = {"retry": {"max_attempts": 9, "backoff": "none"}}


def ran_us(run: Run) -> int:
    assert run.state.running is not None
    return run.state.running.spent_by_us(run.now_us)


def due_us(run: Run) -> set[int]:
    return {at_us - T0_US for name, at_us in run.owes().items() if name.startswith("run_by")}


def allow(run: Run, **more: Any) -> tuple[AnyTaskEvent, ...]:
    return run.do(SetBudget(at_us=run.now_us, **more))


def test_what_waits_counts_nothing_and_two_at_once_count_once() -> None:
    run = created(Run(template(DIAMOND, budget=MINUTE)))
    run.wait(100)
    assert (ran_us(run), due_us(run)) == (0, set())
    run.start("a")
    assert due_us(run) == {160_000_000}
    run.wait(10)
    run.complete("a")
    run.wait(100)
    assert (ran_us(run), due_us(run)) == (10_000_000, set())
    run.start("b")
    run.wait(5)
    run.start("c")
    assert due_us(run) == {260_000_000}, "the same moment for both"
    run.wait(5)
    run.complete("b")
    assert due_us(run) == {260_000_000}
    run.wait(5)
    run.complete("c")
    assert ran_us(run) == 25_000_000


def test_over_it_nothing_more_begins_until_a_person_allows_more() -> None:
    run = created(Run(template({"a": [], "b": [], "c": ["a"]}, budget=MINUTE)))
    run.start("a")
    words = "its budget: its steps ran for 60 s of at most 60"
    assert run.fire_at("run_by:a:1") == (
        RunningTimeSpent(running_us=60_000_000, excess=words),
        TaskBlocked(reason="budget_exceeded", detail=words),
    )
    assert due_us(run) == set()
    assert "finish_by:a:1" in run.owes(), "what runs may end"
    run.wait(5)
    assert types(run.complete("a")) == [StepCompleted]
    with pytest.raises(StateForbids, match="65 s of at most 65"):
        allow(run, running_s_max=65)
    with pytest.raises(StateForbids, match="65 s of at most 60"):
        allow(run, tokens_max=10)
    assert allow(run, running_s_max=90) == (
        TaskBudgetSet(running_s_max=90, goes_on=True),
        StepDispatched(step="c", attempt=1),
    )
    assert "offer:b:1" in run.owes()
    run.start("c")
    assert due_us(run) == {90_000_000}


def test_a_task_that_is_to_fail_stops_what_runs() -> None:
    run = created(Run(linear(2, budget=MINUTE | {"on_exceeded": "fail"})))
    run.start("s1")
    assert types(run.fire_at("run_by:s1:1")) == [RunningTimeSpent, TaskStopping, StepCancelRequested]
    assert run.state.stopping is not None
    events = run.fire_at("grace:s1:1")
    failed = events[-1]
    assert isinstance(failed, TaskFailed)
    assert failed.error is not None
    assert (failed.cause, failed.error.type) == ("budget_exceeded", "budget_exceeded")
    assert "ran for 60 s of at most 60" in failed.error.message


def test_what_ran_over_between_two_timers_is_told_when_the_next_step_runs() -> None:
    run = created(Run(linear(2, budget=MINUTE)))
    run.start("s1")
    run.wait(70)
    run.complete("s1")
    assert due_us(run) == set()
    run.wait(30)
    run.start("s2")
    assert due_us(run) == {100_000_001}
    assert types(run.fire_at("run_by:s2:1")) == [RunningTimeSpent, TaskBlocked]


def test_a_paused_task_goes_on_to_count_what_runs() -> None:
    run = created(Run(linear(2, budget=MINUTE)))
    run.start("s1")
    run.pause()
    assert types(run.fire_at("run_by:s1:1")) == [RunningTimeSpent]
    assert run.state.status is TaskStatus.PAUSED
    assert types(run.resume()) == [TaskUnpaused, TaskBlocked]


def test_a_budget_without_it_counts_nothing() -> None:
    run = created(Run(linear(1, budget={"tokens_max": 5})))
    run.start("s1")
    assert (run.state.running, due_us(run)) == (None, set())
    with pytest.raises(StateForbids, match="nobody counted"):
        allow(run, running_s_max=5)


STEPS = ("a", "b", "c")
OPERATIONS = ("start", "complete", "fail", "retry", "pause", "resume", "cancel", "wait")


@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(STEPS), st.integers(0, 20)), max_size=40))
def test_the_sum_is_what_the_log_tells(operations: list[tuple[str, str, int]]) -> None:
    """Whatever happens: the same as the slow count over every moment of the recorded attempts."""
    run = created(
        Run(template({name: [] for name in STEPS}, steps=dict.fromkeys(STEPS, NO_WAIT), budget={"running_s_max": 1e6}))
    )
    for operation, name, seconds in operations:
        run.wait(seconds)
        step = run.state.steps[name]
        match operation:
            case "start" if step.status == "dispatched":
                run.start(name, step.attempt)
            case "complete" if step.status in ("dispatched", "running"):
                run.complete(name, step.attempt)
            case "fail" if step.status == "running":
                run.fail(name, step.attempt)
            case "retry" if f"retry:{name}:{step.attempt + 1}" in run.owes():
                run.fire_at(f"retry:{name}:{step.attempt + 1}")
            case "pause" if run.state.status is TaskStatus.RUNNING and run.state.stopping is None:
                run.pause()
            case "resume" if run.state.status is TaskStatus.PAUSED:
                run.resume()
            case "cancel" if not run.state.ended:
                run.cancel()
            case _:
                pass
    assert ran_us(run) == slow_us(run)
    assert state_hash(copied(run.state)) == state_hash(run.state)


def slow_us(run: Run) -> int:
    """Add up the seconds in which at least one attempt ran, by its events alone."""
    runs: dict[str, int] = {}
    seconds: set[int] = set()
    for unit in run.units:
        for new in unit:
            name = str(msgspec.json.decode(new.payload).get("step", ""))
            if new.type == "step_started":
                runs[name] = new.at_us
            elif new.type in ENDS and name in runs:
                seconds.update(range(runs.pop(name), new.at_us, 1_000_000))
    for since_us in runs.values():
        seconds.update(range(since_us, run.now_us, 1_000_000))
    return 1_000_000 * len(seconds)


ENDS = ("step_completed", "step_attempt_failed", "step_cancelled", "step_failed")
