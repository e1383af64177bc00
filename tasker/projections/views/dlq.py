"""The `dlq` view: one row a dead letter, that is a task or step that needs somebody's attention.

It folds two streams that one slot orders: the task's, which says what failed and how it went on, and the
investigation's, which says what people do about it.

| event                                      | the row                                                        |
|--------------------------------------------|----------------------------------------------------------------|
| `step_failed`                              | of the step: `dead`, for its reason; open again when settled   |
| `task_blocked` (but for a failed step)      | of the task: `dead`, as `poison`                               |
| an event that cannot be folded             | of the task: `dead`, as `poison`                               |
| `step_retried`                             | `retrying`                                                     |
| `step_completed` (behind a retry), `step_gathered`, `step_failure_accepted` | has `left`                    |
| `step_skipped`, `step_resolved`            | has `left`                                                     |
| `went_stale`                               | of the task or step: `dead`, as `stale`, unless it is dead     |
| `stale_ended`                              | has `left`, if it was `stale`                                  |
| `task_completed`, `task_cancelled`         | all of the task have `left`; those of a failed task stay       |
| `dead_letter_added`                        | of the task or step: `dead`, as `manual`                       |
| `dead_letter_...`                          | status, owner, notes                                           |

A first attempt that completes closes nothing (whatever failed before had an attempt), so that the common case costs
no look into the table.
"""

from __future__ import annotations

from typing import Final, cast
from uuid import UUID

import msgspec

from tasker.errors import Undecodable
from tasker.events.dead_letter_events import (
    DEAD_LETTER_EVENT_TYPES,
    AnyDeadLetterEvent,
    DeadLetterAdded,
    DeadLetterAssigned,
    DeadLetterEvent,
    DeadLetterIgnored,
    DeadLetterInvestigated,
    DeadLetterNoted,
    DeadLetterReopened,
    DeadLetterResolved,
)
from tasker.events.envelope import Meta, RecordedEvent, StreamKind
from tasker.events.reads import (
    DeadLetterNote,
    DeadLetterReason,
    DeadLetterState,
    DeadLetterView,
    InvestigationStatus,
    TaskStatus,
)
from tasker.events.stored import EMPTY_META, TYPE_OF, DomainEvent, meta_of
from tasker.events.task_events import (
    ErrorInfo,
    StaleEnded,
    StepCompleted,
    StepFailed,
    StepFailureAccepted,
    StepGathered,
    StepResolved,
    StepRetried,
    StepSkipped,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    WentStale,
)
from tasker.projections.fingerprint import fingerprint_of, pattern_of
from tasker.projections.projection import Key
from tasker.templates.instances import name_of
from tasker.times import to_rfc3339, to_rfc3339_if

NO_WORKER_MESSAGE: Final = "no worker started the attempt within"
"""How the message of a `timeout` begins when `schedule_to_start_s` was over; a test holds the task's core to it."""

NOTES_MAX: Final = 20
"""Notes that a row keeps, the newest; the log keeps all."""

MESSAGE_CHARS_MAX: Final = 2_000
_POISON_TYPES: Final = frozenset({"poison", "history_limit", "no_progress"})
_SETTLED: Final = frozenset({"resolved", "ignored"})


class DeadLetterRow(msgspec.Struct):
    """A dead letter as stored.

    Attributes:
        step: the step's instance; "": the task itself. of_step: the step of the template that it is an instance of.
        status: of the investigation, about the newest failure.
        notes: JSON of the newest.
    """

    task_id: UUID
    step: str
    of_step: str
    tenant: str
    shard: int
    first_us: int
    state: str
    status: str
    reason: str
    error_type: str
    message: str
    fingerprint: str
    pattern: str
    attempt: int
    failures: int
    last_us: int
    position: int
    owner: str | None = None
    notes: bytes | None = None
    notes_count: int = 0
    settled_by: str | None = None
    settled_reason: str | None = None
    settled_us: int | None = None
    left_how: str | None = None
    left_us: int | None = None


class DeadLetterProjection:
    """Folds failures and what people do about them."""

    name = "dlq"
    kinds: tuple[str, ...] = (StreamKind.TASK.value, StreamKind.INVESTIGATION.value)
    types: frozenset[str] | None = frozenset(
        {
            "step_failed",
            "step_retried",
            "step_completed",
            "step_skipped",
            "step_resolved",
            "step_gathered",
            "step_failure_accepted",
            "task_blocked",
            "task_completed",
            "task_cancelled",
            "went_stale",
            "stale_ended",
            *(TYPE_OF[kind] for kind in DEAD_LETTER_EVENT_TYPES),
        }
    )
    closing = frozenset({"task_completed", "task_cancelled"})
    row_type = DeadLetterRow
    keys = 2
    facts = DeadLetterRow.__struct_fields__.index("state")

    def key_at(self, recorded: RecordedEvent, event: DomainEvent) -> Key | None:
        """Return the task and step that `event` may concern."""
        if type(event) is StepCompleted and event.attempt == 1:
            return None
        match event:
            case (
                StepCompleted()
                | StepSkipped()
                | StepResolved()
                | StepFailed()
                | StepRetried()
                | StepGathered()
                | StepFailureAccepted()
                | WentStale()
                | StaleEnded()
            ):
                return recorded.stream_id, event.step
            case TaskBlocked():
                return (recorded.stream_id, "") if event.reason in _POISON_TYPES else None
            case DeadLetterEvent():
                try:
                    return UUID(event.task_id), event.step
                except ValueError:
                    return None  # of no task: there is no row to say so
            case _:
                return None

    def key_of(self, row: DeadLetterRow) -> Key:
        """Return the key of `row`."""
        return row.task_id, row.step

    def is_birth(self, _recorded: RecordedEvent, _event: DomainEvent) -> bool:
        """Return False: a step may fail again."""
        return False

    def is_worth_caching(self, _row: DeadLetterRow) -> bool:
        """Return False: what is dead rarely changes."""
        return False

    def apply(self, row: DeadLetterRow | None, recorded: RecordedEvent, event: DomainEvent) -> DeadLetterRow | None:
        """Return the row moved on by `event`; None while there is no dead letter."""
        if isinstance(event, StepFailed):
            return _died(row, recorded, event.step, event.attempt, reason_of(event), event.error)
        if isinstance(event, TaskBlocked):
            return _died(row, recorded, "", 0, "poison", _poison(event.reason, event.detail or ""))
        if isinstance(event, WentStale):
            if row is not None and row.state == "dead" and row.reason != "stale":
                return row
            return _died(row, recorded, event.step, event.attempt, "stale", _stale(event))
        if isinstance(event, DeadLetterEvent):
            return _investigated(row, recorded, cast("AnyDeadLetterEvent", event))
        if row is None:
            return None
        row.position = recorded.position
        match event:
            case StepRetried():
                row.state = "retrying"
                row.left_how = row.left_us = None
            case StepCompleted() | StepSkipped() | StepResolved() | StepGathered():
                _leave(row, "step_completed", recorded.at_us)
            case StepFailureAccepted():
                _leave(row, "failure_accepted", recorded.at_us)
            case TaskCompleted():
                _leave(row, "task_completed", recorded.at_us)
            case TaskCancelled():
                _leave(row, "task_cancelled", recorded.at_us)
            case StaleEnded() if row.reason == "stale":
                _leave(row, "moved_on", recorded.at_us)
            case _:
                pass  # of no other type: `types`
        return row

    def poisoned(self, row: DeadLetterRow | None, recorded: RecordedEvent, detail: str) -> DeadLetterRow | None:
        """Return the task's own row; None for an event of an investigation, and once the task is poisoned."""
        if recorded.kind != StreamKind.TASK or (row is not None and (row.step or row.error_type == "poison")):
            return None
        return _died(row, recorded, "", 0, "poison", _poison("poison", f"event {recorded.seq}: {detail}"))


def reason_of(event: StepFailed) -> DeadLetterReason:
    """Return why a step is dead: its own reason, or that no worker took it."""
    if event.error.type == "timeout" and event.error.message.startswith(NO_WORKER_MESSAGE):
        return "no_worker"
    return "retries_exhausted" if event.reason == "retries_exhausted" else "permanent_error"


def _died(  # noqa: PLR0917 - the facts of a failure
    row: DeadLetterRow | None,
    recorded: RecordedEvent,
    step: str,
    attempt: int,
    reason: DeadLetterReason,
    error: ErrorInfo,
) -> DeadLetterRow:
    message = error.message[:MESSAGE_CHARS_MAX].replace("\0", "")
    fingerprint, pattern = fingerprint_of(error.type, step, message), pattern_of(message)
    if row is None:
        return DeadLetterRow(
            task_id=recorded.stream_id,
            step=step,
            of_step=name_of(step),
            tenant=recorded.tenant,
            shard=recorded.shard,
            first_us=recorded.at_us,
            state="dead",
            status="open",
            reason=reason,
            error_type=error.type,
            message=message,
            fingerprint=fingerprint,
            pattern=pattern,
            attempt=attempt,
            failures=1,
            last_us=recorded.at_us,
            position=recorded.position,
        )
    row.state = "dead"
    row.reason, row.error_type, row.message = reason, error.type, message
    row.fingerprint, row.pattern = fingerprint, pattern
    row.attempt = attempt
    row.failures += 1
    row.last_us = recorded.at_us
    row.position = recorded.position
    row.left_how = row.left_us = None
    if row.status in _SETTLED:
        _open(row)
    return row


def _investigated(
    row: DeadLetterRow | None, recorded: RecordedEvent, event: AnyDeadLetterEvent
) -> DeadLetterRow | None:
    if row is not None and row.tenant != recorded.tenant:
        return row
    meta = _meta(recorded)
    if isinstance(event, DeadLetterAdded):
        error = ErrorInfo(type="manual", message=meta.reason or "", retryable=False)
        row = _died(row, recorded, event.step, event.attempt, "manual", error)
        row.task_id = UUID(event.task_id)
        return row
    if row is None:
        return None
    row.position = recorded.position
    match event:
        case DeadLetterInvestigated():
            _open(row)
            row.status = "investigating"
        case DeadLetterAssigned(owner=owner):
            row.owner = owner
        case DeadLetterNoted(note=note):
            kept = DeadLetterNote(at=to_rfc3339(recorded.at_us), note=note, requested_by=meta.requested_by)
            row.notes = msgspec.json.encode([*_notes(row)[1 - NOTES_MAX :], kept])
            row.notes_count += 1
        case DeadLetterResolved() | DeadLetterIgnored():
            if event.attempt == row.attempt:
                row.status = "resolved" if isinstance(event, DeadLetterResolved) else "ignored"
                row.settled_by, row.settled_reason = meta.requested_by, meta.reason
                row.settled_us = recorded.at_us
        case DeadLetterReopened():
            _open(row)
    return row


def _open(row: DeadLetterRow) -> None:
    row.status = "open"
    row.settled_by = row.settled_reason = row.settled_us = None


def _leave(row: DeadLetterRow, how: str, at_us: int) -> None:
    if row.state != "left":
        row.state, row.left_how, row.left_us = "left", how, at_us


def _poison(kind: str, detail: str) -> ErrorInfo:
    return ErrorInfo(type=kind, message=detail, retryable=False)


def _stale(event: WentStale) -> ErrorInfo:
    what = "a step has waited" if event.step else f"the task has been {event.state}"
    return ErrorInfo(type="stale", message=f"{what} for longer than {event.after_s:g} s", retryable=False)


def _meta(recorded: RecordedEvent) -> Meta:
    try:
        return meta_of(recorded)
    except Undecodable:
        return EMPTY_META


def _notes(row: DeadLetterRow) -> tuple[DeadLetterNote, ...]:
    return () if row.notes is None else msgspec.json.decode(row.notes, type=tuple[DeadLetterNote, ...])


# ---------------------------------------------------------------- as read


class DeadLetterTask(msgspec.Struct, frozen=True):
    """What the `task` view adds to a dead letter: what it is a run of, and where it is."""

    namespace: str
    template: str
    version: str
    state: str
    tags: str | None


def to_view(row: DeadLetterRow, task: DeadLetterTask, *, with_notes: bool = False) -> DeadLetterView:
    """Return `row` as reads show it."""
    return DeadLetterView(
        task_id=str(row.task_id),
        step=row.step,
        namespace=task.namespace,
        template=task.template,
        version=task.version,
        task_state=cast("TaskStatus", task.state),
        state=cast("DeadLetterState", row.state),
        status=cast("InvestigationStatus", row.status),
        reason=cast("DeadLetterReason", row.reason),
        error_type=row.error_type,
        message=row.message,
        fingerprint=row.fingerprint,
        pattern=row.pattern,
        attempt=row.attempt,
        failures=row.failures,
        first_seen=to_rfc3339(row.first_us),
        last_seen=to_rfc3339(row.last_us),
        position=f"{row.shard}:{row.position}",
        owner=row.owner,
        tags={} if task.tags is None else msgspec.json.decode(task.tags, type=dict[str, str]),
        notes=_notes(row) if with_notes else (),
        notes_count=row.notes_count,
        settled_by=row.settled_by,
        settled_reason=row.settled_reason,
        settled_at=to_rfc3339_if(row.settled_us),
        left_how=row.left_how,
        left_at=to_rfc3339_if(row.left_us),
        remedy=remedy(row, task),
    )


def remedy(row: DeadLetterRow, task: DeadLetterTask) -> str | None:
    """Return the command that repairs it; None: no command can, or it is on its way."""
    if row.state != "dead" or task.state in ("completed", "failed", "cancelled"):
        return None
    if row.error_type in ("history_limit", "no_progress") and not row.step:
        return f"tasker task cancel {row.task_id}"
    if row.reason == "stale":
        return _stale_remedy(row, task)
    if row.reason in ("retries_exhausted", "permanent_error", "no_worker"):
        return f"tasker dlq retry {row.task_id} --step '{row.step}' --reason WHY"
    return None


def _stale_remedy(row: DeadLetterRow, task: DeadLetterTask) -> str | None:
    if row.step:
        return f"tasker task show {row.task_id}"
    verb = {"paused": "resume", "blocked": "retry"}.get(task.state)
    return None if verb is None else f"tasker task {verb} {row.task_id}"
