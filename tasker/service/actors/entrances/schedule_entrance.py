"""Commands to schedules, checked at the door and turned into what a schedule's actor takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tasker.errors import BodyInvalid, ScheduleInvalid
from tasker.events.messages import (
    ScheduleBackfill,
    ScheduleCommand,
    ScheduleCreate,
    ScheduleDelete,
    SchedulePause,
    ScheduleResume,
    ScheduleStopBackfill,
    ScheduleTrigger,
    ScheduleUpdate,
)
from tasker.ids import check_name
from tasker.schedules.document import spec_of
from tasker.service.domain.schedules.commands import (
    AnyScheduleCommand,
    BackfillSchedule,
    CreateSchedule,
    DeleteSchedule,
    PauseSchedule,
    ResumeSchedule,
    StopBackfill,
    TriggerSchedule,
    UpdateSchedule,
)
from tasker.times import from_rfc3339

NOTE_CHARS_MAX: Final = 500

Decided = Callable[[int], AnyScheduleCommand]
"""Takes the time of the turn."""


def schedule_command(command: ScheduleCommand, command_id: str) -> Decided:
    """Return what `command` asks of its schedule.

    Raises:
        NameInvalid, ScheduleInvalid, BodyInvalid: it has faults.
    """
    check_name(command.namespace, "namespace")
    check_name(command.name, "schedule")
    match command:
        case ScheduleCreate(namespace=namespace, name=name, schedule=document):
            spec = spec_of(document)
            return lambda at_us: CreateSchedule(at_us=at_us, namespace=namespace, name=name, spec=spec)
        case ScheduleUpdate(schedule=document):
            spec = spec_of(document)
            return lambda at_us: UpdateSchedule(at_us=at_us, spec=spec)
        case SchedulePause(note=note):
            _check_note(note)
            return lambda at_us: PauseSchedule(at_us=at_us, note=note)
        case ScheduleResume(note=note):
            _check_note(note)
            return lambda at_us: ResumeSchedule(at_us=at_us, note=note)
        case ScheduleTrigger():
            return lambda at_us: TriggerSchedule(at_us=at_us, command_id=command_id)
        case ScheduleBackfill(overlap=overlap):
            start_us, end_us = _time("/start", command.start), _time("/end", command.end)
            if end_us <= start_us:
                raise BodyInvalid.at("/end", "the end lies behind the start")
            return lambda at_us: BackfillSchedule(at_us=at_us, start_us=start_us, end_us=end_us, overlap=overlap)
        case ScheduleStopBackfill(end=end):
            upto_us = None if end is None else _time("/end", end)
            return lambda at_us: StopBackfill(at_us=at_us, end_us=upto_us)
        case ScheduleDelete():
            return lambda at_us: DeleteSchedule(at_us=at_us)
        case _:
            raise ScheduleInvalid(f"{type(command).__name__} is no command to a schedule")


def _check_note(note: str | None) -> None:
    if note is not None and len(note) > NOTE_CHARS_MAX:
        raise BodyInvalid.at("/note", f"a note has at most {NOTE_CHARS_MAX} characters")


def _time(pointer: str, text: str) -> int:
    try:
        return from_rfc3339(text)
    except (ValueError, OverflowError) as error:
        raise BodyInvalid.at(pointer, f"{text[:40]!r} is no RFC 3339 time with a zone") from error
