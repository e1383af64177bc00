"""What a dry run tells: the events that its command would cause, decided on the state that the command would meet.

An actor decides as it would on the command itself, but moves nothing on and records nothing. That the command was
given before does not count: the question is what it would cause now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasker.events.messages import WouldHappen
from tasker.events.schedule_events import ScheduleBackfillRequested, ScheduleFiresSkipped
from tasker.events.stored import TYPE_OF, DomainEvent
from tasker.events.task_events import PathsClosed

Planned = Callable[[int, Sequence[DomainEvent]], None]
"""Takes the position that it was decided at, and the events that the command would cause."""


def would_happen(events: Sequence[DomainEvent]) -> tuple[WouldHappen, ...]:
    """Return how a dry run tells of `events`."""
    return tuple(
        WouldHappen(event=TYPE_OF[type(event)], steps=_steps_of(event), fires=_fires_of(event)) for event in events
    )


def _steps_of(event: DomainEvent) -> tuple[str, ...]:
    if isinstance(event, PathsClosed):
        return event.steps
    step: str | None = getattr(event, "step", None)
    return (step,) if step else ()  # of a dead letter, "" is the task itself


def _fires_of(event: DomainEvent) -> int | None:
    if isinstance(event, ScheduleBackfillRequested):
        return event.fires
    return event.count if isinstance(event, ScheduleFiresSkipped) else None
