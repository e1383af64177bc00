"""What should happen to a task: `decide(state, template, command) -> events`.

A turn is one command. Its events are one unit in the log: they are recorded together or not at all.
A command that changes nothing returns (); one that the state forbids raises a `CommandRejected`.

Consequences of a step's outcome, in this order:

    completed -> children whose parents all are -> dispatched
                 no step left                   -> task completed
    failed    -> an attempt left                -> retry scheduled
                 none, on_failure "fail"        -> the task stops: others cancelled, then failed
                 none, on_failure "block"       -> others go on; blocked when nothing can move
    stopping  -> the last running step ended    -> task failed or cancelled
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from tasker.errors import HistoryLimit, StateForbids, StepUnknown, TaskEnded, TaskUnknown
from tasker.events.codec import canonical
from tasker.events.envelope import US_PER_S
from tasker.events.messages import CANCEL_GRACE_S
from tasker.events.task_events import (
    AnyTaskEvent,
    Ending,
    ErrorInfo,
    StepAttemptFailed,
    StepCancelled,
    StepCancelRequested,
    StepCompleted,
    StepDispatched,
    StepFailed,
    StepRetried,
    StepRetryScheduled,
    StepStarted,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskCreated,
    TaskFailed,
    TaskResumed,
    TaskStarted,
    TaskStopping,
)
from tasker.service.domain.commands import (
    AnyTaskCommand,
    CancelTask,
    CompleteAttempt,
    CreateTask,
    FailAttempt,
    FireObligation,
    RetryStep,
    RetryTask,
    StartAttempt,
)
from tasker.service.domain.obligations import TASK_SCOPE, Kind, obligations_of_scope, parse_obligation
from tasker.service.domain.retry import retry_delay_s
from tasker.service.domain.state import STEP_OPEN, StepState, StepStatus, TaskState, TaskStatus
from tasker.templates import CompiledTemplate

Events = tuple[AnyTaskEvent, ...]

HISTORY_EVENTS_MAX: Final = 100_000
"""Events a task may have."""

HISTORY_EVENTS_RESERVED: Final = 5_000
"""The last of them are kept for ending a task, so that one at its limit can still be cancelled."""


def decide(state: TaskState, template: CompiledTemplate, command: AnyTaskCommand) -> Events:
    """Return the events that `command` causes in `state`; () when it changes nothing.

    The template is the one that the task started with or, for `CreateTask`, is to start with.

    Raises:
        CommandRejected: the state forbids the command. Nothing is recorded.
    """
    events = _decide(state, template, command)
    if events and state.seq >= HISTORY_EVENTS_MAX - HISTORY_EVENTS_RESERVED and state.stopping is None:
        return _at_limit(state, command, events)
    return events


def _decide(state: TaskState, template: CompiledTemplate, command: AnyTaskCommand) -> Events:
    match command:
        case CreateTask():
            return _create(state, template, command)
        case CancelTask(at_us=at_us, grace_s=grace_s):
            return _cancel(state, at_us, grace_s)
        case RetryTask(at_us=at_us):
            return _retry_task(state, template, at_us)
        case RetryStep():
            return _retry_step(state, template, command)
        case StartAttempt(at_us=at_us, step=name, attempt=attempt, worker=worker):
            return _start(state, template, name, attempt, worker, at_us)
        case CompleteAttempt():
            return _complete(state, template, command)
        case FailAttempt():
            return _fail(
                state,
                template,
                command.step,
                command.attempt,
                command.worker,
                command.error,
                command.jitter,
                command.at_us,
            )
        case FireObligation():
            return _fire(state, template, command)
        case _:
            assert_never(command)


# ---------------------------------------------------------------- beginning


def _create(state: TaskState, template: CompiledTemplate, command: CreateTask) -> Events:
    if state.status is not TaskStatus.ABSENT:
        return ()
    at_us = command.at_us
    not_before_us = command.not_before_us
    if not_before_us is not None and not_before_us <= at_us:
        not_before_us = None
    created = TaskCreated(
        template=command.template,
        input=command.input,
        request_hash=command.request_hash,
        idempotency_key=command.idempotency_key,
        tags=command.tags,
        not_before_us=not_before_us,
        deadline_us=None if command.timeout_s is None else _after(at_us, command.timeout_s),
    )
    if not_before_us is not None:
        return (created,)
    return (created, *_dispatch_roots(template, at_us))


def _dispatch_roots(template: CompiledTemplate, at_us: int) -> Events:
    return tuple(_dispatch(template, name, 1, at_us) for name in template.graph.roots)


def _dispatch(template: CompiledTemplate, name: str, attempt: int, at_us: int) -> StepDispatched:
    limit_s = template.step(name).schedule_to_start_s
    return StepDispatched(
        step=name,
        attempt=attempt,
        start_by_us=None if limit_s is None else _after(at_us, limit_s),
    )


def _after(at_us: int, seconds: float) -> int:
    """Return the time `seconds` behind `at_us`: later at all events, since what is due at once wakes nobody."""
    return at_us + max(1, round(seconds * US_PER_S))


# ---------------------------------------------------------------- attempts


def open_attempt(state: TaskState, name: str, attempt: int) -> StepState | None:
    """Return the step when `attempt` is its newest and has no outcome yet; else None."""
    step = state.steps.get(name)
    if step is None or step.attempt != attempt or state.ended or state.blocked_reason == "history_limit":
        return None
    return step if step.status in (StepStatus.DISPATCHED, StepStatus.RUNNING) else None


def _start(  # noqa: PLR0917 - the facts of an attempt
    state: TaskState, template: CompiledTemplate, name: str, attempt: int, worker: str, at_us: int
) -> Events:
    step = open_attempt(state, name, attempt)
    if step is None or step.status is StepStatus.RUNNING:
        return ()
    spec = template.step(name)
    return (
        StepStarted(
            step=name,
            attempt=attempt,
            worker=worker,
            finish_by_us=at_us + round(spec.start_to_close_s * US_PER_S),
            heartbeat_s=spec.heartbeat_s,
        ),
    )


def _complete(state: TaskState, template: CompiledTemplate, command: CompleteAttempt) -> Events:
    name, attempt, at_us = command.step, command.attempt, command.at_us
    if open_attempt(state, name, attempt) is None:
        return ()
    events = (
        *_start(state, template, name, attempt, command.worker, at_us),
        StepCompleted(step=name, attempt=attempt, result=command.result),
    )
    if state.stopping is not None:
        return (*events, *_end_if_last(state))
    graph = template.graph
    if state.completed + 1 == len(template.steps):
        return (*events, TaskCompleted(result=_result(state, template, name, command.result)))
    ready = tuple(
        _dispatch(template, child, 1, at_us)
        for child in graph.children[name]
        if child not in state.steps
        and all(parent == name or state.has_result(parent) for parent in graph.parents[child])
    )
    if not ready and state.open == 1 and state.failed:
        return (*events, _blocked(tuple(state.failed)))
    return (*events, *ready)


def _fail(  # noqa: PLR0917 - the facts of a failed attempt
    state: TaskState,
    template: CompiledTemplate,
    name: str,
    attempt: int,
    worker: str | None,
    error: ErrorInfo,
    jitter: float,
    at_us: int,
) -> Events:
    step = open_attempt(state, name, attempt)
    if step is None:
        return ()
    started = () if worker is None else _start(state, template, name, attempt, worker, at_us)
    events = (*started, StepAttemptFailed(step=name, attempt=attempt, error=error))
    if state.stopping is not None:
        cancelled = StepCancelled(step=name, attempt=attempt, reason=f"the task is stopping: {state.stopping.cause}")
        return (*events, cancelled, *_end_if_last(state))
    spec = template.step(name)
    failures = attempt - step.first_attempt + 1
    permanent = not error.retryable or error.type in spec.retry.non_retryable
    if not permanent and failures < spec.retry.max_attempts:
        delay_s = retry_delay_s(spec.retry, failures=failures, jitter=jitter, retry_after_s=error.retry_after_s)
        scheduled = StepRetryScheduled(
            step=name, attempt=attempt + 1, delay_s=delay_s, retry_at_us=at_us + round(delay_s * US_PER_S)
        )
        if delay_s == 0:
            return (*events, scheduled, _dispatch(template, name, attempt + 1, at_us))
        return (*events, scheduled)
    failed = StepFailed(
        step=name, attempt=attempt, reason="permanent_error" if permanent else "retries_exhausted", error=error
    )
    if template.spec.on_failure == "fail":
        stop = _stop(state, at_us, ending="failed", cause="step_failed", grace_s=CANCEL_GRACE_S, step=name, error=error)
        return (*events, failed, *stop)
    if state.open == 1:
        return (*events, failed, _blocked((*state.failed, name)))
    return (*events, failed)


def _blocked(steps: Sequence[str]) -> TaskBlocked:
    return TaskBlocked(reason="step_failed", steps=tuple(steps))


def _result(state: TaskState, template: CompiledTemplate, last: str, result: msgspec.Raw) -> msgspec.Raw:
    """Return the task's result: of the step that the template names, of its only last step, or of all by name."""

    def of(name: str) -> msgspec.Raw:
        return result if name == last else state.steps[name].result or msgspec.Raw(b"null")

    if template.result_step is not None:
        return of(template.result_step)
    return msgspec.Raw(canonical({name: of(name) for name in template.sinks}))


# ---------------------------------------------------------------- stopping


def _cancel(state: TaskState, at_us: int, grace_s: float) -> Events:
    _must_exist(state)
    if state.stopping is not None and state.stopping.cause == "cancel":
        return ()
    if state.ended:
        raise TaskEnded(f"the task is {state.status} and cannot be cancelled", state=str(state.status))
    if state.stopping is not None:
        raise StateForbids(f"the task is already ending as {state.stopping.ending}")
    return _stop(state, at_us, ending="cancelled", cause="cancel", grace_s=grace_s)


def _stop(
    state: TaskState,
    at_us: int,
    *,
    ending: Ending,
    cause: str,
    grace_s: float,
    step: str | None = None,
    error: ErrorInfo | None = None,
) -> Events:
    """Return the events that stop the task; `step` has just failed and counts as ended."""
    events: list[AnyTaskEvent] = [TaskStopping(ending=ending, cause=cause, step=step)]  # type: ignore[arg-type]
    running = False
    for name, entry in state.steps.items():
        if name == step or entry.status not in STEP_OPEN:
            continue
        if entry.status is StepStatus.RUNNING and grace_s > 0:
            running = True
            events.append(StepCancelRequested(step=name, attempt=entry.attempt, grace_until_us=_after(at_us, grace_s)))
        else:
            events.append(StepCancelled(step=name, attempt=entry.attempt, reason=f"the task is stopping: {cause}"))
    if not running:
        events.append(_ended(ending, cause, step, error))
    return tuple(events)


def _end_if_last(state: TaskState) -> Events:
    """Return the ending event when the step that just ended was the last open one of a stopping task."""
    if state.open > 1 or state.stopping is None:
        return ()
    stopping = state.stopping
    failed = None if stopping.step is None else state.steps[stopping.step].error
    return (_ended(stopping.ending, stopping.cause, stopping.step, failed),)


def _ended(ending: Ending, cause: str, step: str | None, error: ErrorInfo | None) -> AnyTaskEvent:
    if ending == "cancelled":
        return TaskCancelled()
    if cause == "timeout":
        error = ErrorInfo(type="timeout", message="the task's timeout was over", retryable=False)
    return TaskFailed(cause=cause, step=step, error=error)  # type: ignore[arg-type]


# ---------------------------------------------------------------- people


def _retry_task(state: TaskState, template: CompiledTemplate, at_us: int) -> Events:
    _must_go_on(state)
    if not state.failed:
        raise StateForbids("the task has no failed step to retry")
    events: list[AnyTaskEvent] = []
    if state.status is TaskStatus.BLOCKED:
        events.append(TaskResumed())
    for name in state.failed:
        attempt = state.steps[name].attempt + 1
        events += (StepRetried(step=name, attempt=attempt), _dispatch(template, name, attempt, at_us))
    return tuple(events)


def _retry_step(state: TaskState, template: CompiledTemplate, command: RetryStep) -> Events:
    _must_go_on(state)
    if command.step not in template:
        raise StepUnknown(f"the task's template has no step {command.step[:80]!r}")
    step = state.steps.get(command.step)
    if step is None or step.status is not StepStatus.FAILED:
        now = "pending" if step is None else str(step.status)
        raise StateForbids(f"step {command.step} is {now}; only a failed step can be retried", state=now)
    if command.attempt is not None and command.attempt != step.attempt:
        raise StateForbids(f"step {command.step} failed at attempt {step.attempt}, not {command.attempt}")
    attempt = step.attempt + 1
    resumed = (TaskResumed(),) if state.status is TaskStatus.BLOCKED else ()
    return (
        *resumed,
        StepRetried(step=command.step, attempt=attempt),
        _dispatch(template, command.step, attempt, command.at_us),
    )


def _must_exist(state: TaskState) -> None:
    if state.status is TaskStatus.ABSENT:
        raise TaskUnknown("there is no such task")


def _must_go_on(state: TaskState) -> None:
    _must_exist(state)
    if state.ended:
        raise TaskEnded(f"the task is {state.status}", state=str(state.status))
    if state.stopping is not None:
        raise StateForbids(f"the task is ending as {state.stopping.ending}")


# ---------------------------------------------------------------- time


def _fire(state: TaskState, template: CompiledTemplate, command: FireObligation) -> Events:
    at_us = command.at_us
    kind, name, attempt = parse_obligation(command.obligation)
    if command.obligation not in obligations_of_scope(state, name or TASK_SCOPE):
        return ()
    match kind:
        case Kind.NOT_BEFORE:
            return (TaskStarted(), *_dispatch_roots(template, at_us))
        case Kind.DEADLINE:
            return _stop(state, at_us, ending="failed", cause="timeout", grace_s=CANCEL_GRACE_S)
        case Kind.OFFER:
            return ()
        case Kind.RETRY:
            return (_dispatch(template, name, attempt, at_us),)
        case Kind.START_BY:
            limit_s = template.step(name).schedule_to_start_s
            error = ErrorInfo(type="timeout", message=f"no worker started the attempt within {limit_s} s")
            return _fail(state, template, name, attempt, None, error, command.jitter, at_us)
        case Kind.FINISH_BY:
            limit_s = template.step(name).start_to_close_s
            error = ErrorInfo(type="timeout", message=f"the attempt had no outcome within {limit_s} s of its start")
            return _fail(state, template, name, attempt, None, error, command.jitter, at_us)
        case Kind.HEARTBEAT:
            step = state.steps[name]
            message = f"worker {step.worker} gave no sign of life for {step.heartbeat_s} s"
            error = ErrorInfo(type="worker_lost", message=message)
            return _fail(state, template, name, attempt, None, error, command.jitter, at_us)
        case Kind.GRACE:
            cancelled = StepCancelled(step=name, attempt=attempt, reason="it did not stop within its grace")
            return (cancelled, *_end_if_last(state))
        case _:
            assert_never(kind)


def _at_limit(state: TaskState, command: AnyTaskCommand, events: Events) -> Events:
    """Return what happens instead of `events` to a task that has (nearly) as many as it may have."""
    match command:
        case CancelTask():
            return events
        case FireObligation() if command.obligation == Kind.DEADLINE:
            return events
        case RetryTask() | RetryStep():
            raise HistoryLimit(f"the task has {state.seq} events; cancel it and start another")
        case _:
            detail = f"{state.seq} events of at most {HISTORY_EVENTS_MAX}"
            return (TaskBlocked(reason="history_limit", detail=detail),)
