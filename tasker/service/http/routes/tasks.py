"""Routes of tasks: to start, show and follow them, and the work of people on them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from tasker import errors
from tasker.events.messages import Accepted, BulkCreate, Refused, TaskCreate
from tasker.events.reads import ApprovalPage, EventPage, Explanation, StepPage, TaskPage, TaskView
from tasker.service.http import approvals, bulk, events, explanations, live, task_operations, tasks
from tasker.service.http import parameters as p
from tasker.service.http.operations import JSON, Answer, Body, Operation
from tasker.service.http.requests import EVENT_STREAM
from tasker.service.http.routes.parts import ACCEPTED, COMMAND, GET, LIST, POST, READ, SENT, VIEW, ok

_LOCATION: Final = (("Location", "Path of the task."),)

TASKS: Final[tuple[Operation, ...]] = (
    Operation(
        method=POST,
        path="/v1/tasks",
        id="createTask",
        endpoint=tasks.create,
        summary="Start a task of a template, or an array of tasks.",
        tag="tasks",
        parameters=(*SENT, p.WAIT_S),
        body=Body(kind=TaskCreate, array=True),
        answers=(
            Answer(
                status=HTTPStatus.CREATED,
                description="The task is recorded; with `wait_s` also how it was then.",
                kind=tasks.CreatedTask,
                headers=_LOCATION,
            ),
            Answer(
                description="The key named a task that was there, or it was a dry run; of an array, its verdicts.",
                kind=tasks.CreatedTask | list[Accepted | Refused],
                headers=_LOCATION,
            ),
        ),
        problems=(
            *COMMAND,
            errors.InputInvalid,
            errors.TemplateInvalid,
            errors.TemplateUnknown,
            errors.TaskPoisoned,
            errors.HistoryLimit,
        ),
    ),
    Operation(
        method=GET,
        path="/v1/tasks",
        id="listTasks",
        endpoint=tasks.list_tasks,
        summary="List tasks.",
        tag="tasks",
        parameters=(
            *LIST,
            p.STATE,
            p.NAMESPACE,
            p.TEMPLATE,
            p.TAG,
            p.CREATED_AFTER,
            p.CREATED_BEFORE,
            p.SORT,
        ),
        answers=ok(TaskPage, "A page of tasks."),
        problems=VIEW,
    ),
    Operation(
        method=GET,
        path="/v1/tasks/{task_id}",
        id="getTask",
        endpoint=tasks.get,
        summary="Show a task; with `wait_s` once it is over.",
        tag="tasks",
        parameters=(p.TENANT, p.TASK_ID, p.WAIT_S, p.AT_LEAST),
        answers=ok(TaskView, "The task."),
        problems=(*VIEW, errors.TaskUnknown),
    ),
    Operation(
        method=GET,
        path="/v1/tasks/{task_id}/steps",
        id="listSteps",
        endpoint=tasks.steps,
        summary="List a task's steps in declared order, those not begun as `pending`; then visits of loops, and items.",
        tag="tasks",
        parameters=(p.TENANT, p.TASK_ID, p.LIMIT, p.AFTER, p.AT_LEAST),
        answers=ok(StepPage, "A page of steps."),
        problems=(*VIEW, errors.TaskUnknown),
    ),
    Operation(
        method=GET,
        path="/v1/tasks/{task_id}/explain",
        id="explainTask",
        endpoint=explanations.of_task,
        summary="Say why a task is where it is: a sentence, and what it waits for.",
        tag="tasks",
        parameters=(p.TENANT, p.TASK_ID, p.AT_LEAST),
        answers=ok(Explanation, "Why."),
        problems=(*VIEW, errors.TaskUnknown),
    ),
    Operation(
        method=GET,
        path="/v1/tasks/{task_id}/steps/{step}/explain",
        id="explainStep",
        endpoint=explanations.of_step,
        summary="Say why a step is where it is: a sentence, and what it waits for, also when it has not begun.",
        tag="tasks",
        parameters=(p.TENANT, p.TASK_ID, p.STEP, p.AT_LEAST),
        answers=ok(Explanation, "Why."),
        problems=(*VIEW, errors.TaskUnknown, errors.StepUnknown, errors.NameInvalid),
    ),
    Operation(
        method=GET,
        path="/v1/tasks/{task_id}/events",
        id="listTaskEvents",
        endpoint=events.of_task,
        summary="List a task's events by `seq`, or follow them until it has ended.",
        tag="events",
        parameters=(p.TENANT, p.TASK_ID, p.LIMIT, p.AFTER_SEQ, p.AT_LEAST, p.LAST_EVENT_ID),
        answers=(
            Answer(description="A page of events.", kind=EventPage, media=(JSON, EVENT_STREAM)),
            Answer(
                status=HTTPStatus.NO_CONTENT,
                description="Nothing follows that event: it ended the task. Only where a stream was asked for.",
            ),
        ),
        problems=(*VIEW, errors.TaskUnknown, errors.Busy),
    ),
    Operation(
        method=GET,
        path="/v1/tasks/{task_id}/stream",
        id="streamTask",
        endpoint=live.of_task,
        summary="Show the progress of a task's running attempts, or follow what they say live until it has ended.",
        tag="tasks",
        parameters=(p.TENANT, p.TASK_ID, p.LIVE_STEP),
        answers=(
            Answer(description="What they told last.", kind=live.LivePage, media=(JSON, EVENT_STREAM)),
            Answer(
                status=HTTPStatus.NO_CONTENT,
                description="The task has ended. Only where a stream was asked for.",
            ),
        ),
        problems=(*READ, errors.TaskUnknown, errors.StepUnknown, errors.NameInvalid, errors.Busy),
    ),
    *task_operations.operations(COMMAND),
    Operation(
        method=GET,
        path="/v1/approvals",
        id="listApprovals",
        endpoint=approvals.list_approvals,
        summary="List what steps ask people and nobody has decided yet, the oldest first.",
        tag="tasks",
        parameters=(*LIST, p.ASSIGNEE, p.ROLE, p.NAMESPACE, p.TEMPLATE),
        answers=ok(ApprovalPage, "A page of open approvals."),
        problems=VIEW,
    ),
    Operation(
        method=POST,
        path="/v1/bulk",
        id="createBulk",
        endpoint=bulk.create,
        summary="Give one command to everything that matches: a task does it, which the answer names.",
        tag="tasks",
        parameters=SENT,
        body=Body(kind=BulkCreate),
        answers=ACCEPTED,
        problems=COMMAND,
    ),
)
