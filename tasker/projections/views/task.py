"""The `task` view: one row a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, assert_never, cast
from uuid import UUID

import msgspec

from tasker.events.codec import canonical, decode_message, encode_message
from tasker.events.envelope import Meta, RecordedEvent, StreamKind
from tasker.events.reads import TASK_ENDED, TaskStatus, TaskView, Wait, blocked_error
from tasker.events.stored import DomainEvent, meta_of
from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    ApprovalAnswered,
    ApprovalDelegated,
    ApprovalEscalated,
    ApprovalRequested,
    ChildRequested,
    ChildStarted,
    DomainEventRaised,
    ErrorInfo,
    EventAwaited,
    EventMatched,
    LoopTurned,
    ParentsOverridden,
    PathsClosed,
    PlaceDenied,
    PlaceRequested,
    PlaceTaken,
    ProgressRecorded,
    RunningTimeSpent,
    SignalReceived,
    StaleEnded,
    StepAttemptFailed,
    StepAttemptsReset,
    StepAwaited,
    StepCancelled,
    StepCancelRequested,
    StepCompleted,
    StepDelayed,
    StepDispatched,
    StepExpanded,
    StepFailed,
    StepFailureAccepted,
    StepGathered,
    StepItemsHeld,
    StepReleased,
    StepResolved,
    StepResultEdited,
    StepRetried,
    StepRetryScheduled,
    StepRouted,
    StepSignalled,
    StepSkipped,
    StepStarted,
    StepTimedOut,
    StepYielded,
    TaskBlocked,
    TaskBudgetSet,
    TaskCancelled,
    TaskCompensating,
    TaskCompleted,
    TaskCreated,
    TaskDeadlinePassed,
    TaskDeadlineSet,
    TaskFailed,
    TaskPaused,
    TaskPostponed,
    TaskReconciled,
    TaskResumed,
    TaskStarted,
    TaskStopping,
    TaskUnpaused,
    TaskUpdated,
    UsageRecorded,
    WaitExpired,
    WentStale,
)
from tasker.events.usage import budget_remedy, deadline_remedy
from tasker.projections.projection import NO_TYPES, Key
from tasker.projections.views.reasons import Standing, wait_of
from tasker.projections.views.words import NAMED_MAX, words_of_task
from tasker.times import to_rfc3339, to_rfc3339_if

_DETAIL_CHARS_MAX: Final = 2000
_CACHED_BYTES_MAX: Final = 4096
_PAUSED_BEFORE_START: Final = "paused_before_start"
OPEN_STEPS_ASKED: Final = NAMED_MAX + 1
"""How many open steps `to_view` wants to see: enough to name three and know that there are more."""


class TaskRow(msgspec.Struct):
    """A task as stored: the facts of its creation first, then what moves.

    Attributes:
        tags, blocked_steps: JSON text, canonical; None when empty. metadata: a JSON object; None when empty.
        result, error: exact JSON.
        ending: how a stopping task will end.
        not_chosen: JSON object: step that will not run (in its newest visit) -> why; None when empty.
        blocked_reason: of a paused task `paused`, or `paused_before_start`; its blocked_detail is then JSON
            of who paused it and why (`Paused`).
        since_us: when it came to be what it is.
        place_key: the concurrency key under which it waits for a place, as JSON.
        last_input: what it runs with in place of `input`, when other starts went to it (`debounce`).
        poisoned: an event of it could not be folded; from there on only `seq` and `position` move.
    """

    task_id: UUID
    tenant: str
    shard: int
    namespace: str
    template: str
    version: str
    template_hash: str
    input: bytes
    restarted_from: UUID | None
    idempotency_key: str | None
    correlation_id: str | None
    requested_by: str | None
    reason: str | None
    created_at_us: int
    state: str
    seq: int
    position: int
    updated_at_us: int
    ended_at_us: int | None = None
    result: bytes | None = None
    error: bytes | None = None
    ending: str | None = None
    blocked_reason: str | None = None
    blocked_detail: str | None = None
    blocked_steps: str | None = None
    steps_dispatched: int = 0
    steps_completed: int = 0
    steps_failed: int = 0
    retries: int = 0
    poisoned: bool = False
    not_chosen: str | None = None
    tags: str | None = None
    metadata: bytes | None = None
    deadline_us: int | None = None
    place_key: str | None = None
    priority: int = 0
    not_before_us: int | None = None
    last_input: bytes | None = None
    since_us: int | None = None


class TaskProjection:
    """Folds a task's stream into its one row."""

    name = "task"
    kinds: tuple[str, ...] = (StreamKind.TASK.value,)
    closing = NO_TYPES
    types: frozenset[str] | None = None
    row_type = TaskRow
    keys = 1
    facts = TaskRow.__struct_fields__.index("state")

    def key_at(self, recorded: RecordedEvent, _event: DomainEvent) -> Key:
        """Return the stream: its row stands for the whole of it."""
        return recorded.stream_id, ""

    def key_of(self, row: TaskRow) -> Key:
        """Return the key of `row`."""
        return row.task_id, ""

    def is_birth(self, recorded: RecordedEvent, _event: DomainEvent) -> bool:
        """Return whether this is the first event of its task."""
        return recorded.seq == 1

    def is_worth_caching(self, row: TaskRow) -> bool:
        """Return whether the task goes on and is small."""
        return row.state not in TASK_ENDED and len(row.input) <= _CACHED_BYTES_MAX

    def apply(self, row: TaskRow | None, recorded: RecordedEvent, event: DomainEvent) -> TaskRow:
        """Return the task's row moved on by `event`."""
        task_event: Any = event  # a call of `cast` would take as long as many a case
        if row is None:
            if type(task_event) is not TaskCreated:
                return self.poisoned(None, recorded, f"its first event is {recorded.type}, not task_created")
            return _born(recorded, task_event)
        row.seq = recorded.seq
        row.position = recorded.position
        row.updated_at_us = recorded.at_us
        if not row.poisoned:
            state = row.state
            _evolve(row, task_event, recorded.at_us)
            if row.state != state:
                row.since_us = recorded.at_us
            if type(task_event) is TaskPaused:
                row.blocked_detail = _who_paused(meta_of(recorded))
        return row

    def poisoned(self, row: TaskRow | None, recorded: RecordedEvent, detail: str) -> TaskRow:
        """Return the row, blocked because an event of the task cannot be folded."""
        if row is None:
            row = _unborn(recorded)
        if not row.poisoned:
            row.poisoned = True
            row.since_us = recorded.at_us
            row.state = "blocked"
            row.blocked_reason = "poison"
            row.blocked_detail = f"event {recorded.seq}: {detail}"[:_DETAIL_CHARS_MAX].replace("\0", "")
        row.seq = recorded.seq
        row.position = recorded.position
        row.updated_at_us = recorded.at_us
        return row


def _evolve(row: TaskRow, event: AnyTaskEvent, at_us: int) -> None:  # noqa: PLR0915 - one case an event
    # What comes with every task is told by its class alone: `match` takes longer to see that an event is of another.
    if type(event) is StepStarted:
        return
    if type(event) is StepCompleted:
        row.steps_completed += 1
        return
    if type(event) is StepDispatched:
        row.steps_dispatched += event.attempt == 1
        return
    if type(event) is TaskCompleted:
        _end(row, "completed", at_us)
        row.result = bytes(event.result)
        row.error = None
        return
    match event:
        case StepStarted() | StepCompleted() | StepDispatched() | TaskCompleted():
            pass  # above
        case StepGathered():
            row.steps_completed += 1
        case (
            StepAttemptFailed()
            | StepCancelRequested()
            | StepCancelled()
            | StepRouted()
            | StepAttemptsReset()
            | StepResultEdited()
            | StepReleased()
            | ParentsOverridden()
            | StepFailureAccepted()
            | StepYielded()
            | ChildStarted()
            | SignalReceived()
            | StepSignalled()
            | ApprovalAnswered()
            | ApprovalDelegated()
            | ApprovalEscalated()
            | EventMatched()
            | WaitExpired()
            | StepTimedOut()
            | StepItemsHeld()
            | TaskDeadlinePassed()
            | TaskReconciled()
            | RunningTimeSpent()
        ):
            pass
        case DomainEventRaised() | UsageRecorded() | ProgressRecorded() | PlaceDenied() | WentStale() | StaleEnded():
            pass
        case TaskBudgetSet(goes_on=goes_on):
            if goes_on:
                row.state = "running"
                _unblock(row)
        case PlaceRequested(step=step):
            if not step:
                row.state = "pending"
                row.place_key = event.key
        case PlaceTaken(step=step):
            if not step:
                row.place_key = None
                if row.state == "paused":
                    row.blocked_reason = "paused"
                elif row.blocked_reason != "deadline_passed":
                    row.state = "running"
        case StepExpanded() | StepDelayed():
            row.steps_dispatched += 1
        case (
            ChildRequested(attempt=attempt)
            | StepAwaited(attempt=attempt)
            | ApprovalRequested(attempt=attempt)
            | EventAwaited(attempt=attempt)
        ):
            row.steps_dispatched += attempt == 1
        case StepSkipped(failed=failed) | StepResolved(failed=failed):
            row.steps_completed += 1
            row.steps_failed -= failed
        case PathsClosed(steps=steps, reason=reason):
            if steps:
                _set_not_chosen(row, _not_chosen(row) | dict.fromkeys(steps, reason))
        case LoopTurned(steps=steps):
            if row.not_chosen is not None:
                _set_not_chosen(row, {name: why for name, why in _not_chosen(row).items() if name not in steps})
        case StepFailed(error=error):
            row.steps_failed += 1
            row.error = encode_message(error)
        case StepRetryScheduled():
            row.retries += 1
        case StepRetried(cancelled=cancelled):
            row.retries += 1
            row.steps_failed -= not cancelled
        case TaskFailed(error=error):
            _end(row, "failed", at_us)
            if error is not None:
                row.error = encode_message(error)
        case TaskCancelled():
            _end(row, "cancelled", at_us)
        case TaskBlocked(reason=reason, steps=steps, detail=detail):
            row.state = "blocked"
            row.blocked_reason = reason
            row.blocked_detail = detail
            row.blocked_steps = canonical(steps).decode() if steps else None
        case TaskStopping(ending=ending):
            row.ending = ending
            if row.state in ("blocked", "paused"):
                row.state = "running"
                _unblock(row)
        case TaskCompensating():
            row.state = "compensating"
        case TaskPaused():
            if row.state != "paused":  # else its child tasks are, too, from now on
                before, row.state = row.state, "paused"
                _unblock(row)
                row.blocked_reason = _PAUSED_BEFORE_START if before == "pending" else "paused"
        case TaskUnpaused():
            row.state = "pending" if row.blocked_reason == _PAUSED_BEFORE_START else "running"
            _unblock(row)
        case TaskPostponed():
            row.last_input = bytes(event.input)
            row.not_before_us = event.not_before_us
            row.deadline_us = event.deadline_us
        case TaskStarted():
            row.state = "running"
        case TaskResumed():
            # What was stopping and is blocked was undoing what it did.
            row.state = "running" if row.ending is None else "compensating"
            _unblock(row)
        case TaskUpdated(tags=tags, metadata=metadata, priority=priority):
            if tags is not None:
                row.tags = _tags(tags)
            if metadata is not None:
                row.metadata = None if metadata == NULL else bytes(metadata)
            if priority is not None:
                row.priority = priority
        case TaskDeadlineSet(deadline_us=deadline_us, goes_on=goes_on, pending=pending):
            row.deadline_us = deadline_us
            if goes_on:
                row.state = "pending" if pending else "running"
                _unblock(row)
            elif pending:
                row.blocked_reason = _PAUSED_BEFORE_START
        case TaskCreated():
            pass  # a second birth is impossible; total all the same
        case _:
            assert_never(event)


class Paused(msgspec.Struct, omit_defaults=True):
    """Who paused a task and why, as its row keeps them."""

    by: str | None = None
    reason: str | None = None


def _who_paused(meta: Meta) -> str:
    return encode_message(Paused(meta.requested_by, meta.reason)).decode()


def _not_chosen(row: TaskRow) -> dict[str, str]:
    return {} if row.not_chosen is None else msgspec.json.decode(row.not_chosen, type=dict[str, str])


def _set_not_chosen(row: TaskRow, not_chosen: dict[str, str]) -> None:
    row.not_chosen = canonical(not_chosen).decode() if not_chosen else None


def _end(row: TaskRow, state: TaskStatus, at_us: int) -> None:
    row.state = state
    row.ended_at_us = at_us
    row.ending = None
    row.place_key = None
    _unblock(row)


def _unblock(row: TaskRow) -> None:
    row.blocked_reason = row.blocked_detail = row.blocked_steps = None


def _born(recorded: RecordedEvent, event: TaskCreated) -> TaskRow:
    meta = meta_of(recorded)
    template = event.template
    return TaskRow(
        task_id=recorded.stream_id,
        tenant=recorded.tenant,
        shard=recorded.shard,
        namespace=template.namespace,
        template=template.name,
        version=template.version,
        template_hash=template.hash,
        input=bytes(event.input),
        restarted_from=None if event.restarted_from is None else UUID(event.restarted_from),
        idempotency_key=event.idempotency_key,
        correlation_id=meta.correlation_id,
        requested_by=meta.requested_by,
        reason=meta.reason,
        created_at_us=recorded.at_us,
        not_before_us=event.not_before_us,
        state="running" if event.not_before_us is None else "pending",
        seq=recorded.seq,
        position=recorded.position,
        updated_at_us=recorded.at_us,
        tags=_tags(event.tags),
        metadata=None if event.metadata is None else bytes(event.metadata),
        deadline_us=event.deadline_us,
        priority=event.priority,
        since_us=recorded.at_us,
    )


def _tags(tags: dict[str, str]) -> str | None:
    return canonical(tags).decode() if tags else None


def _unborn(recorded: RecordedEvent) -> TaskRow:
    """Return the row of a task whose creation cannot be read: what the envelope alone tells."""
    return TaskRow(
        task_id=recorded.stream_id,
        tenant=recorded.tenant,
        shard=recorded.shard,
        namespace="",
        template="",
        version="",
        template_hash="",
        input=b"null",
        restarted_from=None,
        idempotency_key=None,
        correlation_id=None,
        requested_by=None,
        reason=None,
        created_at_us=recorded.at_us,
        state="blocked",
        seq=recorded.seq,
        position=recorded.position,
        updated_at_us=recorded.at_us,
    )


# ---------------------------------------------------------------- as read


def to_view(row: TaskRow, open_steps: Sequence[Standing] = (), *, restarted_as: Sequence[UUID] = ()) -> TaskView:
    """Return `row` as reads show it.

    Args:
        row: the view's.
        open_steps: tell what a running task waits for; a few are enough.
        restarted_as: the tasks that are restarts of it, if they were looked for.
    """
    task_id = str(row.task_id)
    waits = waits_of(row, open_steps)
    return TaskView(
        task_id=task_id,
        tenant=row.tenant,
        namespace=row.namespace,
        template=row.template,
        version=row.version,
        template_hash=row.template_hash,
        state=cast("TaskStatus", row.state),
        input=msgspec.Raw(row.last_input or row.input),
        created_at=to_rfc3339(row.created_at_us),
        updated_at=to_rfc3339(row.updated_at_us),
        seq=row.seq,
        position=f"{row.shard}:{row.position}",
        ended_at=to_rfc3339_if(row.ended_at_us),
        not_before=to_rfc3339_if(row.not_before_us),
        deadline_at=to_rfc3339_if(row.deadline_us),
        result=None if row.result is None else msgspec.Raw(row.result),
        error=error_of(row),
        waiting_on=words_of_task(waits),
        waiting_facts=waits,
        blocked_steps=_blocked_steps(row),
        remedy=remedy(row),
        tags={} if row.tags is None else msgspec.json.decode(row.tags, type=dict[str, str]),
        idempotency_key=row.idempotency_key,
        correlation_id=row.correlation_id,
        requested_by=row.requested_by,
        reason=row.reason,
        steps_dispatched=row.steps_dispatched,
        steps_completed=row.steps_completed,
        steps_failed=row.steps_failed,
        retries=row.retries,
        not_chosen=_not_chosen(row),
        metadata=None if row.metadata is None else msgspec.Raw(row.metadata),
        restarted_from=None if row.restarted_from is None else str(row.restarted_from),
        restarted_as=tuple(map(str, restarted_as)),
        priority=row.priority,
    )


def error_of(row: TaskRow) -> ErrorInfo | None:
    """Return why the task failed or is blocked; None when it is neither, or for no error.

    What blocks the task itself comes before what a step failed with: that may be long repaired, or was tolerated.
    """
    if row.state == "blocked" and (error := blocked_error(row.blocked_reason, row.blocked_detail)) is not None:
        return error
    if row.error is None or row.state not in ("blocked", "failed"):
        return None
    return decode_message(row.error, ErrorInfo)


def waits_of(row: TaskRow, open_steps: Sequence[Standing]) -> tuple[Wait, ...]:
    """Return what the task waits for; nothing when it has ended or is on the move.

    Of a running task that is what its first open steps wait for; where it undoes what it did, they stand behind that.
    """
    since = to_rfc3339_if(row.since_us)
    match row.state:
        case "blocked":
            return (_repair(row, since),)
        case "paused":
            paused = msgspec.json.decode(row.blocked_detail or "{}", type=Paused)
            return (Wait(kind="resume", since=since, requested_by=paused.by, reason=paused.reason),)
        case "pending" if row.place_key is not None:
            return (Wait(kind="place", since=since, key=row.place_key),)
        case "pending":
            return (Wait(kind="start_time", since=since, until=to_rfc3339_if(row.not_before_us)),)
        case _ if row.state in TASK_ENDED:
            return ()
        case "running" if row.ending is not None:
            named = tuple(one.step for one in open_steps[:NAMED_MAX])
            return (Wait(kind="stop", since=since, steps=named, ending=row.ending),)
        case _:
            of_steps = tuple(wait for one in open_steps if (wait := wait_of(one)) is not None)
            if row.state != "compensating":
                return of_steps
            return (Wait(kind="compensations", since=since, ending=row.ending), *of_steps)


def _repair(row: TaskRow, since: str | None) -> Wait:
    detail = to_rfc3339_if(row.deadline_us) if row.blocked_reason == "deadline_passed" else row.blocked_detail
    return Wait(
        kind="repair",
        since=since,
        reason=row.blocked_reason,
        detail=detail,
        steps=_blocked_steps(row),
        ending=row.ending,
    )


def remedy(row: TaskRow) -> str | None:
    """Return the command that lets a blocked or paused task go on; None when it is neither, or no command can."""
    if row.state == "paused":
        return f"tasker task resume {row.task_id}"
    if row.state != "blocked":
        return None
    match row.blocked_reason:
        case "step_failed" | "compensation_failed":
            return f"tasker task retry {row.task_id}"
        case "budget_exceeded":
            return budget_remedy(str(row.task_id), row.blocked_detail)
        case "deadline_passed":
            return deadline_remedy(str(row.task_id))
        case "history_limit" | "no_progress" | "result_limit":
            return f"tasker task cancel {row.task_id}"
        case _:
            return None


def _blocked_steps(row: TaskRow) -> tuple[str, ...]:
    return () if row.blocked_steps is None else msgspec.json.decode(row.blocked_steps, type=tuple[str, ...])
