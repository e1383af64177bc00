"""Tasks and their steps."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from tasker.events.messages import StepProgress
from tasker.events.reads.waits import Wait
from tasker.events.task_events import ErrorInfo, OptionalRaw

TaskStatus = Literal["pending", "running", "blocked", "paused", "compensating", "completed", "failed", "cancelled"]
TASK_STATUSES: Final[tuple[TaskStatus, ...]] = get_args(TaskStatus)
TASK_ENDED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
StepStatus = Literal["pending", "not_chosen", "dispatched", "running", "waiting", "completed", "failed", "cancelled"]


class TaskView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A task as the `task` view shows it.

    Attributes:
        state: of the task. waiting_on: what it waits for, in words; None when nothing.
        waiting_facts: that as facts; of a running task, what its first open steps wait for.
        steps_*: counts of steps that have begun, completed, failed. retries: attempts after a failure, and those that a
            person asked for; an attempt that goes on from a checkpoint (`Again`) is none.
        result: of a completed task. error: of a failed one or of the step that blocks it.
        not_chosen: steps that will not run -> why.
        metadata: a JSON object that people and programs keep with it.
        priority: -100 to 100: where workers are short, work of a higher one begins first.
        restarted_from: the task that it is a restart of. restarted_as: those that are restarts of it; not in lists.
        seq: events of the task so far. position: token of the last one.
    """

    task_id: str
    tenant: str
    namespace: str
    template: str
    version: str
    template_hash: str
    state: TaskStatus
    input: msgspec.Raw
    created_at: str
    updated_at: str
    seq: int
    position: str
    ended_at: str | None = None
    not_before: str | None = None
    deadline_at: str | None = None
    result: OptionalRaw = None
    error: ErrorInfo | None = None
    waiting_on: str | None = None
    blocked_steps: tuple[str, ...] = ()
    remedy: str | None = None
    tags: dict[str, str] = {}
    idempotency_key: str | None = None
    correlation_id: str | None = None
    requested_by: str | None = None
    reason: str | None = None
    steps_dispatched: int = 0
    steps_completed: int = 0
    steps_failed: int = 0
    retries: int = 0
    not_chosen: dict[str, str] = {}
    waiting_facts: tuple[Wait, ...] = ()
    metadata: OptionalRaw = None
    restarted_from: str | None = None
    restarted_as: tuple[str, ...] = ()
    priority: int = 0


class StepView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A step as the `step` view shows it; a step that has not begun is `pending` and has no times.

    One that will not run is `not_chosen`; `waiting_on` says why. `waiting_facts` has what it waits for as facts.
    Visits of a loop are steps of their own (`check#2`), and so are the items that a step runs for (`resize[17]`).

    `worker` is the one that began its newest attempt; before that, the one that the attempt is kept for (`sticky`).

    `by_hand` says what a person did to its result: `skipped`, `resolved` or `edited`.

    `progress` is no part of the view: the owner of the task tells it, while an attempt runs, or a step waits for its
    items.
    """

    task_id: str
    step: str
    state: StepStatus
    attempt: int = 0
    worker: str | None = None
    dispatched_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    retry_at: str | None = None
    result: OptionalRaw = None
    error: ErrorInfo | None = None
    waiting_on: str | None = None
    position: str | None = None
    child_task_id: str | None = None
    by_hand: str | None = None
    progress: StepProgress | None = None
    waiting_facts: Wait | None = None


def blocked_error(reason: str | None, detail: str | None) -> ErrorInfo | None:
    """Return the error of a task that is blocked as a task, by its budget say; None where a step of it has failed."""
    if reason not in _BLOCKED_AS_A_TASK:
        return None
    return ErrorInfo(type=reason, message=detail or "", retryable=False)


_BLOCKED_AS_A_TASK: Final = (
    "poison",
    "history_limit",
    "no_progress",
    "result_limit",
    "budget_exceeded",
    "deadline_passed",
)


class TaskPage(msgspec.Struct, kw_only=True):
    """A page of tasks; `next` asks for the one behind it; `position` is what the page was read at."""

    items: list[TaskView]
    next: str | None
    position: str


class StepPage(msgspec.Struct, kw_only=True):
    """The steps of a task, in declared order."""

    items: list[StepView]
    next: str | None
    position: str
