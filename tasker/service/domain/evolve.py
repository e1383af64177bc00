"""How a task's events move its state.

`evolve` is total: a recorded event is never refused. It updates the state of its one owner in place,
and its cost does not grow with the number of steps (that of the one which plans compensations does).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, assert_never

import msgspec

from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    ApprovalAnswered,
    ApprovalDelegated,
    ApprovalEscalated,
    ApprovalRequested,
    ChildRequested,
    ChildStarted,
    DomainEventRaised,
    EventAwaited,
    EventMatched,
    LoopTurned,
    ParentsOverridden,
    PathsClosed,
    PlaceDenied,
    PlaceRequested,
    PlaceTaken,
    ProgressRecorded,
    RunningTimeSpent,
    SignalReceived,
    StaleEnded,
    StepAttemptFailed,
    StepAttemptsReset,
    StepAwaited,
    StepCancelled,
    StepCancelRequested,
    StepCompleted,
    StepDelayed,
    StepDispatched,
    StepExpanded,
    StepFailed,
    StepFailureAccepted,
    StepGathered,
    StepItemsHeld,
    StepReleased,
    StepResolved,
    StepResultEdited,
    StepRetried,
    StepRetryScheduled,
    StepRouted,
    StepSignalled,
    StepSkipped,
    StepStarted,
    StepTimedOut,
    StepYielded,
    TaskBlocked,
    TaskBudgetSet,
    TaskCancelled,
    TaskCompensating,
    TaskCompleted,
    TaskCreated,
    TaskDeadlinePassed,
    TaskDeadlineSet,
    TaskFailed,
    TaskPaused,
    TaskPostponed,
    TaskReconciled,
    TaskResumed,
    TaskStarted,
    TaskStopping,
    TaskUnpaused,
    TaskUpdated,
    UsageRecorded,
    WaitExpired,
    WentStale,
)
from tasker.events.usage import TOKEN_METERS, added
from tasker.service.domain.costs.running_time import RunningTime
from tasker.service.domain.dead_letters.staleness import WAITING, Staleness
from tasker.service.domain.shared_state.written import Shared
from tasker.service.domain.state import (
    DEADLINE_PASSED,
    STEP_CANCELLED,
    STEP_COMPLETED,
    STEP_DISPATCHED,
    STEP_OPEN,
    STEP_RUNNING,
    STEP_SETTLED,
    STEP_WAITING,
    TASK_PAUSED,
    TASK_RUNNING,
    ChildrenTold,
    Expansion,
    Place,
    StepState,
    StepStatus,
    TaskState,
    TaskStatus,
    instances_to_undo,
)
from tasker.service.domain.waits.inbox import Inbox
from tasker.service.domain.waits.wait_state import ApprovalWait, EventWait
from tasker.templates.instances import is_item, is_undo, name_of, node_of


def evolve(  # noqa: PLR0915 - one case an event
    state: TaskState, event: AnyTaskEvent, *, at_us: int, command_id: str | None = None, request: str | None = None
) -> TaskState:
    """Return `state` moved on by `event`, which was recorded at `at_us`. Total.

    `command_id` and `request` are those of its `Meta`.
    """
    state.seq += 1
    if command_id is not None and type(event) is not SignalReceived:  # the inbox knows those for good
        state.commands.remember(command_id, request, state.seq)
    match event:
        case StepDispatched(step=name, attempt=attempt):
            step = _enter(state, name, STEP_DISPATCHED)
            step.attempt = attempt
            step.dispatched_us = at_us
            step.start_by_us = event.start_by_us
            if event.close_by_us is not None:
                step.close_by_us = event.close_by_us
            step.worker = None
            step.kept_for = event.worker
        case StepStarted(step=name):
            step = _enter(state, name, STEP_RUNNING)
            step.worker = event.worker
            step.started_us = at_us
            step.finish_by_us = event.finish_by_us
            step.heartbeat_s = event.heartbeat_s
        case StepCompleted(step=name, attempt=attempt):
            step = _enter(state, name, STEP_COMPLETED)
            step.ended_attempt = attempt
            step.result = event.result
            step.error = None
            step.cancel_by_us = None
            if event.writes:
                _write(state, name, event.writes)
        case TaskCreated():
            state.status = TASK_RUNNING if event.not_before_us is None else TaskStatus.PENDING
            state.template = event.template
            state.input = event.input
            state.request_hash = event.request_hash
            state.idempotency_key = event.idempotency_key
            state.tags = event.tags
            state.metadata = event.metadata
            state.created_us = at_us
            state.not_before_us = event.not_before_us
            state.deadline_us = state.deadline_us_given = event.deadline_us
            state.created_by = event.created_by
            state.admitted_us = event.admitted_us
            state.priority = event.priority
            state.depth = event.depth
            if event.stale_after is not None:
                state.staleness = Staleness(event.stale_after)
            if event.running_s_max is not None:
                state.running = RunningTime(float(event.running_s_max))
        case TaskCompleted():
            _end(state, TaskStatus.COMPLETED)
            state.result = event.result
        case TaskPostponed():
            state.input = event.input
            state.not_before_us = event.not_before_us
            state.deadline_us = state.deadline_us_given = event.deadline_us
            if state.starts is None:
                state.starts = {}
            state.starts[event.start] = event.request_hash
            _changed_by(state, event.by)
        case TaskStarted():
            state.status = TASK_RUNNING
        case StepAttemptFailed(step=name, attempt=attempt):
            # The fact alone; what follows from it (retry, failure, cancellation) is an event of its own.
            step = _enter(state, name, STEP_WAITING)
            step.waits = "retry"
            step.ended_attempt = attempt
            step.error = event.error
            step.timed_out = None
            step.cancel_by_us = None
        case StepRetryScheduled(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.retry_at_us = event.retry_at_us
        case StepFailed(step=name):
            step = _enter(state, name, StepStatus.FAILED)
            step.attempt = event.attempt
            step.error = event.error
            if step.of is None and not step.undoes:
                state.failed[name] = None
        case StepCancelRequested(step=name):
            _entry(state, name).cancel_by_us = event.grace_until_us
        case StepCancelled(step=name):
            _enter(state, name, STEP_CANCELLED).cancel_by_us = None
        case StepRetried(step=name, attempt=attempt):
            _forget_failure(state, name)
            step = _entry(state, name)
            step.first_attempt = attempt
            step.close_by_us = None
            if step.expansion is not None:
                _enter(state, name, STEP_WAITING)
            elif step.failed_before_it_began:
                del state.steps[name]  # it failed before it began, at an expression say: it may begin again
            else:
                _enter(state, name, STEP_WAITING)
                if step.of is not None:
                    step.waits = "turn"
                    step.of.again[name] = None
                elif state.held:
                    step.waits = "pause"
        case StepSkipped(step=name) | StepResolved(step=name):
            _forget_failure(state, name)
            step = _enter(state, name, STEP_COMPLETED)
            if step.expansion is not None or isinstance(event, StepSkipped):
                step.completed_seq = 0
                if state.shared is not None:
                    state.shared.by_hand[name] = state.seq
            step.expansion = None
            step.result = event.result
            step.error = None
            step.cancel_by_us = None
            _changed_by(state, event.by)
        case StepAttemptsReset(step=name, attempt=attempt):
            _entry(state, name).first_attempt = attempt
        case StepResultEdited(step=name):
            step = _entry(state, name)
            step.result = event.result
            if step.of is not None:
                step.of.changed()
            _changed_by(state, event.by)
        case StepReleased(step=name):
            step = _entry(state, name)
            step.retry_at_us = at_us
            if step.wait is not None:
                step.wait.release(at_us)
        case ParentsOverridden():
            pass  # what begins by it says so
        case StepRouted(step=name):
            for child in event.closed:
                state.closed_edges[name_of(name), child] = None
        case PathsClosed(steps=names):
            state.closed.update((name, event.reason) for name in names)
            state.closed_edges.update((edge, None) for edge in event.edges)
            state.settled += len(names)
        case StepFailureAccepted(step=name):
            state.failed.pop(name, None)
            state.accepted[name] = None
            state.settled += 1
        case StepExpanded(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.attempt = 1
            step.dispatched_us = at_us
            step.waits = "items"
            step.expansion = Expansion(msgspec.json.decode(event.items, type=list[msgspec.Raw]), event.keys)
        case StepGathered(step=name):
            _enter(state, name, STEP_COMPLETED).error = None
        case StepYielded(step=name, attempt=attempt):
            step = _enter(state, name, STEP_WAITING)
            step.waits = "retry"
            step.ended_attempt = attempt
            step.first_attempt = attempt + 1
            step.checkpoint = event.checkpoint
            step.retry_at_us = event.resume_at_us
            step.error = None
            step.cancel_by_us = None
            if event.writes:
                _write(state, name, event.writes)
        case StepDelayed(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.attempt = event.attempt
            step.dispatched_us = at_us
            step.waits = "time"
            step.retry_at_us = event.until_us
        case ChildRequested(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.attempt = event.attempt
            step.dispatched_us = at_us
            step.waits = "child"
            step.child_request = event
            step.child = None
        case ChildStarted(step=name):
            _entry(state, name).child = event.child
        case SignalReceived():
            _inbox(state).receive(event, command_id, request)
        case StepAwaited(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.attempt = event.attempt
            step.dispatched_us = at_us
            step.waits = "signal"
            step.error = None
            step.wait = _inbox(state).await_signal(name, event)
        case StepSignalled(step=name):
            _inbox(state).take(_entry(state, name).wait, event.numbers)
        case ApprovalRequested(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.attempt = event.attempt
            step.dispatched_us = at_us
            step.waits = "approval"
            step.error = None
            step.wait = ApprovalWait(event)
        case ApprovalAnswered(step=name):
            _approval(state, name).answer(event, at_us)
        case ApprovalDelegated(step=name):
            _approval(state, name).delegate(event)
        case ApprovalEscalated(step=name):
            _approval(state, name).escalate(event)
        case EventAwaited(step=name):
            step = _enter(state, name, STEP_WAITING)
            step.attempt = event.attempt
            step.dispatched_us = at_us
            step.waits = "event"
            step.error = None
            step.wait = EventWait(event, at_us)
        case EventMatched(step=name):
            found = _entry(state, name).wait
            if isinstance(found, EventWait):
                found.matched = event.event
        case TaskReconciled():
            pass  # its obligations are what they were
        case StepItemsHeld(step=name):
            held = _entry(state, name).expansion
            if held is not None:
                held.is_held = True
        case WaitExpired():
            pass  # what becomes of the step says so
        case PlaceRequested(step=name):
            state.places[name] = Place(event, at_us)
            if name:
                step = _enter(state, name, STEP_WAITING)
                step.attempt = event.attempt
                step.dispatched_us = at_us
                step.waits = "place"
            else:
                state.status = TaskStatus.PENDING
        case PlaceTaken(step=name):
            if name in state.places:
                state.places[name].held = True
            if name:
                pass  # what begins by it says so
            elif state.paused:
                state.paused_from = TASK_RUNNING
            elif state.blocked_reason == DEADLINE_PASSED:
                state.paused_from = None
            else:
                state.status = TASK_RUNNING
        case PlaceDenied(step=name):
            if name in state.places:
                state.places[name].denied = True
        case LoopTurned():
            _turn(state, event)
        case TaskBlocked():
            if state.status is TaskStatus.PENDING and event.reason == DEADLINE_PASSED:
                state.paused_from = TaskStatus.PENDING
            state.status = TaskStatus.BLOCKED
            state.blocked_reason = event.reason
        case TaskResumed():
            state.status = TaskStatus.COMPENSATING if state.to_undo else _going_on(state)
            state.blocked_reason = None
        case TaskPaused(children=children):
            if not state.paused:
                state.paused_from = state.paused_from or state.status
                state.paused_by = command_id
            state.status = TASK_PAUSED
            state.blocked_reason = None
            if children:
                state.children_told = ChildrenTold(state.seq, False, at_us)  # noqa: FBT003 - a tuple of three
        case TaskUnpaused(children=children):
            told = state.children_told
            state.children_told = told._replace(is_over=True, at_us=at_us) if told is not None and children else None
            state.paused_by = None
            state.status = _going_on(state)
            state.resumed_us = at_us
        case TaskUpdated(tags=tags, metadata=metadata, priority=priority):
            if tags is not None:
                state.tags = tags
            if metadata is not None:
                state.metadata = None if metadata == NULL else metadata
            if priority is not None:
                state.priority = priority
        case StepTimedOut(step=name):
            _entry(state, name).timed_out = event.then
        case TaskDeadlineSet():
            state.deadline_us = event.deadline_us
            state.is_late = False
            if event.goes_on:
                state.status = _going_on(state)
                state.blocked_reason = None
                state.resumed_us = at_us
        case TaskDeadlinePassed():
            state.deadline_us = None
            state.is_late = event.then == "block"
        case UsageRecorded():
            if state.usage is None:
                state.usage = {}
            count_usage(state.usage, event)
            metered = state.steps.get(event.step)
            if metered is not None:
                metered.metered = event.attempt
            if event.excess is not None:
                state.over_budget = event.excess
        case RunningTimeSpent():
            state.over_budget = event.excess
        case TaskBudgetSet():
            state.budget = event
            state.over_budget = None
            if state.running is not None and event.running_s_max is not None:
                state.running.limit_s = float(event.running_s_max)
            if event.goes_on:
                state.status = TASK_RUNNING
                state.blocked_reason = None
                state.resumed_us = at_us
        case TaskStopping():
            state.stopping = event
            if state.status in (TaskStatus.BLOCKED, TASK_PAUSED):
                # It moves again, towards its end: its running steps are told, and owe an outcome.
                state.status = TASK_RUNNING
                state.blocked_reason = None
        case TaskCompensating():
            state.status = TaskStatus.COMPENSATING
            state.to_undo = instances_to_undo(state, event.steps)
        case TaskFailed():
            _end(state, TaskStatus.FAILED)
            state.error = event.error
        case TaskCancelled():
            _end(state, TaskStatus.CANCELLED)
        case DomainEventRaised() | ProgressRecorded():
            pass  # what it says is for others; nothing of the task moves
        case WentStale(step=scope):
            if state.staleness is not None:
                state.staleness.tell(scope)
        case StaleEnded(step=scope):
            if state.staleness is not None:
                state.staleness.told.pop(scope, None)
        case _:
            assert_never(event)
    if state.staleness is not None:
        _note_standing(state, state.staleness, event, at_us)
    if state.running is not None:
        _note_running(state, state.running, event, at_us)
    return state


_STANDS_STILL: Final = frozenset({TaskStatus.PENDING, TaskStatus.BLOCKED, TASK_PAUSED})


def _note_standing(state: TaskState, staleness: Staleness, event: AnyTaskEvent, at_us: int) -> None:
    """Take note of whether the task, and the step that `event` is about, stand still."""
    if state.status in _STANDS_STILL and state.blocked_reason not in ("history_limit", "no_progress"):
        staleness.stands("", str(state.status), at_us)
    else:
        staleness.moves("")
    name: str = getattr(event, "step", None) or ""
    entry = state.steps.get(name)
    if entry is None:
        return
    if entry.status is STEP_WAITING and entry.waits not in ("items", "turn", "pause"):
        staleness.stands(name, WAITING, at_us)
    else:
        staleness.moves(name)


def _note_running(state: TaskState, running: RunningTime, event: AnyTaskEvent, at_us: int) -> None:
    """Take note of whether the step that `event` is about runs."""
    name: str = getattr(event, "step", None) or ""
    entry = state.steps.get(name)
    if entry is not None and entry.status is STEP_RUNNING:
        running.runs(name, at_us)
    else:
        running.rests(name, at_us)


def _forget_failure(state: TaskState, name: str) -> None:
    """Let a step's failure, accepted or not, count no more."""
    state.failed.pop(name, None)
    if state.accepted.pop(name, name) is None:
        state.settled -= 1


def _enter(state: TaskState, name: str, status: StepStatus) -> StepState:
    """Return the step, moved to `status`, with the task's counts kept right."""
    step = _entry(state, name)
    before = step.status
    if step.waits == "turn":
        step.waits = "retry"
        if step.of is not None:
            step.of.again.pop(name, None)
    if state.places and status not in STEP_OPEN:
        _leave_place(state, name)
    if before is not status:
        state.open += (status in STEP_OPEN) - (before in STEP_OPEN)
        state.completed += (status is STEP_COMPLETED) - (before is STEP_COMPLETED)
        if status is STEP_COMPLETED:
            step.completed_seq = state.seq
        if step.wait is not None:
            if state.inbox is not None:
                state.inbox.forget(name, step.wait)
            step.wait = None
        if step.of is not None:
            step.of.moved(name, before, status)
        elif step.undoes:
            state.undone += (status in STEP_SETTLED) - (before in STEP_SETTLED)
        else:
            state.settled += (status in STEP_SETTLED) - (before in STEP_SETTLED)
        step.status = status
    return step


def _write(state: TaskState, name: str, writes: dict[str, msgspec.Raw]) -> None:
    if state.shared is None:
        state.shared = Shared(state.visits)
    state.shared.write(state.seq, name, writes)


def _changed_by(state: TaskState, by: str | None) -> None:
    if by is None:
        return
    if state.changed_by is None:
        state.changed_by = {}
    state.changed_by[by] = None


def _inbox(state: TaskState) -> Inbox:
    if state.inbox is None:
        state.inbox = Inbox()
    return state.inbox


def _approval(state: TaskState, name: str) -> ApprovalWait:
    """Return what a step asks people; one that asks nothing has a wait that nobody sees."""
    wait = _entry(state, name).wait
    return wait if isinstance(wait, ApprovalWait) else ApprovalWait(ApprovalRequested(step=name, attempt=0))


def _entry(state: TaskState, name: str) -> StepState:
    step = state.steps.get(name)
    if step is None:
        step = state.steps[name] = StepState()
        state.open += 1
        if state.shared is not None and not is_item(name):
            state.shared.begun[name] = state.seq
        if is_item(name):
            node = state.steps.get(node_of(name))
            step.of = None if node is None else node.expansion
            if step.of is not None:
                step.of.moved(name, None, step.status)
        else:
            step.undoes = is_undo(name)
    return step


def _turn(state: TaskState, event: LoopTurned) -> None:
    """Let the steps of a loop's body begin anew: what their last visit left is history."""
    for name in event.steps:
        if name in state.closed:
            del state.closed[name]
            state.settled -= 1
        else:
            node = state.node(name)
            last = state.steps.get(node)
            if last is not None:
                state.settled -= last.status in STEP_SETTLED or node in state.accepted
                state.failed.pop(node, None)
                state.visits[name] = state.visits.get(name, 1) + 1
    for node in event.failures:
        if state.accepted.pop(node, node) is None:
            state.failed[node] = None
            state.settled -= 1
    if state.shared is not None:
        state.shared.turns.setdefault(event.step, []).append(state.seq)
    body = set(event.steps)
    for edge in [edge for edge in state.closed_edges if edge[0] in body]:
        del state.closed_edges[edge]


def _going_on(state: TaskState) -> TaskStatus:
    """Return what a task is that is paused, or blocked, no more: it has begun, or waits for that as before."""
    before, state.paused_from = state.paused_from, None
    return TaskStatus.PENDING if before is TaskStatus.PENDING else TASK_RUNNING


def _end(state: TaskState, status: TaskStatus) -> None:
    state.status = status
    state.blocked_reason = None
    for name in list(state.places):
        _leave_place(state, name)


def _leave_place(state: TaskState, name: str) -> None:
    place = state.places.pop(name, None)
    if place is not None:
        state.places_left.append(place.request)


def count_usage(used: dict[str, Decimal], event: UsageRecorded) -> None:
    """Add what `event` tells to `used`: tokens, and costs by currency."""
    if event.meter in TOKEN_METERS:
        used["tokens"] = added(used.get("tokens", Decimal(0)), Decimal(event.amount))
    if event.cost is not None:
        cost = f"cost:{event.currency}"
        used[cost] = added(used.get(cost, Decimal(0)), Decimal(event.cost))
