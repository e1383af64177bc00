"""The `schedule` view: one row a schedule, with what became of its last fire times."""

from __future__ import annotations

from typing import Final, cast
from uuid import UUID

import msgspec

from tasker.events.codec import encode_message
from tasker.events.envelope import RecordedEvent, StreamKind
from tasker.events.position import format_position
from tasker.events.reads import FireOutcome, FireTime, OpenBackfill, ScheduleFire, ScheduleStateName, ScheduleView
from tasker.events.schedule_events import (
    AnyScheduleEvent,
    ScheduleBackfillRequested,
    ScheduleBackfillStopped,
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleFireBuffered,
    ScheduleFired,
    ScheduleFiresSkipped,
    SchedulePaused,
    ScheduleReconciled,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleStartRefused,
    ScheduleTasksEnded,
    ScheduleTaskStarted,
    ScheduleUpdated,
)
from tasker.events.stored import DomainEvent, meta_of
from tasker.projections.projection import NO_TYPES, Key
from tasker.schedules import document_of, due_us_of, fire_times
from tasker.times import to_rfc3339

LAST_FIRES: Final = 20
_FIRING: Final = ("active", "finished")
RUNNING_MAX: Final = 100
NEXT_FIRES: Final = 5


class Detail(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What of a schedule's row no query looks into.

    Attributes:
        waiting: fire times that wait for a task's end. starting: starts that are not acknowledged.
        backfills: how many are open. filling: those, but for the first of them that were open before this was kept.
        running: ids of tasks. last_fires: the newest last.
    """

    waiting: list[int] = []
    starting: int = 0
    backfills: int = 0
    filling: list[OpenBackfill] = []
    running: list[str] = []
    last_fires: list[ScheduleFire] = []


class ScheduleRow(msgspec.Struct):
    """A schedule as stored.

    Attributes:
        spec: `ScheduleSpec`. detail: `Detail`.
    """

    stream_id: UUID
    tenant: str
    shard: int
    namespace: str
    name: str
    template: str
    state: ScheduleStateName
    spec: bytes
    note: str | None
    next_us: int | None
    due_us: int | None
    fires: int
    skips: int
    refusals: int
    detail: bytes
    requested_by: str | None
    reason: str | None
    created_at_us: int
    updated_at_us: int
    seq: int
    position: int
    poisoned: bool


class ScheduleProjection:
    """Folds a schedule's stream into its row."""

    name = "schedule"
    kinds: tuple[str, ...] = (StreamKind.SCHEDULE.value,)
    closing = NO_TYPES
    types: frozenset[str] | None = None
    row_type = ScheduleRow
    keys = 1
    facts = ScheduleRow.__struct_fields__.index("template")

    def key_at(self, recorded: RecordedEvent, _event: DomainEvent) -> Key:
        """Return the stream: its row stands for the whole of it."""
        return recorded.stream_id, ""

    def key_of(self, row: ScheduleRow) -> Key:
        """Return the key of `row`."""
        return row.stream_id, ""

    def is_birth(self, recorded: RecordedEvent, _event: DomainEvent) -> bool:
        """Return whether this is the first event of its schedule."""
        return recorded.seq == 1

    def is_worth_caching(self, _row: ScheduleRow) -> bool:
        """Return True: a fire is followed by others."""
        return True

    def apply(self, row: ScheduleRow | None, recorded: RecordedEvent, event: DomainEvent) -> ScheduleRow:
        """Return the row moved on by `event`."""
        schedule_event = cast("AnyScheduleEvent", event)
        if row is None:
            row = _born(recorded)
        detail = msgspec.json.decode(row.detail, type=Detail)
        if isinstance(schedule_event, ScheduleCreated):
            detail = _begin(row, detail, recorded, schedule_event)
        else:
            _apply(row, detail, recorded, schedule_event)
        if row.state in _FIRING:
            open_ends = row.next_us is not None or detail.waiting or detail.backfills or detail.starting
            row.state = "active" if open_ends else "finished"
        row.detail = encode_message(detail)
        row.seq = recorded.seq
        row.position = recorded.position
        row.updated_at_us = recorded.at_us
        return row

    def poisoned(self, row: ScheduleRow | None, recorded: RecordedEvent, _detail: str) -> ScheduleRow:
        """Return the row marked as poisoned."""
        if row is None:
            row = _born(recorded)
        row.poisoned, row.state = True, "poisoned"
        row.seq, row.position, row.updated_at_us = recorded.seq, recorded.position, recorded.at_us
        return row


def to_view(row: ScheduleRow) -> ScheduleView:
    """Return `row` as reads show it."""
    spec = spec_of_row(row)
    detail = msgspec.json.decode(row.detail, type=Detail)
    return ScheduleView(
        tenant=row.tenant,
        namespace=row.namespace,
        name=row.name,
        state=row.state,
        schedule=document_of(spec),
        created_at=to_rfc3339(row.created_at_us),
        updated_at=to_rfc3339(row.updated_at_us),
        seq=row.seq,
        position=format_position({row.shard: row.position}),
        note=row.note,
        next_fires=tuple(next_fires(row, NEXT_FIRES)),
        last_fires=tuple(reversed(detail.last_fires)),
        running=tuple(detail.running),
        fires=row.fires,
        skips=row.skips,
        refusals=row.refusals,
        waiting=len(detail.waiting),
        backfills=tuple(detail.filling),
        requested_by=row.requested_by,
        reason=row.reason,
    )


def next_fires(row: ScheduleRow, count: int) -> list[FireTime]:
    """Return up to `count` coming fire times, as if nothing were skipped."""
    spec = spec_of_row(row)
    if row.next_us is None or row.due_us is None or row.poisoned:
        return []
    if spec.fires_max is not None:
        waiting = len(msgspec.json.decode(row.detail, type=Detail).waiting)
        count = min(count, spec.fires_max - row.fires - waiting)
    found = [fire_time(row.next_us, row.due_us)] if count > 0 else []
    for fire_us in fire_times(spec, row.next_us):
        if len(found) >= count:
            break
        identity = f"{row.tenant}/{row.namespace}/{row.name}"
        found.append(fire_time(fire_us, due_us_of(spec, identity, fire_us)))
    return found


def fire_time(fire_us: int, due_us: int) -> FireTime:
    """Return a coming fire time as reads show it."""
    return FireTime(fire_time=to_rfc3339(fire_us), due_at=to_rfc3339(due_us) if due_us != fire_us else None)


def spec_of_row(row: ScheduleRow) -> ScheduleSpec:
    """Return the schedule's stored form."""
    return msgspec.json.decode(row.spec, type=ScheduleSpec)


def _born(recorded: RecordedEvent) -> ScheduleRow:
    return ScheduleRow(
        stream_id=recorded.stream_id,
        tenant=recorded.tenant,
        shard=recorded.shard,
        namespace="",
        name="",
        template="",
        state="active",
        spec=encode_message(ScheduleSpec(template="")),
        note=None,
        next_us=None,
        due_us=None,
        fires=0,
        skips=0,
        refusals=0,
        detail=b"{}",
        requested_by=None,
        reason=None,
        created_at_us=recorded.at_us,
        updated_at_us=recorded.at_us,
        seq=recorded.seq,
        position=recorded.position,
        poisoned=False,
    )


def _begin(row: ScheduleRow, detail: Detail, recorded: RecordedEvent, event: ScheduleCreated) -> Detail:
    meta = meta_of(recorded)
    row.namespace, row.name, row.template = event.namespace, event.name, event.spec.template
    row.state, row.note, row.spec = "active", None, encode_message(event.spec)
    row.next_us, row.due_us = event.next_us, event.due_us
    row.fires = row.skips = row.refusals = 0
    row.requested_by, row.reason = meta.requested_by, meta.reason
    row.created_at_us = recorded.at_us
    return Detail(starting=detail.starting, running=detail.running)


def _apply(row: ScheduleRow, detail: Detail, recorded: RecordedEvent, event: AnyScheduleEvent) -> None:
    match event:
        case ScheduleUpdated():
            row.spec, row.template = encode_message(event.spec), event.spec.template
            row.next_us, row.due_us = event.next_us, event.due_us
        case SchedulePaused():
            row.state, row.note = "paused", event.note
        case ScheduleResumed():
            row.state, row.note = "active", event.note
        case ScheduleDeleted():
            row.state, row.next_us, row.due_us = "deleted", None, None
            detail.waiting, detail.backfills, detail.filling = [], 0, []
        case ScheduleBackfillRequested():
            detail.backfills += 1
            detail.filling.append(_opened(recorded, event))
        case ScheduleBackfillStopped():
            detail.backfills = max(0, detail.backfills - 1)
            _drop_stopped(detail, to_rfc3339(event.next_us), to_rfc3339(event.end_us))
        case ScheduleFireBuffered():
            detail.waiting.append(event.fire_us)
            row.next_us, row.due_us = event.next_us, event.due_us
            _tell(detail, recorded, event.fire_us, ScheduleFire(fire_time="", outcome="waiting", at=""))
        case ScheduleFired():
            _fired(row, detail, recorded, event)
        case ScheduleFiresSkipped():
            _skipped(row, detail, recorded, event)
        case ScheduleTaskStarted():
            detail.starting = max(0, detail.starting - 1)
            detail.running = [*detail.running, event.task_id][-RUNNING_MAX:]
            _outcome(detail, event.task_id, "started", None)
        case ScheduleStartRefused():
            detail.starting = max(0, detail.starting - 1)
            row.refusals += 1
            _outcome(detail, event.task_id, "refused", f"{event.code}: {event.detail}")
        case ScheduleCreated():
            pass  # a birth; `_begin` has it
        case ScheduleReconciled():
            pass  # its history has it
        case ScheduleTasksEnded():
            detail.running = [one for one in detail.running if one not in event.task_ids]


def _fired(row: ScheduleRow, detail: Detail, recorded: RecordedEvent, event: ScheduleFired) -> None:
    detail.starting += 1
    if event.cause in ("time", "buffered"):
        row.fires += 1
    if event.cause == "time":
        row.next_us, row.due_us = event.next_us, event.due_us
    elif event.cause == "buffered":
        detail.waiting = [one for one in detail.waiting if one != event.fire_us]
        detail.last_fires = [one for one in detail.last_fires if not _waits(one, event.fire_us)]
    elif event.cause == "backfill":
        _filled(detail, event.next_us)
    told = ScheduleFire(fire_time="", outcome="starting", at="", cause=event.cause, task_id=event.task_id)
    _tell(detail, recorded, event.fire_us, told)


def _opened(recorded: RecordedEvent, event: ScheduleBackfillRequested) -> OpenBackfill:
    meta = meta_of(recorded)
    return OpenBackfill(
        start=to_rfc3339(event.start_us),
        end=to_rfc3339(event.end_us),
        overlap=event.overlap,
        next=to_rfc3339(event.first_us),
        fires=event.fires,
        requested_by=meta.requested_by,
        reason=meta.reason,
    )


def _filled(detail: Detail, next_us: int | None) -> None:
    """Move the first open backfill on to its next fire time; None: it is done."""
    is_known = len(detail.filling) == detail.backfills
    if next_us is None:
        detail.backfills = max(0, detail.backfills - 1)
        detail.filling = detail.filling[1:] if is_known else detail.filling
    elif is_known and detail.filling:
        first = detail.filling[0]
        first.next, first.started = to_rfc3339(next_us), first.started + 1


def _drop_stopped(detail: Detail, coming: str, end: str) -> None:
    for place, one in enumerate(detail.filling):
        if (one.next, one.end) == (coming, end):
            del detail.filling[place]
            return


def _skipped(row: ScheduleRow, detail: Detail, recorded: RecordedEvent, event: ScheduleFiresSkipped) -> None:
    row.skips += event.count or 1
    if event.reason in ("replaced", "deleted"):
        detail.waiting = [one for one in detail.waiting if not event.first_us <= one < event.until_us]
        detail.last_fires = [one for one in detail.last_fires if not _waits(one, event.first_us)]
    else:
        row.next_us, row.due_us = event.next_us, event.due_us
    several = event.count != 1
    told = ScheduleFire(
        fire_time="",
        outcome="skipped",
        at="",
        reason=event.reason,
        until=to_rfc3339(event.until_us) if several else None,
        count=event.count if several else None,
    )
    _tell(detail, recorded, event.first_us, told)


def _waits(fire: ScheduleFire, fire_us: int) -> bool:
    return fire.outcome == "waiting" and fire.fire_time == to_rfc3339(fire_us)


def _tell(detail: Detail, recorded: RecordedEvent, fire_us: int, fire: ScheduleFire) -> None:
    fire.fire_time, fire.at = to_rfc3339(fire_us), to_rfc3339(recorded.at_us)
    detail.last_fires = [*detail.last_fires, fire][-LAST_FIRES:]


def _outcome(detail: Detail, task_id: str, outcome: FireOutcome, error: str | None) -> None:
    detail.last_fires = [
        msgspec.structs.replace(fire, outcome=outcome, error=error)
        if fire.task_id == task_id and fire.outcome == "starting"
        else fire
        for fire in detail.last_fires
    ]
