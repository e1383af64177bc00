"""What an operator's command to a task means to the core.

Each wire message becomes a command of the domain once its turn has come: `decided_of(message)(at_us)`.
"""

from __future__ import annotations

from collections.abc import Callable

from tasker.errors import VerbUnknown
from tasker.events.messages import (
    ApprovalCommand,
    StepApprove,
    StepDelegate,
    StepEdit,
    StepOperatorCommand,
    StepReject,
    StepRelease,
    StepReset,
    StepResolve,
    StepRetry,
    StepSkip,
    TaskBudget,
    TaskCancel,
    TaskComplete,
    TaskDeadline,
    TaskFail,
    TaskOperatorCommand,
    TaskPause,
    TaskResume,
    TaskRetry,
    TaskSignal,
    TaskUpdate,
)
from tasker.events.task_events import Choice, Decision
from tasker.service.actors.entrances.requests import (
    check_budget,
    check_grace,
    check_person,
    check_result,
    check_update,
    deadline_of,
    forced_error,
)
from tasker.service.domain.commands import (
    AnswerApproval,
    AnyTaskCommand,
    CancelTask,
    CompleteTask,
    DelegateApproval,
    EditResult,
    FailTask,
    PauseTask,
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
    UpdateTask,
)
from tasker.templates.instances import parse_instance

Decided = Callable[[int], AnyTaskCommand]


def decided_of(command: TaskOperatorCommand) -> Decided:
    """Return what makes the core's command of `command`, given the time of its turn.

    Raises:
        CommandRejected: one of its fields may not be used.
    """
    if isinstance(command, StepOperatorCommand):
        parse_instance(command.step)
    match command:
        case TaskCancel():
            grace_s = check_grace(command.grace_s)
            return lambda at_us: CancelTask(at_us=at_us, grace_s=grace_s)
        case TaskComplete():
            result, grace_s = check_result(command.result), check_grace(command.grace_s)
            return lambda at_us: CompleteTask(at_us=at_us, result=result, grace_s=grace_s)
        case TaskFail():
            error, grace_s = forced_error(command.message), check_grace(command.grace_s)
            return lambda at_us: FailTask(at_us=at_us, error=error, grace_s=grace_s)
        case TaskUpdate(tags=tags, metadata=metadata, priority=priority):
            check_update(command)
            return lambda at_us: UpdateTask(at_us=at_us, tags=tags, metadata=metadata or None, priority=priority)
        case TaskDeadline():
            deadline_us, within_s = deadline_of(command)
            return lambda at_us: SetDeadline(at_us=at_us, deadline_us=deadline_us, within_s=within_s)
        case TaskRetry():
            return lambda at_us: RetryTask(at_us=at_us)
        case TaskPause(children=children):
            return lambda at_us: PauseTask(at_us=at_us, children=children)
        case TaskResume(children=children, paused_by=paused_by):
            return lambda at_us: ResumeTask(at_us=at_us, children=children, paused_by=paused_by)
        case TaskBudget():
            cost_max = check_budget(command)
            tokens_max, running_s_max = command.tokens_max, command.running_s_max
            return lambda at_us: SetBudget(
                at_us=at_us, cost_max=cost_max, tokens_max=tokens_max, running_s_max=running_s_max
            )
        case TaskSignal(name=name):
            value = check_result(command.value, "a signal's value")
            return lambda at_us: SignalTask(at_us=at_us, name=name, value=value)
        case StepRetry(step=step, attempt=attempt):
            return lambda at_us: RetryStep(at_us=at_us, step=step, attempt=attempt)
        case StepSkip(step=step, requested_by=by):
            result, choice = check_result(command.result), _choice_of(command)
            return lambda at_us: SkipStep(at_us=at_us, step=step, result=result, choice=choice, by=by)
        case StepResolve(step=step, requested_by=by):
            result, choice = check_result(command.result), _choice_of(command)
            return lambda at_us: ResolveStep(at_us=at_us, step=step, result=result, choice=choice, by=by)
        case StepReset(step=step):
            return lambda at_us: ResetStep(at_us=at_us, step=step)
        case StepEdit(step=step, requested_by=by):
            result = check_result(command.result)
            return lambda at_us: EditResult(at_us=at_us, step=step, result=result, by=by)
        case StepRelease(step=step):
            return lambda at_us: ReleaseStep(at_us=at_us, step=step)
        case ApprovalCommand():
            return _approval_of(command)
        case _:
            raise VerbUnknown(f"there is no command of the kind {type(command).__name__}")


def _approval_of(command: ApprovalCommand) -> Decided:
    by = check_person(command.requested_by, "requested_by")
    step, attempt, reason = command.step, command.attempt, command.reason or ""
    roles = tuple(check_person(role, "roles") for role in command.roles)
    if isinstance(command, StepDelegate):
        to = check_person(command.to, "to")
        return lambda at_us: DelegateApproval(
            at_us=at_us, step=step, attempt=attempt, by=by, roles=roles, to=to, reason=reason
        )
    assert isinstance(command, StepApprove | StepReject)  # noqa: S101 - there are no others
    values = check_result(command.values, "values")
    decision: Decision = "approved" if isinstance(command, StepApprove) else "rejected"
    return lambda at_us: AnswerApproval(
        at_us=at_us,
        step=step,
        attempt=attempt,
        decision=decision,
        by=by,
        roles=roles,
        reason=reason,
        values=values,
    )


def _choice_of(command: StepSkip | StepResolve) -> Choice | None:
    return Choice(routes=command.routes, reason=(command.reason or "")[:2000]) if command.routes else None
