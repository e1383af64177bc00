"""Steps that start a task of another template.

    child requested -> (its owner has it) child started -> (it ended) step completed, or failed
                    -> (refused for good) step failed

The child lives in a shard of its own. Its key comes from the task, the step instance and the attempt, so however often
the start is told there is one child. A child that failed or was cancelled fails its step: its own template says what is
retried, and a person's retry of the step starts a new child.

When the task stops, a step with `on_parent_close: cancel` has its child cancelled and waits until that has ended, one
with `wait` only waits; `abandon` lets it go on alone.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tasker.errors import ExpressionFailed
from tasker.events.codec import canonical
from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    ChildRequested,
    ChildStarted,
    ErrorInfo,
    StepAttemptFailed,
    StepCancelled,
    StepCompleted,
    StepFailed,
)
from tasker.service.domain.commands import NoteChild
from tasker.service.domain.state import StepState, StepStatus, TaskState
from tasker.service.domain.steps.bindings import expression_error, item_of, value_of
from tasker.templates import CompiledTemplate, StepSpec

KEY_PREFIX = "child:"
CHILD_DEPTH_MAX: Final = 100
"""Most tasks above a task: a template that starts itself without an end comes to one."""

CHILD_ENDED_BADLY: Final = frozenset({"child_failed", "child_cancelled"})
"""Types of the error of a step whose child did not complete."""

CHAIN_NAMED_MAX: Final = 6
"""So many of a chain of failed tasks are named, the first and the last of them: the cause keeps its place."""

_CHILD = "child task "
_UNDER = " > "


def request_child(
    state: TaskState, template: CompiledTemplate, spec: StepSpec, instance: str, attempt: int
) -> AnyTaskEvent:
    """Return the event that asks for the child of a step instance; the step's failure when its input has no value."""
    assert spec.child is not None  # noqa: S101 - the caller looked
    if state.depth >= CHILD_DEPTH_MAX:
        message = f"{CHILD_DEPTH_MAX} tasks are above this one, all that may: does {spec.child} start itself for ever?"
        error = ErrorInfo(type="child_refused", message=message, retryable=False)
        return StepFailed(step=instance, attempt=attempt, reason="permanent_error", error=error)
    value = state.input
    if spec.child_input is not None:
        try:
            found = value_of(state, template, spec.name, spec.child_input, **item_of(state, instance))
            value = msgspec.Raw(canonical(found))
        except ExpressionFailed as error:
            return StepFailed(step=instance, attempt=attempt, reason="expression_failed", error=expression_error(error))
    return ChildRequested(
        step=instance,
        attempt=attempt,
        template=spec.child,
        namespace=spec.child_namespace or template.spec.namespace,
        version=spec.child_version,
        input=value,
    )


def child_key(task_id: str, step: str, attempt: int) -> str:
    """Return the idempotency key of a step's child."""
    return f"{KEY_PREFIX}{task_id}:{step}:{attempt}"


def parent_of(idempotency_key: str | None) -> tuple[str, str, int] | None:
    """Return task, step and attempt that a child's key names; None when it is no child's."""
    if idempotency_key is None or not idempotency_key.startswith(KEY_PREFIX):
        return None
    task_id, _, rest = idempotency_key.removeprefix(KEY_PREFIX).partition(":")
    step, _, attempt = rest.rpartition(":")
    return (task_id, step, int(attempt)) if step and attempt.isdecimal() else None


def waiting_child(state: TaskState, step: str, attempt: int) -> StepState | None:
    """Return the step when `attempt` waits for its child; else None."""
    entry = state.steps.get(step)
    if entry is None or entry.attempt != attempt or state.ended or state.blocked_reason == "history_limit":
        return None
    return entry if entry.status is StepStatus.WAITING and entry.waits == "child" else None


def note_child(state: TaskState, template: CompiledTemplate, command: NoteChild) -> tuple[AnyTaskEvent, ...]:
    """Return what it means for a step how its child stands."""
    name, attempt = command.step, command.attempt
    entry = waiting_child(state, name, attempt)
    if entry is None:
        return ()
    events: list[AnyTaskEvent] = []
    if command.child is not None and entry.child is None:
        events.append(ChildStarted(step=name, attempt=attempt, child=command.child))
    if entry.cancel_by_us is not None:
        if command.child is not None and not command.ended:
            return tuple(events)
        if command.state == "completed":
            return (*events, StepCompleted(step=name, attempt=attempt, result=command.result or NULL))
        reason = "its child was refused" if command.child is None else f"its child is {command.state}"
        return (*events, StepCancelled(step=name, attempt=attempt, reason=f"it was to stop, and {reason}"))
    if command.child is None:
        error = command.error or ErrorInfo(type="child_refused", message="", retryable=False)
        return (
            StepAttemptFailed(step=name, attempt=attempt, error=error),
            StepFailed(step=name, attempt=attempt, reason="permanent_error", error=error),
        )
    if not template.step(name).child_wait:
        result = msgspec.Raw(canonical({"task_id": command.child}))
        return (*events, StepCompleted(step=name, attempt=attempt, result=result))
    if not command.ended:
        return tuple(events)
    if command.state == "completed":
        return (*events, StepCompleted(step=name, attempt=attempt, result=command.result or NULL))
    message = _ended_badly(command.child, command.state, command.error)
    error = ErrorInfo(type=f"child_{command.state}", message=message, retryable=False)
    return (
        *events,
        StepAttemptFailed(step=name, attempt=attempt, error=error),
        StepFailed(step=name, attempt=attempt, reason="permanent_error", error=error),
    )


def _ended_badly(child: str, state: str | None, error: ErrorInfo | None) -> str:
    """Return how a child ended, for people: the tasks down to the one where it began, and what that says, once."""
    why = "" if error is None else error.message
    if error is not None and error.type in CHILD_ENDED_BADLY and why.startswith(_CHILD):
        below, _, told = why.removeprefix(_CHILD).partition(" is ")
        chain = [child, *below.split(_UNDER)]
        if len(chain) > CHAIN_NAMED_MAX:
            chain = [*chain[:2], "...", *chain[3 - CHAIN_NAMED_MAX :]]
        return f"{_CHILD}{_UNDER.join(chain)} is {told}"[:2000]
    cause = "" if error is None else f": {error.type}: {why}"
    return f"{_CHILD}{child} is {state}{cause}"[:2000]
