"""Schedules and the commands to them."""

from __future__ import annotations

import msgspec

from tasker.events.messages.command import OperatorCommand
from tasker.events.messages.fields import Name, Time
from tasker.events.schedule_events import CATCH_UP_S, BackfillOverlap, Overlap
from tasker.events.task_events import NULL


class ScheduleDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When a schedule fires and which tasks it starts. One of `cron`, `every_s` and `at` names the fire times.

    Attributes:
        template: of the tasks, in the schedule's namespace.
        version: of the template; None: the one in use at each fire.
        input, tags, timeout_s: of each task, as of `task.create`; a task also gets the tag `schedule`.
        time_key: the key of an input, an object, that gets the fire time.
        cron: five fields, or @hourly, @daily, @weekly, @monthly, @yearly; read in `timezone`.
        timezone: a name of the IANA database, such as Europe/Zurich.
        every_s: seconds between fire times, counted from `start_at`, else from 1970-01-01T00:00:00Z.
        at: single fire times.
        jitter_s: each fire is late by a chance of up to so much, the same however often it is worked out.
        start_at, end_at: fire times lie from the one, up to and not including the other.
        fires_max: so many fire times start a task at most.
        overlap: what a fire does while a task of the schedule runs: nothing (`skip`); wait, one of them
            (`buffer_one`) or all (`buffer_all`); have it cancelled and wait (`cancel_running`); start beside it
            (`allow`).
        catch_up_s: a fire that is later than this, after a stop of the service, is not made up for. 10 s are not late.
    """

    template: Name
    version: str | None = None
    input: msgspec.Raw = NULL
    tags: dict[str, str] = {}
    timeout_s: float | None = None
    time_key: str | None = None
    cron: str | None = None
    timezone: str = "UTC"
    every_s: float | None = None
    at: tuple[Time, ...] = ()
    jitter_s: float = 0.0
    start_at: Time | None = None
    end_at: Time | None = None
    fires_max: int | None = None
    overlap: Overlap = "skip"
    catch_up_s: float = CATCH_UP_S


class SchedulePreview(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Asks for the next `count` fire times of a document. `name`, `namespace`: for its jitter."""

    schedule: ScheduleDocument
    count: int = 5
    name: Name | None = None
    namespace: Name = "default"


class ScheduleCommand(OperatorCommand, kw_only=True, omit_defaults=True):
    """A command to a schedule, which its name identifies within its namespace."""

    name: Name
    namespace: Name = "default"


class ScheduleCreate(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.create`: begin a schedule. The same document again is a duplicate, another one a conflict."""

    schedule: ScheduleDocument


class ScheduleUpdate(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.update`: give a schedule another document, whole."""

    schedule: ScheduleDocument


class SchedulePause(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.pause`: let fire times start nothing until `schedule.resume`.

    Attributes:
        note: why, shown with the schedule; at most 500 characters.
    """

    note: str | None = None


class ScheduleResume(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.resume`: let fire times count again from now on; those of the pause are skipped.

    Attributes:
        note: shown with the schedule; at most 500 characters.
    """

    note: str | None = None


class ScheduleTrigger(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.trigger`: start a task now, whatever runs, also while the schedule is paused."""


class ScheduleBackfill(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.backfill`: start the tasks of past fire times that have none.

    Attributes:
        start, end: the range of fire times, `end` not included; not after now.
        overlap: one after another (`buffer_all`), or all at once (`allow`).
    """

    start: Time
    end: Time
    overlap: BackfillOverlap = "buffer_all"


class ScheduleStopBackfill(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.stop_backfill`: let open backfills start nothing more; tasks that they started go on.

    Attributes:
        end: only those up to this end, as it is shown with the schedule; None: all of them.
    """

    end: Time | None = None


class ScheduleDelete(ScheduleCommand, kw_only=True, omit_defaults=True):
    """`schedule.delete`: end a schedule. Tasks that it started go on; its name is free."""
