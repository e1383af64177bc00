"""I8: no step begins before what it depends on lets it, and nothing follows an ending event.

Parents are those of the template that the task started with, joined as it says; what they did is told by the events
alone, not by the service's own state, and a person's word goes before theirs. Also held here: a stream begins with its
creation, nothing but compensations begins while a task stops (`undoing`), nothing at all while it is paused, the
service completes only what is its own to complete, and a task completes only when nothing more is expected of any step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

from tasker.events.envelope import RecordedEvent
from tasker.events.task_events import (
    ApprovalRequested,
    ChildRequested,
    EventAwaited,
    LoopTurned,
    ParentsOverridden,
    PathsClosed,
    PlaceRequested,
    PlaceTaken,
    RunningTimeSpent,
    StepAttemptFailed,
    StepAwaited,
    StepCancelled,
    StepCompleted,
    StepDelayed,
    StepDispatched,
    StepExpanded,
    StepFailed,
    StepFailureAccepted,
    StepGathered,
    StepResolved,
    StepRetried,
    StepRetryScheduled,
    StepRouted,
    StepSkipped,
    StepStarted,
    StepTimedOut,
    TaskBudgetSet,
    TaskCancelled,
    TaskCompensating,
    TaskCompleted,
    TaskCreated,
    TaskDeadlinePassed,
    TaskDeadlineSet,
    TaskFailed,
    TaskPaused,
    TaskStopping,
    TaskUnpaused,
    UsageRecorded,
)
from tasker.replay.checkers.checker import Decoded, forget_oldest
from tasker.replay.checkers.undoing import Undoing
from tasker.replay.findings import Finding, Invariant, Report
from tasker.templates import CompiledTemplate
from tasker.templates.instances import is_item, is_undo, name_of

ENDED_REMEMBERED: Final = 100_000
"""Tasks that ended are forgotten after so many others; an event behind that is reported as one without a beginning."""

TemplateOf = Callable[[str], CompiledTemplate | None]
"""Content hash -> the template; None when its content is not there or cannot be read."""

_TASK: Final = "task"

_SILENT: Final = frozenset({StepStarted, StepAttemptFailed, StepRetryScheduled, StepTimedOut})
"""They say nothing of an order, and come often."""

_UNDOING: Final = frozenset(
    {
        StepDispatched,
        StepCompleted,
        StepResolved,
        StepSkipped,
        StepExpanded,
        TaskStopping,
        TaskCompensating,
        TaskFailed,
        TaskCancelled,
    }
)
"""They say something of compensations."""


class _Task:
    """What is known of a task: its template and how far it is."""

    __slots__ = (
        "accepted",
        "begun",
        "closed_edges",
        "completed",
        "completes_by_hand",
        "failed",
        "late",
        "out",
        "over_budget",
        "overridden",
        "paused",
        "stopping",
        "template",
        "undoing",
        "waiting",
    )

    def __init__(self, template: CompiledTemplate | None) -> None:
        self.template = template
        self.begun: set[str] = set()
        self.completed: set[str] = set()
        self.failed: set[str] = set()
        self.accepted: set[str] = set()
        self.out: set[str] = set()
        self.overridden: set[str] = set()
        self.closed_edges: set[tuple[str, str]] = set()
        self.stopping = False
        self.completes_by_hand = False
        self.waiting: set[str] = set()
        self.paused = False
        self.over_budget = False
        self.late = False
        self.undoing = None if template is None else Undoing(template)

    def forget(self, names: tuple[str, ...]) -> None:
        """Let steps begin anew: what their last visit did counts no more."""
        for known in (self.begun, self.completed, self.failed, self.accepted, self.out, self.overridden):
            known.difference_update(names)
        self.closed_edges = {edge for edge in self.closed_edges if edge[0] not in names}


class OrderChecker:
    """Checks one shard."""

    def __init__(self, shard: int, report: Report, template_of: TemplateOf) -> None:
        self._shard = shard
        self._report = report
        self._template_of = template_of
        self._tasks: dict[UUID, _Task] = {}
        self._ended: dict[UUID, str] = {}

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:  # noqa: PLR0915 - one case an event
        """Check the next event of the shard."""
        if recorded.kind != _TASK or (type(event) in _SILENT and recorded.stream_id in self._tasks):
            return
        stream_id = recorded.stream_id
        task = self._tasks.get(stream_id)
        if task is None:
            task = self._begin(recorded, event)
            if task is None:
                return
        elif type(event) is TaskCreated:
            self._find(recorded, "the task is created twice")
        if task.undoing is not None and type(event) in _UNDOING:
            for detail in _undone(task.undoing, event, stopping=task.stopping):
                self._find(recorded, detail)
        match event:
            case StepDispatched(step=name, attempt=attempt):
                if is_undo(name):
                    return
                if task.paused:
                    self._find(recorded, f"step {name} is dispatched while the task is paused")
                if task.over_budget:
                    self._find(recorded, f"step {name} is dispatched while the task is over its budget")
                if task.late:
                    self._find(recorded, f"step {name} is dispatched while the task is past its deadline")
                if task.waiting:
                    self._has_place(recorded, task, name)
                if attempt == 1:
                    self._begins(recorded, task, name)
            case StepCompleted(step=name):
                if not (is_item(name) or is_undo(name)):
                    self._completes(recorded, task, name)
            case TaskCompleted():
                over = task.completed | task.out | task.accepted
                missing = [name for name in task.template.steps if name not in over] if task.template else []
                if missing and not task.completes_by_hand:
                    self._find(recorded, f"the task completes without a result of {', '.join(missing[:5])}")
                self._end(recorded)
            case TaskCreated():
                pass  # its beginning
            case PlaceRequested(step=name):
                task.waiting.add(name)
            case PlaceTaken(step=name):
                task.waiting.discard(name)
            case StepExpanded(step=name) | StepDelayed(step=name):
                if task.waiting:
                    self._has_place(recorded, task, name)
                self._begins(recorded, task, name)
            case (
                ChildRequested(step=name, attempt=attempt)
                | StepAwaited(step=name, attempt=attempt)
                | ApprovalRequested(step=name, attempt=attempt)
                | EventAwaited(step=name, attempt=attempt)
            ):
                if task.stopping:
                    self._find(recorded, f"{_begun(event)} of step {name} begins while the task stops")
                if task.paused:
                    self._find(recorded, f"{_begun(event)} of step {name} begins while the task is paused")
                if task.over_budget:
                    self._find(recorded, f"{_begun(event)} of step {name} begins while the task is over its budget")
                if task.late:
                    self._find(recorded, f"{_begun(event)} of step {name} begins while the task is past its deadline")
                if task.waiting:
                    self._has_place(recorded, task, name)
                if attempt == 1:
                    self._begins(recorded, task, name)
            case StepSkipped(step=name) | StepResolved(step=name) if not (is_item(name) or is_undo(name)):
                self._is_completed_by_hand(recorded, task, name)
            case ParentsOverridden(step=name):
                task.overridden.add(name_of(name))
            case StepGathered(step=name):
                task.completed.add(name_of(name))
            case StepFailed(step=name) if not (is_item(name) or is_undo(name)):
                task.failed.add(name_of(name))
            case StepRetried(step=name) if not (is_item(name) or is_undo(name)):
                task.failed.discard(name_of(name))
                task.accepted.discard(name_of(name))
            case StepFailureAccepted(step=name):
                task.accepted.add(name_of(name))
            case StepCancelled(step=name) if not is_item(name):
                task.out.add(name_of(name))
            case StepRouted(step=name, closed=closed):
                task.closed_edges.update((name_of(name), child) for child in closed)
            case PathsClosed(steps=steps, edges=edges):
                task.out.update(steps)
                task.closed_edges.update(edges)
            case LoopTurned(steps=steps, failures=failures):
                task.forget(steps)
                task.accepted.difference_update(name_of(name) for name in failures)
            case TaskStopping(ending=ending):
                task.stopping = True
                task.completes_by_hand = ending == "completed"
                task.paused = task.over_budget = task.late = False
            case UsageRecorded(excess=str()) | RunningTimeSpent():
                task.over_budget = not task.stopping
            case TaskDeadlinePassed(then=then):
                task.late = then == "block"
            case TaskDeadlineSet():
                task.late = False
            case TaskBudgetSet():
                task.over_budget = False
            case TaskPaused():
                task.paused = True
            case TaskUnpaused():
                task.paused = False
            case TaskFailed() | TaskCancelled():
                self._end(recorded)
            case _:
                pass

    def close(self) -> None:
        """Do nothing: every event was compared."""

    def _has_place(self, recorded: RecordedEvent, task: _Task, name: str) -> None:
        """Check that neither a step nor its task begins without the place that it asked for."""
        if name in task.waiting or "" in task.waiting:
            self._find(recorded, f"step {name} begins without its place under a concurrency key")

    def _begin(self, recorded: RecordedEvent, event: Decoded) -> _Task | None:
        """Return the task that begins here; None when it cannot be followed."""
        ending = self._ended.get(recorded.stream_id)
        if ending is not None:
            self._find(recorded, f"{recorded.type} follows {ending}, which ended the task")
            return None
        template = None
        if type(event) is TaskCreated:
            template = self._template_of(event.template.hash)
            if template is None:
                self._find(recorded, f"the content {event.template.hash[:16]} of the task's template cannot be read")
        else:
            self._find(recorded, f"the task begins with {recorded.type}")
        task = self._tasks[recorded.stream_id] = _Task(template)
        return task

    def _completes(self, recorded: RecordedEvent, task: _Task, name: str) -> None:
        step = name_of(name)
        if step not in task.begun and task.template is not None:
            self._begins(recorded, task, name)
            if step in task.template and task.template.steps[step].kind not in ("transform", "asserts"):
                self._find(recorded, f"step {name} completes without an attempt")
        task.completed.add(step)

    def _is_completed_by_hand(self, recorded: RecordedEvent, task: _Task, name: str) -> None:
        step = name_of(name)
        if step in task.completed:
            self._find(recorded, f"step {name} is completed by hand after its completion")
        task.begun.add(step)
        task.completed.add(step)
        task.failed.discard(step)
        task.accepted.discard(step)

    def _begins(self, recorded: RecordedEvent, task: _Task, name: str) -> None:
        if task.template is None:
            return
        step = name_of(name)
        if step not in task.template:
            self._find(recorded, f"step {name} is not in the task's template")
            return
        if is_item(name):
            if step not in task.begun:
                self._find(recorded, f"item {name} is dispatched before its step began")
            return
        task.begun.add(step)
        if step in task.out:
            self._find(recorded, f"step {name} begins, and it was said that it will not run")
        missing = [] if step in task.overridden else self._missing(task, task.template, step)
        if missing:
            self._find(recorded, f"step {name} is dispatched before {', '.join(missing[:5])} completed")

    @staticmethod
    def _missing(task: _Task, template: CompiledTemplate, step: str) -> list[str]:
        """Return the parents that `step` should have waited for."""
        spec = template.steps[step]
        if task.completed.issuperset(spec.after) and not (task.out or task.closed_edges):
            return []
        out = {one for one in spec.after if one in task.out or (one, step) in task.closed_edges}
        open_parents = [one for one in spec.after if one not in task.completed or one in out]
        match spec.join:
            case "all":
                return open_parents
            case "deferred":
                return [one for one in open_parents if one not in out]
            case "all_settled":
                return [one for one in open_parents if one not in out and one not in task.failed]
            case "any" | "n_of":
                wanted = spec.join_count or 1
                return open_parents if len(spec.after) - len(open_parents) < wanted else []

    def _end(self, recorded: RecordedEvent) -> None:
        del self._tasks[recorded.stream_id]
        self._ended[recorded.stream_id] = recorded.type
        forget_oldest(self._ended, kept_max=ENDED_REMEMBERED)

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


def _begun(event: ChildRequested | StepAwaited | ApprovalRequested | EventAwaited) -> str:
    return "a child" if isinstance(event, ChildRequested) else "the wait"


def _undone(undoing: Undoing, event: Decoded, *, stopping: bool) -> Iterable[str]:
    """Return what is wrong with `event` as far as compensations go."""
    match event:
        case StepDispatched(step=name, attempt=attempt):
            return undoing.dispatches(name, attempt) if stopping or is_undo(name) else ()
        case StepCompleted(step=name) | StepResolved(step=name):
            return undoing.completes(name)
        case StepSkipped(step=name) if is_undo(name):
            return undoing.completes(name)
        case StepExpanded(step=name):
            undoing.expands(name)
        case TaskStopping():
            undoing.stops(event)
        case TaskCompensating(steps=steps, instances=instances):
            return undoing.compensates(steps, instances)
        case TaskFailed() | TaskCancelled():
            return undoing.ends()
        case _:
            pass
    return ()
