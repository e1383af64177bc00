"""What another run of a task takes from it. A restart is a new task; the old one stays as it ended."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tasker.errors import StateForbids
from tasker.events.envelope import US_PER_S
from tasker.events.task_events import TemplateRef
from tasker.service.domain.repairs.guards import must_exist
from tasker.service.domain.state import TaskState


class Original(NamedTuple):
    """What a new run takes over; `timeout_s` is how long the old one had from its creation on."""

    template: TemplateRef
    input: msgspec.Raw
    tags: dict[str, str]
    metadata: msgspec.Raw | None
    timeout_s: float | None
    priority: int


def original_of(state: TaskState) -> Original:
    """Return what a restart of the task takes over.

    Raises:
        TaskUnknown, StateForbids: there is no such task, it has not ended.
    """
    must_exist(state)
    if not state.ended:
        raise StateForbids(
            f"the task is {state.status}; `tasker task cancel` ends it, then it can be restarted",
            state=str(state.status),
        )
    timeout_s = None if state.deadline_us is None else (state.deadline_us - state.created_us) / US_PER_S
    return Original(state.template, state.input, dict(state.tags), state.metadata, timeout_s, state.priority)
