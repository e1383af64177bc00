"""Dead letters, and what people found out about them."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from tasker.events.reads.tasks import TaskStatus

DeadLetterReason = Literal["retries_exhausted", "permanent_error", "no_worker", "stale", "poison", "manual"]
DEAD_LETTER_REASONS: Final[tuple[DeadLetterReason, ...]] = get_args(DeadLetterReason)
DeadLetterState = Literal["dead", "retrying", "left"]
DEAD_LETTER_STATES: Final[tuple[DeadLetterState, ...]] = get_args(DeadLetterState)
InvestigationStatus = Literal["open", "investigating", "resolved", "ignored"]
INVESTIGATION_STATUSES: Final[tuple[InvestigationStatus, ...]] = get_args(InvestigationStatus)


class DeadLetterNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A note of an investigation."""

    at: str
    note: str
    requested_by: str | None = None


class DeadLetterView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A task or step that needs somebody's attention.

    Attributes:
        step: the step's instance; "": the task itself.
        state: `dead`, `retrying` since a person gave it fresh attempts, `left` for good.
        status: of its investigation; a new failure opens one that was settled.
        attempt: the attempt that failed last; 0 for a task. failures: how often it came here.
        fingerprint: the same for errors of one kind. pattern: the message as the fingerprint sees it.
        left_how: `step_completed`, `failure_accepted`, `moved_on` (it was stale), `task_completed` or
            `task_cancelled`.
        settled_by, settled_reason: who resolved or ignored it, and why.
        notes: the newest 20, oldest first; only where a single task is shown.
        remedy: the command that repairs it.
    """

    task_id: str
    step: str
    namespace: str
    template: str
    version: str
    task_state: TaskStatus
    state: DeadLetterState
    status: InvestigationStatus
    reason: DeadLetterReason
    error_type: str
    message: str
    fingerprint: str
    pattern: str
    attempt: int
    failures: int
    first_seen: str
    last_seen: str
    position: str
    owner: str | None = None
    tags: dict[str, str] = {}
    notes: tuple[DeadLetterNote, ...] = ()
    notes_count: int = 0
    settled_by: str | None = None
    settled_reason: str | None = None
    settled_at: str | None = None
    left_how: str | None = None
    left_at: str | None = None
    remedy: str | None = None


class DeadLetterGroup(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Dead letters of one fingerprint.

    Attributes:
        count: dead letters. failures: how often they came here, all together.
        task_id: of the newest of them, as an example.
    """

    fingerprint: str
    error_type: str
    step: str
    pattern: str
    count: int
    failures: int
    first_seen: str
    last_seen: str
    task_id: str


class DeadLetterPage(msgspec.Struct, kw_only=True):
    """Dead letters, the newest first; `next` asks for the page behind this one."""

    items: list[DeadLetterView]
    next: str | None
    position: str


class DeadLetterGroupPage(msgspec.Struct, kw_only=True):
    """Groups of dead letters, the largest first; `next` asks for the page behind this one."""

    items: list[DeadLetterGroup]
    next: str | None
    position: str


class DeadLetterCount(msgspec.Struct, kw_only=True):
    """How many dead letters match."""

    count: int
    position: str
