"""Endpoints of controls."""

from __future__ import annotations

from typing import cast

from aiohttp import web

from tasker.controls import Controls
from tasker.events.control_events import ControlScope, LimitScope
from tasker.events.reads import ControlsView, LimitView, PauseView, RampView
from tasker.service.http.requests import Parameters, json_response, object_body, tenant_of
from tasker.service.http.services import SERVICES
from tasker.service.http.tasks import command
from tasker.times import to_rfc3339


async def get(request: web.Request) -> web.Response:
    """GET /v1/controls: what holds work of the tenant back, as the log says now."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    Parameters(request)
    await services.controls.look()
    return json_response(view_of(services.controls.controls, tenant, services.clock.now_us()))


async def pause(request: web.Request) -> web.Response:
    """POST /v1/controls/pause."""
    return await command(request, "control.pause", await object_body(request))


async def resume(request: web.Request) -> web.Response:
    """POST /v1/controls/resume."""
    return await command(request, "control.resume", await object_body(request))


async def set_limit(request: web.Request) -> web.Response:
    """POST /v1/limits/set."""
    return await command(request, "limit.set", await object_body(request))


async def remove_limit(request: web.Request) -> web.Response:
    """POST /v1/limits/remove."""
    return await command(request, "limit.remove", await object_body(request))


def view_of(controls: Controls, tenant: str, now_us: int) -> ControlsView:
    """Return what of `controls` concerns a tenant."""
    pauses = [
        PauseView(
            scope=cast("ControlScope", target.scope),
            namespace=target.namespace,
            name=target.name,
            since=to_rfc3339(one.since_us),
            requested_by=one.by,
            reason=one.reason,
        )
        for target, one in controls.pauses.items()
        if target.tenant in ("", tenant)
    ]
    ramps = [
        RampView(
            scope=cast("ControlScope", target.scope),
            namespace=target.namespace,
            name=target.name,
            since=to_rfc3339(one.from_us),
            until=to_rfc3339(one.until_us),
            requested_by=one.by,
            reason=one.reason,
        )
        for target, one in controls.ramps.items()
        if target.tenant in ("", tenant) and one.until_us > now_us
    ]
    limits = [
        LimitView(
            scope=cast("LimitScope", target.scope),
            namespace=target.namespace,
            name=target.name,
            per_s=one.per_s,
            burst=one.burst,
            key=one.key,
            since=to_rfc3339(one.since_us),
            requested_by=one.by,
            reason=one.reason,
        )
        for target, one in controls.limits.items()
        if target.tenant == tenant
    ]
    return ControlsView(pauses=pauses[::-1], ramps=ramps[::-1], limits=limits[::-1])
