"""What can happen to a task and its steps: the union stored in a task's stream.

One fact an event, past tense, for ever. A stored form is `(type, version)`; it is never edited. A
new form is a new class (or version) with an upcast from the old (`upcast.py`) and a recorded history
in `tests/compat`. JSON values of users (`input`, `result`) are raw canonical bytes: they are carried,
compared and hashed, never rewritten.

Times are microseconds since the epoch (`_us`), durations seconds (`_s`).
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

NULL: Final = msgspec.Raw(b"null")


class TaskEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event of a task is. Its stored type is its class name in snake case."""


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an attempt failed.

    Attributes:
        type: the exception's class, or `timeout`, `worker_lost`, `result_invalid`.
        message: for people; at most 2,000 characters.
        retryable: whether another attempt may help, as the handler says.
        retry_after_s: the wait the target asked for, already bounded.
        stack: the traceback's end, at most 8,000 characters.
    """

    type: str
    message: str
    retryable: bool = True
    retry_after_s: float | None = None
    stack: str | None = None


class TemplateRef(msgspec.Struct, frozen=True):
    """The template a task started with: `hash` (sha256, hex) names its content for ever."""

    namespace: str
    name: str
    version: str
    hash: str


class TaskCreated(TaskEvent, frozen=True, kw_only=True):
    """The task was accepted.

    Attributes:
        request_hash: of the canonical input and the version as sent; tells a repetition from a conflict.
        not_before_us: no step starts earlier; the task is `pending` until then.
        deadline_us: when the task's timeout ends it.
    """

    template: TemplateRef
    input: msgspec.Raw
    request_hash: str
    idempotency_key: str | None = None
    tags: dict[str, str] = {}
    not_before_us: int | None = None
    deadline_us: int | None = None


class TaskStarted(TaskEvent, frozen=True, kw_only=True):
    """A task whose `not_before` has come began; a task without one begins with `task_created`."""


class StepDispatched(TaskEvent, frozen=True, kw_only=True):
    """An attempt of a step is owed to the workers.

    Attributes:
        attempt: from 1, growing over the life of the step.
        start_by_us: the attempt fails when no worker started it by then (`schedule_to_start`).
    """

    step: str
    attempt: int
    start_by_us: int | None = None


class StepStarted(TaskEvent, frozen=True, kw_only=True):
    """A worker began an attempt.

    Attributes:
        finish_by_us: the attempt fails when it has no outcome by then (`start_to_close`).
        heartbeat_s: it fails as well when no sign of life comes for so long.
    """

    step: str
    attempt: int
    worker: str
    finish_by_us: int
    heartbeat_s: float


class StepCompleted(TaskEvent, frozen=True, kw_only=True):
    """A step has its one result."""

    step: str
    attempt: int
    result: msgspec.Raw


class StepAttemptFailed(TaskEvent, frozen=True, kw_only=True):
    """An attempt ended without a result."""

    step: str
    attempt: int
    error: ErrorInfo


class StepRetryScheduled(TaskEvent, frozen=True, kw_only=True):
    """Another attempt will be dispatched; `delay_s` is the chosen wait, jitter included."""

    step: str
    attempt: int
    delay_s: float
    retry_at_us: int


FailureReason = Literal["retries_exhausted", "permanent_error"]


class StepFailed(TaskEvent, frozen=True, kw_only=True):
    """A step has no attempt left, or its error forbids another."""

    step: str
    attempt: int
    reason: FailureReason
    error: ErrorInfo


class StepCancelRequested(TaskEvent, frozen=True, kw_only=True):
    """A running attempt is to be told to stop; it has until `grace_until_us`."""

    step: str
    attempt: int
    grace_until_us: int


class StepCancelled(TaskEvent, frozen=True, kw_only=True):
    """A step will have no result, because its task ends."""

    step: str
    attempt: int
    reason: str


class StepRetried(TaskEvent, frozen=True, kw_only=True):
    """A person gave a failed step a fresh set of attempts; the next one is `attempt`."""

    step: str
    attempt: int


class TaskBlocked(TaskEvent, frozen=True, kw_only=True):
    """Nothing can move until a person helps.

    Attributes:
        steps: the failed steps.
    """

    reason: Literal["step_failed", "poison", "history_limit"]
    steps: tuple[str, ...] = ()
    detail: str | None = None


class TaskResumed(TaskEvent, frozen=True, kw_only=True):
    """A blocked task goes on."""


Ending = Literal["failed", "cancelled"]


class TaskStopping(TaskEvent, frozen=True, kw_only=True):
    """The task will end as `ending` once its running steps have ended or their grace is over."""

    ending: Ending
    cause: Literal["cancel", "timeout", "step_failed"]
    step: str | None = None


class TaskCompleted(TaskEvent, frozen=True, kw_only=True):
    """Every step has a result, and so has the task."""

    result: msgspec.Raw


class TaskFailed(TaskEvent, frozen=True, kw_only=True):
    """The task ended without a result."""

    cause: Literal["timeout", "step_failed"]
    step: str | None = None
    error: ErrorInfo | None = None


class TaskCancelled(TaskEvent, frozen=True, kw_only=True):
    """The task was ended by a person's or a program's request."""


AnyTaskEvent = (
    TaskCreated
    | TaskStarted
    | StepDispatched
    | StepStarted
    | StepCompleted
    | StepAttemptFailed
    | StepRetryScheduled
    | StepFailed
    | StepCancelRequested
    | StepCancelled
    | StepRetried
    | TaskBlocked
    | TaskResumed
    | TaskStopping
    | TaskCompleted
    | TaskFailed
    | TaskCancelled
)

TASK_EVENT_TYPES: Final[tuple[type[TaskEvent], ...]] = get_args(AnyTaskEvent)
ENDING_TYPES: Final = frozenset({"task_completed", "task_failed", "task_cancelled"})
"""Nothing follows one of these in a task's stream."""
