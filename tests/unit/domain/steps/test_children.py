"""Steps that start a task of another template."""

from typing import Any

import pytest

from tasker.errors import StateForbids
from tasker.events.task_events import (
    ChildRequested,
    ChildStarted,
    ErrorInfo,
    StepAttemptFailed,
    StepCancelled,
    StepCancelRequested,
    StepCompleted,
    StepDispatched,
    StepFailed,
    StepGathered,
    TaskBlocked,
    TaskCancelled,
)
from tasker.service.domain.state import StepStatus, TaskStatus
from tasker.service.domain.steps.children import CHILD_DEPTH_MAX, child_key, parent_of
from tests.runs import ERROR, Run, raw, template

SHAPE: dict[str, list[str]] = {"kid": [], "end": ["kid"]}


def parent(**keys: Any) -> Run:
    run = Run(template(SHAPE, steps={"kid": {"child": "parcel", **keys}}))
    run.create()
    return run


def test_a_child_is_asked_for_started_and_its_result_is_the_steps() -> None:
    run = parent()
    (asked,) = [one for one in run.events if isinstance(one, ChildRequested)]
    assert (asked.template, asked.namespace, bytes(asked.input)) == ("parcel", "default", bytes(raw({"n": 6})))
    assert run.owes() == {"child:kid:1": run.now_us}
    assert run.child("kid", "c1") == (ChildStarted(step="kid", attempt=1, child="c1"),)
    assert run.child("kid", "c1") == ()
    events = run.child("kid", "c1", state="completed", result=7)
    assert [type(one) for one in events] == [StepCompleted, StepDispatched]
    assert run.result_of("kid") == 7


def test_a_task_as_deep_as_may_be_starts_no_child() -> None:
    run = Run(template(SHAPE, steps={"kid": {"child": "parcel"}}))
    run.create(depth=CHILD_DEPTH_MAX - 1)
    assert run.owes() == {"child:kid:1": run.now_us}
    deepest = Run(template(SHAPE, steps={"kid": {"child": "parcel"}}))
    deepest.create(depth=CHILD_DEPTH_MAX)
    (failed,) = [one for one in deepest.events if isinstance(one, StepFailed)]
    assert failed.error is not None
    assert (failed.error.type, deepest.state.status) == ("child_refused", TaskStatus.BLOCKED)


def test_an_end_that_is_told_first_says_both() -> None:
    run = parent()
    assert [type(one) for one in run.child("kid", "c1", state="completed")][:2] == [ChildStarted, StepCompleted]


def test_a_failed_child_fails_its_step_and_a_retry_starts_another() -> None:
    run = parent()
    error = ErrorInfo(type="NoSuchCard", message="no", retryable=True)
    events = run.child("kid", "c1", state="failed", error=error)
    assert [type(one) for one in events] == [ChildStarted, StepAttemptFailed, StepFailed, TaskBlocked]
    found = run.state.steps["kid"].error
    assert found is not None
    assert (found.type, found.message) == ("child_failed", "child task c1 is failed: NoSuchCard: no")
    run.retry()
    assert run.owes() == {"child:kid:2": run.now_us}
    run.child("kid", "c2", 2, state="completed")
    run.complete("end")
    assert run.state.status is TaskStatus.COMPLETED


def test_a_child_that_is_refused_fails_its_step() -> None:
    run = parent()
    error = ErrorInfo(type="child_refused", message="default/parcel: no such template", retryable=False)
    assert isinstance(run.child("kid", None, error=error)[-1], TaskBlocked)


def test_without_a_wait_the_step_is_over_when_the_child_exists() -> None:
    run = parent(child_wait=False)
    run.child("kid", "c1")
    assert run.result_of("kid") == {"task_id": "c1"}
    assert run.offered() == ["end"]


def test_news_of_an_attempt_that_is_over_changes_nothing() -> None:
    run = parent()
    assert run.child("kid", "c1", 2) == run.child("end", "c1") == ()
    run.child("kid", "c1", state="completed")
    assert run.child("kid", "c1", state="failed") == ()


@pytest.mark.parametrize("policy", ["cancel", "wait"])
def test_a_stopping_task_waits_for_the_end_of_its_child(policy: str) -> None:
    run = parent(on_parent_close=policy)
    run.child("kid", "c1")
    assert [type(one) for one in run.cancel()][1:] == [StepCancelRequested]
    assert list(run.owes()) == ["child:kid:1"]
    assert [type(one) for one in run.child("kid", "c1", state="cancelled")] == [StepCancelled, TaskCancelled]


def test_a_child_whose_start_is_under_way_is_found_before_the_task_ends() -> None:
    run = parent()
    run.cancel()
    assert not run.state.ended
    assert run.child("kid", "c1") == (ChildStarted(step="kid", attempt=1, child="c1"),)
    run.child("kid", "c1", state="cancelled")
    assert run.state.status is TaskStatus.CANCELLED


def test_an_abandoned_child_holds_nothing_up() -> None:
    run = parent(on_parent_close="abandon")
    run.child("kid", "c1")
    run.cancel()
    assert run.state.status is TaskStatus.CANCELLED


def test_a_child_for_each_item_with_an_input_of_its_own() -> None:
    steps = {"kids": {"child": "parcel", "each": "input.lines", "child_input": "item.sku", "max_parallel": 1}}
    run = Run(template({"kids": []}, steps=steps))
    run.create(input=raw({"lines": [{"sku": "a"}, {"sku": "b"}]}))
    assert list(run.owes()) == ["child:kids[0]:1"]
    run.child("kids[0]", "c1", state="completed", result=1)
    asked = [bytes(one.input) for one in run.events if isinstance(one, ChildRequested)]
    assert asked == [b'"a"', b'"b"']
    run.child("kids[1]", "c2", state="completed", result=2)
    assert run.result() == [1, 2]


def test_an_input_without_a_value_fails_the_step_that_asks() -> None:
    run = parent(child_input="input.missing")
    assert run.state.failed == {"kid": None}
    assert run.state.open == 0


def test_keys_name_their_parent() -> None:
    task_id = "01234567-89ab-8def-8123-456789abcdef"
    assert parent_of(child_key(task_id, "kids#2[a.b-c]", 3)) == (task_id, "kids#2[a.b-c]", 3)
    assert parent_of(None) is parent_of("order-17") is parent_of("child:x") is parent_of("child:a:b:c") is None


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (1, "child task c1 is failed: NoSuchCard: it is no card"),
        (3, "child task c3 > c2 > c1 is failed: NoSuchCard: it is no card"),
        (6, "child task c6 > c5 > c4 > c3 > c2 > c1 is failed: NoSuchCard: it is no card"),
        (100, "child task c100 > c99 > ... > c3 > c2 > c1 is failed: NoSuchCard: it is no card"),
    ],
)
def test_a_chain_of_failed_children_is_named_once_with_what_began_it(levels: int, message: str) -> None:
    error: ErrorInfo | None = ErrorInfo(type="NoSuchCard", message="it is no card")
    for level in range(1, levels + 1):
        run = parent()
        run.child("kid", f"c{level}", state="failed", error=error)
        error = run.state.steps["kid"].error
    assert error is not None
    assert (error.type, error.message) == ("child_failed", message)


def test_a_handlers_own_error_of_that_type_is_told_as_it_is() -> None:
    run = parent()
    run.child("kid", "c1", state="failed", error=ErrorInfo(type="child_failed", message="the kid fell"))
    found = run.state.steps["kid"].error
    assert found is not None
    assert found.message == "child task c1 is failed: child_failed: the kid fell"


def test_what_is_below_a_failed_child_may_have_been_cancelled() -> None:
    below, above = parent(), parent()
    below.child("kid", "c1", state="cancelled")
    above.child("kid", "c2", state="failed", error=below.state.steps["kid"].error)
    found = above.state.steps["kid"].error
    assert found is not None
    assert (found.type, found.message) == ("child_failed", "child task c2 > c1 is cancelled")


# ---------------------------------------------------------------- one for each item


def two_children(**keys: Any) -> Run:
    """A task whose step starts a child for each of two items."""
    run = Run(template(SHAPE, steps={"kid": {"child": "parcel", "each": "[1, 2]", **keys}}))
    run.create()
    return run


def test_a_step_is_not_retried_before_the_children_that_were_cancelled_with_it_have_ended() -> None:
    """It was, and hung when the other items were done first, or had null for an item that nobody gave up."""
    run = two_children()
    run.child("kid[0]", "c0", state="failed", error=ERROR)
    run.child("kid[1]", "c1")
    assert (run.state.steps["kid"].status, run.state.open) == (StepStatus.FAILED, 1)
    for step in ("kid", None):
        with pytest.raises(StateForbids, match=r"1 of 2 items of step kid are being stopped.* c1 of kid\[1\] has"):
            run.retry(step)
    run.child("kid[1]", "c1", state="cancelled")
    run.retry("kid")
    run.child("kid[0]", "c2", 2, state="completed", result="a")
    run.child("kid[1]", "c3", 2, state="completed", result="b")
    assert run.result_of("kid") == ["a", "b"]
    assert run.offered() == ["end"]


def test_an_item_that_makes_room_lets_its_step_go_on_once_its_child_has_ended() -> None:
    """The other item was done by then, and nobody looked at the step any more."""
    run = two_children(concurrency={"key": "'k'", "limit": 1, "strategy": "cancel_oldest"})
    run.take("kid[0]", 1)
    run.child("kid[0]", "c0")
    assert [type(one) for one in run.deny("kid[0]", 1, "evicted")][1:] == [StepCancelRequested]
    run.take("kid[1]", 1)
    run.child("kid[1]", "c1", state="completed", result="b")
    events = run.child("kid[0]", "c0", state="cancelled")
    assert [type(one) for one in events] == [StepCancelled, StepGathered, StepDispatched]
    assert run.result_of("kid") == [None, "b"]


@pytest.mark.parametrize("policy", ["cancel", "abandon"])
def test_an_item_that_is_cancelled_with_its_step_begins_no_other(policy: str) -> None:
    shape = {"kid": [], "other": [], "end": ["kid", "other"]}
    kid = {"child": "parcel", "each": "[1, 2]", "max_parallel": 1, "on_parent_close": policy}
    run = Run(template(shape, steps={"kid": kid, "end": {"join": "any"}}))
    run.create()
    run.child("kid[0]", "c0")
    run.complete("other")
    run.child("kid[0]", "c0", state="cancelled")
    assert list(run.state.steps) == ["kid", "kid[0]", "other", "end"]
    assert run.state.steps["kid[0]"].status is StepStatus.CANCELLED


def test_a_loop_turns_when_the_children_of_its_lists_have_ended() -> None:
    """It turned while children that were cancelled with their list ran on beside those of the next visit."""
    shape = {"first": [], "kid": ["first"], "other": ["first"], "back": ["kid", "other"]}
    steps = {"kid": {"child": "parcel", "each": "[1, 2]"}, "back": {"join": "any", "back_to": "first"}}
    run = Run(template(shape, steps=steps))
    run.create()
    run.complete("first")
    run.child("kid[0]", "c0")
    run.complete("other")
    run.child("kid[1]", "c1", state="cancelled")
    run.complete("back")
    assert run.offered() == []
    run.child("kid[0]", "c0", state="cancelled")
    assert run.offered() == ["first#2"]
