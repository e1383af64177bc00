"""Endpoints of schedules."""

from __future__ import annotations

from itertools import islice
from typing import Final, TypeVar

from aiohttp import web

from tasker.errors import ParameterInvalid, ScheduleUnknown
from tasker.events.codec import decode_command
from tasker.events.messages import SchedulePreview
from tasker.events.position import format_position
from tasker.events.reads import SCHEDULE_STATES, FireTimes, SchedulePage
from tasker.ids import check_name
from tasker.projections.queries import ScheduleQuery
from tasker.projections.views.schedule import fire_time
from tasker.schedules import due_us_of, fire_times, spec_of
from tasker.service.http.requests import Parameters, json_response, object_body, tenant_of
from tasker.service.http.services import SERVICES
from tasker.service.http.tasks import command
from tasker.service.http.waiting import reach

COUNT: Final = 5
COUNT_MAX: Final = 1_000

T = TypeVar("T")


async def create(request: web.Request) -> web.Response:
    """POST /v1/schedules: begin a schedule."""
    return await command(request, "schedule.create", await object_body(request))


async def update(request: web.Request) -> web.Response:
    """PUT /v1/schedules/{namespace}/{name}: give it another document."""
    return await _command(request, "schedule.update")


async def delete(request: web.Request) -> web.Response:
    """DELETE /v1/schedules/{namespace}/{name}."""
    return await _command(request, "schedule.delete")


async def pause(request: web.Request) -> web.Response:
    """POST /v1/schedules/{namespace}/{name}/pause."""
    return await _command(request, "schedule.pause")


async def resume(request: web.Request) -> web.Response:
    """POST /v1/schedules/{namespace}/{name}/resume."""
    return await _command(request, "schedule.resume")


async def trigger(request: web.Request) -> web.Response:
    """POST /v1/schedules/{namespace}/{name}/trigger."""
    return await _command(request, "schedule.trigger")


async def backfill(request: web.Request) -> web.Response:
    """POST /v1/schedules/{namespace}/{name}/backfill."""
    return await _command(request, "schedule.backfill")


async def stop_backfill(request: web.Request) -> web.Response:
    """POST /v1/schedules/{namespace}/{name}/stop_backfill."""
    return await _command(request, "schedule.stop_backfill")


async def list_schedules(request: web.Request) -> web.Response:
    """GET /v1/schedules: a page of schedules."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    parameters = Parameters(request)
    query = ScheduleQuery(
        states=parameters.choices("state", SCHEDULE_STATES),
        namespace=parameters.name("namespace"),
        template=parameters.name("template"),
        limit=parameters.limit(),
        after=parameters.after(),
    )
    await reach(services, parameters.text("at_least"))
    page = await services.queries.schedules(tenant, query)
    return json_response(SchedulePage(items=page.items, next=page.next, position=format_position(page.positions)))


async def get(request: web.Request) -> web.Response:
    """GET /v1/schedules/{namespace}/{name}."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    parameters = Parameters(request)
    namespace, name = named(request)
    await reach(services, parameters.text("at_least"))
    return json_response(known(await services.queries.schedule(tenant, namespace, name), namespace, name))


async def next_fires(request: web.Request) -> web.Response:
    """GET /v1/schedules/{namespace}/{name}/next: its coming fire times."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    parameters = Parameters(request)
    namespace, name = named(request)
    count = parameters.number("count", default=COUNT, least=1, most=COUNT_MAX)
    await reach(services, parameters.text("at_least"))
    found = known(await services.queries.next_fires(tenant, namespace, name, count), namespace, name)
    return json_response(FireTimes(items=found))


async def preview(request: web.Request) -> web.Response:
    """POST /v1/schedules/next: the fire times of a document, which need not be a schedule's."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    Parameters(request)
    asked = decode_command(await request.read(), SchedulePreview)
    if not 1 <= asked.count <= COUNT_MAX:
        raise ParameterInvalid(f"count is a whole number from 1 to {COUNT_MAX}")
    spec = spec_of(asked.schedule)
    identity = f"{tenant}/{check_name(asked.namespace, 'namespace')}/{asked.name or ''}"
    times = islice(fire_times(spec, services.clock.now_us()), min(asked.count, spec.fires_max or asked.count))
    return json_response(FireTimes(items=[fire_time(one, due_us_of(spec, identity, one)) for one in times]))


async def _command(request: web.Request, verb: str) -> web.Response:
    namespace, name = named(request)
    return await command(request, verb, await object_body(request, namespace=namespace, name=name))


def known(found: T | None, namespace: str, name: str) -> T:
    """Return what the views have of a schedule.

    Raises:
        ScheduleUnknown: they have none of that name.
    """
    if found is None:
        raise ScheduleUnknown(f"there is no schedule {namespace}/{name}")
    return found


def named(request: web.Request) -> tuple[str, str]:
    """Return namespace and name of the schedule in the path.

    Raises:
        NameInvalid: one of them is none.
    """
    return check_name(request.match_info["namespace"], "namespace"), check_name(request.match_info["name"], "schedule")
