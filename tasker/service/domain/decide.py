"""What a command itself causes: `decide(state, template, command) -> events`.

What follows from these events (children that begin, the end of the task) is `follow`'s; `advance` joins the two.
A command that changes nothing causes (); one that the state forbids raises a `CommandRejected`.

    an attempt failed -> an attempt left -> retry scheduled
                         none            -> step failed
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, assert_never

from tasker.errors import HistoryLimit, StateForbids, TaskEnded
from tasker.events.envelope import US_PER_S
from tasker.events.messages import CANCEL_GRACE_S
from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    ErrorInfo,
    FailureReason,
    StepAttemptFailed,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepRetried,
    StepRetryScheduled,
    StepRouted,
    StepStarted,
    StepYielded,
    TaskBlocked,
    TaskCreated,
    TaskDeadlinePassed,
    TaskReconciled,
    TaskStarted,
)
from tasker.service.domain.commands import (
    OUTCOMES,
    AnswerApproval,
    AnyTaskCommand,
    CancelTask,
    CompleteAttempt,
    CompleteTask,
    CreateTask,
    DelegateApproval,
    DenyPlace,
    EditResult,
    FailAttempt,
    FailTask,
    FireObligation,
    NoteChild,
    NoteEvent,
    PauseTask,
    PostponeTask,
    Reconcile,
    RecordUsage,
    ReleaseStep,
    ResetStep,
    ResolveStep,
    ResumeTask,
    RetryStep,
    RetryTask,
    SetBudget,
    SetDeadline,
    SignalTask,
    SkipStep,
    StartAttempt,
    TakePlace,
    UpdateTask,
    YieldAttempt,
)
from tasker.service.domain.costs.usage import (
    ended_by_budget,
    metered,
    record_late,
    running_time_spent,
    set_budget,
)
from tasker.service.domain.dead_letters.stale import limits_of, stale
from tasker.service.domain.follow import begin_retried
from tasker.service.domain.limits.debounce import postpone
from tasker.service.domain.limits.places import check_key, deny_place, take_place
from tasker.service.domain.limits.shares import check_shares
from tasker.service.domain.obligations import TASK_SCOPE, Kind, obligations_of, obligations_of_scope, parse_obligation
from tasker.service.domain.repairs.amend import set_deadline, update
from tasker.service.domain.repairs.force import force
from tasker.service.domain.repairs.guards import must_be_current, must_exist, must_go_on, must_have_ended, unblocked
from tasker.service.domain.repairs.pause import pause, resume
from tasker.service.domain.repairs.repair import repair
from tasker.service.domain.shared_state.shared import fault_of_writes
from tasker.service.domain.state import STEP_DISPATCHED, STEP_RUNNING, TASK_ABSENT, StepState, StepStatus, TaskState
from tasker.service.domain.steps.begin import after, dispatch, left_items, retry_items
from tasker.service.domain.steps.children import note_child
from tasker.service.domain.steps.choices import fault_of_choice
from tasker.service.domain.steps.compensate import failed_undo
from tasker.service.domain.steps.domain_events import with_domain_events
from tasker.service.domain.steps.progress import with_progress
from tasker.service.domain.steps.retry import retry_delay_s
from tasker.service.domain.steps.timeouts import TIMEOUT, Limit, over
from tasker.service.domain.stop import stop
from tasker.service.domain.waits.approvals import answer, delegate, escalated
from tasker.service.domain.waits.common import expired
from tasker.service.domain.waits.event_waits import note_event
from tasker.service.domain.waits.signals import receive
from tasker.templates import CompiledTemplate

Events = tuple[AnyTaskEvent, ...]

HISTORY_EVENTS_MAX: Final = 100_000
"""Events a task may have."""

HISTORY_EVENTS_RESERVED: Final = 5_000
"""The last of them are kept for ending a task, so that one at its limit can still be cancelled."""


def decide(state: TaskState, template: CompiledTemplate, command: AnyTaskCommand) -> Iterable[AnyTaskEvent]:
    """Return the events that `command` causes in `state`; () when it changes nothing.

    The template is the one that the task started with or, for `CreateTask`, is to start with.

    Raises:
        CommandRejected: the state forbids the command. Nothing is recorded.
    """
    events = _with_facts(state, template, command)
    if events and state.seq >= HISTORY_EVENTS_MAX - HISTORY_EVENTS_RESERVED and state.stopping is None:
        return _at_limit(state, command, events)
    if type(command) in OUTCOMES and command.usage and events:  # type: ignore[union-attr]
        return metered(
            state,
            template,
            command,  # type: ignore[arg-type]
            events,
            lambda: _with_facts(state, template, command),
        )
    return events


def _with_facts(state: TaskState, template: CompiledTemplate, command: AnyTaskCommand) -> Iterable[AnyTaskEvent]:
    return with_domain_events(template, command, with_progress(command, _decide(state, template, command)))


def _decide(state: TaskState, template: CompiledTemplate, command: AnyTaskCommand) -> Iterable[AnyTaskEvent]:
    # What comes with every step stands first: to see that a command is of another class takes longer than most cases.
    match command:
        case CompleteAttempt():
            return _complete(state, template, command)
        case CreateTask():
            return _create(state, template, command)
        case StartAttempt(at_us=at_us, step=name, attempt=attempt, worker=worker):
            return _start(state, template, name, attempt, worker, at_us)
        case YieldAttempt():
            return _yield(state, template, command)
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
        case CancelTask(at_us=at_us, grace_s=grace_s):
            return _cancel(state, template, at_us, grace_s)
        case CompleteTask() | FailTask():
            return force(state, template, command)
        case UpdateTask():
            return update(state, command)
        case PostponeTask():
            return postpone(state, template, command)
        case SetDeadline():
            return set_deadline(state, command)
        case PauseTask():
            return pause(state, children=command.children)
        case ResumeTask():
            return _resumed(state, template, command)
        case RetryTask():
            return _retry_task(state, template, command.at_us)
        case RetryStep():
            return _retry_step(state, template, command)
        case SkipStep() | ResolveStep() | ResetStep() | EditResult() | ReleaseStep():
            return repair(state, template, command)
        case SignalTask():
            return receive(state, template, command)
        case AnswerApproval():
            return answer(state, template, command)
        case DelegateApproval():
            return delegate(state, template, command)
        case SetBudget():
            return set_budget(state, template, command)
        case RecordUsage():
            return record_late(state, template, command)
        case NoteChild():
            return note_child(state, template, command)
        case TakePlace():
            return take_place(state, command)
        case DenyPlace():
            return deny_place(state, command)
        case NoteEvent():
            return note_event(state, template, command)
        case Reconcile():
            owed = obligations_of(state)
            lost = tuple(one for one in command.obligations if one in owed)
            return (TaskReconciled(lost=command.lost, obligations=lost),) if lost else ()
        case _:
            assert_never(command)


# ---------------------------------------------------------------- beginning


def _create(state: TaskState, template: CompiledTemplate, command: CreateTask) -> Events:
    if state.status is not TASK_ABSENT:
        return ()
    if template.spec.concurrency is not None:
        check_key(template.spec.concurrency, template, command.input)
    if template.is_shared:
        check_shares(template, command.input)
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
        metadata=command.metadata,
        restarted_from=command.restarted_from,
        stale_after=limits_of(template),
        running_s_max=None if template.spec.budget is None else template.spec.budget.running_s_max,
        not_before_us=not_before_us,
        deadline_us=None if command.timeout_s is None else after(at_us, command.timeout_s),
        created_by=command.created_by,
        admitted_us=command.admitted_us,
        priority=command.priority,
        depth=command.depth,
    )
    return (created,)


# ---------------------------------------------------------------- attempts


def open_attempt(state: TaskState, name: str, attempt: int) -> StepState | None:
    """Return the step when `attempt` is its newest and has no outcome yet; else None."""
    step = state.steps.get(name)
    if step is None or step.attempt != attempt or state.ended or state.blocked_reason == "history_limit":
        return None
    status = step.status
    return step if status is STEP_DISPATCHED or status is STEP_RUNNING else None


def _start(  # noqa: PLR0917 - the facts of an attempt
    state: TaskState, template: CompiledTemplate, name: str, attempt: int, worker: str, at_us: int
) -> Events:
    step = open_attempt(state, name, attempt)
    if step is None or step.status is STEP_RUNNING:
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
    routes = template.step(name).routes
    choice = command.choice
    if routes or choice is not None:
        fault = fault_of_choice(name, routes, choice)
        if fault is not None:
            error = ErrorInfo(type="decision_invalid", message=fault, retryable=False)
            return _fail(state, template, name, attempt, command.worker, error, 0.0, at_us)
    if command.writes and (error_of_state := fault_of_writes(state, name, command.writes)) is not None:
        return _fail(state, template, name, attempt, command.worker, error_of_state, 0.0, at_us)
    completed = StepCompleted(step=name, attempt=attempt, result=command.result, writes=command.writes)
    started = _start(state, template, name, attempt, command.worker, at_us)
    if choice is None:
        return (*started, completed)
    routed = StepRouted(
        step=name,
        attempt=attempt,
        chosen=tuple(route for route in routes if route in choice.routes),
        closed=tuple(route for route in routes if route not in choice.routes),
        reason=choice.reason,
    )
    return (*started, routed, completed)


def _yield(state: TaskState, template: CompiledTemplate, command: YieldAttempt) -> Events:
    name, attempt, at_us = command.step, command.attempt, command.at_us
    if open_attempt(state, name, attempt) is None:
        return ()
    if command.writes and (error := fault_of_writes(state, name, command.writes)) is not None:
        return _fail(state, template, name, attempt, command.worker, error, 0.0, at_us)
    started = _start(state, template, name, attempt, command.worker, at_us)
    yielded = StepYielded(
        step=name,
        attempt=attempt,
        checkpoint=command.checkpoint,
        delay_s=command.delay_s,
        resume_at_us=after(at_us, command.delay_s) if command.delay_s > 0 else at_us,
        writes=command.writes,
    )
    if state.stopping is not None and state.is_stopping:
        cancelled = StepCancelled(step=name, attempt=attempt, reason=_stopping(state.stopping.cause))
        return (*started, yielded, cancelled)
    if command.delay_s > 0 or state.held:
        return (*started, yielded)
    return (*started, yielded, dispatch(state, template.step(name), name, attempt + 1, at_us, command.worker))


def _fail(  # noqa: PLR0917 - the facts of a failed attempt
    state: TaskState,
    template: CompiledTemplate,
    name: str,
    attempt: int,
    worker: str | None,
    error: ErrorInfo,
    jitter: float,
    at_us: int,
    limit: Limit | None = None,
) -> Events:
    step = open_attempt(state, name, attempt)
    if step is None:
        return ()
    started = () if worker is None else _start(state, template, name, attempt, worker, at_us)
    events = (*started, StepAttemptFailed(step=name, attempt=attempt, error=error))
    if state.stopping is not None and state.is_stopping:
        return (*events, StepCancelled(step=name, attempt=attempt, reason=_stopping(state.stopping.cause)))
    spec = template.step(name)
    if spec.on_timeout is not None:
        if worker is not None and error.type == TIMEOUT:
            limit = "start_to_close"  # its worker knew that first
        timed_out = () if limit is None else over(spec.on_timeout, limit, name, attempt, error)
        if timed_out:
            return (*events, *timed_out)
    failures = attempt - step.first_attempt + 1
    permanent = not error.retryable or error.type in spec.retry.non_retryable
    if not permanent and failures < spec.retry.max_attempts:
        delay_s = retry_delay_s(spec.retry, failures=failures, jitter=jitter, retry_after_s=error.retry_after_s)
        scheduled = StepRetryScheduled(
            step=name, attempt=attempt + 1, delay_s=delay_s, retry_at_us=at_us + round(delay_s * US_PER_S)
        )
        if delay_s == 0 and not state.held:
            return (*events, scheduled, dispatch(state, spec, name, attempt + 1, at_us, worker))
        return (*events, scheduled)
    reason: FailureReason = "permanent_error" if permanent else "retries_exhausted"
    return (*events, StepFailed(step=name, attempt=attempt, reason=reason, error=error))


def _stopping(cause: str) -> str:
    return f"the task is stopping: {cause}"


# ---------------------------------------------------------------- people


def _cancel(state: TaskState, template: CompiledTemplate, at_us: int, grace_s: float) -> Iterable[AnyTaskEvent]:
    must_exist(state)
    if state.stopping is not None and state.stopping.cause == "cancel":
        return ()
    if state.ended:
        raise TaskEnded(f"the task is {state.status} and cannot be cancelled", state=str(state.status))
    if state.stopping is not None:
        raise StateForbids(f"the task is already ending as {state.stopping.ending}")
    return stop(state, template, at_us, ending="cancelled", cause="cancel", grace_s=grace_s)


def _resumed(state: TaskState, template: CompiledTemplate, command: ResumeTask) -> Iterable[AnyTaskEvent]:
    """Return what lets the task go on; over its budget it may have ended its work, and have been given more of it."""
    resumed = resume(state, children=command.children, paused_by=command.paused_by)
    return chain(resumed, ended_by_budget(state, template, command.at_us))


def _retry_task(state: TaskState, template: CompiledTemplate, at_us: int) -> Iterable[AnyTaskEvent]:
    undo = failed_undo(state)
    if undo is not None:
        return _retried(state, template, [undo], at_us)
    must_go_on(state)
    failed = [*state.failed, *isolated_items(state, template)]
    if not failed:
        detail = "the task has no failed step to retry"
        if state.is_late:
            detail += "; its deadline has passed, and `tasker task deadline` gives it another one"
        if state.over_budget is not None:
            detail += f"; it went over {state.over_budget}, and `tasker task budget` allows it more"
        raise StateForbids(detail)
    return _retried(state, template, failed, at_us)


def _retried(state: TaskState, template: CompiledTemplate, failed: Sequence[str], at_us: int) -> Iterator[AnyTaskEvent]:
    """Return the retries, all before the first of them begins; of a held task only those.

    Raises:
        StateForbids: something of them has not ended yet.
    """
    for name in failed:
        must_have_ended(state, name)
    return _each_retried(state, template, failed, at_us)


def _each_retried(
    state: TaskState, template: CompiledTemplate, failed: Sequence[str], at_us: int
) -> Iterator[AnyTaskEvent]:
    yield from unblocked(state)
    attempts = {name: state.steps[name].attempt + 1 for name in failed}
    for name, attempt in attempts.items():
        yield StepRetried(step=name, attempt=attempt)
        entry = state.steps.get(name)
        if state.held and entry is not None and entry.expansion is not None:
            yield from retry_items(state, left_items(name, entry.expansion))
    if not state.held:
        yield from begin_retried(state, template, attempts, at_us)


def isolated_items(state: TaskState, template: CompiledTemplate) -> list[str]:
    """Return the failed items of steps that wait for a person to repair them, in their lists' order."""
    found: list[str] = []
    for name, entry in state.steps.items():
        if entry.expansion is not None and entry.status is StepStatus.WAITING and template.step(name).isolates:
            found += sorted(entry.expansion.failed, key=entry.expansion.index_of)
    return found


def _retry_step(state: TaskState, template: CompiledTemplate, command: RetryStep) -> Iterable[AnyTaskEvent]:
    if command.step != failed_undo(state):
        must_go_on(state)
        must_be_current(state, template, command.step)
    step = state.steps.get(command.step)
    if step is None or step.status is not StepStatus.FAILED:
        now = "pending" if step is None else str(step.status)
        raise StateForbids(f"step {command.step} is {now}; only a failed step can be retried", state=now)
    if command.attempt is not None and command.attempt != step.attempt:
        raise StateForbids(f"step {command.step} failed at attempt {step.attempt}, not {command.attempt}")
    return _retried(state, template, [command.step], command.at_us)


# ---------------------------------------------------------------- time


def _fire(state: TaskState, template: CompiledTemplate, command: FireObligation) -> Iterable[AnyTaskEvent]:
    at_us = command.at_us
    kind, name, attempt = parse_obligation(command.obligation)
    if command.obligation not in obligations_of_scope(state, name or TASK_SCOPE):
        return ()
    match kind:
        case Kind.NOT_BEFORE:
            return (TaskStarted(),)
        case Kind.DEADLINE:
            if template.spec.on_timeout != "fail":
                return (TaskDeadlinePassed(then=template.spec.on_timeout),)
            return stop(state, template, at_us, ending="failed", cause="timeout", grace_s=CANCEL_GRACE_S)
        case Kind.OFFER | Kind.CHILD | Kind.EVENT | Kind.PLACE:
            return ()
        case Kind.RETRY:
            return (dispatch(state, template.step(name), name, attempt, at_us),)
        case Kind.TIMER:
            return (StepCompleted(step=name, attempt=attempt, result=NULL),)
        case Kind.WAIT_BY:
            return expired(state, template, name, attempt)
        case Kind.ESCALATE:
            return escalated(state, template, name, attempt)
        case Kind.START_BY:
            limit_s = template.step(name).schedule_to_start_s
            error = ErrorInfo(type=TIMEOUT, message=f"no worker started the attempt within {limit_s} s")
            return _fail(state, template, name, attempt, None, error, command.jitter, at_us, "schedule_to_start")
        case Kind.FINISH_BY:
            limit_s = template.step(name).start_to_close_s
            error = ErrorInfo(type=TIMEOUT, message=f"the attempt had no outcome within {limit_s} s of its start")
            return _fail(state, template, name, attempt, None, error, command.jitter, at_us, "start_to_close")
        case Kind.CLOSE_BY:
            return _overdue(state, template, name, attempt)
        case Kind.RUN_BY:
            return running_time_spent(state, template, at_us)
        case Kind.HEARTBEAT:
            step = state.steps[name]
            message = f"worker {step.worker} gave no sign of life for {step.heartbeat_s} s"
            error = ErrorInfo(type="worker_lost", message=message)
            return _fail(state, template, name, attempt, None, error, command.jitter, at_us, "heartbeat")
        case Kind.GRACE:
            return (StepCancelled(step=name, attempt=attempt, reason="it did not stop within its grace"),)
        case Kind.STALE:
            return stale(state, name, attempt)
        case _:
            assert_never(kind)


def _overdue(state: TaskState, template: CompiledTemplate, name: str, attempt: int) -> Events:
    """End a step whose time over all attempts is over, with an attempt or between two."""
    limit_s = template.step(name).schedule_to_close_s
    message = f"the step had no outcome within {limit_s:g} s of its first offer, over all its attempts"
    error = ErrorInfo(type=TIMEOUT, message=message, retryable=False)
    on_timeout = template.step(name).on_timeout
    after: Events = () if on_timeout is None else over(on_timeout, "schedule_to_close", name, attempt, error)
    after = after or (StepFailed(step=name, attempt=attempt, reason="retries_exhausted", error=error),)
    if state.steps[name].status is StepStatus.WAITING:
        return after
    return (StepAttemptFailed(step=name, attempt=attempt, error=error), *after)


def _at_limit(state: TaskState, command: AnyTaskCommand, events: Iterable[AnyTaskEvent]) -> Iterable[AnyTaskEvent]:
    """Return what happens instead of `events` to a task that has (nearly) as many as it may have."""
    match command:
        case CancelTask() | CompleteTask() | FailTask():
            return events
        case FireObligation() if command.obligation == Kind.DEADLINE:
            return events
        case (
            UpdateTask()
            | SetDeadline()
            | PauseTask()
            | ResumeTask()
            | RetryTask()
            | RetryStep()
            | SkipStep()
            | ResolveStep()
            | ResetStep()
            | EditResult()
            | ReleaseStep()
            | SignalTask()
            | AnswerApproval()
            | DelegateApproval()
            | SetBudget()
        ):
            raise HistoryLimit(f"the task has {state.seq} events; cancel it and start another")
        case _:
            detail = f"{state.seq} events of at most {HISTORY_EVENTS_MAX}"
            return (TaskBlocked(reason="history_limit", detail=detail),)
