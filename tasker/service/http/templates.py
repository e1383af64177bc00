"""Endpoints of templates."""

from __future__ import annotations

import msgspec
from aiohttp import web

from tasker.errors import BodyInvalid, TemplateUnknown
from tasker.events.codec import is_text
from tasker.events.position import format_position
from tasker.events.reads import TemplatePage
from tasker.ids import check_name
from tasker.projections.queries import TemplateQuery
from tasker.service.http.requests import Parameters, json_response, object_body, tenant_of
from tasker.service.http.services import SERVICES
from tasker.service.http.tasks import command
from tasker.service.http.waiting import reach


async def register(request: web.Request) -> web.Response:
    """PUT /v1/templates: make a template known."""
    body = await request.read()
    if body.lstrip()[:1] == b"[":
        raise BodyInvalid("the body is one command; send an array's commands one by one, or over NATS")
    return await command(request, "template.register", body)


async def use(request: web.Request) -> web.Response:
    """POST /v1/templates/{namespace}/{name}/use: choose what "no version" means."""
    namespace = check_name(request.match_info["namespace"], "namespace")
    name = check_name(request.match_info["name"], "template")
    return await command(request, "template.use", await object_body(request, namespace=namespace, name=name))


async def list_templates(request: web.Request) -> web.Response:
    """GET /v1/templates: a page of registered versions."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    parameters = Parameters(request)
    query = TemplateQuery(
        namespace=parameters.name("namespace"),
        name=parameters.name("name"),
        limit=parameters.limit(),
        after=parameters.after(),
    )
    await reach(services, parameters.text("at_least"))
    page = await services.queries.templates(tenant, query)
    return json_response(TemplatePage(items=page.items, next=page.next, position=format_position(page.positions)))


async def get(request: web.Request) -> web.Response:
    """GET /v1/templates/{namespace}/{name}[/{version}]: a version (the one in use) with its document."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    parameters = Parameters(request)
    namespace = check_name(request.match_info["namespace"], "namespace")
    name = check_name(request.match_info["name"], "template")
    version = request.match_info.get("version")
    await reach(services, parameters.text("at_least"))
    found = None
    if version is None or is_text(version):
        found = await services.queries.template(tenant, namespace, name, version)
    if found is None:
        of_version = "" if version is None else f" with version {version[:80]!r}"
        raise TemplateUnknown(f"there is no template {namespace}/{name}{of_version}")
    document = await services.log.get_blob(bytes.fromhex(found.hash))
    if document is not None:
        found = msgspec.structs.replace(found, document=msgspec.Raw(document))
    return json_response(found)
