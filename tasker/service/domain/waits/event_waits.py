"""Steps that wait for an event of another task.

    step begins -> event awaited -> (another task has such an event) event matched -> step completed
    its deadline -> wait expired -> step completed (`continue`), or failed

The log is watched outside (`actors.waits.event_watch`), which tells the task of events that may be meant; what is told
twice, late, or of another attempt changes nothing. The first event that the step's expression fits completes it. An
event counts when its time is not before that of the wait.

The expression sees the task as it is. What it reads can change while the step waits: a person edits a result or the
tags, or a parent that the step did not wait for is done. Then the log is watched anew from the beginning of the wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from tasker.errors import ExpressionFailed
from tasker.events.codec import JsonValue, canonical, decode_value
from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    EventAwaited,
    EventMatched,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
    StepGathered,
    StepResolved,
    StepResultEdited,
    StepSkipped,
    TaskUpdated,
)
from tasker.service.domain.commands import NoteEvent
from tasker.service.domain.state import StepState, TaskState
from tasker.service.domain.steps.bindings import bindings_of, expression_error, item_of
from tasker.service.domain.waits.signals import deadline_us_of
from tasker.service.domain.waits.wait_state import EventWait
from tasker.templates import CompiledTemplate, StepSpec
from tasker.templates.expressions import Expression

EVENT_BYTES_MAX: Final = 64 * 1024
"""Largest event that a step gets whole; the data of a larger one are null: they are in the log."""

Moves = Iterator[AnyTaskEvent]


class Fits:
    """Tells whether an event is meant for a step, by what the step's expression saw of its task at one time.

    `fault`: it could not see that, and so has no value on any event.
    """

    __slots__ = ("_bindings", "_expression", "_fault")

    def __init__(
        self, expression: Expression | None, bindings: Mapping[str, JsonValue], fault: str | None = None
    ) -> None:
        self._expression = expression
        self._bindings = bindings
        self._fault = fault

    def __call__(self, event: msgspec.Raw) -> bool:
        """Return whether an event fits.

        Raises:
            ExpressionFailed: the expression has no value on it.
        """
        if self._fault is not None:
            raise ExpressionFailed(self._fault)
        if self._expression is None:
            return True
        return self._expression.test({**self._bindings, "event": decode_value(bytes(event))})

    @property
    def seen(self) -> bytes:
        """Return what it saw, as canonical JSON: who saw the same says the same of every event."""
        return canonical(self._fault if self._fault is not None else dict(self._bindings))


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
        return Fits(None, {})
    expression = template.expression(spec.event_when)
    try:
        return Fits(expression, bindings_of(state, template, spec.name, expression, item_of(state, instance)))
    except ExpressionFailed as error:  # what cannot be read fails the step with the first event
        return Fits(expression, {}, error.detail)


def is_seen_anew(event: AnyTaskEvent) -> bool:
    """Return whether expressions of steps that wait may see something else since `event`: a result, or tags."""
    match event:
        case StepCompleted(step=name) | StepGathered(step=name) | StepSkipped(step=name) | StepResolved(step=name):
            return "[" not in name  # the result of a list is there when all of it is
        case StepResultEdited() | TaskUpdated():
            return True
        case _:
            return False


def looking(state: TaskState) -> list[tuple[str, int]]:
    """Return the steps that still look for an event, each with its attempt."""
    return [
        (name, entry.attempt)
        for name, entry in state.steps.items()
        if entry.wait is not None and waiting_for_event(state, name, entry.attempt) is not None
    ]


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
