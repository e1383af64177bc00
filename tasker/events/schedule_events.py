"""What can happen to a schedule: the union stored in a schedule's stream.

Whatever was chosen is in the events: the next fire time and when it is due (its jitter included), the id of the task
that a fire starts. So a fold needs no calendar, and a newer time-zone database changes nothing that has happened.

A *fire time* is a moment that the schedule names. `next_us` and `due_us` of an event are the schedule's next fire time
from then on, and when it is due; absent: there is none.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from tasker.events.task_events import NULL

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_running", "allow"]
BackfillOverlap = Literal["buffer_all", "allow"]
FireCause = Literal["time", "buffered", "backfill", "trigger"]
SkipReason = Literal["overlap", "buffer_full", "replaced", "missed", "paused", "deleted"]

CATCH_UP_S: Final = 86_400.0


class ScheduleSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a schedule fires and what it starts. A stored form: its defaults never change.

    Attributes:
        cron, every_us, at_us: one of them names the fire times. `cron` is read in `timezone`.
        jitter_s: a fire is due up to so much after its fire time.
        start_us, end_us: fire times lie from the one, up to and not including the other.
        fires_max: so many fire times start a task at most.
        catch_up_s: a fire that is later than this is not made up for.
        time_key: the key of the task's input that gets the fire time.
    """

    template: str
    version: str | None = None
    input: msgspec.Raw = NULL
    tags: dict[str, str] = {}
    timeout_s: float | None = None
    time_key: str | None = None
    cron: str | None = None
    timezone: str = "UTC"
    every_us: int | None = None
    at_us: tuple[int, ...] = ()
    jitter_s: float = 0.0
    start_us: int | None = None
    end_us: int | None = None
    fires_max: int | None = None
    overlap: Overlap = "skip"
    catch_up_s: float = CATCH_UP_S


class ScheduleEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event of a schedule is."""


class ScheduleCreated(ScheduleEvent, frozen=True, kw_only=True):
    """The schedule began, or began again after its deletion."""

    namespace: str
    name: str
    spec: ScheduleSpec
    next_us: int | None = None
    due_us: int | None = None


class ScheduleUpdated(ScheduleEvent, frozen=True, kw_only=True):
    """The schedule got another document."""

    spec: ScheduleSpec
    next_us: int | None = None
    due_us: int | None = None


class SchedulePaused(ScheduleEvent, frozen=True, kw_only=True):
    """No fire time starts anything until the schedule is resumed."""

    note: str | None = None


class ScheduleResumed(ScheduleEvent, frozen=True, kw_only=True):
    """Fire times count again, from now on."""

    note: str | None = None


class ScheduleDeleted(ScheduleEvent, frozen=True, kw_only=True):
    """The schedule ended. Tasks that it started go on."""


class ScheduleBackfillRequested(ScheduleEvent, frozen=True, kw_only=True):
    """The fire times from `start_us` up to `end_us` are to start their tasks, if they have not.

    Attributes:
        overlap: `buffer_all`: one after another; `allow`: as fast as they can be started.
        first_us: the first of those times.
        fires: how many there are, when it was asked for; None: an older build did not say.
    """

    start_us: int
    end_us: int
    overlap: BackfillOverlap
    first_us: int
    fires: int | None = None


class ScheduleBackfillStopped(ScheduleEvent, frozen=True, kw_only=True):
    """A person stopped a backfill: its fire times from `next_us` up to `end_us` start no task."""

    next_us: int
    end_us: int


class ScheduleFireBuffered(ScheduleEvent, frozen=True, kw_only=True):
    """A fire time waits for the end of the task before."""

    fire_us: int
    next_us: int | None = None
    due_us: int | None = None


class ScheduleFired(ScheduleEvent, frozen=True, kw_only=True):
    """A fire time starts its one task.

    Attributes:
        cause: `time`: it was due; `buffered`: it had waited; `backfill`, `trigger`: a person asked for it.
        task_id, key: of the task; both follow from schedule and fire time.
        next_us: after a `time`, of the schedule; after a `backfill`, of the backfill, absent: it is done.
    """

    fire_us: int
    cause: FireCause
    task_id: str
    key: str
    next_us: int | None = None
    due_us: int | None = None


class ScheduleFiresSkipped(ScheduleEvent, frozen=True, kw_only=True):
    """Fire times start nothing.

    Attributes:
        first_us, until_us: all fire times from the one up to and not including the other.
        count: how many; absent: more than were counted.
        reason: `overlap`: a task ran; `buffer_full`: too many waited already; `replaced`: a later one took its place;
            `missed`: the catch-up window was over; `paused`, `deleted`: the schedule was.
    """

    first_us: int
    until_us: int
    reason: SkipReason
    count: int | None = None
    next_us: int | None = None
    due_us: int | None = None


class ScheduleTaskStarted(ScheduleEvent, frozen=True, kw_only=True):
    """The owner of a fire's task has it in the log; `duplicate`: it had it before."""

    task_id: str
    duplicate: bool = False


class ScheduleStartRefused(ScheduleEvent, frozen=True, kw_only=True):
    """The owner of a fire's task refused to create it, for a reason that does not pass."""

    task_id: str
    code: str
    detail: str


class ScheduleTasksEnded(ScheduleEvent, frozen=True, kw_only=True):
    """Tasks of the schedule were found to have ended."""

    task_ids: tuple[str, ...]


class ScheduleReconciled(ScheduleEvent, frozen=True, kw_only=True):
    """What the schedule owed would never have been seen to, and was brought back; nothing else of it changes.

    Attributes:
        lost: how: `forgotten`: neither memory nor the due rows knew of it; `not_woken`: its time was long over.
        obligations: what was lost: `fire`, `go_on`, `start:<task>`.
    """

    lost: Literal["forgotten", "not_woken"]
    obligations: tuple[str, ...]


AnyScheduleEvent = (
    ScheduleCreated
    | ScheduleUpdated
    | SchedulePaused
    | ScheduleResumed
    | ScheduleDeleted
    | ScheduleBackfillRequested
    | ScheduleBackfillStopped
    | ScheduleFireBuffered
    | ScheduleFired
    | ScheduleFiresSkipped
    | ScheduleTaskStarted
    | ScheduleStartRefused
    | ScheduleTasksEnded
    | ScheduleReconciled
)
SCHEDULE_EVENT_TYPES: Final[tuple[type[ScheduleEvent], ...]] = get_args(AnyScheduleEvent)
