"""What a test sees of a schedule: its recorded events, and what the domain's own fold makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import msgspec

from tasker.events.envelope import RecordedEvent
from tasker.events.messages import DEFAULT_TENANT, ScheduleDocument
from tasker.events.schedule_events import FireCause, ScheduleFired, ScheduleFiresSkipped, SkipReason
from tasker.events.stored import from_recorded
from tasker.ids import schedule_stream_id
from tasker.replay.state_at import schedule_folded
from tasker.schedules import document_of
from tasker.service.domain.schedules.state import ScheduleState
from tasker.testing.run import RunView
from tasker.times import to_datetime


class Fire(msgspec.Struct, frozen=True):
    """A fire time that started its task, `at` some moment."""

    fire_time: datetime
    at: datetime
    cause: FireCause
    task_id: str


class Skip(msgspec.Struct, frozen=True):
    """Fire times that started nothing: from `first` up to `until`."""

    first: datetime
    until: datetime
    count: int | None
    reason: SkipReason


class ScheduleView:
    """A schedule, as its events are now."""

    def __init__(
        self,
        namespace: str,
        name: str,
        recorded: Callable[[str], Sequence[RecordedEvent]],
        steps_of: Callable[[str, str], Sequence[str]],
    ) -> None:
        self.namespace = namespace
        self.name = name
        self._stream_id = str(schedule_stream_id(DEFAULT_TENANT, namespace, name))
        self._recorded = recorded
        self._steps_of = steps_of

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.namespace}/{self.name}, {self.state})"

    @property
    def state(self) -> str:
        """`active`, `paused`, `finished` or `deleted`."""
        return self._fold().shown

    @property
    def document(self) -> ScheduleDocument:
        """Its document."""
        return document_of(self._fold().spec)

    @property
    def next_fire(self) -> datetime | None:
        """The next fire time; None when there is none."""
        next_us = self._fold().next_us
        return None if next_us is None else to_datetime(next_us)

    @property
    def waiting(self) -> tuple[datetime, ...]:
        """The fire times that wait for the end of a task."""
        return tuple(map(to_datetime, self._fold().buffered))

    @property
    def fires(self) -> tuple[Fire, ...]:
        """The fire times that started a task, in the order of their starts."""
        return tuple(
            Fire(to_datetime(event.fire_us), to_datetime(one.at_us), event.cause, event.task_id)
            for one in self._events
            if isinstance(event := from_recorded(one), ScheduleFired)
        )

    @property
    def skips(self) -> tuple[Skip, ...]:
        """The fire times that started nothing."""
        return tuple(
            Skip(to_datetime(event.first_us), to_datetime(event.until_us), event.count, event.reason)
            for one in self._events
            if isinstance(event := from_recorded(one), ScheduleFiresSkipped)
        )

    @property
    def tasks(self) -> tuple[RunView, ...]:
        """The tasks that it started, each once, as they are now."""
        steps = self._steps_of(self.namespace, self._fold().spec.template)
        ids = dict.fromkeys(fire.task_id for fire in self.fires)
        runs = (RunView(task_id, steps, partial(self._recorded, task_id)) for task_id in ids)
        return tuple(run for run in runs if run.events)

    @property
    def history(self) -> tuple[str, ...]:
        """The types of its events, in order."""
        return tuple(one.type for one in self._events)

    @property
    def _events(self) -> Sequence[RecordedEvent]:
        return self._recorded(self._stream_id)

    def _fold(self) -> ScheduleState:
        return schedule_folded(self._events)
