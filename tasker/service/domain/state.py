r"""A task's state and how events move it.

`evolve` is total: a recorded event is never refused. It updates the state of its one owner in place,
and its cost does not grow with the number of steps.

    task   pending -> running -> completed
                      running <-> blocked
           any of them -> (stopping: running steps have their grace) -> failed | cancelled

    step   dispatched -> running -> completed
             ^  \_________/ attempt failed
             |                 |-> waiting (retry) -> dispatched
             |                 `-> failed -> (a person's retry) -> dispatched
           dispatched, running, waiting -> cancelled

A step without an event is pending and has no entry.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, assert_never

import msgspec

from tasker.events.codec import canonical, hash_of
from tasker.events.task_events import (
    AnyTaskEvent,
    ErrorInfo,
    StepAttemptFailed,
    StepCancelled,
    StepCancelRequested,
    StepCompleted,
    StepDispatched,
    StepFailed,
    StepRetried,
    StepRetryScheduled,
    StepStarted,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskCreated,
    TaskFailed,
    TaskResumed,
    TaskStarted,
    TaskStopping,
    TemplateRef,
)
from tasker.service.domain.command_memory import remember


class TaskStatus(StrEnum):
    """Where a task is."""

    ABSENT = "absent"
    PENDING = "pending"
    RUNNING = "running"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepStatus(StrEnum):
    """Where a step is."""

    DISPATCHED = "dispatched"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TASK_ENDED: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})
STEP_OPEN: Final = frozenset({StepStatus.DISPATCHED, StepStatus.RUNNING, StepStatus.WAITING})


class StepState:
    """One step that has begun.

    Attributes:
        attempt: the newest; attempts before `first_attempt` were of an earlier set.
        dispatched_us: when the newest attempt was dispatched.
        ended_attempt: the attempt whose outcome the last one is, with `result` or `error`.
        cancel_by_us: the attempt was asked to stop and has until then.
    """

    __slots__ = (
        "attempt",
        "cancel_by_us",
        "dispatched_us",
        "ended_attempt",
        "error",
        "finish_by_us",
        "first_attempt",
        "heartbeat_s",
        "result",
        "retry_at_us",
        "start_by_us",
        "started_us",
        "status",
        "worker",
    )

    def __init__(self) -> None:
        self.status = StepStatus.DISPATCHED
        self.attempt = 0
        self.first_attempt = 1
        self.dispatched_us = 0
        self.started_us = 0
        self.start_by_us: int | None = None
        self.finish_by_us = 0
        self.heartbeat_s = 0.0
        self.retry_at_us = 0
        self.cancel_by_us: int | None = None
        self.worker: str | None = None
        self.ended_attempt = 0
        self.result: msgspec.Raw | None = None
        self.error: ErrorInfo | None = None


class TaskState:
    """A task as its events left it. Owned by one actor.

    Attributes:
        seq: events so far.
        steps: those that have begun, in the order in which they did.
        completed, open: how many steps are so. failed: those that failed, in order.
        stopping: the task will end so once its running steps have.
        commands: the last commands that changed the task -> the seq of their last event.
    """

    __slots__ = (
        "blocked_reason",
        "commands",
        "completed",
        "created_us",
        "deadline_us",
        "error",
        "failed",
        "idempotency_key",
        "input",
        "not_before_us",
        "open",
        "request_hash",
        "result",
        "seq",
        "status",
        "steps",
        "stopping",
        "tags",
        "template",
    )

    def __init__(self) -> None:
        self.status = TaskStatus.ABSENT
        self.seq = 0
        self.template = TemplateRef("", "", "", "")
        self.input = msgspec.Raw(b"null")
        self.request_hash = ""
        self.idempotency_key: str | None = None
        self.tags: dict[str, str] = {}
        self.created_us = 0
        self.not_before_us: int | None = None
        self.deadline_us: int | None = None
        self.steps: dict[str, StepState] = {}
        self.completed = 0
        self.open = 0
        self.failed: dict[str, None] = {}
        self.stopping: TaskStopping | None = None
        self.blocked_reason: str | None = None
        self.result: msgspec.Raw | None = None
        self.error: ErrorInfo | None = None
        self.commands: dict[str, int] = {}

    @property
    def ended(self) -> bool:
        """Return whether nothing will happen any more."""
        return self.status in TASK_ENDED

    def has_result(self, step: str) -> bool:
        """Return whether `step` is completed."""
        found = self.steps.get(step)
        return found is not None and found.status is StepStatus.COMPLETED


def evolve(  # noqa: PLR0915 - one case an event
    state: TaskState, event: AnyTaskEvent, *, at_us: int, command_id: str | None = None
) -> TaskState:
    """Return `state` moved on by `event`, which was recorded at `at_us`. Total."""
    state.seq += 1
    if command_id is not None:
        remember(state.commands, command_id, state.seq)
    match event:
        case StepDispatched(step=name, attempt=attempt):
            step = _enter(state, name, StepStatus.DISPATCHED)
            step.attempt = attempt
            step.dispatched_us = at_us
            step.start_by_us = event.start_by_us
            step.worker = None
        case StepStarted(step=name):
            step = _enter(state, name, StepStatus.RUNNING)
            step.worker = event.worker
            step.started_us = at_us
            step.finish_by_us = event.finish_by_us
            step.heartbeat_s = event.heartbeat_s
        case StepCompleted(step=name, attempt=attempt):
            step = _enter(state, name, StepStatus.COMPLETED)
            step.ended_attempt = attempt
            step.result = event.result
            step.error = None
            step.cancel_by_us = None
        case TaskCreated():
            state.status = TaskStatus.RUNNING if event.not_before_us is None else TaskStatus.PENDING
            state.template = event.template
            state.input = event.input
            state.request_hash = event.request_hash
            state.idempotency_key = event.idempotency_key
            state.tags = event.tags
            state.created_us = at_us
            state.not_before_us = event.not_before_us
            state.deadline_us = event.deadline_us
        case TaskStarted():
            state.status = TaskStatus.RUNNING
        case StepAttemptFailed(step=name, attempt=attempt):
            # The fact alone; what follows from it (retry, failure, cancellation) is an event of its own.
            step = _enter(state, name, StepStatus.WAITING)
            step.ended_attempt = attempt
            step.error = event.error
            step.cancel_by_us = None
        case StepRetryScheduled(step=name):
            step = _enter(state, name, StepStatus.WAITING)
            step.retry_at_us = event.retry_at_us
        case StepFailed(step=name):
            _enter(state, name, StepStatus.FAILED)
            state.failed[name] = None
        case StepCancelRequested(step=name):
            _entry(state, name).cancel_by_us = event.grace_until_us
        case StepCancelled(step=name):
            _enter(state, name, StepStatus.CANCELLED).cancel_by_us = None
        case StepRetried(step=name, attempt=attempt):
            state.failed.pop(name, None)
            _entry(state, name).first_attempt = attempt
        case TaskBlocked():
            state.status = TaskStatus.BLOCKED
            state.blocked_reason = event.reason
        case TaskResumed():
            state.status = TaskStatus.RUNNING
            state.blocked_reason = None
        case TaskStopping():
            state.stopping = event
            if state.status is TaskStatus.BLOCKED:
                # It moves again, towards its end: its running steps are told, and owe an outcome.
                state.status = TaskStatus.RUNNING
                state.blocked_reason = None
        case TaskCompleted():
            _end(state, TaskStatus.COMPLETED)
            state.result = event.result
        case TaskFailed():
            _end(state, TaskStatus.FAILED)
            state.error = event.error
        case TaskCancelled():
            _end(state, TaskStatus.CANCELLED)
        case _:
            assert_never(event)
    return state


def _enter(state: TaskState, name: str, status: StepStatus) -> StepState:
    """Return the step, moved to `status`, with the task's counts kept right."""
    step = _entry(state, name)
    if step.status is not status:
        state.open += (status in STEP_OPEN) - (step.status in STEP_OPEN)
        state.completed += (status is StepStatus.COMPLETED) - (step.status is StepStatus.COMPLETED)
        step.status = status
    return step


def _entry(state: TaskState, name: str) -> StepState:
    step = state.steps.get(name)
    if step is None:
        step = state.steps[name] = StepState()
        state.open += 1
    return step


def _end(state: TaskState, status: TaskStatus) -> None:
    state.status = status
    state.blocked_reason = None


def state_document(state: TaskState) -> dict[str, Any]:
    """Return `state` as a JSON value: what `task show --at` prints and `state_hash` hashes."""
    return {
        "state": str(state.status),
        "seq": state.seq,
        "template": msgspec.to_builtins(state.template),
        "input": msgspec.json.decode(state.input),
        "request_hash": state.request_hash,
        "idempotency_key": state.idempotency_key,
        "tags": state.tags,
        "created_us": state.created_us,
        "not_before_us": state.not_before_us,
        "deadline_us": state.deadline_us,
        "steps": {name: _step_document(step) for name, step in state.steps.items()},
        "completed": state.completed,
        "open": state.open,
        "failed": list(state.failed),
        "stopping": msgspec.to_builtins(state.stopping),
        "blocked_reason": state.blocked_reason,
        "result": None if state.result is None else msgspec.json.decode(state.result),
        "error": msgspec.to_builtins(state.error),
        "commands": state.commands,
    }


def _step_document(step: StepState) -> dict[str, Any]:
    document = {slot: getattr(step, slot) for slot in StepState.__slots__}
    document["status"] = str(step.status)
    document["error"] = msgspec.to_builtins(step.error)
    document["result"] = None if step.result is None else msgspec.json.decode(step.result)
    return document


def state_hash(state: TaskState) -> str:
    """Return the sha256 (hex) of the canonical form of `state`: equal for two equal folds."""
    return hash_of(canonical(state_document(state)))
