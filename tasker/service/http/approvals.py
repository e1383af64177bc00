"""The endpoint of open approvals; answers to them are commands to their steps."""

from __future__ import annotations

from aiohttp import web

from tasker.events.position import format_position
from tasker.events.reads import ApprovalPage
from tasker.projections.queries import ApprovalQuery
from tasker.service.http.requests import Parameters, json_response, tenant_of
from tasker.service.http.services import SERVICES
from tasker.service.http.waiting import reach


async def list_approvals(request: web.Request) -> web.Response:
    """GET /v1/approvals: a page of open approvals."""
    services = request.app[SERVICES]
    tenant, parameters = tenant_of(request), Parameters(request)
    query = ApprovalQuery(
        assignee=parameters.text("assignee"),
        roles=parameters.texts("role"),
        namespace=parameters.name("namespace"),
        template=parameters.name("template"),
        limit=parameters.limit(),
        after=parameters.after(),
    )
    await reach(services, parameters.text("at_least"))
    page = await services.queries.approvals(tenant, query)
    return json_response(ApprovalPage(items=page.items, next=page.next, position=format_position(page.positions)))
