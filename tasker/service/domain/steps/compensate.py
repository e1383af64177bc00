"""How a task undoes what it did: compensations, once nothing of a stopping task runs any more.

    nothing is open -> what completed and has a compensation is planned, the last completed first -> compensating
    compensating    -> the first that is left is dispatched
    one completed   -> the next is dispatched
    one failed      -> the task is blocked, until a person retries it, says how it was undone (`step.resolve`), or
                       gives it up (`step.skip`); then the rest goes on
    none is left    -> the task ends as it was to end

A compensation is an instance of its own (`charge~undo`) with attempts, retries, timeouts and an idempotency key like
any other. Every instance is undone by itself: each visit of a loop, each item of a list, with its own result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tasker.events.task_events import (
    AnyTaskEvent,
    TaskBlocked,
    TaskCancelled,
    TaskCompensating,
    TaskFailed,
    TaskStopping,
)
from tasker.service.domain.state import StepStatus, TaskState, TaskStatus, instances_to_undo
from tasker.service.domain.steps.begin import dispatch
from tasker.service.domain.stop import ended_of
from tasker.service.domain.task_result import RESULT_LIMIT, completion
from tasker.templates import CompiledTemplate
from tasker.templates.instances import name_of, undo_of

Moves = Iterator[AnyTaskEvent]


def next_undo(state: TaskState, template: CompiledTemplate, _event: Any, at_us: int) -> Moves:
    """Dispatch the next compensation of a task that compensates; none while one is open, or has failed."""
    undo = current_undo(state)
    if undo is not None and undo not in state.steps:
        yield dispatch(state, template.step(undo), undo, 1, at_us)


def at_rest(state: TaskState, template: CompiledTemplate, stopping: TaskStopping) -> AnyTaskEvent | None:
    """Return what is to be said of a stopping task of which nothing is open: it compensates, is blocked, or ends."""
    if not state.to_undo:
        done = instances_to_undo(state, template.undos) if template.compensates(stopping.ending) else ()
        if not done:
            return _ending(state, template, stopping)
        names = {name_of(instance) for instance in done}
        return TaskCompensating(steps=tuple(name for name in template.undos if name in names), instances=len(done))
    undo = current_undo(state)
    if undo is None:
        return _ending(state, template, stopping)
    if state.status is TaskStatus.BLOCKED:
        return None
    return TaskBlocked(reason="compensation_failed", steps=(undo,))


def current_undo(state: TaskState) -> str | None:
    """Return the compensation that is the next to be done, begun or not; None: there is none."""
    return undo_of(state.to_undo[state.undone]) if state.undone < len(state.to_undo) else None


def failed_undo(state: TaskState) -> str | None:
    """Return the compensation that failed and holds the task up; None: none does."""
    undo = current_undo(state)
    entry = None if undo is None else state.steps.get(undo)
    return undo if entry is not None and entry.status is StepStatus.FAILED else None


def _ending(state: TaskState, template: CompiledTemplate, stopping: TaskStopping) -> AnyTaskEvent:
    ending = completion(state, template) if stopping.cause == RESULT_LIMIT else ended_of(state, stopping)
    if state.to_undo and isinstance(ending, TaskFailed | TaskCancelled):
        return msgspec.structs.replace(ending, not_undone=_given_up(state))
    return ending


def _given_up(state: TaskState) -> tuple[str, ...]:
    """Return what a person left as it is; a compensation that was skipped completed at no place in the log."""
    undos = ((name, state.steps[undo_of(name)]) for name in state.to_undo)
    return tuple(name for name, undo in undos if not undo.completed_seq)
