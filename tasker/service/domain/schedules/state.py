"""What a schedule is, folded from its events."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, assert_never

import msgspec

from tasker.events.command_memory import CommandMemory
from tasker.events.envelope import US_PER_S, RecordedEvent, StreamKind
from tasker.events.schedule_events import (
    AnyScheduleEvent,
    BackfillOverlap,
    FireCause,
    ScheduleBackfillRequested,
    ScheduleBackfillStopped,
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleEvent,
    ScheduleFireBuffered,
    ScheduleFired,
    ScheduleFiresSkipped,
    SchedulePaused,
    ScheduleReconciled,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleStartRefused,
    ScheduleTasksEnded,
    ScheduleTaskStarted,
    ScheduleUpdated,
)
from tasker.events.state_form import StateForm
from tasker.events.stored import from_recorded, meta_of

RUNNING_MAX: Final = 100
"""So many tasks are followed; with `overlap: allow` there may be more, and nobody needs to know."""

CHECK_S: Final = 0.5
"""A fire that waits for a running task looks for its end so much later, then after twice as long, and so on."""


_NO_SPEC: Final = ScheduleSpec(template="")


class ScheduleStatus(StrEnum):
    """Whether a schedule fires."""

    ABSENT = "absent"
    ACTIVE = "active"
    PAUSED = "paused"
    DELETED = "deleted"


class Start(msgspec.Struct, frozen=True):
    """A start that is owed: a fire whose task's owner has not acknowledged it."""

    fire_us: int
    cause: FireCause
    key: str
    spec: ScheduleSpec
    fired_us: int


class Backfill(msgspec.Struct):
    """Past fire times that are to be started, from `next_us` up to `end_us`."""

    next_us: int
    end_us: int
    overlap: BackfillOverlap


class ScheduleState(msgspec.Struct):
    """A schedule. Owned by one actor. Kept in snapshots as it is (`SCHEDULE_FORM`).

    Attributes:
        next_us, due_us: the next fire time, and when it is due; None: there is none.
        starting: id of a task -> its start, until its owner acknowledged it.
        running: id of a task -> its fire time: acknowledged, and not known to have ended.
        buffered: fire times that wait for the end of a task, in order.
        fired: how many fire times started a task; with those that wait they count for `fires_max`.
        go_on_us: when what waits is to be looked at.
        commands: the last commands that changed it.
    """

    tenant: str
    seq: int = 0
    namespace: str = ""
    name: str = ""
    status: ScheduleStatus = ScheduleStatus.ABSENT
    spec: ScheduleSpec = _NO_SPEC
    note: str | None = None
    next_us: int | None = None
    due_us: int | None = None
    fired: int = 0
    starting: dict[str, Start] = {}
    running: dict[str, int] = {}
    buffered: list[int] = []
    backfills: list[Backfill] = []
    go_on_us: int = 0
    commands: CommandMemory = msgspec.field(default_factory=CommandMemory)

    @property
    def exists(self) -> bool:
        """Whether there is such a schedule."""
        return self.status in (ScheduleStatus.ACTIVE, ScheduleStatus.PAUSED)

    @property
    def shown(self) -> str:
        """Its status in a word; one that has nothing ahead and nothing to do is `finished`."""
        open_ends = self.next_us is not None or self.buffered or self.backfills or self.starting
        return "finished" if self.status is ScheduleStatus.ACTIVE and not open_ends else self.status.value

    @property
    def identity(self) -> str:
        """What tells it from all other schedules."""
        return f"{self.tenant}/{self.namespace}/{self.name}"

    @property
    def busy(self) -> bool:
        """Whether a task of it runs, as far as is known."""
        return bool(self.starting or self.running)


def evolve_schedule(
    state: ScheduleState,
    event: AnyScheduleEvent,
    *,
    at_us: int,
    command_id: str | None = None,
    request: str | None = None,
) -> ScheduleState:
    """Return `state` moved on by `event`; `command_id` and `request` are those of its `Meta`. Total; in place."""
    state.seq += 1
    state.commands.remember(command_id, request, state.seq)
    match event:
        case ScheduleCreated():
            state.namespace, state.name, state.spec = event.namespace, event.name, event.spec
            state.status, state.note, state.fired = ScheduleStatus.ACTIVE, None, 0
            _move(state, event)
        case ScheduleUpdated():
            state.spec = event.spec
            _move(state, event)
        case SchedulePaused():
            state.status, state.note = ScheduleStatus.PAUSED, event.note
        case ScheduleResumed():
            state.status, state.note = ScheduleStatus.ACTIVE, event.note
        case ScheduleDeleted():
            state.status = ScheduleStatus.DELETED
            state.buffered, state.backfills, state.next_us, state.due_us = [], [], None, None
        case ScheduleBackfillRequested():
            state.backfills.append(Backfill(event.first_us, event.end_us, event.overlap))
        case ScheduleBackfillStopped(next_us=next_us, end_us=end_us):
            place = next(
                (at for at, one in enumerate(state.backfills) if (one.next_us, one.end_us) == (next_us, end_us)), None
            )
            if place is not None:
                del state.backfills[place]
        case ScheduleFireBuffered():
            state.buffered.append(event.fire_us)
            _move(state, event)
        case ScheduleFired():
            _fired(state, event, at_us)
        case ScheduleFiresSkipped():
            if event.reason in ("replaced", "deleted"):
                state.buffered = [one for one in state.buffered if not event.first_us <= one < event.until_us]
            else:
                _move(state, event)
        case ScheduleTaskStarted():
            start = state.starting.pop(event.task_id, None)
            state.running[event.task_id] = start.fire_us if start is not None else at_us
            if len(state.running) > RUNNING_MAX:
                del state.running[next(iter(state.running))]
        case ScheduleStartRefused():
            state.starting.pop(event.task_id, None)
        case ScheduleTasksEnded():
            for task_id in event.task_ids:
                state.running.pop(task_id, None)
        case ScheduleReconciled():
            return state
        case _:
            assert_never(event)
    state.go_on_us = at_us + (round(CHECK_S * US_PER_S) if _must_wait(state) else 0)
    return state


def fold_schedule(state: ScheduleState, recorded: RecordedEvent) -> None:
    """Move `state` on by a recorded event.

    Raises:
        Undecodable: this build cannot read it.
    """
    event = from_recorded(recorded)
    assert isinstance(event, ScheduleEvent)  # noqa: S101 - a schedule's stream holds only these
    state.tenant = recorded.tenant
    meta = meta_of(recorded)
    evolve_schedule(state, event, at_us=recorded.at_us, command_id=meta.command_id, request=meta.request)  # type: ignore[arg-type]


def _move(
    state: ScheduleState,
    event: ScheduleCreated | ScheduleUpdated | ScheduleFireBuffered | ScheduleFired | ScheduleFiresSkipped,
) -> None:
    state.next_us, state.due_us = event.next_us, event.due_us


def _fired(state: ScheduleState, event: ScheduleFired, at_us: int) -> None:
    state.starting[event.task_id] = Start(event.fire_us, event.cause, event.key, state.spec, at_us)
    match event.cause:
        case "time":
            state.fired += 1
            _move(state, event)
        case "buffered":
            state.fired += 1
            state.buffered = [one for one in state.buffered if one != event.fire_us]
        case "backfill":
            if event.next_us is None:
                del state.backfills[:1]
            elif state.backfills:
                state.backfills[0].next_us = event.next_us
        case "trigger":
            pass
        case _:
            assert_never(event.cause)


def _must_wait(state: ScheduleState) -> bool:
    """Return whether what waits has to, until a task has ended."""
    if state.buffered and state.spec.overlap == "allow":
        return False
    if state.backfills and state.backfills[0].overlap == "allow":
        return False
    return state.busy


SCHEDULE_FORM: Final = StateForm[ScheduleState](
    kind=StreamKind.SCHEDULE,
    number=2,
    new=lambda: ScheduleState(""),
    fold=fold_schedule,
    kept=ScheduleState,
)
