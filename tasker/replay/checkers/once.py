"""I7: one completion a step, one start and one outcome an attempt, one taking a signal, event by event."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from tasker.events.envelope import RecordedEvent
from tasker.events.task_events import (
    ApprovalAnswered,
    ApprovalRequested,
    ChildRequested,
    ChildStarted,
    EventAwaited,
    EventMatched,
    PlaceRequested,
    SignalReceived,
    StepAttemptFailed,
    StepAwaited,
    StepCancelled,
    StepCompleted,
    StepDelayed,
    StepDispatched,
    StepExpanded,
    StepFailed,
    StepGathered,
    StepResolved,
    StepResultEdited,
    StepRetryScheduled,
    StepSignalled,
    StepSkipped,
    StepStarted,
    StepTimedOut,
    StepYielded,
    TaskCancelled,
    TaskCompleted,
    TaskCreated,
    TaskFailed,
    TaskStarted,
    UsageRecorded,
)
from tasker.replay.checkers.checker import Decoded
from tasker.replay.checkers.signals import Signals
from tasker.replay.findings import Finding, Invariant, Report

_SILENT: Final = frozenset({TaskCreated, TaskStarted, StepFailed, StepRetryScheduled, UsageRecorded})
"""They say nothing of an attempt that has no event of its own, and come often."""


class _Step:
    """What is known of a step: its newest attempt that began, and what happened to it.

    `asked` is the newest attempt that asked for a place under a concurrency key. One that is cancelled, or fails,
    before it has its place never begins; its number is used up all the same.
    """

    __slots__ = ("asked", "attempt", "completed", "over", "started")

    def __init__(self) -> None:
        self.asked = 0
        self.attempt = 0
        self.started = False
        self.over = True
        self.completed = False

    @property
    def newest(self) -> int:
        """Return the newest attempt that began, or asked for its place."""
        return max(self.attempt, self.asked)

    def follows(self, attempt: int) -> bool:
        """Return whether `attempt` is the next to begin: the one that asked for a place, else one more."""
        return attempt == self.newest + 1 or attempt == self.asked > self.attempt


class OnceChecker:
    """Checks one shard."""

    def __init__(self, shard: int, report: Report) -> None:
        self._shard = shard
        self._report = report
        self._tasks: dict[UUID, dict[str, _Step]] = {}
        self._signals: dict[UUID, Signals] = {}

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:  # noqa: PLR0915 - one case an event
        """Check the next event of the shard."""
        if type(event) in _SILENT:
            return
        match event:
            case StepDispatched(step=name, attempt=attempt) | ChildRequested(step=name, attempt=attempt):
                step = self._step(recorded.stream_id, name)
                if step.completed:
                    self._find(recorded, f"step {name} is dispatched again after its completion")
                elif not step.over:
                    self._find(recorded, f"attempt {attempt} of step {name} begins while {step.attempt} is open")
                if not step.follows(attempt):
                    self._find(recorded, f"attempt {attempt} of step {name} follows attempt {step.newest}")
                step.attempt = attempt
                step.started = step.over = False
            case PlaceRequested(step=name, attempt=attempt) if name:
                step = self._step(recorded.stream_id, name)
                if not step.follows(attempt):
                    self._find(recorded, f"attempt {attempt} of step {name} asks for a place after {step.newest}")
                step.asked = attempt
            case StepStarted(step=name, attempt=attempt):
                step = self._open(recorded, name, attempt, "starts")
                if step.started:
                    self._find(recorded, f"attempt {attempt} of step {name} starts twice")
                step.started = True
            case StepCompleted(step=name, attempt=attempt):
                step = self._step(recorded.stream_id, name)
                if step.completed:
                    self._find(recorded, f"step {name} completes twice")
                elif step.attempt > 0 or attempt > 1:  # else by the service, at once; which may, I8 knows
                    step = self._open(recorded, name, attempt, "completes")
                    if not step.started:
                        self._find(recorded, f"attempt {attempt} of step {name} completes without a start")
                step.completed = step.over = True
            case TaskCompleted() | TaskFailed() | TaskCancelled():
                self._tasks.pop(recorded.stream_id, None)
                self._signals.pop(recorded.stream_id, None)
            case ChildStarted(step=name, attempt=attempt):
                step = self._open(recorded, name, attempt, "has its child")
                if step.started:
                    self._find(recorded, f"attempt {attempt} of step {name} has two children")
                step.started = True
            case StepTimedOut(step=name, then="continue"):
                step = self._step(recorded.stream_id, name)
                step.over = not step.attempt  # its attempt has failed, and completes it all the same
                step.started = True
            case StepAttemptFailed(step=name, attempt=attempt):
                step = self._open(recorded, name, attempt, "fails")
                step.over = step.over or attempt == step.attempt
            case StepYielded(step=name, attempt=attempt):
                self._open(recorded, name, attempt, "is given back").over = True
            case StepExpanded(step=name):
                if self._step(recorded.stream_id, name).completed:
                    self._find(recorded, f"step {name} begins again after its completion")
            case StepGathered(step=name):
                step = self._step(recorded.stream_id, name)
                if step.completed:
                    self._find(recorded, f"step {name} completes twice")
                step.completed = True
            case StepDelayed(step=name, attempt=attempt):
                step = self._step(recorded.stream_id, name)
                if step.attempt or step.completed:
                    self._find(recorded, f"step {name} begins to wait twice")
                step.attempt = attempt
                step.started, step.over = True, False
            case (
                StepAwaited(step=name, attempt=attempt)
                | ApprovalRequested(step=name, attempt=attempt)
                | EventAwaited(step=name, attempt=attempt)
            ):
                step = self._step(recorded.stream_id, name)
                if step.completed or not step.over or attempt != step.attempt + 1:
                    self._find(recorded, f"step {name} begins to wait in attempt {attempt} after {step.attempt}")
                step.attempt = attempt
                step.started, step.over = True, False
            case ApprovalAnswered(step=name, attempt=attempt) | EventMatched(step=name, attempt=attempt):
                self._open(recorded, name, attempt, "is answered")
            case SignalReceived() | StepSignalled():
                for detail in self._signals.setdefault(recorded.stream_id, Signals()).faults(event):
                    self._find(recorded, detail)
            case StepSkipped(step=name) | StepResolved(step=name):
                step = self._step(recorded.stream_id, name)
                if step.completed:
                    self._find(recorded, f"step {name} completes twice")
                step.completed = step.over = True
            case StepResultEdited(step=name):
                if not self._step(recorded.stream_id, name).completed:
                    self._find(recorded, f"step {name} has no result, and it is edited")
            case StepCancelled(step=name):
                self._step(recorded.stream_id, name).over = True
            case _:
                pass

    def close(self) -> None:
        """Do nothing: every event was compared."""

    def _step(self, stream_id: UUID, name: str) -> _Step:
        steps = self._tasks.get(stream_id)
        if steps is None:
            steps = self._tasks[stream_id] = {}
        step = steps.get(name)
        if step is None:
            step = steps[name] = _Step()
        return step

    def _open(self, recorded: RecordedEvent, name: str, attempt: int, what: str) -> _Step:
        step = self._step(recorded.stream_id, name)
        if attempt != step.attempt:
            self._find(recorded, f"attempt {attempt} of step {name} {what}, its newest is {step.attempt}")
        elif step.over:
            self._find(recorded, f"attempt {attempt} of step {name} {what} after its outcome")
        return step

    def _find(self, recorded: RecordedEvent, detail: str) -> None:
        self._report(
            Finding(
                invariant=Invariant.ONCE,
                shard=self._shard,
                position=recorded.position,
                task_id=str(recorded.stream_id),
                detail=detail,
            )
        )
