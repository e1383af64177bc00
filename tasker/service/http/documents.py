"""Endpoints of the documents that describe us to other programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web

from tasker.contracts.template_schema import SCHEMA_MEDIA_TYPE
from tasker.service.http.operations import JSON
from tasker.service.http.requests import Parameters

DOCUMENTS: Final = web.AppKey("documents", Mapping[str, Callable[[], bytes]])
"""Name -> returns its JSON text."""


async def openapi(request: web.Request) -> web.Response:
    """GET /v1/openapi.json."""
    return _document(request, "openapi", JSON)


async def asyncapi(request: web.Request) -> web.Response:
    """GET /v1/asyncapi.json."""
    return _document(request, "asyncapi", JSON)


async def template_schema(request: web.Request) -> web.Response:
    """GET /v1/template.schema.json."""
    return _document(request, "template_schema", SCHEMA_MEDIA_TYPE)


def _document(request: web.Request, name: str, media_type: str) -> web.Response:
    Parameters(request)
    return web.Response(body=request.app[DOCUMENTS][name](), content_type=media_type)
