"""Steps in parts (checkpoints), steps that only wait, and steps that the service completes."""

from typing import Any

import msgspec
import pytest

from tasker.events.task_events import (
    ErrorInfo,
    StepCancelled,
    StepCompleted,
    StepDelayed,
    StepDispatched,
    StepFailed,
    StepYielded,
    TaskCancelled,
    TaskCompleted,
)
from tasker.service.domain.state import TaskStatus
from tasker.times import to_rfc3339
from tests.runs import Run, linear, raw, template


def test_an_attempt_is_given_back_with_its_checkpoint_and_goes_on_at_once() -> None:
    run = Run(linear(1))
    run.create()
    events = run.give_back("s1", checkpoint={"at": 25, "sum": 325})
    assert [type(one) for one in events[1:]] == [StepYielded, StepDispatched]
    assert run.state.steps["s1"].attempt == 2
    assert run.state.steps["s1"].checkpoint == raw({"at": 25, "sum": 325})
    run.complete("s1", 2)
    assert run.state.status is TaskStatus.COMPLETED


def test_it_may_ask_to_be_called_later() -> None:
    run = Run(linear(1))
    run.create()
    run.give_back("s1", delay_s=60)
    assert run.owes() == {"retry:s1:2": run.now_us + 60_000_000}
    run.fire_at("retry:s1:2")
    assert run.offered() == ["s1"]


@pytest.mark.parametrize("delay_s", [1e-9, 4e-7, 1e-6])
def test_however_soon_it_is_called_again_its_time_lies_ahead(delay_s: float) -> None:
    """What is due in the very turn wakes nobody: the step waited until its shard went to another node."""
    run = Run(linear(1))
    run.create()
    run.give_back("s1", delay_s=delay_s)
    assert run.owes() == {"retry:s1:2": run.now_us + 1}


def test_failures_count_from_the_last_checkpoint_on_and_keep_it() -> None:
    run = Run(linear(1, retry={"max_attempts": 2, "backoff": "none"}))
    run.create()
    run.fail("s1")
    run.give_back("s1", 2, checkpoint=1)
    run.fail("s1", 3)
    assert run.state.steps["s1"].checkpoint == raw(1)
    assert run.offered() == ["s1"]
    run.fail("s1", 4)
    assert run.state.blocked_reason == "step_failed"


def test_a_checkpoint_outlives_the_retry_of_a_person() -> None:
    keys = {"each": "[1, 2]", "retry": {"max_attempts": 1}}
    run = Run(template({"a": []}, steps={"a": keys}))
    run.create()
    run.give_back("a[0]", checkpoint={"at": 25})
    run.fail("a[0]", 2)
    run.retry("a")
    assert (run.state.steps["a[0]"].attempt, run.state.steps["a[1]"].attempt) == (3, 2)
    assert run.state.steps["a[0]"].checkpoint == raw({"at": 25})
    assert run.state.steps["a[1]"].checkpoint is None
    run.give_back("a[0]", 3, checkpoint={"at": 50})
    assert run.state.steps["a[0]"].checkpoint == raw({"at": 50})


def test_a_stale_checkpoint_changes_nothing() -> None:
    run = Run(linear(1))
    run.create()
    run.give_back("s1", checkpoint=1)
    assert run.give_back("s1", checkpoint=2) == ()


def test_a_stopping_task_does_not_go_on_from_a_checkpoint() -> None:
    run = Run(linear(1))
    run.create()
    run.start("s1")
    run.cancel()
    events = run.give_back("s1", checkpoint=1)
    assert [type(one) for one in events] == [StepYielded, StepCancelled, TaskCancelled]
    assert run.state.status is TaskStatus.CANCELLED


def delayed(**keys: Any) -> Run:
    run = Run(template({"wait": [], "after": ["wait"]}, steps={"wait": keys}))
    run.create()
    return run


def test_a_delay_completes_at_its_time() -> None:
    run = delayed(delay_s=3600)
    assert run.events[-1] == StepDelayed(step="wait", attempt=1, until_us=run.now_us + 3_600_000_000)
    assert run.owes() == {"timer:wait:1": run.now_us + 3_600_000_000}
    assert run.fire("timer:wait:2") == ()
    assert [type(one) for one in run.fire_at("timer:wait:1")] == [StepCompleted, StepDispatched]


def test_a_delay_is_cancelled_with_its_task() -> None:
    run = delayed(delay_s=3600)
    run.cancel()
    assert run.state.status is TaskStatus.CANCELLED
    assert run.owes() == {}


def test_until_a_time_from_the_input() -> None:
    run = Run(template({"wait": []}, steps={"wait": {"until": "input.at"}}))
    run.create(input=raw({"at": "2027-01-01T00:00:00Z"}))
    (delayed_event,) = [one for one in run.events if isinstance(one, StepDelayed)]
    assert delayed_event.until_us == 1_798_761_600_000_000
    run.fire_at("timer:wait:1")
    assert run.state.status is TaskStatus.COMPLETED


@pytest.mark.parametrize(
    "at", [17, 1e300, None, [], "soon", "2027-01-01", "2027-01-01T00:00:00", "9999-12-31T23:59:59-14:00"]
)
def test_what_is_no_time_fails_the_step_with_its_expression(at: Any) -> None:
    """The last one lies behind all that can be written in UTC, as every reader of the step's time would."""
    run = Run(template({"wait": []}, steps={"wait": {"until": "input.at"}}))
    run.create(input=raw({"at": at}))
    error = run.state.steps["wait"].error
    assert error is not None
    assert "input.at" in error.message


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "1969-07-20T20:17:40Z", "9999-12-31T23:59:59Z"])
def test_however_far_a_time_is_it_can_be_told(at: str) -> None:
    run = Run(template({"wait": []}, steps={"wait": {"until": "input.at"}}))
    run.create(input=raw({"at": at}))
    due_us = run.owes()["timer:wait:1"]
    assert to_rfc3339(due_us)
    assert due_us > run.now_us
    assert [type(one) for one in run.fire_at("timer:wait:1")] == [StepCompleted, TaskCompleted]


def test_inline_steps_need_no_worker() -> None:
    shape = {"a": [], "double": ["a"], "sane": ["double"]}
    steps = {"double": {"transform": "results.a * 2"}, "sane": {"asserts": "results.double > 10"}}
    run = Run(template(shape, steps=steps, result="double"))
    run.create()
    run.complete("a", result=21)
    assert (run.state.status, run.result()) == (TaskStatus.COMPLETED, 42)


def test_an_assertion_that_does_not_hold_fails_for_good() -> None:
    run = Run(template({"sane": []}, steps={"sane": {"asserts": "input.n > 10"}}))
    run.create()
    (failed,) = [one for one in run.events if isinstance(one, StepFailed)]
    assert (failed.reason, failed.error.type) == ("assertion_failed", "assertion_failed")
    assert "input.n > 10" in failed.error.message


def test_conditions_of_steps_and_edges() -> None:
    shape: dict[str, Any] = {
        "a": [],
        "big": ["a"],
        "small": [{"step": "a", "when": "results.a < 10"}],
        "end": ["big", "small"],
    }
    run = Run(template(shape, steps={"big": {"when": "results.a >= 10"}, "end": {"join": "deferred"}}))
    run.create()
    run.complete("a", result=3)
    assert run.offered() == ["small"]
    run.complete("small")
    run.complete("end")
    assert run.state.status is TaskStatus.COMPLETED
    assert set(run.state.closed) == {"big"}


def test_an_expression_without_a_value_fails_its_step_and_names_itself() -> None:
    run = Run(template({"a": [], "b": ["a"]}, steps={"b": {"when": "results.a.missing == 1"}}))
    run.create()
    run.complete("a", result={})
    (failed,) = [one for one in run.events if isinstance(one, StepFailed)]
    assert (failed.step, failed.reason) == ("b", "expression_failed")
    assert "results.a.missing" in failed.error.message


def test_each_runs_for_a_list_of_the_input_by_key() -> None:
    steps = {"each": {"each": "input.items", "item_key": "item.sku", "on_item_failure": "tolerate", "tolerate": 1}}
    run = Run(template({"each": []}, steps=steps))
    run.create(input=raw({"items": [{"sku": "a-1"}, {"sku": "b.2"}, {"sku": "c"}]}))
    assert run.offered() == ["each[a-1]", "each[b.2]", "each[c]"]
    run.fail("each[a-1]", error=ErrorInfo(type="E", message="no", retryable=False))
    run.complete("each[b.2]", result=2)
    run.complete("each[c]", result=3)
    assert msgspec.json.decode(run.state.result or b"") == [None, 2, 3]


def test_keys_must_name_and_differ() -> None:
    for items in ([{"sku": "a"}, {"sku": "a"}], [{"sku": "a:b"}], [{"sku": 7}]):
        run = Run(template({"each": []}, steps={"each": {"each": "input", "item_key": "item.sku"}}))
        run.create(input=raw(items))
        assert run.state.failed == {"each": None}


def test_a_step_may_fail_and_its_retry_evaluates_again() -> None:
    run = Run(template({"a": [], "b": ["a"]}, steps={"b": {"when": "results.a"}}))
    run.create()
    run.complete("a", result=1)
    assert run.state.failed == {"b": None}
    run.retry("b")
    assert run.state.failed == {"b": None}
