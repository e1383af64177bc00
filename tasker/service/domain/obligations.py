"""What a task still owes the world: each open step and each limit, with an id and a time.

Derived from the state alone, so that it never disagrees with it. An obligation is
`<kind>:<step>:<attempt>`, or a bare kind for the task. Its time wakes the task's actor, which asks
`decide`; a closed one does nothing.

| kind         | opened by            | at                       | when the time comes              |
|--------------|----------------------|--------------------------|----------------------------------|
| `offer`      | step dispatched      | at once                  | the work is offered (again)      |
| `start_by`   | step dispatched      | schedule_to_start        | the attempt fails                |
| `finish_by`  | step started         | start_to_close, a little later | the attempt fails          |
| `close_by`   | step dispatched      | schedule_to_close, from the first attempt on | the step fails |
| `run_by`     | step started         | all time that the budget of the task allows is used | nothing more begins |
| `heartbeat`  | step started         | heartbeat after the last | the attempt fails, worker lost   |
| `retry`      | step retry scheduled | the chosen delay         | the next attempt is dispatched   |
| `timer`      | step delayed         | its time                 | the step is completed            |
| `wait_by`    | step awaited, approval requested | its deadline, if it has one | the step completes, or fails |
| `event`      | event awaited        | at once                  | the log is watched for it        |
| `escalate`   | approval requested   | its time, if it has one  | others may answer as well        |
| `child`      | child requested      | at once                  | the child is started, or asked how it stands |
| `place`      | place requested      | at once                  | its concurrency key is asked (again) |
| `grace`      | step cancel requested| the grace's end          | the step is cancelled            |
| `not_before` | task created         | not_before               | the task starts                  |
| `deadline`   | task created         | the task's timeout       | the task stops and fails, or what `on_timeout` says |
| `stale`      | it stands still (see `staleness`) | the state's limit | it is recorded as stale       |

A held task (paused, over its budget, or past its deadline) owes only what concerns attempts that run, and its deadline,
which counts on: what is due meanwhile (a retry, a time, a start) is owed again, and comes at once, when the task goes
on. The time that an offered attempt may wait for a worker counts anew from then.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from tasker.events.envelope import US_PER_S
from tasker.events.task_events import (
    AnyTaskEvent,
    ParentsOverridden,
    PathsClosed,
    RunningTimeSpent,
    SignalReceived,
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
)
from tasker.service.domain.state import (
    STEP_DISPATCHED,
    STEP_OPEN,
    STEP_RUNNING,
    STEP_WAITING,
    TASK_ABSENT,
    Place,
    StepState,
    TaskState,
    TaskStatus,
)
from tasker.service.domain.waits.wait_state import ApprovalWait, EventWait, Wait

FINISH_SLACK_S: Final = 2.0
"""The owner waits so much longer than `start_to_close`, so that the worker's own report of the timeout,
which knows the blocking line, comes first."""

TASK_SCOPE: Final = ""


class Kind(StrEnum):
    """What is owed."""

    OFFER = "offer"
    START_BY = "start_by"
    FINISH_BY = "finish_by"
    CLOSE_BY = "close_by"
    RUN_BY = "run_by"
    HEARTBEAT = "heartbeat"
    RETRY = "retry"
    TIMER = "timer"
    WAIT_BY = "wait_by"
    ESCALATE = "escalate"
    EVENT = "event"
    CHILD = "child"
    PLACE = "place"
    GRACE = "grace"
    NOT_BEFORE = "not_before"
    DEADLINE = "deadline"
    STALE = "stale"


def obligation_of(kind: Kind, step: str, attempt: int) -> str:
    """Return the id of what an attempt of a step owes; with "" for the step, of what the task does."""
    return f"{kind}:{step}:{attempt}" if step else kind.value


def parse_obligation(obligation: str) -> tuple[Kind, str, int]:
    """Return kind, step and attempt; "" and 0 for one of the task."""
    kind, _, rest = obligation.partition(":")
    step, _, attempt = rest.partition(":")
    return Kind(kind), step, int(attempt or 0)


_OF_TASK: Final = frozenset(
    {
        TaskCreated,
        TaskStarted,
        TaskStopping,
        TaskCompensating,
        TaskResumed,
        PathsClosed,
        ParentsOverridden,
        SignalReceived,
        TaskUpdated,
        TaskPostponed,
    }
)
_OF_ALL: Final = frozenset(
    {
        TaskBlocked,
        TaskPaused,
        TaskUnpaused,
        TaskBudgetSet,
        RunningTimeSpent,
        TaskDeadlineSet,
        TaskDeadlinePassed,
        TaskReconciled,
        TaskCompleted,
        TaskFailed,
        TaskCancelled,
    }
)


def scope_of(event: AnyTaskEvent) -> str | None:
    """Return the step whose obligations `event` may change, `TASK_SCOPE` for the task's own, None for all."""
    kind = type(event)
    if kind in _OF_ALL:
        return None
    if kind in _OF_TASK:
        return TASK_SCOPE
    return event.step  # type: ignore[union-attr] # every other event is a step's


def obligations_of(state: TaskState) -> dict[str, int]:
    """Return everything the task owes: obligation -> time in microseconds."""
    found = obligations_of_scope(state, TASK_SCOPE)
    for name in state.steps:
        found.update(obligations_of_scope(state, name))
    return found


def obligations_of_scope(state: TaskState, scope: str) -> dict[str, int]:
    """Return what the task owes on account of one step, or (`TASK_SCOPE`) of itself."""
    if state.ended or state.status is TASK_ABSENT:
        return {}
    if scope == TASK_SCOPE:
        return _of_task(state)
    step = state.steps.get(scope)
    if step is None or state.blocked_reason == "history_limit":
        return {}
    found = _of_step(state, scope, step)
    if state.staleness is not None and not state.paused:
        stale_us = state.staleness.due_us(scope)
        if stale_us is not None:
            found[f"{Kind.STALE}:{scope}:{step.attempt}"] = _not_before_resumed(state, stale_us)
    return found


def _of_task(state: TaskState) -> dict[str, int]:
    found: dict[str, int] = {}
    is_held_back = (
        state.status is not TaskStatus.PENDING
        or state.is_late
        or state.stopping is not None
        or TASK_SCOPE in state.places
    )
    if state.not_before_us is not None and not is_held_back:
        found[Kind.NOT_BEFORE] = _not_before_resumed(state, state.not_before_us)
    if state.deadline_us is not None and state.stopping is None:
        found[Kind.DEADLINE] = state.deadline_us
    if state.places and TASK_SCOPE in state.places and _is_asked_for(state.places[TASK_SCOPE]):
        found[Kind.PLACE] = state.places[TASK_SCOPE].asked_us
    if state.staleness is not None:
        stale_us = state.staleness.due_us(TASK_SCOPE)
        if stale_us is not None:
            found[Kind.STALE] = stale_us
    return found


def _of_step(state: TaskState, name: str, step: StepState) -> dict[str, int]:
    found = _of_attempt(state, name, step)
    if step.close_by_us is not None and found and step.cancel_by_us is None and step.status in STEP_OPEN:
        found[f"{Kind.CLOSE_BY}:{name}:{step.attempt}"] = _not_before_resumed(state, step.close_by_us)
    return found


def _of_attempt(state: TaskState, name: str, step: StepState) -> dict[str, int]:
    at = f"{name}:{step.attempt}"
    status = step.status
    if status is STEP_DISPATCHED:
        if state.held:
            return {}
        offer_us = step.dispatched_us
        if state.resumed_us and offer_us <= state.resumed_us:
            offer_us = _not_before_resumed(state, offer_us)
        found = {f"{Kind.OFFER}:{at}": offer_us}
        if step.start_by_us is not None:
            found[f"{Kind.START_BY}:{at}"] = step.start_by_us + max(0, state.resumed_us - step.dispatched_us)
        return found
    if status is STEP_RUNNING:
        if step.cancel_by_us is not None:
            return {f"{Kind.GRACE}:{at}": step.cancel_by_us}
        found = {
            f"{Kind.FINISH_BY}:{at}": step.finish_by_us + round(FINISH_SLACK_S * US_PER_S),
            f"{Kind.HEARTBEAT}:{at}": step.started_us + round(step.heartbeat_s * US_PER_S),
        }
        if state.running is not None and state.over_budget is None and state.stopping is None:
            # The same for each step that runs, so it stays right while others begin and end.
            found[f"{Kind.RUN_BY}:{at}"] = state.running.due_us()
        return found
    return _of_waiting(state, name, at, step) if status is STEP_WAITING else {}


def _of_waiting(state: TaskState, name: str, at: str, step: StepState) -> dict[str, int]:
    match step.waits:
        case "child":
            return {f"{Kind.CHILD}:{at}": step.dispatched_us}
        case "place":
            place = state.places.get(name)
            return {f"{Kind.PLACE}:{at}": place.asked_us} if place is not None and _is_asked_for(place) else {}
        case _ if state.is_stopping or state.held:
            return {}
        case "retry":
            return {f"{Kind.RETRY}:{name}:{step.attempt + 1}": _not_before_resumed(state, step.retry_at_us)}
        case "time":
            return {f"{Kind.TIMER}:{at}": _not_before_resumed(state, step.retry_at_us)}
        case _:
            return {} if step.wait is None else _of_wait(state, at, step, step.wait)


def _of_wait(state: TaskState, at: str, step: StepState, wait: Wait) -> dict[str, int]:
    found: dict[str, int] = {}
    if isinstance(wait, EventWait) and wait.matched is None and not wait.released:
        found[f"{Kind.EVENT}:{at}"] = _not_before_resumed(state, step.dispatched_us)
    if wait.deadline_us is not None:
        found[f"{Kind.WAIT_BY}:{at}"] = _not_before_resumed(state, wait.deadline_us)
    if isinstance(wait, ApprovalWait) and wait.escalate_us is not None:
        found[f"{Kind.ESCALATE}:{at}"] = _not_before_resumed(state, wait.escalate_us)
    return found


def _is_asked_for(place: Place) -> bool:
    return not (place.held or place.denied)


def _not_before_resumed(state: TaskState, at_us: int) -> int:
    """Return `at_us`, or the moment after the task was resumed: what is due in the turn itself wakes nobody."""
    return max(at_us, state.resumed_us + 1)
