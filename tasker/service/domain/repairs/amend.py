"""What a person changes of a task as a whole: its tags, its metadata, its priority, its deadline.

None of it moves a step. A deadline that has passed by then counts at once, as one that fires does. A
task that waits for a person as its deadline has passed goes on with another one, or with none.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tasker.errors import BodyTooLarge, StateForbids
from tasker.events.codec import canonical
from tasker.events.task_events import NULL, AnyTaskEvent, TaskDeadlineSet, TaskUpdated
from tasker.service.domain.commands import SetDeadline, UpdateTask
from tasker.service.domain.repairs.guards import must_go_on
from tasker.service.domain.state import TaskState, TaskStatus
from tasker.service.domain.steps.begin import after

Events = tuple[AnyTaskEvent, ...]

TAGS_MAX: Final = 32
"""Tags a task may have."""

METADATA_BYTES_MAX: Final = 16 * 1024
"""Size of a task's metadata, as JSON."""


def update(state: TaskState, command: UpdateTask) -> Events:
    """Return what changes tags, metadata and priority; () when they are so already.

    Raises:
        TaskUnknown, TaskEnded, StateForbids: there is no such task, it has ended, it would have too many tags.
        BodyTooLarge: the metadata would be too large.
    """
    must_go_on(state)
    tags = {key: value for key, value in {**state.tags, **command.tags}.items() if value is not None}
    if len(tags) > TAGS_MAX:
        raise StateForbids(f"the task would have {len(tags)} tags; at most {TAGS_MAX} are allowed")
    metadata = state.metadata
    if command.metadata is not None:
        before = {} if metadata is None else msgspec.json.decode(metadata)
        metadata = checked_metadata(merge_patch(before, command.metadata))
    priority = state.priority if command.priority is None else command.priority
    if (tags, metadata, priority) == (state.tags, state.metadata, state.priority):
        return ()
    return (
        TaskUpdated(
            tags=None if tags == state.tags else tags,
            metadata=None if metadata == state.metadata else metadata or NULL,
            priority=None if priority == state.priority else priority,
        ),
    )


def checked_metadata(metadata: dict[str, Any]) -> msgspec.Raw | None:
    """Return metadata as it is kept; None: there is none.

    Raises:
        BodyTooLarge: it is more than is kept.
    """
    data = canonical(metadata)
    if len(data) > METADATA_BYTES_MAX:
        raise BodyTooLarge(f"metadata of {len(data)} bytes are more than the {METADATA_BYTES_MAX} allowed")
    return msgspec.Raw(data) if metadata else None


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` with `patch` applied, by RFC 7396: objects are merged, null removes, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def set_deadline(state: TaskState, command: SetDeadline) -> Events:
    """Return what gives the task another deadline, or none; () when it has this one.

    Raises:
        TaskUnknown, TaskEnded, StateForbids: there is no such task, it has ended, it is ending.
    """
    must_go_on(state)
    deadline_us = command.deadline_us
    if command.within_s is not None:
        deadline_us = after(command.at_us, command.within_s)
    elif deadline_us is not None:
        deadline_us = max(deadline_us, after(command.at_us, 0))
    if deadline_us == state.deadline_us and not state.is_late:
        return ()
    goes_on = state.status is TaskStatus.BLOCKED and state.is_late and state.over_budget is None
    pending = state.is_late and state.paused_from is TaskStatus.PENDING
    return (TaskDeadlineSet(deadline_us=deadline_us, goes_on=goes_on, pending=pending),)
