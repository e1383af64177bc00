"""The `step` view: one row a step that has begun."""

from __future__ import annotations

from typing import Any, Final, assert_never, cast
from uuid import UUID

import msgspec

from tasker.events.codec import decode_message, encode_message
from tasker.events.envelope import RecordedEvent, StreamKind
from tasker.events.reads import StepStatus, StepView, Wait
from tasker.events.stored import DomainEvent
from tasker.events.task_events import (
    ApprovalAnswered,
    ApprovalDelegated,
    ApprovalEscalated,
    ApprovalRequested,
    ChildRequested,
    ChildStarted,
    ErrorInfo,
    EventAwaited,
    EventMatched,
    PlaceDenied,
    PlaceRequested,
    PlaceTaken,
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
    WaitExpired,
)
from tasker.projections.projection import NO_TYPES, Key
from tasker.projections.views.awaits import awaits_after
from tasker.projections.views.reasons import Standing, wait_of
from tasker.projections.views.words import words_of
from tasker.templates.instances import is_item
from tasker.times import to_rfc3339_if

StepEvent = (
    StepDispatched
    | StepStarted
    | StepCompleted
    | StepAttemptFailed
    | StepRetryScheduled
    | StepFailed
    | StepCancelRequested
    | StepCancelled
    | StepRetried
    | StepSkipped
    | StepResolved
    | StepAttemptsReset
    | StepResultEdited
    | StepReleased
    | StepRouted
    | StepFailureAccepted
    | StepExpanded
    | StepGathered
    | StepYielded
    | StepDelayed
    | ChildRequested
    | ChildStarted
    | StepAwaited
    | StepSignalled
    | ApprovalRequested
    | ApprovalAnswered
    | ApprovalDelegated
    | ApprovalEscalated
    | EventAwaited
    | EventMatched
    | WaitExpired
    | PlaceRequested
    | PlaceTaken
    | PlaceDenied
    | StepTimedOut
)

_BY_ATTEMPT: Final = frozenset({StepDispatched, StepAwaited, ApprovalRequested, EventAwaited})

STEP_OPEN: Final = ("dispatched", "running", "waiting")
"""States of a step that has begun and not ended."""


_TIMED_OUT: Final = "timed_out"
"""What `waits` is for a moment, within a unit: the step completes or fails by a limit of its own."""

_WAITS: Final[dict[type, str]] = {StepAwaited: "signal", ApprovalRequested: "approval", EventAwaited: "event"}


class StepRow(msgspec.Struct):
    """A step as stored.

    Attributes:
        attempt: the newest one.
        dispatched_at_us, started_at_us, worker: of that attempt.
        waits: what a waiting step waits for, or a list that failed has waited for: `retry`, `checkpoint`, `items`,
            `time`, `child`, `signal`, `approval`, `place`, `event`.
        awaits: JSON text of what it waits for from outside, while it does (see `views.awaits`).
        child: the task that it started.
        by_hand: what a person did to its result: `skipped`, `resolved`, `edited`.
        cancelling: its worker has been told to stop.
        since_us: when it came to be what it is and to wait for what it waits for.
        result, error: exact JSON; the error is the newest one until a result comes. It stays with a step that a limit
            completed.
    """

    task_id: UUID
    step: str
    tenant: str
    shard: int
    state: str
    attempt: int
    position: int
    worker: str | None = None
    dispatched_at_us: int | None = None
    started_at_us: int | None = None
    ended_at_us: int | None = None
    retry_at_us: int | None = None
    waits: str | None = None
    child: str | None = None
    by_hand: str | None = None
    cancelling: bool = False
    result: bytes | None = None
    error: bytes | None = None
    awaits: str | None = None
    since_us: int | None = None


class StepProjection:
    """Folds the events of each step into its one row."""

    name = "step"
    kinds: tuple[str, ...] = (StreamKind.TASK.value,)
    closing = NO_TYPES
    types: frozenset[str] | None = frozenset(
        {
            "step_dispatched",
            "step_started",
            "step_completed",
            "step_attempt_failed",
            "step_retry_scheduled",
            "step_failed",
            "step_cancel_requested",
            "step_cancelled",
            "step_retried",
            "step_skipped",
            "step_resolved",
            "step_attempts_reset",
            "step_result_edited",
            "step_released",
            "step_routed",
            "step_failure_accepted",
            "step_expanded",
            "step_gathered",
            "step_yielded",
            "step_delayed",
            "child_requested",
            "child_started",
            "step_awaited",
            "step_signalled",
            "approval_requested",
            "approval_answered",
            "approval_delegated",
            "approval_escalated",
            "event_awaited",
            "event_matched",
            "wait_expired",
            "place_requested",
            "place_taken",
            "place_denied",
            "step_timed_out",
        }
    )
    row_type = StepRow
    keys = 2
    facts = StepRow.__struct_fields__.index("state")

    def key_at(self, recorded: RecordedEvent, event: DomainEvent) -> Key | None:
        """Return the step; None: it is about a place for the task as a whole."""
        step_event: Any = event  # a call of `cast` would take half as long as all of this
        step = step_event.step
        return (recorded.stream_id, step) if step else None

    def key_of(self, row: StepRow) -> Key:
        """Return the key of `row`."""
        return row.task_id, row.step

    def is_birth(self, _recorded: RecordedEvent, event: DomainEvent) -> bool:
        """Return whether this is a step's first dispatch."""
        kind = type(event)
        if kind in _BY_ATTEMPT:
            return cast("StepDispatched", event).attempt == 1
        return kind is StepExpanded or kind is StepDelayed

    def is_worth_caching(self, row: StepRow) -> bool:
        """Return whether the step goes on: after its end only a person's retry touches it."""
        return row.ended_at_us is None

    def apply(self, row: StepRow | None, recorded: RecordedEvent, event: DomainEvent) -> StepRow:
        """Return the step's row moved on by `event`."""
        step_event: Any = event
        if row is None:
            row = StepRow(
                task_id=recorded.stream_id,
                step=step_event.step,
                tenant=recorded.tenant,
                shard=recorded.shard,
                state="pending",
                attempt=getattr(step_event, "attempt", 1),
                position=recorded.position,
            )
        row.position = recorded.position
        state, waits, attempt = row.state, row.waits, row.attempt
        _evolve(row, step_event, recorded.at_us)
        if row.state != state or row.waits != waits or row.attempt != attempt:
            row.since_us = recorded.at_us
        return row

    def poisoned(self, _row: StepRow | None, _recorded: RecordedEvent, _detail: str) -> None:
        """Return None: an event that cannot be read names no step; the task's own view marks the task."""
        return


def _evolve(row: StepRow, event: StepEvent, at_us: int) -> None:  # noqa: PLR0915 - one case an event
    # What comes with every step is told by its class alone: `match` takes longer to see that an event is of another.
    if type(event) is StepStarted:
        row.state = "running"
        row.worker = event.worker
        row.started_at_us = at_us
        return
    if type(event) is StepCompleted:
        if row.waits != _TIMED_OUT:
            row.error = None
        _end(row, "completed", at_us)
        row.result = bytes(event.result)
        return
    if type(event) is StepDispatched:
        row.state = "dispatched"
        row.attempt = event.attempt
        row.dispatched_at_us = at_us
        row.worker = event.worker
        row.started_at_us = row.ended_at_us = row.retry_at_us = row.waits = None
        return
    match event:
        case StepStarted() | StepCompleted() | StepDispatched():
            pass  # above
        case StepTimedOut():
            row.waits = _TIMED_OUT
        case StepSkipped(result=result):
            _end(row, "completed", at_us)
            row.result = bytes(result)
            row.error = None
            row.by_hand = "skipped"
        case StepResolved(result=result):
            _end(row, "completed", at_us)
            row.result = bytes(result)
            row.error = None
            row.by_hand = "resolved"
        case StepResultEdited(result=result):
            row.result = bytes(result)
            row.by_hand = "edited"
        case StepReleased():
            row.retry_at_us = at_us
        case StepAttemptFailed(error=error):
            row.state = "waiting"
            row.waits = "retry"
            row.awaits = None
            row.cancelling = False
            row.error = encode_message(error)
        case StepRetryScheduled(retry_at_us=retry_at_us):
            row.state = "waiting"
            row.retry_at_us = retry_at_us
        case StepFailed(error=error):
            is_list = row.waits == "items"
            _end(row, "failed", at_us)
            row.waits = "items" if is_list else None  # a retry is one of its items, and it waits for them again
            row.error = encode_message(error)
        case StepCancelRequested():
            row.cancelling = True
        case StepCancelled():
            _end(row, "cancelled", at_us)
        case StepRetried(attempt=attempt):
            row.state = "waiting"
            if row.waits != "items":
                row.waits = "turn" if is_item(row.step) else "retry"
                row.attempt = attempt
            row.ended_at_us = None
        case StepExpanded():
            row.state = "waiting"
            row.waits = "items"
            row.dispatched_at_us = at_us
        case StepDelayed(attempt=attempt, until_us=until_us):
            row.state = "waiting"
            row.waits = "time"
            row.attempt = attempt
            row.dispatched_at_us = at_us
            row.retry_at_us = until_us
        case StepYielded(resume_at_us=resume_at_us):
            row.state = "waiting"
            row.waits = "checkpoint"
            row.retry_at_us = resume_at_us
            row.cancelling = False
            row.error = None
        case StepGathered():
            _end(row, "completed", at_us)
            row.error = None
        case ChildRequested(attempt=attempt):
            row.state = "waiting"
            row.waits = "child"
            row.attempt = attempt
            row.dispatched_at_us = at_us
            row.child = row.ended_at_us = None
        case PlaceRequested(attempt=attempt):
            row.state = "waiting"
            row.waits = "place"
            row.attempt = attempt
            row.dispatched_at_us = at_us
            row.ended_at_us = None
            row.awaits = awaits_after(None, event)
        case PlaceTaken():
            row.awaits = None
        case ChildStarted(child=child):
            row.child = child
            row.started_at_us = at_us
        case StepAwaited(attempt=attempt) | ApprovalRequested(attempt=attempt) | EventAwaited(attempt=attempt):
            row.state = "waiting"
            row.waits = _WAITS[type(event)]
            row.awaits = awaits_after(None, event)
            row.attempt = attempt
            row.dispatched_at_us = at_us
            row.ended_at_us = None
            row.error = None
        case StepSignalled() | ApprovalAnswered() | ApprovalDelegated() | ApprovalEscalated():
            row.awaits = awaits_after(row.awaits, event)
        case (
            StepRouted() | StepFailureAccepted() | StepAttemptsReset() | EventMatched() | WaitExpired() | PlaceDenied()
        ):
            pass
        case _:
            assert_never(event)


def _end(row: StepRow, state: StepStatus, at_us: int) -> None:
    row.state = state
    row.ended_at_us = at_us
    row.retry_at_us = None
    row.waits = row.awaits = None
    row.cancelling = False


# ---------------------------------------------------------------- as read


def to_view(row: StepRow) -> StepView:
    """Return `row` as reads show it."""
    wait = _wait(row)
    return StepView(
        task_id=str(row.task_id),
        step=row.step,
        state=cast("StepStatus", row.state),
        attempt=row.attempt,
        worker=row.worker,
        dispatched_at=to_rfc3339_if(row.dispatched_at_us),
        started_at=to_rfc3339_if(row.started_at_us),
        ended_at=to_rfc3339_if(row.ended_at_us),
        retry_at=to_rfc3339_if(row.retry_at_us),
        result=None if row.result is None else msgspec.Raw(row.result),
        error=None if row.error is None else decode_message(row.error, ErrorInfo),
        waiting_on=None if wait is None else words_of(wait),
        waiting_facts=wait,
        child_task_id=row.child,
        by_hand=row.by_hand,
        position=f"{row.shard}:{row.position}",
    )


def _wait(row: StepRow) -> Wait | None:
    return wait_of(
        Standing(
            row.step,
            row.state,
            row.attempt,
            row.since_us,
            row.worker,
            row.retry_at_us,
            row.waits,
            row.awaits,
            row.child,
            cancelling=row.cancelling,
        )
    )
