"""Domain events: which of them an attempt's outcome raises, and what it means when one may not be raised.

They are part of the outcome: in one unit with it, right before it, so that whoever sees the outcome has seen them.

    success    -> `on: success`, `always`
    retryable  -> `on: retryable`, `failure`, `always`      failed, and another attempt follows
    permanent  -> `on: permanent`, `failure`, `always`      failed, and with it the step
    cancelled  -> `on: failure`, `always`                   failed while the task stops

A completed attempt with an event that may not be raised fails for good, like one with a result that cannot be kept: a
half of what it said must not be recorded. A failed one stays failed as it was, and says which events were left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from tasker.errors import CommandRejected
from tasker.events.codec import canonical
from tasker.events.messages import EmittedEvent, Report
from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    DomainEventRaised,
    DomainOutcome,
    ErrorInfo,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
    StepRetryScheduled,
    StepTimedOut,
)
from tasker.service.domain.commands import AnyTaskCommand, CompleteAttempt, FailAttempt, FireObligation
from tasker.templates import CompiledTemplate
from tasker.templates.emits import Emitting, check_data, declared_events, schema_of_emit
from tasker.templates.instances import name_of
from tasker.templates.model import Emit, EmitOn, StepSpec

MESSAGE_CHARS_MAX: Final = 2_000

RAISED_ON: Final[dict[DomainOutcome, frozenset[EmitOn]]] = {
    "success": frozenset({"success", "always"}),
    "retryable": frozenset({"retryable", "failure", "always"}),
    "permanent": frozenset({"permanent", "failure", "always"}),
    "cancelled": frozenset({"failure", "always"}),
}
"""Outcome -> the conditions that it meets."""


def settle_emitted(template: CompiledTemplate, report: Report) -> None:
    """Hold the domain events of `report` to what its step declares; it may be a failed one afterwards."""
    if not (report.emitted or template.is_telling):
        return
    if report.kind not in ("completed", "failed") or name_of(report.step) not in template:
        return
    step = template.step(report.step)
    if not report.emitted and not step.emits:
        return
    emitting = Emitting(step.name, declared_events(step))
    kept: list[EmittedEvent] = []
    refused: CommandRejected | None = None
    for event in report.emitted:
        try:
            kept.append(emitting.add(event.name, bytes(event.data)))
        except CommandRejected as error:
            refused = refused or error
    if report.kind == "completed" and refused is None:
        refused = _fault_of_auto(step, bytes(report.result))
    report.emitted = tuple(kept)
    if refused is None:
        return
    if report.kind == "completed":
        report.kind = "failed"
        report.result = NULL
        report.error = ErrorInfo(
            type=refused.code, message=_shortened(f"domain event: {refused.detail}"), retryable=False
        )
        report.emitted = ()
    elif report.error is not None:
        note = f"{report.error.message} (and a domain event was not raised: {refused.detail})"
        report.error = msgspec.structs.replace(report.error, message=_shortened(note))


def with_domain_events(
    template: CompiledTemplate, command: AnyTaskCommand, events: Iterable[AnyTaskEvent]
) -> Iterable[AnyTaskEvent]:
    """Return `events` with the domain events that the outcome among them raises, right before it."""
    if not template.is_telling:
        return events
    if not isinstance(command, (CompleteAttempt, FailAttempt, FireObligation)) or not isinstance(events, tuple):
        return events
    for index, event in enumerate(events):
        if isinstance(event, StepTimedOut):
            return events  # between two attempts, which have told of themselves
        if isinstance(event, (StepCompleted, StepAttemptFailed)):
            step = template.step(event.step)
            if not step.emits:
                return events
            emitted = () if isinstance(command, FireObligation) else command.emitted
            return (*events[:index], *_raised(step, event, _outcome_of(events), emitted), *events[index:])
    return events


def _outcome_of(events: tuple[AnyTaskEvent, ...]) -> DomainOutcome:
    for event in events:
        if isinstance(event, StepTimedOut):
            return "permanent"
        if isinstance(event, StepCompleted):
            return "success"
        if isinstance(event, StepRetryScheduled):
            return "retryable"
        if isinstance(event, StepFailed):
            return "permanent"
    return "cancelled"


def _raised(
    step: StepSpec,
    event: StepCompleted | StepAttemptFailed,
    outcome: DomainOutcome,
    emitted: tuple[EmittedEvent, ...],
) -> list[DomainEventRaised]:
    """Return those that the handler emitted, in its order, then those that the service raises by itself."""
    wanted = {emit.name: emit for emit in step.emits if emit.on in RAISED_ON[outcome]}
    said = [(one.name, one.data) for one in emitted if one.name in wanted]
    said += [(emit.name, _data_of(event)) for emit in wanted.values() if emit.auto]
    return [
        DomainEventRaised(step=event.step, attempt=event.attempt, name=name, outcome=outcome, data=data)
        for name, data in said
    ]


def _data_of(event: StepCompleted | StepAttemptFailed) -> msgspec.Raw:
    """Return the data of an event that the service raises by itself."""
    if isinstance(event, StepCompleted):
        return event.result
    error = event.error
    return msgspec.Raw(canonical({"error": {"message": error.message, "type": error.type}}))


def _fault_of_auto(step: StepSpec, result: bytes) -> CommandRejected | None:
    """Return why `result` cannot be the data of an event that the service raises by itself."""
    for emit in step.emits:
        fault = _fault_of_result(emit, result) if emit.auto and emit.on == "success" else None
        if fault is not None:
            return fault
    return None


def _fault_of_result(emit: Emit, result: bytes) -> CommandRejected | None:
    schema = schema_of_emit(emit)
    if schema is not None:
        try:
            check_data(emit.name, schema, result)
        except CommandRejected as error:
            return error
    return None


def _shortened(text: str) -> str:
    return text[:MESSAGE_CHARS_MAX]
