"""What a command of a person asks of a task and a step before anything else, and that it lets a blocked task go on."""

from __future__ import annotations

from tasker.errors import StateForbids, StepUnknown, TaskEnded, TaskUnknown
from tasker.events.task_events import AnyTaskEvent, TaskResumed
from tasker.service.domain.state import TaskState, TaskStatus
from tasker.templates import CompiledTemplate
from tasker.templates.instances import name_of, node_of


def must_exist(state: TaskState) -> None:
    """Return when there is such a task.

    Raises:
        TaskUnknown: there is none.
    """
    if state.status is TaskStatus.ABSENT:
        raise TaskUnknown("there is no such task")


def must_go_on(state: TaskState) -> None:
    """Return when the task has not ended and is not about to.

    Raises:
        TaskUnknown, TaskEnded, StateForbids: there is none; it has; it is.
    """
    must_exist(state)
    if state.ended:
        raise TaskEnded(f"the task is {state.status}; `tasker task restart` runs it once more", state=str(state.status))
    if state.stopping is not None:
        raise StateForbids(
            f"the task is ending as {state.stopping.ending}; when it has, `tasker task restart` runs it once more"
        )


def must_be_current(state: TaskState, template: CompiledTemplate, instance: str) -> None:
    """Return when `instance` is of a step of the template and of its newest visit.

    Raises:
        StepUnknown, StateForbids: it is not.
    """
    step = name_of(instance)
    if step not in template:
        raise StepUnknown(f"the task's template has no step {instance[:80]!r}; `tasker step list` shows its steps")
    newest = state.node(step)
    if node_of(instance) != newest:
        raise StateForbids(f"{instance} is no current visit of step {step}; {newest} is")


def must_have_ended(state: TaskState, instance: str) -> None:
    """Return when nothing of a step that has failed is open any more.

    Raises:
        StateForbids: child tasks of items that were cancelled with it have not ended.
    """
    expansion = state.steps[instance].expansion
    stopping = [] if expansion is None else [name for name in expansion.open if state.steps[name].cancel_by_us]
    if expansion is not None and stopping:
        child = state.steps[stopping[0]].child or "that is being started"
        raise StateForbids(
            f"{len(stopping)} of {len(expansion.items)} items of step {instance} are being stopped, and wait for the "
            f"end of their child tasks: {child} of {stopping[0]} has not ended; retry the step when they have"
        )


def unblocked(state: TaskState) -> tuple[AnyTaskEvent, ...]:
    """Return what lets a blocked task go on; () when it is not blocked, or by its budget: that takes more of it."""
    return (TaskResumed(),) if state.status is TaskStatus.BLOCKED and not state.held else ()
