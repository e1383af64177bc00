"""A task that fails or is cancelled undoes what it did, the last first."""

from typing import Any

import pytest

from tasker.errors import StateForbids
from tasker.events.task_events import (
    ErrorInfo,
    StepAttemptFailed,
    StepCompleted,
    StepDispatched,
    StepFailed,
    StepRetried,
    StepRetryScheduled,
    StepSkipped,
    StepStarted,
    StepYielded,
    TaskBlocked,
    TaskCancelled,
    TaskCompensating,
    TaskFailed,
    TaskResumed,
    TaskStopping,
)
from tasker.service.domain.state import TaskStatus
from tasker.service.domain.state_document import state_document
from tests.runs import Run, raw, template

NEVER = ErrorInfo(type="NoSuchAddress", message="never", retryable=False)
ORDER: dict[str, list[str]] = {"check": [], "charge": ["check"], "reserve": ["charge"], "ship": ["reserve"]}
UNDOES = {"charge": {"compensate": "refund"}, "reserve": {"compensate": "release"}}


def order(steps: dict[str, Any] | None = None, **keys: Any) -> Run:
    """An order that is charged and reserved, and is to be shipped."""
    run = Run(template(ORDER, steps=steps or UNDOES, **({"on_failure": "fail"} | keys)))
    run.create()
    for step in ("check", "charge", "reserve"):
        run.complete(step, result=f"result of {step}")
    return run


def undone(run: Run) -> list[str]:
    """Complete what is offered until nothing is, and return what it was."""
    seen = []
    while offered := run.offered():
        (name,) = offered  # one after the other
        seen.append(name)
        run.complete(name, run.state.steps[name].attempt)
    return seen


def test_a_failed_task_undoes_what_completed_in_reverse_and_then_fails() -> None:
    run = order()
    assert run.fail("ship", error=NEVER)[-4:] == (
        StepFailed(step="ship", attempt=1, reason="permanent_error", error=NEVER),
        TaskStopping(ending="failed", cause="step_failed", step="ship"),
        TaskCompensating(steps=("charge", "reserve"), instances=2),
        StepDispatched(step="reserve~undo", attempt=1),
    )
    assert run.state.status == "compensating"
    assert run.complete("reserve~undo")[-1] == StepDispatched(step="charge~undo", attempt=1)
    assert run.complete("charge~undo")[-1] == TaskFailed(cause="step_failed", step="ship", error=NEVER)
    assert run.state.status is TaskStatus.FAILED
    assert run.result_of("charge") == "result of charge"


def test_a_cancelled_task_undoes_what_completed_too() -> None:
    run = order()
    run.cancel()
    assert undone(run) == ["reserve~undo", "charge~undo"]
    assert run.state.status is TaskStatus.CANCELLED


def test_a_task_whose_time_is_over_undoes_what_completed() -> None:
    run = Run(template(ORDER, steps=UNDOES))
    run.create(timeout_s=60)
    run.complete("check")
    run.complete("charge")
    run.fire_at("deadline")
    assert undone(run) == ["charge~undo"]
    assert run.events[-1] == TaskFailed(
        cause="timeout", error=ErrorInfo(type="timeout", message="the task's timeout was over", retryable=False)
    )


@pytest.mark.parametrize(
    ("policy", "when"),
    [("both", {"failure", "cancel"}), ("failure", {"failure"}), ("cancel", {"cancel"}), ("never", set())],
)
def test_the_template_says_when(policy: str, when: set[str]) -> None:
    failed, cancelled = order(compensate_on=policy), order(compensate_on=policy)
    failed.fail("ship", error=NEVER)
    cancelled.cancel()
    for name, run in (("failure", failed), ("cancel", cancelled)):
        assert bool(run.state.to_undo) == (name in when)
        assert run.state.ended == (name not in when)


def test_a_blocked_task_has_undone_nothing_until_a_person_cancels_it() -> None:
    run = order(on_failure="block")
    assert run.fail("ship", error=NEVER)[-1] == TaskBlocked(reason="step_failed", steps=("ship",))
    run.cancel()
    assert undone(run) == ["reserve~undo", "charge~undo"]
    assert run.state.status is TaskStatus.CANCELLED


def test_nothing_to_undo_is_no_compensating() -> None:
    run = Run(template(ORDER, steps=UNDOES))
    run.create()
    run.cancel()
    assert isinstance(run.events[-1], TaskCancelled)
    assert not run.state.to_undo


def test_a_completed_task_is_not_undone() -> None:
    run = order()
    run.complete("ship")
    assert run.state.status is TaskStatus.COMPLETED


def test_the_order_is_that_of_completion_and_not_of_beginning() -> None:
    shape: dict[str, list[str]] = {"a": [], "b": [], "c": [], "end": ["a", "b", "c"]}
    run = Run(template(shape, steps={name: {"compensate": "undo"} for name in "abc"}, on_failure="fail"))
    run.create()
    for name in "bca":
        run.complete(name)
    run.fail("end", error=NEVER)
    assert undone(run) == ["a~undo", "c~undo", "b~undo"]


def test_what_completes_within_its_grace_is_undone_as_well() -> None:
    run = order(steps=UNDOES | {"ship": {"compensate": "call_back"}})
    run.start("ship")
    run.cancel(grace_s=10)
    assert not run.state.to_undo
    run.wait(1)
    assert run.complete("ship")[-2:] == (
        TaskCompensating(steps=("charge", "reserve", "ship"), instances=3),
        StepDispatched(step="ship~undo", attempt=1),
    )
    assert undone(run) == ["ship~undo", "reserve~undo", "charge~undo"]


def test_each_item_and_each_visit_is_undone_by_itself() -> None:
    steps: dict[str, Any] = {"ring": {"compensate": "unring", "back_to": "ring"}}
    looped = Run(template({"ring": []}, steps=steps))
    looped.create()
    looped.complete("ring", result=1)
    looped.complete("ring#2", result=2)
    looped.cancel()
    assert undone(looped) == ["ring#2~undo", "ring~undo"]

    mapped = Run(template({"book": []}, steps={"book": {"each": "[10, 20, 30]", "compensate": "free"}}))
    mapped.create()
    mapped.complete("book[2]")
    mapped.complete("book[0]")
    mapped.cancel()
    assert undone(mapped) == ["book[0]~undo", "book[2]~undo"]
    assert mapped.state.status is TaskStatus.CANCELLED


def test_a_step_that_ran_for_a_list_is_undone_by_its_items_alone() -> None:
    steps = {"book": {"each": "[10, 20]", "compensate": "free"}}
    run = Run(template({"book": [], "pay": ["book"]}, steps=steps, on_failure="fail"))
    run.create()
    run.complete("book[0]")
    run.complete("book[1]")
    run.fail("pay", error=NEVER)
    assert run.state.to_undo == ("book[1]", "book[0]")


# ---------------------------------------------------------------- attempts of a compensation


def test_a_compensation_has_its_own_retries_and_times() -> None:
    keys = {
        "compensate": "release",
        "compensate_retry": {"max_attempts": 2, "backoff": "constant", "delay_s": 7},
        "compensate_start_to_close_s": 90.0,
    }
    run = order(steps={"reserve": keys})
    run.fail("ship", error=NEVER)
    assert run.start("reserve~undo") == (
        StepStarted(
            step="reserve~undo",
            attempt=1,
            worker="w1",
            finish_by_us=run.now_us + 90_000_000,
            heartbeat_s=10.0,
        ),
    )
    events = run.fail("reserve~undo")
    assert [type(one) for one in events] == [StepAttemptFailed, StepRetryScheduled]
    run.fire_at("retry:reserve~undo:2")
    run.complete("reserve~undo", 2)
    assert run.state.status is TaskStatus.FAILED


def test_by_default_it_has_those_of_its_step() -> None:
    steps = {"reserve": {"compensate": "release", "retry": {"max_attempts": 1}, "start_to_close_s": 5.0}}
    run = order(steps=steps)
    run.fail("ship", error=NEVER)
    run.start("reserve~undo")
    assert isinstance(run.fire_at("finish_by:reserve~undo:1")[-1], TaskBlocked)


def test_a_lost_worker_and_a_part_are_as_with_any_step() -> None:
    run = order()
    run.fail("ship", error=NEVER)
    run.start("reserve~undo")
    run.fire_at("heartbeat:reserve~undo:1")
    run.fire_at("retry:reserve~undo:2")
    assert isinstance(run.give_back("reserve~undo", 2, checkpoint=1, delay_s=5)[-1], StepYielded)
    run.fire_at("retry:reserve~undo:3")
    assert run.complete("reserve~undo", 3)[-1] == StepDispatched(step="charge~undo", attempt=1)


def blocked() -> Run:
    run = order()
    run.fail("ship", error=NEVER)
    run.fail("reserve~undo", error=NEVER)
    return run


def test_a_compensation_that_fails_for_good_blocks_the_task() -> None:
    run = blocked()
    assert run.events[-1] == TaskBlocked(reason="compensation_failed", steps=("reserve~undo",))
    assert (run.state.status, run.owes()) == (TaskStatus.BLOCKED, {})
    assert list(run.state.failed) == ["ship"]


@pytest.mark.parametrize("step", [None, "reserve~undo"])
def test_its_retry_goes_on_with_the_rest(step: str | None) -> None:
    run = blocked()
    assert run.retry(step) == (
        TaskResumed(),
        StepRetried(step="reserve~undo", attempt=2),
        StepDispatched(step="reserve~undo", attempt=2),
    )
    assert run.state.status == "compensating"
    assert undone(run) == ["reserve~undo", "charge~undo"]
    assert run.state.status is TaskStatus.FAILED


def test_nothing_else_of_a_compensating_task_can_be_retried() -> None:
    run = blocked()
    with pytest.raises(StateForbids, match="ending as failed"):
        run.retry("ship")
    run.retry()
    with pytest.raises(StateForbids, match="ending as failed"):
        run.retry()
    with pytest.raises(StateForbids, match="ending as failed"):
        run.cancel()


def test_a_second_cancel_changes_nothing() -> None:
    run = order()
    run.cancel()
    assert run.cancel() == ()


def test_a_repeated_report_of_a_compensation_changes_nothing() -> None:
    run = order()
    run.fail("ship", error=NEVER)
    run.complete("reserve~undo")
    assert run.complete("reserve~undo") == run.fail("reserve~undo") == ()


def test_the_plan_is_in_the_document_of_the_state() -> None:
    run = order()
    before = state_document(run.state)
    assert "to_undo" not in before
    run.fail("ship", error=NEVER)
    run.complete("reserve~undo")
    document = state_document(run.state)
    assert (document["state"], document["to_undo"], document["undone"]) == (
        "compensating",
        ["reserve", "charge"],
        1,
    )
    assert isinstance(run.events[-2], StepCompleted)


def test_a_child_that_completed_is_undone_also_when_it_was_to_stop() -> None:
    steps = {"kid": {"child": "t2", "compensate": "call_off"}}
    run = Run(template({"kid": [], "end": ["kid"]}, steps=steps))
    run.create()
    run.child("kid", "c1")
    run.cancel()
    assert run.child("kid", "c1", state="completed", result="sent")[-1] == StepDispatched(step="kid~undo", attempt=1)
    assert run.result_of("kid") == "sent"
    assert undone(run) == ["kid~undo"]
    assert run.state.status is TaskStatus.CANCELLED


def test_a_task_whose_result_is_too_large_undoes_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.service.domain.task_result.TASK_RESULT_BYTES_MAX", 5)
    run = order()
    run.complete("ship", result="a long result")
    assert undone(run) == ["reserve~undo", "charge~undo"]
    assert run.state.error is not None
    assert (run.state.status, run.state.error.type) == ("failed", "result_limit")


# ---------------------------------------------------------------- given up


def test_a_compensation_that_failed_for_good_is_given_up_and_the_rest_goes_on() -> None:
    run = blocked()
    assert run.skip("reserve~undo") == (
        TaskResumed(),
        StepSkipped(step="reserve~undo", attempt=1, result=raw(None), failed=True),
        StepDispatched(step="charge~undo", attempt=1),
    )
    assert run.state.status == "compensating"
    run.complete("charge~undo")
    assert run.events[-1] == TaskFailed(cause="step_failed", step="ship", error=NEVER, not_undone=("reserve",))


def test_what_was_undone_by_hand_counts_as_undone() -> None:
    run = blocked()
    run.resolve("reserve~undo", "by phone")
    run.complete("charge~undo")
    assert run.events[-1] == TaskFailed(cause="step_failed", step="ship", error=NEVER)


def test_the_end_of_a_cancelled_task_names_all_that_was_given_up() -> None:
    run = order()
    run.cancel()
    run.fail("reserve~undo", error=NEVER)
    run.skip("reserve~undo")
    run.fail("charge~undo", error=NEVER)
    run.skip("charge~undo")
    assert run.events[-1] == TaskCancelled(not_undone=("reserve", "charge"))


def test_only_the_compensation_that_holds_the_task_up_is_given_up() -> None:
    run = order()
    run.fail("ship", error=NEVER)
    for step in ("reserve~undo", "charge~undo", "reserve", "ship"):
        with pytest.raises(StateForbids):
            run.skip(step)
    run.fail("reserve~undo", error=NEVER)
    with pytest.raises(StateForbids):
        run.edit("reserve~undo", 1)
    run.skip("reserve~undo")
    assert run.complete("reserve~undo") == ()  # a late word of the worker
    with pytest.raises(StateForbids):
        run.skip("reserve~undo")
