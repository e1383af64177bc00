"""Endpoints of controls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar, cast

from aiohttp import web

from tasker.controls import Controls, Target
from tasker.events.control_events import ControlScope, LimitScope
from tasker.events.reads import (
    CircuitsView,
    CircuitView,
    ControlsView,
    DeclaredBreakerView,
    DeclaredLimitView,
    LimitsView,
    LimitView,
    PauseView,
    RampView,
    TemplateView,
)
from tasker.projections.queries import PAGE_ITEMS_MAX, TemplateQuery
from tasker.service.http.holds import circuit_facts
from tasker.service.http.requests import Parameters, json_response, object_body, tenant_of
from tasker.service.http.services import SERVICES
from tasker.service.http.tasks import command, content_of
from tasker.templates import TemplateSpec
from tasker.times import to_rfc3339

TEMPLATE_PAGES_MAX: Final = 100
"""Pages of versions that are looked through for limits and breakers."""

Declared = TypeVar("Declared")


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


async def limits(request: web.Request) -> web.Response:
    """GET /v1/limits: what operators limit, as the log says now, and what the templates in use do."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    Parameters(request)
    await services.controls.look()
    controls = services.controls.controls
    found = view_of(controls, tenant, services.clock.now_us()).limits
    declared = await _declared(request.app, tenant, lambda one, spec: _limits_of(one, spec, controls))
    return json_response(LimitsView(limits=found, declared=declared))


async def circuits(request: web.Request) -> web.Response:
    """GET /v1/circuits: which are not closed, as the log says now, and what the templates in use say of theirs."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    Parameters(request)
    await services.controls.look()
    found = view_of(services.controls.controls, tenant, services.clock.now_us()).circuits
    return json_response(CircuitsView(circuits=found, declared=await _declared(request.app, tenant, _breakers_of)))


async def _declared(
    app: web.Application, tenant: str, of: Callable[[TemplateView, TemplateSpec], Iterable[Declared]]
) -> list[Declared]:
    """Return what the versions in use of a tenant's templates give their steps."""
    services = app[SERVICES]
    found: list[Declared] = []
    after: str | None = None
    for _ in range(TEMPLATE_PAGES_MAX):
        query = TemplateQuery(namespace=None, name=None, limit=PAGE_ITEMS_MAX, after=after)
        page = await services.queries.templates(tenant, query)
        for one in page.items:
            spec = await content_of(app, one.hash) if one.in_use else None
            found += () if spec is None else of(one, spec)
        after = page.next
        if after is None:
            break
    return found


def _breakers_of(view: TemplateView, spec: TemplateSpec) -> Iterable[DeclaredBreakerView]:
    for step in spec.steps:
        breaker = step.circuit_breaker
        if breaker is not None:
            yield DeclaredBreakerView(
                namespace=view.namespace,
                name=f"{view.name}/{step.name}",
                handler=step.handler,
                version=view.version,
                failure_rate=breaker.failure_rate,
                min_attempts=breaker.min_attempts,
                window_s=breaker.window_s,
                open_s=breaker.open_s,
                open_s_max=breaker.open_s_max,
                probes=breaker.probes,
            )


def _limits_of(view: TemplateView, spec: TemplateSpec, controls: Controls) -> Iterable[DeclaredLimitView]:
    for step in spec.steps:
        limit = step.rate_limit
        if limit is not None:
            yield DeclaredLimitView(
                namespace=view.namespace,
                name=f"{view.name}/{step.name}",
                handler=step.handler,
                version=view.version,
                per_s=limit.per_s,
                burst=limit.burst,
                key=limit.key,
                overridden=Target("handler", view.tenant, view.namespace, step.handler) in controls.limits,
            )


async def set_limit(request: web.Request) -> web.Response:
    """POST /v1/limits/set."""
    return await command(request, "limit.set", await object_body(request))


async def remove_limit(request: web.Request) -> web.Response:
    """POST /v1/limits/remove."""
    return await command(request, "limit.remove", await object_body(request))


async def open_circuit(request: web.Request) -> web.Response:
    """POST /v1/circuits/open."""
    return await command(request, "circuit.open", await object_body(request))


async def close_circuit(request: web.Request) -> web.Response:
    """POST /v1/circuits/close."""
    return await command(request, "circuit.close", await object_body(request))


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
            scope=cast("ControlScope | LimitScope", target.scope),
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
    circuits = [
        CircuitView(
            namespace=target.namespace,
            name=target.name,
            circuit=circuit_facts(one),
            since=to_rfc3339(one.since_us),
            requested_by=one.by,
            reason=one.reason,
        )
        for target, one in controls.circuits.by_target.items()
        if target.tenant == tenant and one.holds
    ]
    return ControlsView(pauses=pauses[::-1], ramps=ramps[::-1], limits=limits[::-1], circuits=circuits[::-1])
