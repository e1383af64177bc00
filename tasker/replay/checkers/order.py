"""I8: no step is dispatched before what it depends on has completed, and nothing follows an ending event.

Parents are those of the template that the task started with. Also held here: a stream begins with its creation,
nothing is dispatched while a task stops, and a task completes only when every step has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from tasker.events.envelope import RecordedEvent
from tasker.events.task_events import (
    StepCompleted,
    StepDispatched,
    TaskCancelled,
    TaskCompleted,
    TaskCreated,
    TaskFailed,
    TaskStopping,
)
from tasker.replay.checkers.checker import Decoded, forget_oldest
from tasker.replay.findings import Finding, Invariant, Report
from tasker.templates import CompiledTemplate

ENDED_REMEMBERED: Final = 100_000
"""Tasks that ended are forgotten after so many others; an event behind that is reported as one without a beginning."""

TemplateOf = Callable[[str], CompiledTemplate | None]
"""Content hash -> the template; None when its content is not there or cannot be read."""

_TASK: Final = "task"


class _Task:
    """What is known of a task: its template and how far it is."""

    __slots__ = ("completed", "stopping", "template")

    def __init__(self, template: CompiledTemplate | None) -> None:
        self.template = template
        self.completed: set[str] = set()
        self.stopping = False


class OrderChecker:
    """Checks one shard."""

    def __init__(
        self, shard: int, report: Report, template_of: TemplateOf, *, ended_remembered: int = ENDED_REMEMBERED
    ) -> None:
        self._shard = shard
        self._report = report
        self._template_of = template_of
        self._ended_remembered = ended_remembered
        self._tasks: dict[UUID, _Task] = {}
        self._ended: dict[UUID, str] = {}

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Check the next event of the shard."""
        if recorded.kind != _TASK:
            return
        stream_id = recorded.stream_id
        task = self._tasks.get(stream_id)
        if task is None:
            task = self._begin(recorded, event)
            if task is None:
                return
        elif isinstance(event, TaskCreated):
            self._find(recorded, "the task is created twice")
        match event:
            case StepDispatched(step=name, attempt=attempt):
                if task.stopping:
                    self._find(recorded, f"step {name} is dispatched while the task stops")
                if attempt == 1:
                    self._check_parents(recorded, task, name)
            case StepCompleted(step=name):
                task.completed.add(name)
            case TaskStopping():
                task.stopping = True
            case TaskCompleted():
                if task.template is not None and len(task.completed) != len(task.template.steps):
                    missing = [name for name in task.template.steps if name not in task.completed]
                    self._find(recorded, f"the task completes without a result of {', '.join(missing[:5])}")
                self._end(recorded)
            case TaskFailed() | TaskCancelled():
                self._end(recorded)
            case _:
                pass

    def close(self) -> None:
        """Do nothing: every event was compared."""

    def _begin(self, recorded: RecordedEvent, event: Decoded) -> _Task | None:
        """Return the task that begins here; None when it cannot be followed."""
        ending = self._ended.get(recorded.stream_id)
        if ending is not None:
            self._find(recorded, f"{recorded.type} follows {ending}, which ended the task")
            return None
        template = None
        if isinstance(event, TaskCreated):
            template = self._template_of(event.template.hash)
            if template is None:
                self._find(recorded, f"the content {event.template.hash[:16]} of the task's template cannot be read")
        else:
            self._find(recorded, f"the task begins with {recorded.type}")
        task = self._tasks[recorded.stream_id] = _Task(template)
        return task

    def _check_parents(self, recorded: RecordedEvent, task: _Task, name: str) -> None:
        if task.template is None:
            return
        if name not in task.template:
            self._find(recorded, f"step {name} is not in the task's template")
            return
        missing = [parent for parent in task.template.graph.parents[name] if parent not in task.completed]
        if missing:
            self._find(recorded, f"step {name} is dispatched before {', '.join(missing[:5])} completed")

    def _end(self, recorded: RecordedEvent) -> None:
        del self._tasks[recorded.stream_id]
        self._ended[recorded.stream_id] = recorded.type
        forget_oldest(self._ended, kept_max=self._ended_remembered)

    def _find(self, recorded: RecordedEvent, detail: str) -> None:
        self._report(
            Finding(
                invariant=Invariant.ORDER,
                shard=self._shard,
                position=recorded.position,
                task_id=str(recorded.stream_id),
                detail=detail,
            )
        )
