"""Endpoints for probes and people: alive, ready, how much."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tasker.errors import TaskerError
from tasker.events.position import format_position
from tasker.events.reads import Health, Live, Stats
from tasker.service.http.requests import Parameters, json_response, tenant_of
from tasker.service.http.services import SERVICES, Check
from tasker.version import __version__


async def live(_request: web.Request) -> web.Response:
    """GET /health/live: the process answers."""
    return json_response(Live())


async def ready(request: web.Request) -> web.Response:
    """GET /health/ready: 200 when every check is fine, else 503 with what is wrong."""
    services = request.app[SERVICES]
    names = list(services.checks)
    reasons = await asyncio.gather(*(_reason(check, services.settings.check_s) for check in services.checks.values()))
    checks = dict(zip(names, reasons, strict=True))
    is_ready = not any(checks.values())
    health = Health(ready=is_ready, checks=checks, version=__version__)
    return json_response(health, status=200 if is_ready else 503)


async def stats(request: web.Request) -> web.Response:
    """GET /v1/stats: counts of the tenant's tasks by state, and how far the views are behind the log."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    Parameters(request)
    positions = await services.queries.positions()
    heads = {head.shard: head.position for head in await services.log.heads(range(services.info.shards))}
    return json_response(
        Stats(
            tasks=await services.queries.counts(tenant),
            events=sum(heads.values()),
            position=format_position(positions),
            lag_events=sum(max(0, head - positions.get(shard, 0)) for shard, head in heads.items()),
        )
    )


async def _reason(check: Check, timeout_s: float) -> str | None:
    try:
        async with asyncio.timeout(timeout_s):
            return await check()
    except TaskerError as error:
        return error.detail
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
