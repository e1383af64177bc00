"""Routes of what the log as a whole holds: events, refusals, counts and usage."""

from __future__ import annotations

from typing import Final

from tasker import errors
from tasker.events.reads import EventPage, RefusalPage, Stats, UsagePage
from tasker.service.http import events, health, refusals, usage
from tasker.service.http import parameters as p
from tasker.service.http.operations import JSON, Answer, Operation
from tasker.service.http.requests import EVENT_STREAM
from tasker.service.http.routes.parts import GET, LIST, READ, VIEW, ok

LOG: Final[tuple[Operation, ...]] = (
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
            p.AT_LEAST,
            p.EVENT_TYPE,
            p.NAMESPACE,
            p.TEMPLATE,
            p.TASK,
            p.LAST_EVENT_ID,
        ),
        answers=(Answer(description="A page of events.", kind=EventPage, media=(JSON, EVENT_STREAM)),),
        problems=(*VIEW, errors.Busy),
    ),
    Operation(
        method=GET,
        path="/v1/refusals",
        id="listRefusals",
        endpoint=refusals.list_refusals,
        summary="List submitted commands that were refused, oldest first.",
        tag="service",
        parameters=(p.TENANT, p.LIMIT, p.AFTER),
        answers=ok(RefusalPage, "A page of refusals."),
        problems=(*READ, errors.PositionInvalid, errors.DeadlineExceeded),
    ),
    Operation(
        method=GET,
        path="/v1/stats",
        id="getStats",
        endpoint=health.stats,
        summary="Count the tenant's tasks by state, and the events that the views are behind the log.",
        tag="service",
        parameters=(p.TENANT,),
        answers=ok(Stats, "The counts."),
        problems=READ,
    ),
    Operation(
        method=GET,
        path="/v1/usage",
        id="listUsage",
        endpoint=usage.list_usage,
        summary="Show what attempts used and cost, added up.",
        tag="usage",
        parameters=(*LIST, p.USAGE_OF, p.TASK, p.NAMESPACE, p.TEMPLATE, p.MODEL),
        answers=ok(UsagePage, "A page of totals."),
        problems=VIEW,
    ),
)
