"""The endpoint of the list of refusals: what became of commands whose callers did not wait."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from tasker.bus.bus import Bus
from tasker.bus.stored import stored_after
from tasker.errors import PositionInvalid
from tasker.events.codec import decode_message
from tasker.events.messages import RefusedCommand
from tasker.events.reads import Refusal, RefusalPage
from tasker.events.subjects import Subjects
from tasker.service.http.requests import Parameters, json_response, tenant_of
from tasker.service.http.services import SERVICES

_SEQ_DIGITS_MAX: Final = 18


class BusRefusals:
    """The list, from the stream that keeps it."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects

    async def page(self, tenant: str, *, after: int, limit: int) -> list[Refusal]:
        """Return up to `limit` refusals of a tenant behind the place `after`, oldest first."""
        stream, subject = self._subjects.refusal_stream, self._subjects.refused(tenant)
        found = await stored_after(self._bus, stream, subject, after_seq=after, limit=limit)
        return [
            Refusal(id=str(stored.seq), **msgspec.structs.asdict(decode_message(stored.data, RefusedCommand)))
            for stored in found
        ]


async def list_refusals(request: web.Request) -> web.Response:
    """GET /v1/refusals: a page of submitted commands that were refused."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    parameters = Parameters(request)
    limit = parameters.limit()
    after = parameters.after() or "0"
    if not (after.isascii() and after.isdecimal() and len(after) <= _SEQ_DIGITS_MAX):
        raise PositionInvalid(f"{after[:80]!r} is no place in this list")
    items = await services.refusals.page(tenant, after=int(after), limit=limit)
    return json_response(RefusalPage(items=items, next=items[-1].id if len(items) == limit else None))
