"""Schedules, as a client asks for them: `client.schedules`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Unpack

import msgspec

from tasker.client.http import Parameters
from tasker.client.pages import Read, items_of
from tasker.client.requests import (
    PAGE_ITEMS,
    OperatorOptions,
    SendCommand,
    named,
    rfc3339_of,
    texts_of,
    time_us_of,
)
from tasker.errors import BodyInvalid
from tasker.events.codec import encode_value
from tasker.events.messages import (
    Reply,
    ScheduleBackfill,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleDocument,
    SchedulePause,
    ScheduleResume,
    ScheduleStopBackfill,
    ScheduleTrigger,
    ScheduleUpdate,
)
from tasker.events.reads import EventPage, EventView, FireTime, FireTimes, SchedulePage, ScheduleView
from tasker.events.schedule_events import BackfillOverlap
from tasker.ids import IdSource, check_name

Document = ScheduleDocument | Mapping[str, Any]
"""A schedule's document: as a struct, or as the mapping that JSON or YAML spells."""


NEXT_TIMES: int = 5


class Schedules:
    """The schedules of a tenant. Commands take the `OperatorOptions` and raise as those to tasks do.

    `ScheduleUnknown`: there is no such schedule.
    """

    def __init__(self, send: SendCommand, read: Read, ids: IdSource) -> None:
        self._send = send
        self._read = read
        self._ids = ids

    async def create(
        self,
        name: str,
        schedule: Document,
        *,
        namespace: str = "default",
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Begin a schedule. The same document again is a duplicate.

        Raises:
            ScheduleInvalid: `errors` names every fault. ScheduleConflict: the name has another document.
        """
        command = ScheduleCreate(
            name=name,
            namespace=namespace,
            schedule=document_from(schedule),
            **named(options, self._ids),
        )
        return await self._send("schedule.create", command)

    async def update(
        self,
        name: str,
        schedule: Document,
        *,
        namespace: str = "default",
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Give a schedule another document, whole."""
        command = ScheduleUpdate(
            name=name,
            namespace=namespace,
            schedule=document_from(schedule),
            **named(options, self._ids),
        )
        return await self._send("schedule.update", command)

    async def pause(
        self,
        name: str,
        note: str | None = None,
        *,
        namespace: str = "default",
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Let fire times start nothing until `resume`."""
        command = SchedulePause(
            name=name,
            namespace=namespace,
            note=note,
            **named(options, self._ids),
        )
        return await self._send("schedule.pause", command)

    async def resume(
        self,
        name: str,
        note: str | None = None,
        *,
        namespace: str = "default",
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Let fire times count again, from now on; those of the pause are skipped (`backfill` makes up for them)."""
        command = ScheduleResume(
            name=name,
            namespace=namespace,
            note=note,
            **named(options, self._ids),
        )
        return await self._send("schedule.resume", command)

    async def trigger(
        self,
        name: str,
        *,
        namespace: str = "default",
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Start a task now, whatever runs; `task_id` of the reply is it (absent of a repetition)."""
        command = ScheduleTrigger(
            name=name,
            namespace=namespace,
            **named(options, self._ids),
        )
        return await self._send("schedule.trigger", command)

    async def backfill(
        self,
        name: str,
        start: datetime | str,
        end: datetime | str,
        *,
        overlap: BackfillOverlap = "buffer_all",
        namespace: str = "default",
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Start the tasks of past fire times that have none: from `start` up to, not including, `end`."""
        command = ScheduleBackfill(
            name=name,
            namespace=namespace,
            start=rfc3339_of(start, "start"),
            end=rfc3339_of(end, "end"),
            overlap=overlap,
            **named(options, self._ids),
        )
        return await self._send("schedule.backfill", command)

    async def stop_backfill(
        self,
        name: str,
        *,
        end: datetime | str | None = None,
        namespace: str = "default",
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """Let open backfills of a schedule start nothing more: all, or those up to `end`; what they started goes on.

        Raises:
            ScheduleForbids: none is open.
        """
        command = ScheduleStopBackfill(
            name=name,
            namespace=namespace,
            end=rfc3339_of(end, "end"),
            **named(options, self._ids),
        )
        return await self._send("schedule.stop_backfill", command)

    async def delete(
        self,
        name: str,
        *,
        namespace: str = "default",
        **options: Unpack[OperatorOptions],
    ) -> Reply:
        """End a schedule; tasks that it started go on."""
        command = ScheduleDelete(
            name=name,
            namespace=namespace,
            **named(options, self._ids),
        )
        return await self._send("schedule.delete", command)

    # ---------------------------------------------------------------- reads

    async def get(self, name: str, *, namespace: str = "default", at_least: str | None = None) -> ScheduleView:
        """Return a schedule with its last fires and its next fire times.

        Raises:
            ScheduleUnknown: there is none.
        """
        return await self._read(_path(namespace, name), ScheduleView, {"at_least": at_least})

    async def list(
        self,
        *,
        states: str | Sequence[str] | None = None,
        namespace: str | None = None,
        template: str | None = None,
        at_least: str | None = None,
        page_items: int = PAGE_ITEMS,
    ) -> AsyncIterator[ScheduleView]:
        """Yield the schedules that match all of what is given, by namespace and name; deleted ones when asked for."""
        parameters: Parameters = {
            "state": list(texts_of(states)),
            "namespace": namespace,
            "template": template,
            "limit": page_items,
            "at_least": at_least,
        }
        async for schedule in items_of(self._read, "/v1/schedules", SchedulePage, parameters):
            yield schedule

    async def next(
        self, name: str, *, namespace: str = "default", count: int = NEXT_TIMES, at_least: str | None = None
    ) -> Sequence[FireTime]:
        """Return the next fire times of a schedule, as if nothing were skipped."""
        path = f"{_path(namespace, name)}/next"
        return (await self._read(path, FireTimes, {"count": count, "at_least": at_least})).items

    async def events(
        self, name: str, *, namespace: str = "default", at_least: str | None = None
    ) -> AsyncIterator[EventView]:
        """Yield what happened to a schedule, the newest first; who asked for it and why is in an event's `meta`.

        Raises:
            ScheduleUnknown: there is none.
        """
        parameters: Parameters = {"at_least": at_least}
        async for event in items_of(self._read, f"{_path(namespace, name)}/events", EventPage, parameters):
            yield event


def document_from(schedule: Document) -> ScheduleDocument:
    """Return the document that `schedule` is.

    Raises:
        BodyInvalid: a field is unknown, or of another type. ValueInvalid: a value has no exact JSON form.
    """
    if isinstance(schedule, ScheduleDocument):
        return schedule
    try:
        return msgspec.json.decode(encode_value(dict(schedule)), type=ScheduleDocument)
    except msgspec.ValidationError as error:
        raise BodyInvalid(f"the schedule: {error}") from error


def upcoming(schedule: Document, *, after: datetime, count: int = NEXT_TIMES) -> Iterator[datetime]:
    """Yield the next fire times of a document; asks no service. Jitter is left out.

    Raises:
        ScheduleInvalid: it has faults. ValueInvalid: `after` has no time zone.
    """
    from itertools import islice

    from tasker.schedules import fire_times, spec_of
    from tasker.times import to_datetime

    spec = spec_of(document_from(schedule))
    for fire_us in islice(fire_times(spec, time_us_of(after, "after")), count):
        yield to_datetime(fire_us)


def _path(namespace: str, name: str) -> str:
    return f"/v1/schedules/{check_name(namespace, 'namespace')}/{check_name(name, 'schedule')}"
