"""Which domain events an outcome raises, and what becomes of an attempt with one that may not be raised."""

from typing import Any

import msgspec
import pytest

from tasker.events.messages import EmittedEvent, Report, ReportReply
from tasker.events.task_events import (
    AnyTaskEvent,
    DomainEventRaised,
    ErrorInfo,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
    StepStarted,
    TaskCompleted,
)
from tasker.service.domain.commands import CompleteAttempt, FailAttempt
from tasker.service.domain.reports import command_of
from tasker.service.domain.steps.domain_events import RAISED_ON, settle_emitted
from tasker.templates.emits import EVENT_BYTES_MAX, EVENTS_BYTES_MAX, EVENTS_PER_ATTEMPT_MAX
from tests.runs import ERROR, Run, raw, template

CONDITIONS = ("success", "failure", "always", "retryable", "permanent")
ALL = [{"name": f"on.{on}", "on": on} for on in CONDITIONS]
AUTO = [{"name": f"auto.{on}", "on": on, "auto": True} for on in CONDITIONS]
PAYMENT = {"type": "object", "required": ["cents"], "properties": {"cents": {"type": "integer"}}}


def run(*emits: Any, **keys: Any) -> Run:
    made = Run(template({"a": []}, steps={"a": {"emits": list(emits), **keys}}))
    made.create()
    return made


def emitted(*names: str, data: Any = 7) -> tuple[EmittedEvent, ...]:
    return tuple(EmittedEvent(name=name, data=raw(data)) for name in names)


EVERY = emitted(*(one["name"] for one in ALL))


def complete(run: Run, events: tuple[EmittedEvent, ...] = EVERY) -> tuple[AnyTaskEvent, ...]:
    command = CompleteAttempt(step="a", attempt=1, worker="w1", result=raw(5), at_us=run.now_us, emitted=events)
    return run.do(command)


def fail(run: Run, error: ErrorInfo = ERROR) -> tuple[AnyTaskEvent, ...]:
    command = FailAttempt(step="a", attempt=1, worker="w1", error=error, jitter=0.5, at_us=run.now_us, emitted=EVERY)
    return run.do(command)


def raised(events: tuple[AnyTaskEvent, ...]) -> set[str]:
    return {event.name for event in events if isinstance(event, DomainEventRaised)}


def names(outcome: Any, *prefixes: str) -> set[str]:
    return {f"{prefix}.{on}" for on in RAISED_ON[outcome] for prefix in prefixes}


# ---------------------------------------------------------------- which


def test_those_of_the_handler_come_in_its_order_and_then_those_that_come_by_themselves() -> None:
    one = run({"name": "sent", "auto": True}, {"name": "paid"}, {"name": "booked", "auto": True}, {"name": "kept"})
    events = complete(one, emitted("kept", "paid", "kept"))
    said = [event.name for event in events if isinstance(event, DomainEventRaised)]
    assert said == ["kept", "paid", "kept", "sent", "booked"]


def test_they_stand_in_one_unit_with_the_outcome_and_right_before_it() -> None:
    events = complete(run({"name": "paid"}, {"name": "kept"}), emitted("kept", "paid"))
    assert [type(event) for event in events] == [
        StepStarted,
        DomainEventRaised,
        DomainEventRaised,
        StepCompleted,
        TaskCompleted,
    ]
    assert events[1] == DomainEventRaised(step="a", attempt=1, name="kept", outcome="success", data=raw(7))


def test_success_raises_those_on_success_and_always() -> None:
    assert raised(complete(run(*ALL, *AUTO))) == names("success", "on", "auto")


def test_a_failure_that_is_retried_raises_those_on_retryable_failure_and_always() -> None:
    assert raised(fail(run(*ALL, *AUTO))) == names("retryable", "on", "auto")


@pytest.mark.parametrize(
    ("keys", "error"),
    [({"retry": {"max_attempts": 1}}, ERROR), ({}, ErrorInfo(type="NoCard", message="", retryable=False))],
)
def test_a_failure_for_good_raises_those_on_permanent_failure_and_always(keys: Any, error: ErrorInfo) -> None:
    events = fail(run(*ALL, *AUTO, **keys), error)
    assert raised(events) == names("permanent", "on", "auto")
    kinds = [type(event) for event in events]
    assert kinds.index(StepAttemptFailed) < kinds.index(StepFailed)
    assert isinstance(events[kinds.index(StepAttemptFailed) - 1], DomainEventRaised)


def test_a_failure_while_the_task_stops_raises_those_on_failure_and_always() -> None:
    one = run(*ALL, *AUTO)
    one.start("a")
    one.cancel()
    events = fail(one)
    assert raised(events) == names("cancelled", "on", "auto")
    assert {event.outcome for event in events if isinstance(event, DomainEventRaised)} == {"cancelled"}


def test_what_a_lost_worker_emitted_is_gone_and_the_service_raises_its_own() -> None:
    one = run(*ALL, *AUTO)
    one.start("a")
    one.wait(10)
    assert raised(one.fire_at("heartbeat:a:1")) == names("retryable", "auto")


def test_the_service_gives_its_own_events_the_result_or_the_error() -> None:
    events = complete(run({"name": "done", "auto": True}), ())
    assert [event.data for event in events if isinstance(event, DomainEventRaised)] == [raw(5)]
    events = fail(run({"name": "late", "auto": True, "on": "failure"}))
    told = [event.data for event in events if isinstance(event, DomainEventRaised)]
    assert told == [raw({"error": {"message": ERROR.message, "type": ERROR.type}})]


def test_a_repeated_outcome_raises_nothing() -> None:
    one = run(*ALL)
    complete(one)
    assert complete(one) == ()


# ---------------------------------------------------------------- which may


def completed(*events: EmittedEvent, result: Any = 5) -> Report:
    return Report(
        kind="completed", task_id="t", step="a", attempt=1, worker="w1", result=raw(result), emitted=tuple(events)
    )


def settled(run: Run, report: Report) -> Report:
    settle_emitted(run.template, report)
    return report


def test_what_fits_its_declaration_is_kept_in_canonical_form() -> None:
    event = EmittedEvent(name="paid", data=msgspec.Raw(b'{ "z": 1, "cents": 2 }'))
    report = settled(run({"name": "paid", "schema": PAYMENT}), completed(event))
    assert (report.kind, report.emitted) == ("completed", (EmittedEvent(name="paid", data=raw({"cents": 2, "z": 1})),))


@pytest.mark.parametrize(
    ("code", "events"),
    [
        ("event_unknown", emitted("lost")),
        ("event_unknown", emitted("by_itself")),
        ("event_invalid", emitted("paid", data={"cents": "two"})),
        ("event_too_large", emitted("any", data="x" * EVENT_BYTES_MAX)),
        ("event_too_large", emitted(*["any"] * 10, data="x" * (EVENTS_BYTES_MAX // 9))),
        ("events_too_many", emitted(*["any"] * (EVENTS_PER_ATTEMPT_MAX + 1))),
        ("value_invalid", (EmittedEvent(name="any", data=msgspec.Raw(b'"\\ud800"')),)),
    ],
)
def test_one_that_may_not_be_raised_fails_the_attempt_for_good(code: str, events: tuple[EmittedEvent, ...]) -> None:
    one = run({"name": "paid", "schema": PAYMENT}, {"name": "any"}, {"name": "by_itself", "auto": True})
    report = settled(one, completed(*events))
    assert report.kind == "failed"
    assert report.error is not None
    assert (report.error.type, report.error.retryable, report.emitted) == (code, False, ())


def test_a_step_that_declares_none_may_raise_none() -> None:
    assert settled(run(), completed(*emitted("paid"))).kind == "failed"


def test_a_result_that_is_to_be_an_events_data_matches_its_schema() -> None:
    one = run({"name": "paid", "schema": PAYMENT, "auto": True})
    assert settled(one, completed(result={"cents": 1})).kind == "completed"
    report = settled(one, completed(result={"cents": "1"}))
    assert report.error is not None
    assert (report.kind, report.error.type) == ("failed", "event_invalid")


def test_a_failed_attempt_stays_as_it_was_and_says_what_was_left_out() -> None:
    report = completed(*emitted("paid", "lost"))
    report.kind, report.error = "failed", ERROR
    settle_emitted(run({"name": "paid", "on": "always"}).template, report)
    assert report.error is not None
    assert (report.error.type, report.error.retryable) == (ERROR.type, ERROR.retryable)
    assert "'lost'" in report.error.message
    assert [event.name for event in report.emitted] == ["paid"]


def test_the_same_report_again_is_a_duplicate_also_when_it_was_turned_down() -> None:
    one = run({"name": "paid", "schema": PAYMENT}, retry={"max_attempts": 1})
    for expected in (False, True):
        report = settled(one, completed(*emitted("paid", data=1)))
        found = command_of(one.state, report, at_us=one.now_us, jitter=0.5)
        if isinstance(found, ReportReply):
            assert found.duplicate is expected
        else:
            one.do(found)
