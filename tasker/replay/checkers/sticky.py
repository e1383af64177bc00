"""A part of I8: an attempt of a sticky step is kept for the worker that its step sticks to, and no other's is.

Which worker that is, the events tell: the one that began an attempt of the named step, or of the step itself, last.
Whether an attempt then ran elsewhere although that worker lived, they do not: decision 0035 says why.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from tasker.events.envelope import RecordedEvent
from tasker.events.task_events import ENDING_TYPES, StepDispatched, StepStarted, TaskCreated
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report
from tasker.templates import CompiledTemplate
from tasker.templates.instances import is_undo, name_of

TemplateOf = Callable[[str], CompiledTemplate | None]


class _Task:
    """What is known of a task whose template has a sticky step."""

    __slots__ = ("offered", "ran", "sticks_to")

    def __init__(self, sticks_to: dict[str, str]) -> None:
        self.sticks_to = sticks_to
        self.ran: dict[str, str] = {}
        """Name of a step, or an instance of one that sticks -> the worker that began an attempt of it last."""
        self.offered: set[str] = set()
        """Those whose newest attempt no worker has begun: the service does not go by the ones before, then."""

    def offers(self, instance: str) -> None:
        """Take note that an attempt is offered."""
        if not is_undo(instance):
            self.offered |= {name_of(instance), instance}

    def starts(self, instance: str, worker: str) -> None:
        """Take note that a worker began an attempt."""
        if is_undo(instance):
            return
        name = name_of(instance)
        self.ran[name] = worker
        if name in self.sticks_to:
            self.ran[instance] = worker
        self.offered -= {name, instance}

    def may_keep_for(self, instance: str) -> set[str | None]:
        """Return the workers that the next attempt of an instance may be kept for."""
        name = name_of(instance)
        named = self.sticks_to.get(name) if not is_undo(instance) else None
        if named is None:
            return {None}
        if named == name:
            named = instance  # its retries stay where it ran; another item or visit is none of its business
        found: set[str | None] = {self.ran.get(named)}
        if named in self.offered:
            found.add(None)
        # The step's own last attempt counts only if a worker began it; so either may be what the service knew.
        if instance in self.ran:
            found.add(self.ran[instance])
        return found


class StickyChecker:
    """Checks one shard."""

    def __init__(self, shard: int, report: Report, template_of: TemplateOf) -> None:
        self._shard = shard
        self._report = report
        self._template_of = template_of
        self._sticks_to: dict[str, dict[str, str]] = {}
        self._tasks: dict[UUID, _Task] = {}

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Check the next event of the shard."""
        if type(event) is TaskCreated:
            sticks_to = self._of(event.template.hash)
            if sticks_to:
                self._tasks[recorded.stream_id] = _Task(sticks_to)
            return
        task = self._tasks.get(recorded.stream_id) if self._tasks else None
        if task is None:
            return
        match event:
            case StepStarted(step=step, worker=worker):
                task.starts(step, worker)
            case StepDispatched(step=step, worker=kept_for):
                may = task.may_keep_for(step)
                task.offers(step)
                if kept_for not in may:
                    self._find(recorded, event, may)
            case _ if recorded.type in ENDING_TYPES:
                del self._tasks[recorded.stream_id]
            case _:
                pass

    def close(self) -> None:
        """Do nothing: what is kept may wait for ever."""

    def _find(self, recorded: RecordedEvent, event: StepDispatched, may: set[str | None]) -> None:
        allowed = " or ".join(sorted(worker or "any" for worker in may))
        what = f"attempt {event.attempt} of step {event.step} is for worker {event.worker or 'any'}"
        self._report(
            Finding(
                invariant=Invariant.ORDER,
                shard=self._shard,
                position=recorded.position,
                task_id=str(recorded.stream_id),
                detail=f"{what}, and not for {allowed}",
            )
        )

    def _of(self, digest: str) -> dict[str, str]:
        """Return which steps of a template stick to which; those of one that is not there are not looked at."""
        found = self._sticks_to.get(digest)
        if found is None:
            template = self._template_of(digest)
            steps = () if template is None else template.spec.steps
            found = self._sticks_to[digest] = {one.name: one.sticky for one in steps if one.sticky is not None}
        return found
