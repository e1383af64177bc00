"""How a task stops: what runs has its grace, all else is cancelled; the ending comes when nothing is open any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    Ending,
    ErrorInfo,
    StepCancelRequested,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskStopping,
)
from tasker.service.domain.state import BUDGET_EXCEEDED, STEP_OPEN, StepStatus, TaskState
from tasker.service.domain.steps.begin import after, cancel
from tasker.templates import CompiledTemplate

Cause = Literal["cancel", "timeout", "step_failed", "operator", "budget_exceeded", "concurrency"]


def stop(
    state: TaskState,
    template: CompiledTemplate,
    at_us: int,
    *,
    ending: Ending,
    cause: Cause,
    grace_s: float,
    step: str | None = None,
    result: msgspec.Raw | None = None,
    error: ErrorInfo | None = None,
) -> Iterator[AnyTaskEvent]:
    """Stop the task; `step` is the one whose failure is the cause. `result`, `error`: what a person says of its end."""
    yield TaskStopping(ending=ending, cause=cause, step=step, result=result, error=error)
    for name, entry in list(state.steps.items()):
        if entry.status not in STEP_OPEN:
            continue
        if entry.status is StepStatus.RUNNING and grace_s > 0:
            yield StepCancelRequested(step=name, attempt=entry.attempt, grace_until_us=after(at_us, grace_s))
        else:
            yield cancel(template, name, entry, f"the task is stopping: {cause}", at_us)


def ended_of(state: TaskState, stopping: TaskStopping) -> AnyTaskEvent:
    """Return the ending of a stopping task of which nothing is open."""
    if stopping.ending == "cancelled":
        return TaskCancelled()
    if stopping.ending == "completed":
        return TaskCompleted(result=NULL if stopping.result is None else stopping.result)
    error = stopping.error if stopping.step is None else state.steps[stopping.step].error
    if stopping.cause == "timeout":
        error = ErrorInfo(type="timeout", message="the task's timeout was over", retryable=False)
    if stopping.cause == BUDGET_EXCEEDED:
        error = ErrorInfo(
            type=BUDGET_EXCEEDED, message=f"the task went over {state.over_budget or 'its budget'}", retryable=False
        )
    return TaskFailed(cause=stopping.cause, step=stopping.step, error=error)  # type: ignore[arg-type]
