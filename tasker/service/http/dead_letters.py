"""Endpoints of dead letters."""

from __future__ import annotations

import msgspec
from aiohttp import web

from tasker.events.position import format_position
from tasker.events.reads import (
    DEAD_LETTER_REASONS,
    DEAD_LETTER_STATES,
    INVESTIGATION_STATUSES,
    DeadLetterCount,
    DeadLetterGroupPage,
    DeadLetterPage,
)
from tasker.projections.dead_letter_queries import DeadLetterQuery
from tasker.service.http.requests import Parameters, json_response, object_body, task_id_of, tenant_of
from tasker.service.http.services import SERVICES
from tasker.service.http.tasks import command
from tasker.service.http.waiting import reach, task_view


async def list_dead_letters(request: web.Request) -> web.Response:
    """GET /v1/dlq: a page of dead letters."""
    services = request.app[SERVICES]
    tenant, parameters = tenant_of(request), Parameters(request)
    query = _page_of(parameters)
    await reach(services, parameters.text("at_least"))
    page = await services.dead_letters.page(tenant, query)
    return json_response(DeadLetterPage(items=page.items, next=page.next, position=format_position(page.positions)))


async def groups(request: web.Request) -> web.Response:
    """GET /v1/dlq/groups: a page of groups by fingerprint."""
    services = request.app[SERVICES]
    tenant, parameters = tenant_of(request), Parameters(request)
    query = _page_of(parameters)
    await reach(services, parameters.text("at_least"))
    page = await services.dead_letters.groups(tenant, query)
    return json_response(
        DeadLetterGroupPage(items=page.items, next=page.next, position=format_position(page.positions))
    )


async def count(request: web.Request) -> web.Response:
    """GET /v1/dlq/count: how many match."""
    services = request.app[SERVICES]
    tenant, parameters = tenant_of(request), Parameters(request)
    query = _query(parameters)
    await reach(services, parameters.text("at_least"))
    position = format_position(await services.queries.positions())
    return json_response(DeadLetterCount(count=await services.dead_letters.count(tenant, query), position=position))


async def of_task(request: web.Request) -> web.Response:
    """GET /v1/dlq/{task_id}: every dead letter of a task, with its notes."""
    services = request.app[SERVICES]
    tenant, task_id = tenant_of(request), task_id_of(request)
    parameters = Parameters(request)
    await reach(services, parameters.text("at_least"))
    view = await task_view(services, tenant, task_id)
    items = await services.dead_letters.of_task(tenant, task_id)
    return json_response(DeadLetterPage(items=items, next=None, position=view.position))


async def add(request: web.Request) -> web.Response:
    """POST /v1/dlq/{task_id}/add."""
    return await _command(request, "dlq.add")


async def investigate(request: web.Request) -> web.Response:
    """POST /v1/dlq/{task_id}/investigate."""
    return await _command(request, "dlq.investigate")


async def resolve(request: web.Request) -> web.Response:
    """POST /v1/dlq/{task_id}/resolve."""
    return await _command(request, "dlq.resolve")


async def reopen(request: web.Request) -> web.Response:
    """POST /v1/dlq/{task_id}/reopen."""
    return await _command(request, "dlq.reopen")


async def retry(request: web.Request) -> web.Response:
    """POST /v1/dlq/{task_id}/retry."""
    return await _command(request, "dlq.retry")


async def _command(request: web.Request, verb: str) -> web.Response:
    return await command(request, verb, await object_body(request, task_id=str(task_id_of(request))))


def _page_of(parameters: Parameters) -> DeadLetterQuery:
    return msgspec.structs.replace(_query(parameters), limit=parameters.limit(), after=parameters.after())


def _query(parameters: Parameters) -> DeadLetterQuery:
    return DeadLetterQuery(
        states=parameters.choices("state", DEAD_LETTER_STATES),
        statuses=parameters.choices("status", INVESTIGATION_STATUSES),
        reasons=parameters.choices("reason", DEAD_LETTER_REASONS),
        namespace=parameters.name("namespace"),
        template=parameters.name("template"),
        step=parameters.name("step"),
        fingerprint=parameters.text("fingerprint"),
        owner=parameters.text("owner"),
        tags=parameters.tags(),
        seen_from_us=parameters.time_us("seen_after"),
        seen_to_us=parameters.time_us("seen_before"),
    )
