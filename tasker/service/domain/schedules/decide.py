"""What happens to a schedule: commands, and what falls due.

A fire time is handled once: it starts its task, or waits, or is skipped with the reason, and the event that says so
names the next one. So a time that nobody was there for is found by whoever comes next, and none is handled twice.

Whether a task of the schedule still runs is known to its owner alone. `needs_to_know` says which of them must be asked
before `GoOn` can be decided; a task that nobody answered for counts as running.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final, assert_never

from tasker.errors import BodyInvalid, ScheduleConflict, ScheduleForbids, ScheduleUnknown
from tasker.events.envelope import US_PER_S
from tasker.events.schedule_events import (
    AnyScheduleEvent,
    FireCause,
    ScheduleBackfillRequested,
    ScheduleBackfillStopped,
    ScheduleCreated,
    ScheduleDeleted,
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
    SkipReason,
)
from tasker.ids import task_id_of
from tasker.schedules.document import check_fires
from tasker.schedules.fire_times import due_us_of, fire_times, next_fire, time_text
from tasker.schedules.start import key_of_fire, key_of_trigger
from tasker.service.domain.schedules.commands import (
    AnyScheduleCommand,
    BackfillSchedule,
    CreateSchedule,
    DeleteSchedule,
    GoOn,
    NoteRefused,
    NoteStarted,
    PauseSchedule,
    ReconcileSchedule,
    ResumeSchedule,
    StopBackfill,
    TriggerSchedule,
    UpdateSchedule,
)
from tasker.service.domain.schedules.obligations import schedule_obligations
from tasker.service.domain.schedules.state import Backfill, ScheduleState, ScheduleStatus

Events = tuple[AnyScheduleEvent, ...]

FIRES_PER_TURN: Final = 50
"""So many fire times are handled in one turn, so that a long stop is not made up for in one breath."""

COUNTED_MAX: Final = 1_000
"""Skipped fire times are counted up to here."""

ON_TIME_S: Final = 10.0
"""A fire time that is handled within this is not late, whatever `catch_up_s` says: nobody is there at its very moment,
and a node that takes over from a lost one needs some seconds."""

BUFFERED_MAX: Final = 1_000
BACKFILLS_MAX: Final = 10

BACKFILL_FIRES_MAX: Final = 5_000
"""Fire times of one backfill: they are counted before it is taken."""


def decide_schedule(state: ScheduleState, command: AnyScheduleCommand) -> Events:
    """Return the events that `command` causes; () when it changes nothing.

    Raises:
        CommandRejected: `state` forbids the command.
    """
    if not state.exists and not isinstance(command, (CreateSchedule, NoteStarted, NoteRefused, ReconcileSchedule)):
        if isinstance(command, GoOn):
            return ()
        raise ScheduleUnknown(f"there is no schedule {state.namespace}/{state.name}" if state.name else "")
    match command:
        case CreateSchedule():
            return _create(state, command)
        case UpdateSchedule():
            return _update(state, command)
        case PauseSchedule(note=note):
            return () if state.status is ScheduleStatus.PAUSED and state.note == note else (SchedulePaused(note=note),)
        case ResumeSchedule():
            return _resume(state, command)
        case TriggerSchedule(at_us=at_us, command_id=command_id):
            return (_fire(state, at_us, "trigger", key_of_trigger(state.name, command_id)),)
        case BackfillSchedule():
            return _backfill(state, command)
        case StopBackfill(end_us=end_us):
            return _stop_backfill(state, end_us)
        case DeleteSchedule():
            return (*_drop_buffered(state), ScheduleDeleted())
        case GoOn():
            return _go_on(state, command)
        case NoteStarted(task_id=task_id, duplicate=duplicate):
            return (ScheduleTaskStarted(task_id=task_id, duplicate=duplicate),) if task_id in state.starting else ()
        case NoteRefused(task_id=task_id, code=code, detail=detail):
            if task_id not in state.starting:
                return ()
            return (ScheduleStartRefused(task_id=task_id, code=code, detail=detail),)
        case ReconcileSchedule(lost=lost, obligations=obligations):
            found = tuple(one for one in obligations if one in schedule_obligations(state))
            return (ScheduleReconciled(lost=lost, obligations=found),) if found else ()
        case _:
            assert_never(command)


def needs_to_know(state: ScheduleState, at_us: int) -> tuple[str, ...]:
    """Return the tasks of whose end somebody must be asked, before what is due can be decided."""
    if not state.running or not state.exists:
        return ()
    waits = bool(state.buffered) and state.status is ScheduleStatus.ACTIVE and state.spec.overlap != "allow"
    fills = bool(state.backfills) and state.backfills[0].overlap == "buffer_all"
    due = state.status is ScheduleStatus.ACTIVE and state.due_us is not None and state.due_us <= at_us
    return tuple(state.running) if waits or fills or (due and state.spec.overlap != "allow") else ()


def tasks_to_cancel(state: ScheduleState) -> tuple[str, ...]:
    """Return the tasks that are to be cancelled, because a fire time waits for their end."""
    wants = state.spec.overlap == "cancel_running" and state.buffered and state.status is ScheduleStatus.ACTIVE
    return tuple(state.running) if wants else ()


# ---------------------------------------------------------------- commands


def _create(state: ScheduleState, command: CreateSchedule) -> Events:
    if state.exists:
        if state.spec == command.spec:
            return ()
        raise ScheduleConflict(
            f"schedule {command.namespace}/{command.name} has another document; change it with schedule.update",
            namespace=command.namespace,
            name=command.name,
        )
    next_us = check_fires(command.spec, command.at_us)
    identity = f"{state.tenant}/{command.namespace}/{command.name}"
    return (
        ScheduleCreated(
            namespace=command.namespace,
            name=command.name,
            spec=command.spec,
            next_us=next_us,
            due_us=due_us_of(command.spec, identity, next_us),
        ),
    )


def _update(state: ScheduleState, command: UpdateSchedule) -> Events:
    if state.spec == command.spec:
        return ()
    next_us: int | None
    if state.next_us is not None and state.due_us is not None and state.due_us <= command.at_us:
        next_us = state.next_us  # what fell due before the change is not lost by it
    else:
        next_us = check_fires(command.spec, command.at_us)
    if _spent(command.spec, state.fired + len(state.buffered)):
        next_us = None
    due_us = None if next_us is None else due_us_of(command.spec, state.identity, next_us)
    return (ScheduleUpdated(spec=command.spec, next_us=next_us, due_us=due_us),)


def _resume(state: ScheduleState, command: ResumeSchedule) -> Events:
    if state.status is not ScheduleStatus.PAUSED:
        return ()
    resumed = ScheduleResumed(note=command.note)
    if state.next_us is None or state.due_us is None or state.due_us > command.at_us:
        return (resumed,)
    return (resumed, _skip_behind(state, command.at_us, "paused"))


def _backfill(state: ScheduleState, command: BackfillSchedule) -> Events:
    if command.end_us > command.at_us:
        raise BodyInvalid.at("/end", "a backfill is of the past; its end is not after now")
    first_us = next_fire(state.spec, command.start_us - 1)
    if first_us is None or first_us >= command.end_us:
        raise BodyInvalid.at(
            "/start", f"no fire time from {time_text(command.start_us)} up to {time_text(command.end_us)}"
        )
    looked_at = islice(fire_times(state.spec, command.start_us - 1), BACKFILL_FIRES_MAX + 1)
    fires = sum(fire_us < command.end_us for fire_us in looked_at)
    if fires > BACKFILL_FIRES_MAX:
        raise BodyInvalid.at(
            "/start", f"a backfill has at most {BACKFILL_FIRES_MAX:,} fire times; ask for a shorter range"
        )
    if len(state.backfills) >= BACKFILLS_MAX:
        raise ScheduleForbids(f"{BACKFILLS_MAX} backfills wait already; try again when one is done")
    return (
        ScheduleBackfillRequested(
            start_us=command.start_us, end_us=command.end_us, overlap=command.overlap, first_us=first_us, fires=fires
        ),
    )


def _stop_backfill(state: ScheduleState, end_us: int | None) -> Events:
    stopped = [one for one in state.backfills if end_us in (None, one.end_us)]
    if not stopped:
        upto = "" if end_us is None else f" up to {time_text(end_us)}"
        raise ScheduleForbids(f"no backfill{upto} is open")
    return tuple(ScheduleBackfillStopped(next_us=one.next_us, end_us=one.end_us) for one in stopped)


def _drop_buffered(state: ScheduleState) -> Events:
    if not state.buffered:
        return ()
    first_us, last_us = min(state.buffered), max(state.buffered)
    return (ScheduleFiresSkipped(first_us=first_us, until_us=last_us + 1, reason="deleted", count=len(state.buffered)),)


# ---------------------------------------------------------------- what is due


def _go_on(state: ScheduleState, command: GoOn) -> Events:
    ended = tuple(task_id for task_id in state.running if task_id in command.ended)
    events: list[AnyScheduleEvent] = [ScheduleTasksEnded(task_ids=ended)] if ended else []
    busy = bool(state.starting) or len(ended) < len(state.running)
    active = state.status is ScheduleStatus.ACTIVE
    buffered = list(state.buffered)
    if active and buffered:
        free = FIRES_PER_TURN if state.spec.overlap == "allow" else int(not busy)
        for fire_us in buffered[:free]:
            events.append(_fire(state, fire_us, "buffered", key_of_fire(state.name, fire_us)))
            busy = True
        del buffered[:free]
    if active:
        due = _due(state, command.at_us, busy=busy, buffered=buffered)
        events += due
        busy = busy or any(isinstance(event, ScheduleFired) for event in due)
    if state.backfills:
        events += _fill(state, state.backfills[0], busy=busy or bool(active and buffered))
    return tuple(events)


def _due(state: ScheduleState, at_us: int, *, busy: bool, buffered: list[int]) -> Sequence[AnyScheduleEvent]:
    """Return what becomes of the fire times that are due; `buffered` is kept up to date."""
    events: list[AnyScheduleEvent] = []
    spec, next_us, due_us = state.spec, state.next_us, state.due_us
    if next_us is None or due_us is None or due_us > at_us:
        return events
    catch_up_us = round(max(spec.catch_up_s, ON_TIME_S) * US_PER_S)
    if due_us < at_us - catch_up_us:
        missed = _skip_behind(state, at_us - catch_up_us - 1, "missed")
        events.append(missed)
        next_us, due_us = missed.next_us, missed.due_us
    counted = state.fired + len(state.buffered)
    for _ in range(FIRES_PER_TURN):
        if next_us is None or due_us is None or due_us > at_us:
            break
        fire_us = next_us
        starts = spec.overlap == "allow" or not (busy or buffered)
        waits = not starts and _may_wait(spec, buffered)
        counted += starts or waits
        if waits and spec.overlap == "cancel_running" and buffered:
            counted -= len(buffered)
            events += [
                ScheduleFiresSkipped(first_us=older, until_us=older + 1, reason="replaced", count=1)
                for older in buffered
            ]
            buffered.clear()
        next_us = None if _spent(spec, counted) else next_fire(spec, fire_us)
        due_us = None if next_us is None else due_us_of(spec, state.identity, next_us)
        if starts:
            key = key_of_fire(state.name, fire_us)
            events.append(_fire(state, fire_us, "time", key, next_us=next_us, due_us=due_us))
            busy = True
        elif waits:
            events.append(ScheduleFireBuffered(fire_us=fire_us, next_us=next_us, due_us=due_us))
            buffered.append(fire_us)
        else:
            reason: SkipReason = "buffer_full" if spec.overlap == "buffer_all" else "overlap"
            events.append(
                ScheduleFiresSkipped(
                    first_us=fire_us, until_us=fire_us + 1, reason=reason, count=1, next_us=next_us, due_us=due_us
                )
            )
    return events


def _may_wait(spec: ScheduleSpec, buffered: Sequence[int]) -> bool:
    match spec.overlap:
        case "buffer_one":
            return not buffered
        case "buffer_all":
            return len(buffered) < BUFFERED_MAX
        case "cancel_running":
            return True
        case "skip" | "allow":
            return False
        case _:
            assert_never(spec.overlap)


def _fill(state: ScheduleState, backfill: Backfill, *, busy: bool) -> Sequence[AnyScheduleEvent]:
    """Return the next starts of a backfill."""
    events: list[AnyScheduleEvent] = []
    fire_us: int | None = backfill.next_us
    many = FIRES_PER_TURN if backfill.overlap == "allow" else int(not busy)
    for _ in range(many):
        if fire_us is None:
            break
        next_us = next_fire(state.spec, fire_us)
        if next_us is not None and next_us >= backfill.end_us:
            next_us = None
        events.append(_fire(state, fire_us, "backfill", key_of_fire(state.name, fire_us), next_us=next_us))
        fire_us = next_us
    return events


def _skip_behind(state: ScheduleState, at_us: int, reason: SkipReason) -> ScheduleFiresSkipped:
    """Return that all fire times from the next one on that were due by `at_us` start nothing."""
    spec, first_us = state.spec, state.next_us
    assert first_us is not None  # noqa: S101 - the caller looked
    count, until_us = 0, None
    counted = True
    # What is due by then has a fire time not after it; so nothing need be looked at one by one behind a bound.
    for fire_us in fire_times(spec, first_us - 1):
        if due_us_of(spec, state.identity, fire_us) > at_us:
            until_us = fire_us
            break
        count += 1
        if count > COUNTED_MAX:
            counted = False
            break
    if not counted:
        behind_us = max(first_us, at_us - round(spec.jitter_s * US_PER_S))
        until_us = next(
            (one for one in fire_times(spec, behind_us - 1) if due_us_of(spec, state.identity, one) > at_us), None
        )
    return ScheduleFiresSkipped(
        first_us=first_us,
        until_us=at_us + 1 if until_us is None else until_us,
        reason=reason,
        count=count if counted else None,
        next_us=until_us,
        due_us=None if until_us is None else due_us_of(spec, state.identity, until_us),
    )


def _fire(
    state: ScheduleState,
    fire_us: int,
    cause: FireCause,
    key: str,
    *,
    next_us: int | None = None,
    due_us: int | None = None,
) -> ScheduleFired:
    task_id = task_id_of(state.tenant, state.namespace, state.spec.template, key)
    return ScheduleFired(fire_us=fire_us, cause=cause, task_id=str(task_id), key=key, next_us=next_us, due_us=due_us)


def _spent(spec: ScheduleSpec, fires: int) -> bool:
    return spec.fires_max is not None and fires >= spec.fires_max
