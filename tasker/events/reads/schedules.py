"""Schedules: what they will start, and what became of what they started."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from tasker.events.messages import ScheduleDocument
from tasker.events.schedule_events import BackfillOverlap, FireCause, SkipReason

FireOutcome = Literal["waiting", "starting", "started", "refused", "skipped"]
ScheduleStateName = Literal["active", "paused", "finished", "deleted", "poisoned"]
SCHEDULE_STATES: Final[tuple[ScheduleStateName, ...]] = get_args(ScheduleStateName)


class ScheduleFire(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of a fire time, or of several that were skipped together.

    Attributes:
        fire_time: the first of them. until: they lie before it; absent of a single one.
        outcome: `waiting`: for the task before; `starting`: its task's owner has not answered; `started`; `refused`:
            its task was, with `error`; `skipped`, with `reason`.
        cause: `time`, `buffered`, `backfill` or `trigger`; absent of what did not fire.
        count: how many were skipped; absent: more than were counted, or one.
    """

    fire_time: str
    outcome: FireOutcome
    at: str
    cause: FireCause | None = None
    task_id: str | None = None
    reason: SkipReason | None = None
    until: str | None = None
    count: int | None = None
    error: str | None = None


class FireTime(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A coming fire time; `due_at`: when it is due with its jitter, where that is another time."""

    fire_time: str
    due_at: str | None = None


class OpenBackfill(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A backfill that still has fire times to start.

    Attributes:
        start, end: the range that was asked for. next: the fire time that comes next.
        fires: how many there are, when it was asked for; None: that is not known. started: how many had their turn.
        requested_by, reason: who asked for it, and why.
    """

    start: str
    end: str
    overlap: BackfillOverlap
    next: str
    started: int = 0
    fires: int | None = None
    requested_by: str | None = None
    reason: str | None = None


class ScheduleView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A schedule as the `schedule` view shows it.

    Attributes:
        state: `finished`: no fire time lies ahead.
        note: of the last pause or resume.
        next_fires: coming fire times, as if nothing were skipped.
        last_fires: what became of the last fire times, the newest first.
        running: tasks that it started and that it does not know to have ended.
        fires, skips, refusals: how many there were. waiting: fire times that wait for a task's end.
        backfills: those that are open; the first of them has its turn.
    """

    tenant: str
    namespace: str
    name: str
    state: ScheduleStateName
    schedule: ScheduleDocument
    created_at: str
    updated_at: str
    seq: int
    position: str
    note: str | None = None
    next_fires: tuple[FireTime, ...] = ()
    last_fires: tuple[ScheduleFire, ...] = ()
    running: tuple[str, ...] = ()
    fires: int = 0
    skips: int = 0
    refusals: int = 0
    waiting: int = 0
    backfills: tuple[OpenBackfill, ...] = ()
    requested_by: str | None = None
    reason: str | None = None


class SchedulePage(msgspec.Struct, kw_only=True):
    """A page of schedules by namespace and name; `next` asks for the one behind it."""

    items: list[ScheduleView]
    next: str | None
    position: str


class FireTimes(msgspec.Struct, kw_only=True):
    """Coming fire times."""

    items: list[FireTime]
