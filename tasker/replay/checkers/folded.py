"""Every recorded event is understood by this build and moves its task with the domain's own `evolve`.

An event that cannot be decoded, or on which the fold breaks, is a finding, and the task is followed no further.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, cast
from uuid import UUID

from tasker.controls import Controls
from tasker.errors import Undecodable
from tasker.events.codec import decode_message
from tasker.events.concurrency_events import ConcurrencyEvent
from tasker.events.dead_letter_events import DeadLetterEvent
from tasker.events.envelope import Meta, RecordedEvent
from tasker.events.schedule_events import AnyScheduleEvent, ScheduleEvent
from tasker.events.stored import EMPTY_META
from tasker.events.task_events import ENDING_TYPES, TASK_EVENT_TYPES, AnyTaskEvent
from tasker.events.template_events import AnyTemplateEvent, TemplateEvent
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report
from tasker.service.domain.evolve import evolve
from tasker.service.domain.schedules.state import ScheduleState, evolve_schedule
from tasker.service.domain.state import TaskState
from tasker.service.domain.template_registry import TemplateRegistry, evolve_template

OnEnded = Callable[[RecordedEvent, TaskState], None]
"""Takes a task that has ended, with its last event."""

_TASK_EVENTS: Final = frozenset[type](TASK_EVENT_TYPES)

_TASK: Final = "task"
_TEMPLATE: Final = "template"
_SCHEDULE: Final = "schedule"
_INVESTIGATION: Final = "investigation"
_CONCURRENCY: Final = "concurrency"
_CONTROL: Final = "control"


class FoldedChecker:
    """Folds every stream of one shard.

    Attributes:
        tasks: those that have not ended; None for one that cannot be folded.
        tasks_seen: how many there are, ended ones included.
    """

    def __init__(self, shard: int, report: Report, *, on_ended: OnEnded | None = None) -> None:
        self._shard = shard
        self._report = report
        self._on_ended = on_ended
        self._templates: dict[UUID, TemplateRegistry | None] = {}
        self._schedules: dict[UUID, ScheduleState | None] = {}
        self._controls = Controls()
        self.tasks: dict[UUID, TaskState | None] = {}
        self.tasks_seen = 0

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Fold the next event of the shard."""
        if recorded.kind == _TASK:
            self._take_task(recorded, event)
        elif recorded.kind == _TEMPLATE:
            self._take_template(recorded, event)
        elif recorded.kind == _SCHEDULE:
            self._take_schedule(recorded, event)
        elif recorded.kind == _INVESTIGATION:
            self._take_investigation(recorded, event)
        elif recorded.kind == _CONCURRENCY:
            self._take_concurrency(recorded, event)
        elif recorded.kind == _CONTROL:
            self._take_control(recorded)
        else:
            self._find(recorded, f"streams of kind {recorded.kind!r} are unknown to this build")

    def close(self) -> None:
        """Do nothing: every event was folded."""

    def _take_task(self, recorded: RecordedEvent, event: Decoded) -> None:
        stream_id = recorded.stream_id
        state = self.tasks.get(stream_id)
        if state is None:
            if stream_id in self.tasks:
                return
            state = self.tasks[stream_id] = TaskState()
            self.tasks_seen += recorded.seq == 1
        try:
            meta, known = _meta(recorded.meta), _task_event(event)
            evolve(state, known, at_us=recorded.at_us, command_id=meta.command_id, request=meta.request)
        except Undecodable as error:
            self.tasks[stream_id] = None
            self._find(recorded, error.detail)
        except Exception as error:  # noqa: BLE001 - whatever an event does to the fold is what we are to find
            self.tasks[stream_id] = None
            self._find_broken(recorded, error)
        else:
            if recorded.type in ENDING_TYPES:
                del self.tasks[stream_id]
                if self._on_ended is not None:
                    self._on_ended(recorded, state)

    def _take_template(self, recorded: RecordedEvent, event: Decoded) -> None:
        stream_id = recorded.stream_id
        registry = self._templates.get(stream_id)
        if registry is None:
            if stream_id in self._templates:
                return
            registry = self._templates[stream_id] = TemplateRegistry()
        try:
            evolve_template(registry, _template_event(event))
        except Undecodable as error:
            self._templates[stream_id] = None
            self._find(recorded, error.detail)
        except Exception as error:  # noqa: BLE001 - as for tasks
            self._templates[stream_id] = None
            self._find_broken(recorded, error)

    def _take_schedule(self, recorded: RecordedEvent, event: Decoded) -> None:
        stream_id = recorded.stream_id
        state = self._schedules.get(stream_id)
        if state is None:
            if stream_id in self._schedules:
                return
            state = self._schedules[stream_id] = ScheduleState(recorded.tenant)
        try:
            evolve_schedule(state, _schedule_event(event), at_us=recorded.at_us)
        except Undecodable as error:
            self._schedules[stream_id] = None
            self._find(recorded, error.detail)
        except Exception as error:  # noqa: BLE001 - as for tasks
            self._schedules[stream_id] = None
            self._find_broken(recorded, error)

    def _take_investigation(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Only see that it can be read: what it says is folded by the view, which is compared with the log."""
        try:
            _dead_letter_event(event)
        except Undecodable as error:
            self._find(recorded, error.detail)

    def _take_concurrency(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Only see that it can be read: `placed` holds it to its rules."""
        try:
            _concurrency_event(event)
        except Undecodable as error:
            self._find(recorded, error.detail)

    def _take_control(self, recorded: RecordedEvent) -> None:
        try:
            self._controls.take_recorded(recorded)
        except Undecodable as error:
            self._find(recorded, error.detail)
        except Exception as error:  # noqa: BLE001 - as for tasks
            self._find_broken(recorded, error)

    def _find_broken(self, recorded: RecordedEvent, error: Exception) -> None:
        self._find(recorded, f"the fold breaks: {type(error).__name__}: {error}")

    def _find(self, recorded: RecordedEvent, detail: str) -> None:
        self._report(
            Finding(
                invariant=Invariant.FOLD,
                shard=self._shard,
                position=recorded.position,
                task_id=str(recorded.stream_id),
                detail=detail,
            )
        )


def _task_event(event: Decoded) -> AnyTaskEvent:
    if type(event) in _TASK_EVENTS:
        return cast("AnyTaskEvent", event)
    if isinstance(event, Undecodable):
        raise event
    raise Undecodable(f"{type(event).__name__} is no event of a task")


def _template_event(event: Decoded) -> AnyTemplateEvent:
    if isinstance(event, TemplateEvent):
        return cast("AnyTemplateEvent", event)
    if isinstance(event, Undecodable):
        raise event
    raise Undecodable(f"{type(event).__name__} is no event of a template")


def _schedule_event(event: Decoded) -> AnyScheduleEvent:
    if isinstance(event, ScheduleEvent):
        return cast("AnyScheduleEvent", event)
    if isinstance(event, Undecodable):
        raise event
    raise Undecodable(f"{type(event).__name__} is no event of a schedule")


def _dead_letter_event(event: Decoded) -> DeadLetterEvent:
    if isinstance(event, DeadLetterEvent):
        return event
    if isinstance(event, Undecodable):
        raise event
    raise Undecodable(f"{type(event).__name__} is no event of an investigation")


def _concurrency_event(event: Decoded) -> ConcurrencyEvent:
    if isinstance(event, ConcurrencyEvent):
        return event
    if isinstance(event, Undecodable):
        raise event
    raise Undecodable(f"{type(event).__name__} is no event of a concurrency key")


@lru_cache(maxsize=4096)
def _meta(meta: bytes) -> Meta:
    return EMPTY_META if meta == b"{}" else decode_message(meta, Meta)
