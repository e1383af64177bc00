"""Schedules without an event loop: `TaskerSyncClient.schedules`. Each call blocks; nothing else is different."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from tasker.client.schedules import NEXT_TIMES, Document, Schedules
from tasker.events.messages import Reply
from tasker.events.reads import FireTime, ScheduleView
from tasker.events.schedule_events import BackfillOverlap

T = TypeVar("T")


class Blocking(Protocol):
    """A loop that another thread runs."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns."""
        ...

    def iterate(self, begin: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        """Yield what an async iterator does."""
        ...


class SyncSchedules:
    """The schedules of a tenant; see `Schedules`."""

    def __init__(self, loop: Blocking, schedules: Schedules) -> None:
        self._loop = loop
        self._schedules = schedules

    def create(
        self,
        name: str,
        schedule: Document,
        *,
        namespace: str = "default",
        requested_by: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Reply:
        """Begin a schedule. The same document again is a duplicate.

        Raises:
            ScheduleInvalid: `errors` names every fault. ScheduleConflict: the name has another document.
        """
        return self._loop.run(
            self._schedules.create(
                name, schedule, namespace=namespace, requested_by=requested_by, reason=reason, command_id=command_id
            )
        )

    def update(
        self,
        name: str,
        schedule: Document,
        *,
        namespace: str = "default",
        requested_by: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Reply:
        """Give a schedule another document, whole."""
        return self._loop.run(
            self._schedules.update(
                name, schedule, namespace=namespace, requested_by=requested_by, reason=reason, command_id=command_id
            )
        )

    def pause(
        self,
        name: str,
        note: str | None = None,
        *,
        namespace: str = "default",
        requested_by: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Reply:
        """Let fire times start nothing until `resume`."""
        return self._loop.run(
            self._schedules.pause(
                name, note, namespace=namespace, requested_by=requested_by, reason=reason, command_id=command_id
            )
        )

    def resume(
        self,
        name: str,
        note: str | None = None,
        *,
        namespace: str = "default",
        requested_by: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Reply:
        """Let fire times count again, from now on; those of the pause are skipped (`backfill` makes up for them)."""
        return self._loop.run(
            self._schedules.resume(
                name, note, namespace=namespace, requested_by=requested_by, reason=reason, command_id=command_id
            )
        )

    def trigger(
        self,
        name: str,
        *,
        namespace: str = "default",
        requested_by: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Reply:
        """Start a task now, whatever runs; `task_id` of the reply is it (absent of a repetition)."""
        return self._loop.run(
            self._schedules.trigger(
                name, namespace=namespace, requested_by=requested_by, reason=reason, command_id=command_id
            )
        )

    def backfill(
        self,
        name: str,
        start: datetime | str,
        end: datetime | str,
        *,
        overlap: BackfillOverlap = "buffer_all",
        namespace: str = "default",
        requested_by: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Reply:
        """Start the tasks of past fire times that have none: from `start` up to, not including, `end`."""
        return self._loop.run(
            self._schedules.backfill(
                name,
                start,
                end,
                overlap=overlap,
                namespace=namespace,
                requested_by=requested_by,
                reason=reason,
                command_id=command_id,
            )
        )

    def delete(
        self,
        name: str,
        *,
        namespace: str = "default",
        requested_by: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Reply:
        """End a schedule; tasks that it started go on."""
        return self._loop.run(
            self._schedules.delete(
                name, namespace=namespace, requested_by=requested_by, reason=reason, command_id=command_id
            )
        )

    def get(
        self,
        name: str,
        *,
        namespace: str = "default",
        at_least: str | None = None,
    ) -> ScheduleView:
        """Return a schedule with its last fires and its next fire times.

        Raises:
            ScheduleUnknown: there is none.
        """
        return self._loop.run(self._schedules.get(name, namespace=namespace, at_least=at_least))

    def list(
        self,
        *,
        state: str | Sequence[str] | None = None,
        namespace: str | None = None,
        template: str | None = None,
        at_least: str | None = None,
    ) -> Iterator[ScheduleView]:
        """Yield the schedules that match all of what is given, by namespace and name; deleted ones when asked for."""
        return self._loop.iterate(
            lambda: self._schedules.list(state=state, namespace=namespace, template=template, at_least=at_least)
        )

    def next(
        self,
        name: str,
        *,
        namespace: str = "default",
        count: int = NEXT_TIMES,
        at_least: str | None = None,
    ) -> Sequence[FireTime]:
        """Return the next fire times of a schedule, as if nothing were skipped."""
        return self._loop.run(self._schedules.next(name, namespace=namespace, count=count, at_least=at_least))
