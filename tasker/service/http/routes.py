"""The table of operations: a route is declared here and nowhere else."""

from __future__ import annotations

from http import HTTPMethod, HTTPStatus
from typing import Any, Final

from tasker import errors
from tasker.contracts.template_schema import SCHEMA_MEDIA_TYPE
from tasker.errors import TaskerError
from tasker.events.messages import (
    Accepted,
    Refused,
    StepRetry,
    TaskCancel,
    TaskCreate,
    TaskRetry,
    TemplateRegister,
    TemplateUse,
)
from tasker.events.reads import (
    EventPage,
    Health,
    Live,
    RefusalPage,
    Stats,
    StepPage,
    TaskPage,
    TaskView,
    TemplatePage,
    TemplateView,
)
from tasker.service.http import documents, events, health, refusals, tasks, templates
from tasker.service.http import parameters as p
from tasker.service.http.operations import JSON, Answer, Body, Operation
from tasker.service.http.requests import EVENT_STREAM

GET: Final = HTTPMethod.GET
POST: Final = HTTPMethod.POST
PUT: Final = HTTPMethod.PUT

Problems = tuple[type[TaskerError], ...]

_ANY: Final[Problems] = (TaskerError,)
_READ: Final[Problems] = (*_ANY, errors.ParameterInvalid, errors.NameInvalid, errors.Unavailable)
_VIEW: Final[Problems] = (*_READ, errors.PositionInvalid, errors.Behind)
_COMMAND: Final[Problems] = (
    *_READ,
    errors.BodyInvalid,
    errors.BodyTooLarge,
    errors.ValueInvalid,
    errors.KeyAmbiguous,
    errors.Busy,
    errors.Fenced,
    errors.OutcomeUnknown,
    errors.DeadlineExceeded,
)
_OPERATOR: Final[Problems] = (
    *_COMMAND,
    errors.TaskUnknown,
    errors.TaskEnded,
    errors.StateForbids,
    errors.TaskPoisoned,
    errors.HistoryLimit,
)
_TEMPLATE: Final[Problems] = (*_COMMAND, errors.TemplateInvalid, errors.TemplateUnknown, errors.TemplateConflict)

_LIST: Final = (p.TENANT, p.LIMIT, p.AFTER, p.CURSOR, p.AT_LEAST)
_SENT: Final = (p.TENANT, p.IDEMPOTENCY_KEY, p.TRACEPARENT)
_LOCATION: Final = (("Location", "Path of the task."),)


def _ok(kind: Any, description: str) -> tuple[Answer, ...]:
    return (Answer(description=description, kind=kind),)


_ACCEPTED: Final = _ok(Accepted, "It is recorded (or, `duplicate`, had been).")

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        method=POST,
        path="/v1/tasks",
        id="createTask",
        endpoint=tasks.create,
        summary="Start a task of a template, or an array of tasks.",
        tag="tasks",
        parameters=(*_SENT, p.WAIT_S),
        body=Body(kind=TaskCreate, array=True),
        answers=(
            Answer(
                status=HTTPStatus.CREATED,
                description="The task is recorded; with `wait_s` also how it was then.",
                kind=tasks.CreatedTask,
                headers=_LOCATION,
            ),
            Answer(
                description="The key named a task that was there; of an array, a verdict for each, in its order.",
                kind=tasks.CreatedTask | list[Accepted | Refused],
                headers=_LOCATION,
            ),
        ),
        problems=(
            *_COMMAND,
            errors.InputInvalid,
            errors.TemplateInvalid,
            errors.TemplateUnknown,
            errors.KeyConflict,
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
            *_LIST,
            p.STATE,
            p.NAMESPACE,
            p.TEMPLATE,
            p.TAG,
            p.CREATED_AFTER,
            p.CREATED_BEFORE,
            p.SORT,
        ),
        answers=_ok(TaskPage, "A page of tasks."),
        problems=_VIEW,
    ),
    Operation(
        method=GET,
        path="/v1/tasks/{task_id}",
        id="getTask",
        endpoint=tasks.get,
        summary="Show a task; with `wait_s` once it is over.",
        tag="tasks",
        parameters=(p.TENANT, p.TASK_ID, p.WAIT_S, p.AT_LEAST),
        answers=_ok(TaskView, "The task."),
        problems=(*_VIEW, errors.TaskUnknown),
    ),
    Operation(
        method=GET,
        path="/v1/tasks/{task_id}/steps",
        id="listSteps",
        endpoint=tasks.steps,
        summary="List a task's steps in declared order, those not begun as `pending`; then visits of loops, and items.",
        tag="tasks",
        parameters=(p.TENANT, p.TASK_ID, p.LIMIT, p.AFTER, p.CURSOR, p.AT_LEAST),
        answers=_ok(StepPage, "A page of steps."),
        problems=(*_VIEW, errors.TaskUnknown),
    ),
    Operation(
        method=GET,
        path="/v1/tasks/{task_id}/events",
        id="listTaskEvents",
        endpoint=events.of_task,
        summary="List a task's events by `seq`, or follow them until it has ended.",
        tag="events",
        parameters=(p.TENANT, p.TASK_ID, p.LIMIT, p.AFTER_SEQ, p.CURSOR, p.AT_LEAST, p.LAST_EVENT_ID),
        answers=(
            Answer(description="A page of events.", kind=EventPage, media=(JSON, EVENT_STREAM)),
            Answer(
                status=HTTPStatus.NO_CONTENT,
                description="Nothing follows that event: it ended the task. Only where a stream was asked for.",
            ),
        ),
        problems=(*_VIEW, errors.TaskUnknown, errors.Busy),
    ),
    Operation(
        method=POST,
        path="/v1/tasks/{task_id}/cancel",
        id="cancelTask",
        endpoint=tasks.cancel,
        summary="End a task. Running handlers are told and have `grace_s` to stop.",
        tag="tasks",
        parameters=(*_SENT, p.TASK_ID),
        body=Body(kind=TaskCancel, optional=True),
        answers=_ACCEPTED,
        problems=_OPERATOR,
    ),
    Operation(
        method=POST,
        path="/v1/tasks/{task_id}/retry",
        id="retryTask",
        endpoint=tasks.retry,
        summary="Give every failed step of a blocked task a fresh set of attempts.",
        tag="tasks",
        parameters=(*_SENT, p.TASK_ID),
        body=Body(kind=TaskRetry, optional=True),
        answers=_ACCEPTED,
        problems=_OPERATOR,
    ),
    Operation(
        method=POST,
        path="/v1/tasks/{task_id}/steps/{step}/retry",
        id="retryStep",
        endpoint=tasks.retry_step,
        summary="Give one failed step a fresh set of attempts.",
        tag="tasks",
        parameters=(*_SENT, p.TASK_ID, p.STEP),
        body=Body(kind=StepRetry, optional=True),
        answers=_ACCEPTED,
        problems=(*_OPERATOR, errors.StepUnknown),
    ),
    Operation(
        method=PUT,
        path="/v1/templates",
        id="registerTemplate",
        endpoint=templates.register,
        summary="Make a template known.",
        tag="templates",
        parameters=_SENT,
        body=Body(kind=TemplateRegister),
        answers=_ACCEPTED,
        problems=_TEMPLATE,
    ),
    Operation(
        method=GET,
        path="/v1/templates",
        id="listTemplates",
        endpoint=templates.list_templates,
        summary="List registered versions of templates.",
        tag="templates",
        parameters=(*_LIST, p.NAMESPACE, p.NAME),
        answers=_ok(TemplatePage, "A page of versions."),
        problems=_VIEW,
    ),
    Operation(
        method=POST,
        path="/v1/templates/use",
        id="useTemplate",
        endpoint=templates.use,
        summary='Choose what "no version" means for new tasks.',
        tag="templates",
        parameters=_SENT,
        body=Body(kind=TemplateUse),
        answers=_ACCEPTED,
        problems=_TEMPLATE,
    ),
    Operation(
        method=GET,
        path="/v1/templates/{namespace}/{name}",
        id="getTemplate",
        endpoint=templates.get,
        summary="Show the version in use, with its document.",
        tag="templates",
        parameters=(p.TENANT, p.NAMESPACE_IN_PATH, p.NAME_IN_PATH, p.AT_LEAST),
        answers=_ok(TemplateView, "The version."),
        problems=(*_VIEW, errors.TemplateUnknown),
    ),
    Operation(
        method=POST,
        path="/v1/templates/{namespace}/{name}/use",
        id="useNamedTemplate",
        endpoint=templates.use,
        summary='Choose what "no version" of this template means for new tasks.',
        tag="templates",
        parameters=(*_SENT, p.NAMESPACE_IN_PATH, p.NAME_IN_PATH),
        body=Body(kind=TemplateUse),
        answers=_ACCEPTED,
        problems=_TEMPLATE,
    ),
    Operation(
        method=GET,
        path="/v1/templates/{namespace}/{name}/{version}",
        id="getTemplateVersion",
        endpoint=templates.get,
        summary="Show a version, with its document.",
        tag="templates",
        parameters=(p.TENANT, p.NAMESPACE_IN_PATH, p.NAME_IN_PATH, p.VERSION_IN_PATH, p.AT_LEAST),
        answers=_ok(TemplateView, "The version."),
        problems=(*_VIEW, errors.TemplateUnknown),
    ),
    Operation(
        method=GET,
        path="/v1/events",
        id="listEvents",
        endpoint=events.of_log,
        summary="List the tenant's events, or follow them; filtered, from any position.",
        tag="events",
        parameters=(
            p.TENANT,
            p.LIMIT,
            p.AFTER_EVENT,
            p.CURSOR,
            p.AT_LEAST,
            p.EVENT_TYPE,
            p.NAMESPACE,
            p.TEMPLATE,
            p.TASK,
            p.TASK_ID_IN_QUERY,
            p.LAST_EVENT_ID,
        ),
        answers=(Answer(description="A page of events.", kind=EventPage, media=(JSON, EVENT_STREAM)),),
        problems=(*_VIEW, errors.Busy),
    ),
    Operation(
        method=GET,
        path="/v1/refusals",
        id="listRefusals",
        endpoint=refusals.list_refusals,
        summary="List submitted commands that were refused, oldest first.",
        tag="service",
        parameters=(p.TENANT, p.LIMIT, p.AFTER, p.CURSOR),
        answers=_ok(RefusalPage, "A page of refusals."),
        problems=(*_READ, errors.PositionInvalid, errors.DeadlineExceeded),
    ),
    Operation(
        method=GET,
        path="/v1/stats",
        id="getStats",
        endpoint=health.stats,
        summary="Count the tenant's tasks by state, and the events that the views are behind the log.",
        tag="service",
        parameters=(p.TENANT,),
        answers=_ok(Stats, "The counts."),
        problems=_READ,
    ),
    Operation(
        method=GET,
        path="/v1/openapi.json",
        id="getOpenApi",
        endpoint=documents.openapi,
        summary="This document.",
        tag="contracts",
        answers=_ok(dict[str, Any], "OpenAPI 3.1."),
        problems=(*_ANY, errors.ParameterInvalid),
    ),
    Operation(
        method=GET,
        path="/v1/asyncapi.json",
        id="getAsyncApi",
        endpoint=documents.asyncapi,
        summary="The subjects, streams and messages on NATS.",
        tag="contracts",
        answers=_ok(dict[str, Any], "AsyncAPI 3.0."),
        problems=(*_ANY, errors.ParameterInvalid),
    ),
    Operation(
        method=GET,
        path="/v1/template.schema.json",
        id="getTemplateSchema",
        endpoint=documents.template_schema,
        summary="The form of a template's document, for editors.",
        tag="contracts",
        answers=(Answer(description="JSON Schema, draft 2020-12.", kind=dict[str, Any], media=(SCHEMA_MEDIA_TYPE,)),),
        problems=(*_ANY, errors.ParameterInvalid),
    ),
    Operation(
        method=GET,
        path="/health/live",
        id="isLive",
        endpoint=health.live,
        summary="Say that the process answers.",
        tag="service",
        answers=_ok(Live, "It does."),
        problems=_ANY,
    ),
    Operation(
        method=GET,
        path="/health/ready",
        id="isReady",
        endpoint=health.ready,
        summary="Say whether every check is fine.",
        tag="service",
        answers=(
            Answer(description="Ready.", kind=Health),
            Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, description="Not ready, with the reasons.", kind=Health),
        ),
        problems=_ANY,
    ),
)
