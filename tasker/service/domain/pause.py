"""Pause and resume of a task.

Paused, a task begins nothing: outcomes of attempts that run are recorded, and what would follow from them waits. So do
retries, times and a start that are due; a deadline counts on and ends the task. Resumed, it goes on by itself (see
`follow`). Repairs can be made meanwhile, several of them as if at once.
"""

from __future__ import annotations

from tasker.errors import StateForbids
from tasker.events.task_events import AnyTaskEvent, TaskPaused, TaskUnpaused
from tasker.service.domain.guards import must_go_on
from tasker.service.domain.state import BUDGET_EXCEEDED, DEADLINE_PASSED, TaskState

Events = tuple[AnyTaskEvent, ...]


def pause(state: TaskState) -> Events:
    """Return what pauses the task; () when it is paused.

    Raises:
        TaskUnknown, TaskEnded, StateForbids: there is nothing to pause.
    """
    must_go_on(state)
    if state.blocked_reason == "history_limit":
        raise StateForbids("the task has as many events as it may have and does not go on; cancel it")
    return () if state.paused else (TaskPaused(),)


def resume(state: TaskState) -> Events:
    """Return what lets a paused task go on.

    Raises:
        TaskUnknown, TaskEnded, StateForbids: it is not paused.
    """
    must_go_on(state)
    if not state.paused:
        detail = f"the task is {state.status}, not paused; there is nothing to resume"
        if state.blocked_reason == "step_failed":
            detail += ": `tasker task retry` repairs its failed steps"
        if state.blocked_reason == BUDGET_EXCEEDED:
            detail += ": `tasker task budget` allows it more"
        if state.blocked_reason == DEADLINE_PASSED:
            detail += ": `tasker task deadline` gives it another one"
        raise StateForbids(detail, state=str(state.status))
    return (TaskUnpaused(),)
