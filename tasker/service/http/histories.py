"""Histories of what is no task, the newest event first: of controls (pauses, limits, circuits), and of a schedule.

A page is read backwards from the stream's end. Of the one stream of controls a page looks at a bounded number of
events, so that a filter that matches nothing costs no request more than another; `next` says how far it looked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from aiohttp import web

from tasker.errors import Undecodable
from tasker.events.control_events import CONTROL_SCOPES, ControlEvent
from tasker.events.envelope import RecordedEvent
from tasker.events.log import EventLog
from tasker.events.position import format_position
from tasker.events.reads import EventPage
from tasker.events.stored import from_recorded
from tasker.ids import control_stream_id, schedule_stream_id
from tasker.service.http.events import seq_of, view_of
from tasker.service.http.requests import Parameters, json_response, tenant_of
from tasker.service.http.schedules import known, named
from tasker.service.http.services import SERVICES, Services
from tasker.service.http.waiting import reach

LOOKED_AT_MAX: Final = 8_000
READ_EVENTS: Final = 500

Wanted = Callable[[RecordedEvent], bool]


async def of_controls(request: web.Request) -> web.Response:
    """GET /v1/controls/events: what was done to the tenant's work as a whole: when, by whom and why."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    parameters = Parameters(request)
    scope = parameters.choice("scope", CONTROL_SCOPES)
    namespace, name = parameters.name("namespace"), parameters.name("name")

    def wanted(recorded: RecordedEvent) -> bool:
        try:
            event = from_recorded(recorded)
        except Undecodable:
            return recorded.tenant == tenant and (scope, namespace, name) == (None, None, None)
        return (
            isinstance(event, ControlEvent)
            and (recorded.tenant == tenant or event.scope == "everything")
            and scope in (None, event.scope)
            and namespace in (None, event.namespace)
            and name in (None, event.name)
        )

    await services.controls.look()
    return await _page(services, parameters, control_stream_id(), services.controls.controls.seq, wanted)


async def of_schedule(request: web.Request) -> web.Response:
    """GET /v1/schedules/{namespace}/{name}/events: what happened to a schedule, as far as its view is."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    parameters = Parameters(request)
    namespace, name = named(request)
    await reach(services, parameters.text("at_least"))
    found = known(await services.queries.schedule(tenant, namespace, name), namespace, name)
    return await _page(services, parameters, schedule_stream_id(tenant, namespace, name), found.seq, lambda _: True)


async def _page(
    services: Services, parameters: Parameters, stream_id: UUID, head_seq: int, wanted: Wanted
) -> web.Response:
    """Answer with the events of a stream before `after`, or from its end, the newest first."""
    after = parameters.after()
    before_seq = head_seq + 1 if after is None else min(seq_of(after), head_seq + 1)
    items, next_seq, newest = await read_back(
        services.log, stream_id, before_seq, parameters.limit(), wanted, looked_at_max=LOOKED_AT_MAX
    )
    return json_response(
        EventPage(
            items=[view_of(event) for event in items],
            next=None if next_seq is None else str(next_seq),
            position=format_position({} if newest is None else {newest.shard: newest.position}),
            log_id=services.info.log_id,
        )
    )


async def read_back(
    log: EventLog,
    stream_id: UUID,
    before_seq: int,
    limit: int,
    wanted: Wanted,
    *,
    looked_at_max: int,
) -> tuple[list[RecordedEvent], int | None, RecordedEvent | None]:
    """Return up to `limit` events before `before_seq`, where to go on (None: at the beginning), and the newest read."""
    found: list[RecordedEvent] = []
    newest: RecordedEvent | None = None
    looked_at = 0
    while before_seq > 1:
        after_seq = max(0, before_seq - 1 - READ_EVENTS)
        page = await log.load_stream(stream_id, after_seq=after_seq, limit=before_seq - 1 - after_seq)
        newest = newest or (page[-1] if page else None)
        for event in reversed(page):
            if len(found) == limit:
                return found, before_seq, newest
            before_seq = event.seq
            if wanted(event):
                found.append(event)
        before_seq = after_seq + 1
        looked_at += len(page)
        if looked_at >= looked_at_max and before_seq > 1:
            return found, before_seq, newest
    return found, None, newest
