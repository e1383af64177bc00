"""A person ends a task as he says: completed with a result of his, or failed with an error of his.

What runs is told and has its grace, as when a task is cancelled. A task that is made to fail compensates as any that
fails does; one that is made to complete keeps what it did.
"""

from __future__ import annotations

from collections.abc import Iterator

from tasker.events.task_events import AnyTaskEvent
from tasker.service.domain.commands import CompleteTask, FailTask
from tasker.service.domain.repairs.guards import must_go_on
from tasker.service.domain.state import TaskState
from tasker.service.domain.stop import stop
from tasker.templates import CompiledTemplate


def force(state: TaskState, template: CompiledTemplate, command: CompleteTask | FailTask) -> Iterator[AnyTaskEvent]:
    """Return what ends the task.

    Raises:
        TaskUnknown, TaskEnded, StateForbids: there is no such task, it has ended, it is ending in another way.
    """
    must_go_on(state)
    completes = isinstance(command, CompleteTask)
    return stop(
        state,
        template,
        command.at_us,
        ending="completed" if completes else "failed",
        cause="operator",
        grace_s=command.grace_s,
        result=command.result if isinstance(command, CompleteTask) else None,
        error=command.error if isinstance(command, FailTask) else None,
    )
