"""The application: endpoints below `/v1`, health, and what holds for all of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from http import HTTPMethod
from typing import Final

from aiohttp import web

from tasker.contracts.asyncapi import asyncapi_document
from tasker.contracts.template_schema import template_schema
from tasker.events.codec import BODY_BYTES_MAX, encode_message
from tasker.service.http import documents, events, tasks
from tasker.service.http.event_scan import EventScan
from tasker.service.http.openapi import openapi_document
from tasker.service.http.operations import Endpoint, Operation
from tasker.service.http.problems import ERRORS_TOLD, errors_to_problems, errors_told
from tasker.service.http.requests import OPERATION
from tasker.service.http.routes import OPERATIONS
from tasker.service.http.services import SERVICES, Services
from tasker.service.http.sites import refuse_other_sites
from tasker.tenant_book import TenantBook

KEEPALIVE_S: Final = 75.0


def create_app(services: Services) -> web.Application:
    """Return the application over `services`. It owns nothing: whoever made the parts closes them."""
    app = web.Application(middlewares=[errors_to_problems, refuse_other_sites], client_max_size=BODY_BYTES_MAX)
    app[SERVICES] = services
    app[ERRORS_TOLD] = errors_told()
    app.on_shutdown.append(_stop_waiting)
    app[tasks.CONTENTS] = OrderedDict()
    app[events.SCAN] = EventScan(services.tail, services.log, services.queries)
    app[events.STREAMS] = TenantBook()
    made: dict[str, Callable[[], bytes]] = {
        "openapi": cache(lambda: encode_message(openapi_document(OPERATIONS))),
        "asyncapi": cache(lambda: encode_message(asyncapi_document(prefix=services.nats_prefix))),
        "template_schema": cache(lambda: encode_message(template_schema())),
    }
    app[documents.DOCUMENTS] = made
    add_operations(app)
    return app


def add_operations(app: web.Application) -> None:
    """Add a route for each operation of the table."""
    for operation in OPERATIONS:
        endpoint = _endpoint_of(operation)
        if operation.method is HTTPMethod.GET:
            app.router.add_get(operation.path, endpoint)  # takes HEAD as well
        else:
            app.router.add_route(operation.method, operation.path, endpoint)


def _endpoint_of(operation: Operation) -> Endpoint:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        request[OPERATION] = operation
        return await operation.endpoint(request)

    return endpoint


async def _stop_waiting(app: web.Application) -> None:
    """Let long polls and event streams end, so that the server can."""
    app[SERVICES].stopping.set()
