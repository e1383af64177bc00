"""What a test sees of a task: its recorded events, and what the domain's own fold makes of them.

Nothing is kept here: each look folds what the log has now, so a run can be looked at before, during and after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar, cast, overload

import msgspec

from tasker.events.envelope import RecordedEvent
from tasker.events.reads import TASK_ENDED, EventView
from tasker.events.stored import from_recorded
from tasker.events.task_events import (
    AnyTaskEvent,
    ErrorInfo,
    StepAttemptFailed,
    StepRetryScheduled,
    TaskEvent,
)
from tasker.projections.views.task import TaskProjection, TaskRow, error_of
from tasker.replay.state_at import folded, stored_form
from tasker.service.domain.state import StepState, TaskState
from tasker.times import from_rfc3339, to_datetime

T = TypeVar("T")

Recorded = RecordedEvent | EventView
PENDING = "pending"
NOT_CHOSEN = "not_chosen"
_VIEW = TaskProjection()


class RunEvent(msgspec.Struct, frozen=True):
    """One recorded event of a task.

    Attributes:
        type: in snake case, as in the log: `step_completed`.
        data: the event itself; its fields can be read from here, too: `event.delay_s`.
    """

    type: str
    seq: int
    at: datetime
    data: AnyTaskEvent

    def __getattr__(self, name: str) -> Any:
        """Return a field of the event itself."""
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self.data, name)
        return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value


class StepRun:
    """One step of a task.

    Attributes:
        name: of the step.
        state: `pending`, `not_chosen`, `dispatched`, `running`, `waiting`, `completed`, `failed` or `cancelled`.
        why_not: why it will not run, when it is not chosen.
        attempts: how many attempts were dispatched.
        errors: why attempts failed, in their order.
        delays_s: the waits before its retries, as they were chosen.
        worker: who runs, or ran, the newest attempt.
    """

    def __init__(
        self,
        name: str,
        state: StepState | None,
        result: msgspec.Raw | None,
        events: Sequence[RunEvent],
        why_not: str | None = None,
    ) -> None:
        self._state = state
        self._result = result
        self.name = name
        self.why_not = None if state is not None else why_not
        not_begun = PENDING if why_not is None else NOT_CHOSEN
        self.state: str = not_begun if state is None else state.status.value
        self.attempts = 0 if state is None else state.attempt
        self.worker = None if state is None else state.worker
        own = [event.data for event in events if getattr(event.data, "step", None) == name]
        self.errors: tuple[ErrorInfo, ...] = tuple(one.error for one in own if isinstance(one, StepAttemptFailed))
        self.delays_s: tuple[float, ...] = tuple(one.delay_s for one in own if isinstance(one, StepRetryScheduled))

    def __repr__(self) -> str:
        return f"StepRun({self.name!r}, {self.state}, attempts={self.attempts})"

    @property
    def result(self) -> Any:
        """The recorded result; None when there is none."""
        return self.result_as(object)

    def result_as(self, type: Any) -> Any:
        """Return the recorded result, decoded as `type`; None when there is none."""
        return None if self._result is None else _decoded(self._result, type)

    @property
    def error(self) -> ErrorInfo | None:
        """Why it failed last; None when it did not, or has a result by now."""
        return None if self._state is None else self._state.error


class RunView:
    """A task, as its events are now."""

    def __init__(self, task_id: str, steps: Sequence[str], recorded: Callable[[], Sequence[Recorded]]) -> None:
        self.task_id = task_id
        self._step_names = steps
        self._recorded = recorded

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task_id}, {self.state})"

    @property
    def state(self) -> str:
        """`pending`, `running`, `blocked`, `compensating`, `completed`, `failed` or `cancelled`."""
        return self._fold().status.value

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more."""
        return self.state in TASK_ENDED

    @property
    def result(self) -> Any:
        """The task's result; None when it has none."""
        return self.result_as(object)

    @overload
    def result_as(self, type: type[T]) -> T: ...
    @overload
    def result_as(self, type: Any) -> Any: ...
    def result_as(self, type: Any) -> Any:
        """Return the task's result, decoded as `type`; None when it has none."""
        raw = self._fold().result
        return None if raw is None else _decoded(raw, type)

    @property
    def error(self) -> ErrorInfo | None:
        """Why it failed, or is blocked, as reads of the service show it; None when neither."""
        row: TaskRow | None = None
        for one in self._recorded():
            recorded = _recorded(one)
            row = _VIEW.apply(row, recorded, from_recorded(recorded))
        return None if row is None else error_of(row)

    @property
    def steps(self) -> Mapping[str, StepRun]:
        """The template's steps by name, those that have not begun among them; then visits of loops and items."""
        events, state = self.events, self._fold()
        names = dict.fromkeys((*self._step_names, *state.steps))
        return MappingProxyType(
            {
                name: StepRun(name, state.steps.get(name), state.result_at(name), events, state.closed.get(name))
                for name in names
            }
        )

    @property
    def events(self) -> tuple[RunEvent, ...]:
        """Everything that was recorded of it, in order."""
        return tuple(_event(one) for one in self._recorded())

    def events_of(self, type: str | type[TaskEvent]) -> tuple[RunEvent, ...]:
        """Return its events of one type, named as in the log (`step_completed`) or by class."""
        return tuple(
            event
            for event in self.events
            if (event.type == type if isinstance(type, str) else event.data.__class__ is type)
        )

    @property
    def history(self) -> tuple[str, ...]:
        """The types of its events, in order; those of a step with its name: `step_completed charge`."""
        return tuple(
            f"{event.type} {step}" if (step := getattr(event.data, "step", None)) else event.type
            for event in self.events
        )

    def _child_id(self, step: str) -> str:
        """Return the task that `step` started last.

        Raises:
            LookupError: it has started none.
        """
        started: dict[str, str] = {event.step: str(event.child) for event in self.events_of("child_started")}
        if step in started:
            return started[step]
        raise LookupError(f"step {step!r} has started no child task; {', '.join(sorted(started)) or 'no step'} has")

    def _fold(self) -> TaskState:
        return folded(self._recorded())


def _recorded(one: Recorded) -> RecordedEvent:
    """Return an event as the log has it; of one that a read showed only its place in its own stream is known."""
    if not isinstance(one, EventView):
        return one
    return RecordedEvent(shard=0, position=one.seq, epoch=0, chain=None, **msgspec.structs.asdict(stored_form(one)))


def _event(one: Recorded) -> RunEvent:
    stored = stored_form(one) if isinstance(one, EventView) else one
    at_us = from_rfc3339(one.at) if isinstance(one, EventView) else one.at_us
    return RunEvent(type=one.type, seq=one.seq, at=to_datetime(at_us), data=cast("AnyTaskEvent", from_recorded(stored)))


def _decoded(raw: msgspec.Raw, type: Any) -> Any:
    return msgspec.json.decode(raw) if type is object else msgspec.json.decode(raw, type=type)
