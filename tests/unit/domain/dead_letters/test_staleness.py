"""What stands still for longer than its template allows is stale, once, until it moves."""

from typing import Any

import pytest

from tasker.errors import StateForbids
from tasker.events.task_events import ErrorInfo, StaleEnded, StaleLimits, TaskCancelled, TaskCreated, WentStale
from tasker.service.domain.dead_letters.investigation import subject_of
from tasker.service.domain.dry_run import copied
from tasker.service.domain.obligations import obligations_of
from tasker.service.domain.state_document import state_hash
from tests.runs import T0_US, Run, linear, template

S = 1_000_000
NO = ErrorInfo(type="NoSuchCard", message="no", retryable=False)
LIMITS = {"pending_s": 600, "blocked_s": 3600, "paused_s": 60, "waiting_s": 30}


def created(shape: Any = None, *, steps: Any = None, limits: dict[str, Any] | None = None, **options: Any) -> Run:
    stale_after = LIMITS if limits is None else limits
    made = (
        linear(2, stale_after=stale_after) if shape is None else template(shape, steps=steps, stale_after=stale_after)
    )
    run = Run(made)
    run.create(**options)
    return run


def stale(run: Run) -> list[str]:
    return [name for name in obligations_of(run.state) if name.startswith("stale")]


def test_the_limits_are_recorded_with_the_task() -> None:
    [first, *_] = created().events
    assert isinstance(first, TaskCreated)
    assert first.stale_after == StaleLimits(pending_s=600.0, blocked_s=3600.0, paused_s=60.0, waiting_s=30.0)


def test_a_task_that_moves_owes_nothing_of_it() -> None:
    run = created()
    run.start("s1")
    assert stale(run) == []
    assert stale(created(limits={"paused_s": 60}, not_before_us=T0_US + 3600 * S)) == []


def test_a_blocked_task_is_stale_once_and_ends_to_be_when_it_is_repaired() -> None:
    run = created()
    run.fail("s1", error=NO)
    assert obligations_of(run.state)["stale"] == run.now_us + 3600 * S
    assert run.fire_at("stale") == (WentStale(state="blocked", after_s=3600.0),)
    assert run.state.status == "blocked"
    assert stale(run) == []
    run.wait(7200)
    assert run.fire("stale") == ()
    assert run.retry()[-1] == StaleEnded()
    run.fail("s1", 2, error=NO)
    assert obligations_of(run.state)["stale"] == run.now_us + 3600 * S


def test_a_task_paused_before_its_start_counts_anew_in_each_state() -> None:
    run = created(not_before_us=T0_US + 3600 * S)
    run.wait(599)
    run.pause()
    assert obligations_of(run.state)["stale"] == run.now_us + 60 * S
    assert run.fire_at("stale") == (WentStale(state="paused", after_s=60.0),)
    assert StaleEnded() in run.resume()
    assert obligations_of(run.state)["stale"] == run.now_us + 600 * S
    assert run.fire_at("stale") == (WentStale(state="pending", after_s=600.0),)
    assert run.fire_at("not_before")[-1] == StaleEnded()
    assert stale(run) == []


@pytest.mark.parametrize(
    ("keys", "leave"),
    [
        ({"delay_s": 3600}, lambda run: run.release("w")),
        ({"signal": "go"}, lambda run: run.signal("go", command_id="c")),
        ({"signal": "go"}, lambda run: run.skip("w")),
        ({"child": "c"}, lambda run: run.child("w", "x", state="completed")),
        ({"delay_s": 3600}, lambda run: run.fire_at("timer:w:1")),
    ],
)
def test_a_step_that_waits_is_stale_until_it_goes_on(keys: dict[str, Any], leave: Any) -> None:
    run = created({"w": [], "after": ["w"]}, steps={"w": keys})
    assert run.fire_at("stale:w:1") == (WentStale(step="w", attempt=1, state="waiting", after_s=30.0),)
    assert stale(run) == []
    assert leave(run)[-1] == StaleEnded(step="w")
    assert run.state.staleness is not None
    assert run.state.staleness.told == {}


def test_each_wait_of_a_step_counts_by_itself() -> None:
    run = created({"a": []}, steps={"a": {"retry": {"max_attempts": 3, "delay_s": 100.0, "delay_s_max": 1000.0}}})
    run.fail("a", jitter=0.5)
    run.fire_at("stale:a:1")
    assert run.fire_at("retry:a:2")[-1] == StaleEnded(step="a")
    run.wait(500)
    run.fail("a", 2, jitter=0.5)
    assert obligations_of(run.state)["stale:a:2"] == run.now_us + 30 * S


def test_steps_of_a_paused_task_do_not_count_against_it() -> None:
    run = created({"w": []}, steps={"w": {"signal": "go"}})
    run.pause()
    assert stale(run) == ["stale"]
    run.wait(3600)
    run.resume()
    assert obligations_of(run.state)["stale:w:1"] == run.now_us + 1


def test_a_step_that_waits_for_its_items_is_not_stale_but_its_items_are() -> None:
    run = created({"w": []}, steps={"w": {"each": "[1, 2]", "child": "c"}})
    assert stale(run) == ["stale:w[0]:1", "stale:w[1]:1"]


def test_before_a_task_ends_it_is_stale_no_more() -> None:
    run = created()
    run.pause()
    run.fire_at("stale")
    assert run.cancel()[-2:] == (StaleEnded(), TaskCancelled())
    assert obligations_of(run.state) == {}


def test_what_is_stale_is_a_dead_letter_that_people_may_settle() -> None:
    run = created({"w": []}, steps={"w": {"signal": "go"}})
    assert not subject_of(run.state, "w").is_dead
    run.fire_at("stale:w:1")
    assert subject_of(run.state, "w").is_dead
    run.release("w")
    assert not subject_of(run.state, "w").is_dead


def test_a_dry_run_leaves_it_as_it_is() -> None:
    run = created({"w": []}, steps={"w": {"signal": "go"}})
    run.fire_at("stale:w:1")
    before = state_hash(run.state)
    other = copied(run.state)
    assert state_hash(other) == before
    assert other.staleness is not None
    other.staleness.told.clear()
    assert state_hash(run.state) == before


def test_a_task_without_limits_has_nothing_of_it() -> None:
    run = Run(linear(1))
    run.create()
    assert run.state.staleness is None
    with pytest.raises(StateForbids):
        run.resume()
