"""What the log says of what is over and no view keeps: what a decision chose, what ended a step or a task.

Pure: recorded events come in, the newest first; facts of the newest that tells go out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import msgspec

from tasker.errors import Undecodable
from tasker.events.envelope import Meta, RecordedEvent
from tasker.events.reads import EndFacts, RouteFacts
from tasker.events.stored import from_recorded, meta_of
from tasker.events.task_events import PlaceDenied, StepCancelled, StepRouted, TaskStopping

_Event = TypeVar("_Event")


class Told(NamedTuple):
    """What the log tells of the task, and of the step, that is explained.

    Attributes:
        route: what the step chose, a completed decision.
        cancelled: why the step was cancelled.
        end: what ended the task, or has it end.
    """

    route: RouteFacts | None = None
    cancelled: str | None = None
    end: EndFacts | None = None


def route_of(newest_first: Iterable[RecordedEvent], step: str) -> RouteFacts | None:
    """Return what a decision chose; None: none of the events says."""
    for event, meta in _of_type(newest_first, StepRouted, "step_routed"):
        if event.step == step:
            reason = event.reason or meta.reason
            return RouteFacts(
                chosen=event.chosen, closed=event.closed, reason=reason or None, requested_by=meta.requested_by
            )
    return None


def cancelled_of(newest_first: Iterable[RecordedEvent], step: str) -> str | None:
    """Return why a step was cancelled, in words; None: none of the events says."""
    for event, _ in _of_type(newest_first, StepCancelled, "step_cancelled"):
        if event.step == step:
            return event.reason
    return None


def end_of(newest_first: Iterable[RecordedEvent]) -> EndFacts | None:
    """Return what ended a task; a place that was denied stands right before that. None: none of the events says."""
    events = list(newest_first)
    for event, meta in _of_type(events, TaskStopping, "task_stopping"):
        end = EndFacts(cause=event.cause, requested_by=meta.requested_by, reason=meta.reason)
        denied = [one for one, _ in _of_type(events, PlaceDenied, "place_denied") if not one.step]
        if event.cause == "concurrency" and denied:
            return msgspec.structs.replace(end, place=denied[0].reason, taken_by=denied[0].taken_by)
        return end
    return None


def _of_type(recorded: Iterable[RecordedEvent], kind: type[_Event], stored_as: str) -> Iterator[tuple[_Event, Meta]]:
    for one in recorded:
        if one.type != stored_as:
            continue
        try:
            event, meta = from_recorded(one), meta_of(one)
        except Undecodable:
            return  # what cannot be read tells nothing; the task says so itself
        if isinstance(event, kind):
            yield event, meta
