"""Steps that wait for an event of another task."""

from typing import Any

from tasker.events.task_events import (
    EventAwaited,
    EventMatched,
    StepAttemptFailed,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepReleased,
    TaskBlocked,
    TaskCompleted,
    WaitExpired,
)
from tasker.service.domain.obligations import obligations_of
from tests.runs import T0_US, Run, raw, template, types

EVENT = {"type": "payment.captured", "data": {"order": 6}}


def waiting(**wait: Any) -> Run:
    run = Run(template({"w": []}, steps={"w": {"event": "payment.captured", **wait}}))
    run.create()
    return run


def test_an_event_of_another_task_completes_the_step() -> None:
    run = waiting()
    assert run.events[1] == EventAwaited(step="w", attempt=1, event="payment.captured")
    assert obligations_of(run.state) == {"event:w:1": T0_US}
    assert run.event("w", EVENT, task_id="t-2", seq=7) == (
        EventMatched(step="w", attempt=1, task_id="t-2", seq=7, event=raw(EVENT)),
        StepCompleted(step="w", attempt=1, result=raw(EVENT)),
        TaskCompleted(result=raw(EVENT)),
    )
    assert run.event("w", EVENT) == (), "what is told twice changes nothing"


def test_only_one_that_fits_and_is_not_older_than_the_wait() -> None:
    run = waiting(event_when="event.data.order == input.n")
    assert run.event("w", {"data": {"order": 5}}) == ()
    assert run.event("w", EVENT, at_us=T0_US - 1) == ()
    assert run.event("w", EVENT, 2) == ()
    assert run.event("x", EVENT) == ()
    run.event("w", EVENT)
    assert run.state.ended


def test_an_event_on_which_the_expression_has_no_value_fails_the_step() -> None:
    run = waiting(event_when="event.data.order == input.n")
    events = run.event("w", {"data": {}}, task_id="t-2", seq=7)
    assert types(events) == [StepAttemptFailed, StepFailed, TaskBlocked]
    failed = events[1]
    assert isinstance(failed, StepFailed)
    assert "event 7 of task t-2" in failed.error.message
    run.wait(5)
    assert types(run.retry("w"))[-1] is EventAwaited
    assert obligations_of(run.state) == {"event:w:2": T0_US + 5_000_000}


def test_each_item_waits_for_its_own() -> None:
    run = waiting(each="[1, 2]", event_when="event.n == item")
    assert run.event("w[0]", {"n": 2}) == ()
    run.event("w[1]", {"n": 2})
    run.event("w[0]", {"n": 1})
    assert run.result() == [{"n": 1}, {"n": 2}]


def test_a_paused_task_keeps_its_event() -> None:
    run = waiting(wait_deadline_s=60)
    run.pause()
    assert obligations_of(run.state) == {}
    assert types(run.event("w", EVENT)) == [EventMatched]
    assert run.event("w", EVENT) == ()
    run.wait(3600)
    assert types(run.resume())[1:] == [StepCompleted, TaskCompleted]


def test_a_deadline_and_people_end_the_wait() -> None:
    run = waiting(wait_deadline_s=60)
    events = run.fire_at("wait_by:w:1")
    assert types(events) == [WaitExpired, StepAttemptFailed, StepFailed, TaskBlocked]
    assert "no event 'payment.captured' that fits came within 60 s" in str(events[2])
    run = waiting(wait_deadline_s=60, on_wait_deadline="continue")
    run.fire_at("wait_by:w:1")
    assert run.result() is None
    assert types(waiting().release("w")) == [StepReleased, StepCompleted, TaskCompleted]
    run = waiting()
    assert StepCancelled(step="w", attempt=1, reason="the task is stopping: cancel") in run.cancel()
    assert run.event("w", EVENT) == ()
