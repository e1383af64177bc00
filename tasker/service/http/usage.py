"""Endpoint of usage: what attempts used and cost, added up."""

from __future__ import annotations

from aiohttp import web

from tasker.events.position import format_position
from tasker.events.reads import USAGE_BY, UsagePage
from tasker.projections.queries import UsageQuery
from tasker.service.http.requests import Parameters, json_response, tenant_of
from tasker.service.http.services import SERVICES
from tasker.service.http.waiting import reach


async def list_usage(request: web.Request) -> web.Response:
    """GET /v1/usage: totals by tenant, template, step or task."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    parameters = Parameters(request)
    query = UsageQuery(
        by=parameters.choice("by", USAGE_BY) or "template",
        task_id=parameters.task_id(),
        namespace=parameters.name("namespace"),
        template=parameters.name("template"),
        model=parameters.text("model"),
        limit=parameters.limit(),
        after=parameters.after(),
    )
    await reach(services, parameters.text("at_least"))
    page = await services.queries.usage(tenant, query)
    return json_response(UsagePage(items=page.items, next=page.next, position=format_position(page.positions)))
