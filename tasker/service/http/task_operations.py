"""The operations of an operator on tasks and steps: `POST /v1/tasks/{task_id}/<verb>`, `.../steps/{step}/<verb>`."""

from __future__ import annotations

from http import HTTPMethod
from typing import Final

import msgspec

from tasker import errors
from tasker.errors import TaskerError
from tasker.events.messages import (
    COMMANDS,
    Accepted,
    ApprovalCommand,
    StepOperatorCommand,
    TaskOperatorCommand,
    TaskRestart,
    TaskSignal,
)
from tasker.service.http import parameters as p
from tasker.service.http import tasks
from tasker.service.http.operations import Answer, Body, Operation

_SENT: Final = (p.TENANT, p.IDEMPOTENCY_KEY, p.TRACEPARENT, p.TASK_ID)
_ACCEPTED: Final = (
    Answer(description="It is recorded (or, `duplicate`, had been); a dry run says what would be.", kind=Accepted),
)
REFUSALS: Final = (
    errors.TaskUnknown,
    errors.TaskEnded,
    errors.StateForbids,
    errors.TaskPoisoned,
    errors.HistoryLimit,
)

_OF_TASKS: Final = {
    "task.cancel": "End a task. Running handlers are told and have `grace_s` to stop.",
    "task.complete": "End a task as completed, with a result of yours, whatever its steps have done.",
    "task.fail": "End a task as failed, with an error of yours. It compensates as any task that fails.",
    "task.update": "Change the tags, the metadata and the priority of a task.",
    "task.deadline": "Give a task another deadline, or none.",
    "task.restart": "Run a task that has ended once more, as a new task; the answer names it.",
    "task.retry": "Give every failed step of a blocked task a fresh set of attempts.",
    "task.pause": "Let nothing more of a task begin; attempts that run go on.",
    "task.resume": "Let a paused task go on.",
    "task.budget": "Let a task use more than its template's budget allows; blocked by that, it goes on.",
}
_OF_STEPS: Final = {
    "step.retry": "Give one failed step a fresh set of attempts.",
    "step.skip": "Complete a step without running it (any more), with a result or null.",
    "step.resolve": "Complete a step with a result that was got in another way.",
    "step.reset": "Let the failures of an open step count no more.",
    "step.edit": "Give a completed step another result; steps that have used the old one are not repeated.",
    "step.release": "End what a step waits for: its retry, its time, or parents that have not completed.",
    "step.approve": "Say yes to what a step asks.",
    "step.reject": "Say no to what a step asks.",
    "step.delegate": "Have somebody else answer what a step asks.",
}
_OF_RESTARTS: Final = (errors.TemplateUnknown, errors.InputInvalid)
"""It creates a task, which may be refused as any other."""

_OF_APPROVALS: Final = (errors.ApprovalForbidden, errors.ApprovalInvalid)


def operations(problems: tuple[type[TaskerError], ...]) -> tuple[Operation, ...]:
    """Return them; `problems` are those that any command may have."""
    return (
        *(_operation(verb, summary, problems) for verb, summary in _OF_TASKS.items()),
        *(_operation(verb, summary, problems) for verb, summary in _OF_STEPS.items()),
        Operation(
            method=HTTPMethod.POST,
            path="/v1/tasks/{task_id}/signals/{name}",
            id="signalTask",
            endpoint=tasks.signal,
            summary="Bring a task a signal, for a step that waits for one of its name, now or later.",
            tag="tasks",
            parameters=(*_SENT, p.SIGNAL_IN_PATH),
            body=Body(kind=TaskSignal, optional=True),
            answers=_ACCEPTED,
            problems=(*problems, *REFUSALS, errors.SignalUnknown, errors.SignalInvalid, errors.SignalsFull),
        ),
    )


def _further(kind: type[TaskOperatorCommand]) -> tuple[type[TaskerError], ...]:
    if kind is TaskRestart:
        return _OF_RESTARTS
    of_step = (errors.StepUnknown,) if issubclass(kind, StepOperatorCommand) else ()
    return (*of_step, *_OF_APPROVALS) if issubclass(kind, ApprovalCommand) else of_step


def _operation(verb: str, summary: str, problems: tuple[type[TaskerError], ...]) -> Operation:
    noun, _, name = verb.partition(".")
    kind = COMMANDS[verb]
    assert issubclass(kind, TaskOperatorCommand)  # noqa: S101 - what the tables above name
    of_step = issubclass(kind, StepOperatorCommand)
    required = {field.name for field in msgspec.structs.fields(kind) if field.required} - {"task_id", "step"}
    return Operation(
        method=HTTPMethod.POST,
        path=f"/v1/tasks/{{task_id}}/steps/{{step}}/{name}" if of_step else f"/v1/tasks/{{task_id}}/{name}",
        id=f"{name}{noun.capitalize()}",
        endpoint=tasks.step_command(verb) if of_step else tasks.task_command(verb),
        summary=summary,
        tag="tasks",
        parameters=(*_SENT, p.STEP) if of_step else _SENT,
        body=Body(kind=kind, optional=not required),
        answers=_ACCEPTED,
        problems=(*problems, *REFUSALS, *_further(kind)),
    )
