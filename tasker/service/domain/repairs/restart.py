"""What another run of a task takes from it. A restart is a new task; the old one stays as it ended."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tasker.errors import StateForbids
from tasker.events.envelope import US_PER_S
from tasker.events.task_events import TemplateRef
from tasker.service.domain.repairs.guards import must_exist
from tasker.service.domain.state import TaskState
from tasker.templates import CompiledTemplate


class Original(NamedTuple):
    """What a new run takes over; `timeout_s` is what the old one was started with, not a deadline that it got since."""

    template: TemplateRef
    input: msgspec.Raw
    tags: dict[str, str]
    metadata: msgspec.Raw | None
    timeout_s: float | None
    priority: int


def original_of(state: TaskState, template: CompiledTemplate) -> Original:
    """Return what a restart of the task takes over; `template` is that with which it began.

    Raises:
        TaskUnknown, StateForbids: there is no such task, it has not ended.
    """
    must_exist(state)
    if not state.ended:
        raise StateForbids(
            f"the task is {state.status}; `tasker task cancel` ends it, then it can be restarted",
            state=str(state.status),
        )
    return Original(
        state.template,
        state.input,
        dict(state.tags),
        state.metadata,
        _timeout_s(state, template),
        state.priority,
    )


def _timeout_s(state: TaskState, template: CompiledTemplate) -> float | None:
    """Return the timeout that it was started with; that of a start that waited for others counts from its begin."""
    if state.deadline_us_given is None:
        return None
    begin_us = state.not_before_us if template.spec.debounce is not None else None
    return (state.deadline_us_given - (begin_us or state.created_us)) / US_PER_S
