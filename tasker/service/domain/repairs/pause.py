"""Pause and resume of a task.

Paused, a task begins nothing: outcomes of attempts that run are recorded, and what would follow from them waits. So do
retries, times and a start that are due; a deadline counts on and ends the task. Resumed, it goes on by itself (see
`follow`). Repairs can be made meanwhile, several of them as if at once.

Either may be for the child tasks as well: that is recorded here, and each child is told as a command of its own (see
`ChildTasks`), so that it goes down the tree. Who looks after a child tells it again until it has answered.
"""

from __future__ import annotations

from tasker.errors import StateForbids
from tasker.events.task_events import AnyTaskEvent, TaskPaused, TaskUnpaused
from tasker.service.domain.repairs.guards import must_go_on
from tasker.service.domain.state import BUDGET_EXCEEDED, DEADLINE_PASSED, ChildrenTold, TaskState
from tasker.service.domain.steps.children import waiting_child
from tasker.templates import CompiledTemplate

Events = tuple[AnyTaskEvent, ...]


def pause(state: TaskState, *, children: bool = False) -> Events:
    """Return what pauses the task, with its `children` or alone; () when it is paused so.

    Raises:
        TaskUnknown, TaskEnded, StateForbids: there is nothing to pause.
    """
    must_go_on(state)
    if state.blocked_reason == "history_limit":
        raise StateForbids("the task has as many events as it may have and does not go on; cancel it")
    if state.paused and (not children or pauses_children(state)):
        return ()
    return (TaskPaused(children=children),)


def resume(state: TaskState, *, children: bool = False, paused_by: str | None = None) -> Events:
    """Return what lets a paused task go on, with its `children` or alone.

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
    if paused_by is not None and state.paused_by != paused_by:
        raise StateForbids("the task was paused by another command, which holds on", state=str(state.status))
    return (TaskUnpaused(children=children),)


def pauses_children(state: TaskState) -> bool:
    """Return whether the task is paused with its child tasks."""
    return state.paused and state.children_told is not None


def child_to_tell(state: TaskState, template: CompiledTemplate, step: str, attempt: int) -> ChildrenTold | None:
    """Return what the child of a step is to be told; None: nothing, or it is not there yet.

    What was asked for after its parent was resumed was never paused with it; what is abandoned goes alone.
    """
    told, entry = state.children_told, waiting_child(state, step, attempt)
    if told is None or entry is None or entry.child is None or entry.cancel_by_us is not None:
        return None
    is_its_own = template.step(step).on_parent_close == "abandon" or entry.dispatched_us > told.at_us
    return None if state.stopping is not None or is_its_own else told
