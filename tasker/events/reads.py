"""What reads return: the rows of the views as HTTP, the client and the CLI show them.

Times are RFC 3339 text in UTC. A `position` is a token (`position.py`).
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from tasker.events.messages import RefusedCommand, StepProgress
from tasker.events.task_events import ErrorInfo, OptionalRaw

TaskStatus = Literal["pending", "running", "blocked", "compensating", "completed", "failed", "cancelled"]
TASK_STATUSES: Final[tuple[TaskStatus, ...]] = get_args(TaskStatus)
TASK_ENDED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
StepStatus = Literal["pending", "not_chosen", "dispatched", "running", "waiting", "completed", "failed", "cancelled"]


class TaskView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A task as the `task` view shows it.

    Attributes:
        state: of the task. waiting_on: what it waits for, in words; None when nothing.
        steps_*: counts of steps that have begun, completed, failed.
        result: of a completed task. error: of a failed one or of the step that blocks it.
        not_chosen: steps that will not run -> why.
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


class StepView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A step as the `step` view shows it; a step that has not begun is `pending` and has no times.

    One that will not run is `not_chosen`; `waiting_on` says why. Visits of a loop are steps of their own (`check#2`),
    and so are the items that a step runs for (`resize[17]`).

    `progress` is no part of the view: the owner of the task tells it, while an attempt runs.
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
    progress: StepProgress | None = None


class EventView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A recorded event as reads show it."""

    task_id: str
    seq: int
    type: str
    version: int
    at: str
    tenant: str
    shard: int
    position: str
    epoch: int
    data: msgspec.Raw
    meta: msgspec.Raw


class TemplateView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A version of a template; `in_use` is the one that a task without a version gets."""

    tenant: str
    namespace: str
    name: str
    version: str
    hash: str
    registered_at: str
    in_use: bool = False
    document: OptionalRaw = None


class TaskPage(msgspec.Struct, kw_only=True):
    """A page of tasks; `next` asks for the one behind it; `position` is what the page was read at."""

    items: list[TaskView]
    next: str | None
    position: str


class Refusal(RefusedCommand, kw_only=True, omit_defaults=True):
    """A submitted command that was refused; `id` is its place in the list."""

    id: str


class RefusalPage(msgspec.Struct, kw_only=True):
    """A page of refusals, oldest first; `next` asks for the one behind it."""

    items: list[Refusal]
    next: str | None


class StepPage(msgspec.Struct, kw_only=True):
    """The steps of a task, in declared order."""

    items: list[StepView]
    next: str | None
    position: str


class EventPage(msgspec.Struct, kw_only=True):
    """Events in order; `next` goes on behind them, also when none matched; `log_id` is part of their ids."""

    items: list[EventView]
    next: str | None
    position: str
    log_id: str = ""


class TemplatePage(msgspec.Struct, kw_only=True):
    """Templates by namespace, name and time."""

    items: list[TemplateView]
    next: str | None
    position: str


class Stats(msgspec.Struct, kw_only=True):
    """Counts of a tenant's tasks by state, and how far the views are."""

    tasks: dict[str, int]
    events: int
    position: str
    lag_events: int


class Live(msgspec.Struct, kw_only=True):
    """The process answers."""

    live: bool = True


class Health(msgspec.Struct, kw_only=True):
    """Readiness with its reasons: name -> None when fine, else what is wrong."""

    ready: bool
    checks: dict[str, str | None]
    version: str
