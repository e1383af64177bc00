"""A task as it was: its first events folded with the domain's own functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast
from uuid import UUID

from tasker.errors import Undecodable
from tasker.events.envelope import Encoding, NewEvent, RecordedEvent, StreamKind
from tasker.events.reads import EventView
from tasker.events.schedule_events import AnyScheduleEvent, ScheduleEvent
from tasker.events.stored import from_recorded, meta_of
from tasker.events.task_events import AnyTaskEvent, TaskEvent
from tasker.service.domain.evolve import evolve
from tasker.service.domain.schedules.state import ScheduleState, evolve_schedule
from tasker.service.domain.state import TaskState
from tasker.service.domain.state_document import state_document, state_hash
from tasker.times import from_rfc3339


def state_at(events: Iterable[RecordedEvent | EventView], seq: int | None = None) -> dict[str, Any]:
    """Return the state of a task after its event `seq` (None: after all that are given), as JSON values.

    Args:
        events: of one task, by `seq` from 1, as the log or as its endpoint gives them.
        seq: later events are not looked at.

    Returns:
        The state's document, with its hash as `state_hash`: equal for two equal folds.

    Raises:
        Undecodable: this build cannot read one of them.
    """
    state = folded(events, seq)
    return {**state_document(state), "state_hash": state_hash(state)}


def folded(events: Iterable[RecordedEvent | EventView], seq: int | None = None) -> TaskState:
    """Return the state of a task after its event `seq`; arguments and errors as of `state_at`."""
    state = TaskState()
    for given in events:
        if seq is not None and given.seq > seq:
            break
        if given.seq != state.seq + 1:
            raise Undecodable(f"event {given.seq} of the task follows event {state.seq}: one is missing")
        stored = stored_form(given) if isinstance(given, EventView) else given
        event = from_recorded(stored)
        if not isinstance(event, TaskEvent):
            raise Undecodable(f"{stored.type} is no event of a task")
        meta, known = meta_of(stored), cast("AnyTaskEvent", event)
        evolve(state, known, at_us=stored.at_us, command_id=meta.command_id, request=meta.request)
    return state


def schedule_folded(events: Iterable[RecordedEvent]) -> ScheduleState:
    """Return the state of a schedule after all of its events.

    Raises:
        Undecodable: this build cannot read one of them.
    """
    state = ScheduleState("")
    for recorded in events:
        event = from_recorded(recorded)
        if not isinstance(event, ScheduleEvent):
            raise Undecodable(f"{recorded.type} is no event of a schedule")
        state.tenant = recorded.tenant
        evolve_schedule(state, cast("AnyScheduleEvent", event), at_us=recorded.at_us)
    return state


def stored_form(view: EventView) -> NewEvent:
    """Return the event that a read showed: its data and times are those of the log, to the byte."""
    return NewEvent(
        stream_id=UUID(view.task_id),
        kind=StreamKind.TASK.value,
        seq=view.seq,
        type=view.type,
        version=view.version,
        tenant=view.tenant,
        at_us=from_rfc3339(view.at),
        meta=bytes(view.meta),
        payload=bytes(view.data),
        encoding=Encoding.JSON.value,
    )
