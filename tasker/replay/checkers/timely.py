"""I9: no timer fires early, none late by more than a bound, and every task that no person holds up ends.

Early is judged by the times that the events themselves recorded. A worker may report a timeout of its own before
the owner's clock says so; only what the owner alone decides (a retry, a start, the end of a grace, a deadline, an
attempt that nobody started) is held to its time.

Late is judged when a bound is given: a service that was down fires late, and rightly so.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from tasker.events.envelope import US_PER_S, RecordedEvent
from tasker.events.task_events import (
    ApprovalEscalated,
    ApprovalRequested,
    ChildRequested,
    EventAwaited,
    PlaceRequested,
    PlaceTaken,
    StepAttemptFailed,
    StepAwaited,
    StepCancelled,
    StepCancelRequested,
    StepCompleted,
    StepDelayed,
    StepDispatched,
    StepFailed,
    StepReleased,
    StepResolved,
    StepRetryScheduled,
    StepSkipped,
    StepStarted,
    StepTimedOut,
    StepYielded,
    TaskBlocked,
    TaskBudgetSet,
    TaskCancelled,
    TaskCompleted,
    TaskCreated,
    TaskDeadlinePassed,
    TaskDeadlineSet,
    TaskFailed,
    TaskPaused,
    TaskPostponed,
    TaskResumed,
    TaskStarted,
    TaskStopping,
    TaskUnpaused,
    WaitExpired,
)
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report
from tasker.service.domain.obligations import FINISH_SLACK_S

_FINISH_SLACK_US: Final = round(FINISH_SLACK_S * US_PER_S)
_START: Final = "not_before"
_HELD: Final = ("retry", "time", "wait", "escalation", "close_by", _START)
"""Timers that wait while the task is paused, besides those of attempts that have not begun."""
_DEADLINE: Final = "deadline"

Timer = tuple[str, str]
"""What waits (a step's name, "" for the task) and for what."""


class _Task:
    """What is known of a task that goes on: its open timers, by what waits for what."""

    __slots__ = ("blocked", "children", "dispatched_us", "paused", "places", "position", "timers", "waiting")

    def __init__(self) -> None:
        self.timers: dict[Timer, int] = {}
        self.dispatched_us: dict[str, int] = {}
        self.children: set[str] = set()
        self.waiting: set[str] = set()
        self.places: set[str] = set()
        self.blocked = False
        self.paused = False
        self.position = 0

    def wait(self, event: StepAwaited | ApprovalRequested | EventAwaited) -> None:
        """Take note that a step waits for what only the outside can send."""
        self.waiting.add(event.step)
        if event.deadline_us is not None:
            self.timers[event.step, "wait"] = event.deadline_us
        if isinstance(event, ApprovalRequested) and event.escalate_us is not None:
            self.timers[event.step, "escalation"] = event.escalate_us

    def wait_no_more(self, name: str) -> None:
        """Take note that a step's wait is over."""
        self.waiting.discard(name)
        for what in ("wait", "escalation"):
            self.timers.pop((name, what), None)

    def resume(self, at_us: int) -> None:
        """Let timers go on that a pause held: what fell due meanwhile is due now, a time to start counts anew."""
        self.paused = False
        for (name, what), due_us in self.timers.items():
            if what == "start_by":
                self.timers[name, what] = due_us + at_us - self.dispatched_us[name]
                self.dispatched_us[name] = at_us
            elif what in _HELD:
                self.timers[name, what] = max(due_us, at_us)


def _is_over(timers: dict[Timer, int], name: str, at_us: int) -> bool:
    """Return whether a step's time over all its attempts is over."""
    close_by_us = timers.get((name, "close_by"))
    return close_by_us is not None and close_by_us <= at_us


class TimelyChecker:
    """Checks one shard.

    Args:
        late_s_max: how late a timer may fire; None: as late as it likes.
    """

    def __init__(self, shard: int, report: Report, *, late_s_max: float | None = None) -> None:
        self._shard = shard
        self._report = report
        self._late_us_max = None if late_s_max is None else round(late_s_max * US_PER_S)
        self._tasks: dict[UUID, _Task] = {}

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:  # noqa: PLR0915 - one case an event
        """Check the next event of the shard."""
        stream_id = recorded.stream_id
        task = self._tasks.get(stream_id)
        if task is None:
            if type(event) is not TaskCreated:
                return
            task = self._tasks[stream_id] = _Task()
        task.position = recorded.position
        timers = task.timers
        match event:
            case StepDispatched(step=name, start_by_us=start_by_us):
                if (name, "retry") in timers:
                    self._fires(recorded, task, name, "retry")
                if start_by_us is not None:
                    timers[name, "start_by"] = start_by_us
                    task.dispatched_us[name] = recorded.at_us
                if event.close_by_us is not None:
                    timers[name, "close_by"] = event.close_by_us
            case StepStarted(step=name, finish_by_us=finish_by_us):
                self._passes(recorded, task, name, "start_by")
                timers[name, "finish_by"] = finish_by_us + _FINISH_SLACK_US
            case StepCompleted(step=name) if not (task.waiting or task.children or (name, "time") in timers):
                self._completes(recorded, task, name)
            case TaskCreated(not_before_us=not_before_us, deadline_us=deadline_us):
                if not_before_us is not None:
                    timers["", _START] = not_before_us
                if deadline_us is not None:
                    timers["", _DEADLINE] = deadline_us
            case TaskCompleted() | TaskFailed() | TaskCancelled():
                self._passes(recorded, task, "", _DEADLINE)
                del self._tasks[stream_id]
            case StepAwaited(step=name) | ApprovalRequested(step=name) | EventAwaited(step=name):
                task.wait(event)
            case ApprovalEscalated(step=name):
                self._fires(recorded, task, name, "escalation")
            case WaitExpired(step=name):
                self._fires(recorded, task, name, "wait")
            case StepCompleted(step=name) | StepAttemptFailed(step=name) if name in task.waiting:
                task.wait_no_more(name)
            case ChildRequested(step=name):
                task.children.add(name)
            case PlaceRequested(step=name):
                task.places.add(name)
            case PlaceTaken(step=name):
                task.places.discard(name)
            case StepCompleted(step=name) | StepAttemptFailed(step=name) | StepCancelled(step=name) if (
                name in task.children
            ):
                task.children.discard(name)
                timers.pop((name, "grace"), None)
            case StepCompleted(step=name) if (name, "time") in timers:
                self._fires(recorded, task, name, "time")
            case StepDelayed(step=name, until_us=until_us):
                timers[name, "time"] = until_us
            case StepYielded(step=name, resume_at_us=resume_at_us):
                self._passes(recorded, task, name, "finish_by")
                timers.pop((name, "grace"), None)
                timers[name, "retry"] = resume_at_us
            case StepCompleted(step=name):
                self._completes(recorded, task, name)
            case TaskPostponed(not_before_us=not_before_us, deadline_us=deadline_us):
                timers["", _START] = not_before_us
                timers.pop(("", _DEADLINE), None)
                if deadline_us is not None:
                    timers["", _DEADLINE] = deadline_us
            case TaskStarted():
                self._fires(recorded, task, "", _START)
            case StepAttemptFailed(step=name):
                if _is_over(timers, name, recorded.at_us):
                    timers.pop((name, "start_by"), None)
                elif (name, "finish_by") not in timers and (name, "start_by") in timers:
                    # An attempt that was never started can only have waited too long.
                    self._fires(recorded, task, name, "start_by")
                self._passes(recorded, task, name, "finish_by")
                timers.pop((name, "grace"), None)
            case StepTimedOut(step=name, limit=limit):
                if limit == "schedule_to_close":
                    timers.pop((name, "retry"), None)
                    self._fires(recorded, task, name, "close_by")
            case StepFailed(step=name):
                if timers.pop((name, "retry"), None) is not None:
                    # Between two attempts it can only have failed because its time over all of them was over.
                    self._fires(recorded, task, name, "close_by")
                self._passes(recorded, task, name, "close_by")
            case StepSkipped(step=name) | StepResolved(step=name):
                task.wait_no_more(name)
                for what in ("retry", "time", "start_by", "finish_by", "close_by", "grace"):
                    timers.pop((name, what), None)
            case StepReleased(step=name):
                for what in ("retry", "time"):
                    if (name, what) in timers:
                        timers[name, what] = recorded.at_us
            case StepRetryScheduled(step=name, retry_at_us=retry_at_us):
                timers[name, "retry"] = retry_at_us
            case StepCancelRequested(step=name, grace_until_us=grace_until_us):
                timers.pop((name, "finish_by"), None)
                timers[name, "grace"] = grace_until_us
            case StepCancelled(step=name):
                if (name, "grace") in timers:
                    self._fires(recorded, task, name, "grace")
                task.wait_no_more(name)
                for what in ("retry", "time", "start_by", "finish_by", "close_by"):
                    timers.pop((name, what), None)
            case TaskStopping(cause=cause):
                task.paused = False
                if cause == "timeout":
                    self._fires(recorded, task, "", _DEADLINE)
                timers.pop(("", _DEADLINE), None)
                timers.pop(("", _START), None)
            case TaskDeadlinePassed():
                self._fires(recorded, task, "", _DEADLINE)
            case TaskDeadlineSet(deadline_us=deadline_us):
                if deadline_us is None:
                    timers.pop(("", _DEADLINE), None)
                else:
                    timers["", _DEADLINE] = deadline_us
                if event.goes_on:
                    task.blocked = False
                    task.resume(recorded.at_us)
            case TaskBlocked():
                task.blocked = True
            case TaskResumed():
                task.blocked = False
            case TaskPaused():
                task.paused, task.blocked = True, False
            case TaskUnpaused():
                task.resume(recorded.at_us)
            case TaskBudgetSet(goes_on=True):
                task.blocked = False
                task.resume(recorded.at_us)
            case _:
                pass

    def close(self) -> None:
        """Do nothing: tasks may go on."""

    def _fires(self, recorded: RecordedEvent, task: _Task, name: str, what: str) -> None:
        """Check an event that the timer alone can have caused, and close the timer."""
        at_us = task.timers.pop((name, what), None)
        if at_us is None:
            self._find(recorded.stream_id, recorded.position, f"{recorded.type} comes without {_named(name, what)}")
            return
        early_us = at_us - recorded.at_us
        if early_us > 0:
            detail = f"{recorded.type} comes {_s(early_us)} before {_named(name, what)}"
            self._find(recorded.stream_id, recorded.position, detail)
        self._check_late(recorded, at_us, name, what)

    def _passes(self, recorded: RecordedEvent, task: _Task, name: str, what: str) -> None:
        """Check that what the timer guards came before the timer should have fired, and close it."""
        at_us = task.timers.pop((name, what), None)
        if at_us is not None:
            self._check_late(recorded, at_us, name, what)

    def _completes(self, recorded: RecordedEvent, task: _Task, name: str) -> None:
        self._passes(recorded, task, name, "close_by")
        self._passes(recorded, task, name, "finish_by")
        task.timers.pop((name, "grace"), None)

    def _check_late(self, recorded: RecordedEvent, at_us: int, name: str, what: str) -> None:
        late_us = recorded.at_us - at_us
        if self._late_us_max is not None and late_us > self._late_us_max:
            detail = f"{recorded.type} comes {_s(late_us)} after {_named(name, what)}"
            self._find(recorded.stream_id, recorded.position, detail)

    def _find(self, stream_id: UUID, position: int, detail: str) -> None:
        self._report(
            Finding(
                invariant=Invariant.TIMELY,
                shard=self._shard,
                position=position,
                task_id=str(stream_id),
                detail=detail,
            )
        )


def _named(name: str, what: str) -> str:
    return f"the {what} of step {name}" if name else f"the task's {what}"


def _s(us: int) -> str:
    return f"{us / US_PER_S:.6f} s"
