"""What all waits have in common: how they begin, are looked at again, and end by themselves."""

from __future__ import annotations

from collections.abc import Iterator

from tasker.events.task_events import (
    AnyTaskEvent,
    ErrorInfo,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
    WaitExpired,
)
from tasker.service.domain.state import StepState, TaskState
from tasker.service.domain.waits import approvals, event_waits, signals
from tasker.service.domain.waits.wait_state import ApprovalWait, EventWait, SignalWait, Wait
from tasker.templates import CompiledTemplate, StepSpec

Moves = Iterator[AnyTaskEvent]


def begin_wait(  # noqa: PLR0917 - the facts of an attempt
    state: TaskState, template: CompiledTemplate, spec: StepSpec, instance: str, attempt: int, at_us: int
) -> AnyTaskEvent:
    """Return the event by which a step begins to wait."""
    if spec.approval is not None:
        return approvals.request(state, template, spec, instance, attempt, at_us)
    if spec.event is not None:
        return event_waits.await_event(spec, instance, attempt, at_us)
    return signals.await_signal(spec, instance, attempt, at_us)


def look_again(state: TaskState, template: CompiledTemplate, instance: str) -> Moves:
    """Let a waiting step go on when it can: a person released it, or what it waits for came while it was paused."""
    entry = state.steps[instance]
    wait = entry.wait
    if wait is None or state.stopping is not None:
        return
    if wait.released:
        yield _over(template, instance, entry, wait)
    elif isinstance(wait, SignalWait):
        yield from signals.take(state, template, instance)
    elif isinstance(wait, ApprovalWait) and wait.is_decided:
        yield approvals.decided(instance, entry, wait)
    elif isinstance(wait, EventWait) and wait.matched is not None:
        yield event_waits.completed(instance, entry, wait)


def expired(state: TaskState, template: CompiledTemplate, instance: str, attempt: int) -> Moves:
    """Say what becomes of a step whose wait is over without what it waited for."""
    entry = state.steps[instance]
    wait = entry.wait
    if wait is None:
        return
    spec = template.step(instance)
    done = _over(template, instance, entry, wait)
    if wait.released:
        yield done
        return
    yield WaitExpired(step=instance, attempt=attempt)
    if spec.on_wait_deadline == "continue":
        yield done
        return
    message = f"{_missing(spec, wait)} within {spec.wait_deadline_s:g} s"
    error = ErrorInfo(type="wait_expired", message=message, retryable=False)
    yield StepAttemptFailed(step=instance, attempt=attempt, error=error)
    yield StepFailed(step=instance, attempt=attempt, reason="wait_expired", error=error)


def _over(template: CompiledTemplate, instance: str, entry: StepState, wait: Wait) -> StepCompleted:
    if isinstance(wait, ApprovalWait):
        return approvals.undecided(instance, entry, wait)
    if isinstance(wait, EventWait):
        return event_waits.completed(instance, entry, wait)
    assert isinstance(wait, SignalWait)  # noqa: S101 - there are no others
    return signals.completed(template, instance, entry, wait)


def _missing(spec: StepSpec, wait: Wait) -> str:
    if isinstance(wait, ApprovalWait):
        who = approvals.who_may(wait.assignees, wait.roles)
        return f"{len(wait.answers)} of {wait.asked.approvals} approvals came (of {who})"
    if isinstance(wait, EventWait):
        return f"no event {wait.event!r} that fits came"
    assert isinstance(wait, SignalWait)  # noqa: S101 - there are no others
    came = f"{len(wait.numbers)} of {wait.count} signals" if spec.signal_take == "all" else "no signal"
    return f"{came} {wait.signal!r} came"
