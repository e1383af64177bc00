"""The endpoint of bulks."""

from __future__ import annotations

from aiohttp import web

from tasker.service.http.requests import object_body
from tasker.service.http.tasks import command


async def create(request: web.Request) -> web.Response:
    """POST /v1/bulk: give one command to everything that matches, or only say what that is."""
    return await command(request, "bulk.create", await object_body(request))
