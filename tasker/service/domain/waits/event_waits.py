"""Steps that wait for an event of another task.

    step begins -> event awaited -> (another task has such an event) event matched -> step completed
    its deadline -> wait expired -> step completed (`continue`), or failed

The log is watched outside (`actors.waits.event_watch`), which tells the task of events that may be meant; what is told
twice, late, or of another attempt changes nothing. The first event that the step's expression fits completes it. An
event counts when its time is not before that of the wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from tasker.errors import ExpressionFailed
from tasker.events.codec import decode_value
from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    EventAwaited,
    EventMatched,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
)
from tasker.service.domain.commands import NoteEvent
from tasker.service.domain.state import StepState, TaskState
from tasker.service.domain.steps.bindings import bindings_of, expression_error, item_of
from tasker.service.domain.waits.signals import deadline_us_of
from tasker.service.domain.waits.wait_state import EventWait
from tasker.templates import CompiledTemplate, StepSpec

EVENT_BYTES_MAX: Final = 64 * 1024
"""Largest event that a step gets whole; the data of a larger one are null: they are in the log."""

Moves = Iterator[AnyTaskEvent]
Fits = Callable[[msgspec.Raw], bool]


def await_event(spec: StepSpec, instance: str, attempt: int, at_us: int) -> EventAwaited:
    """Return the event by which a step begins to wait."""
    assert spec.event is not None  # noqa: S101 - the caller looked
    return EventAwaited(step=instance, attempt=attempt, event=spec.event, deadline_us=deadline_us_of(spec, at_us))


def waiting_for_event(state: TaskState, step: str, attempt: int) -> EventWait | None:
    """Return the wait when `attempt` of a step still looks for its event; else None."""
    entry = state.steps.get(step)
    if entry is None or entry.attempt != attempt or state.ended or state.blocked_reason == "history_limit":
        return None
    wait = entry.wait
    return wait if isinstance(wait, EventWait) and wait.matched is None and not wait.released else None


def fits_of(state: TaskState, template: CompiledTemplate, instance: str) -> Fits:
    """Return what tells whether an event is meant for a step; what does not depend on the event is read once."""
    spec = template.step(instance)
    if spec.event_when is None:
        return lambda _: True
    expression = template.expression(spec.event_when)
    bindings: dict[str, Any] = bindings_of(state, template, spec.name, expression, item_of(state, instance))

    def fits(event: msgspec.Raw) -> bool:
        return expression.test({**bindings, "event": decode_value(bytes(event))})

    return fits


def note_event(state: TaskState, template: CompiledTemplate, command: NoteEvent) -> tuple[AnyTaskEvent, ...]:
    """Return what an event of another task means for a step that waits; () when it means nothing."""
    name, attempt = command.step, command.attempt
    wait = waiting_for_event(state, name, attempt)
    if wait is None or command.event_at_us < wait.since_us or state.stopping is not None:
        return ()
    try:
        if not fits_of(state, template, name)(command.event):
            return ()
    except ExpressionFailed as error:
        told = expression_error(ExpressionFailed(f"{error.detail} (event {command.seq} of task {command.task_id})"))
        return (
            StepAttemptFailed(step=name, attempt=attempt, error=told),
            StepFailed(step=name, attempt=attempt, reason="expression_failed", error=told),
        )
    return (EventMatched(step=name, attempt=attempt, task_id=command.task_id, seq=command.seq, event=command.event),)


def matched(state: TaskState, _template: CompiledTemplate, event: EventMatched, _at_us: int) -> Moves:
    """Complete the step that got its event."""
    entry = state.steps[event.step]
    if isinstance(entry.wait, EventWait) and state.stopping is None:
        yield completed(event.step, entry, entry.wait)


def completed(instance: str, entry: StepState, wait: EventWait) -> StepCompleted:
    """Return the event that completes a step with its event; null when it has none."""
    return StepCompleted(step=instance, attempt=entry.attempt, result=wait.matched or NULL)
