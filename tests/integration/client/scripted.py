"""A log that tests fill, the HTTP service that reads it, and the publisher that feeds the stream from it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from tasker.bus.bus import Bus
from tasker.errors import TaskerError
from tasker.events.messages import LifecycleEvent, Mark
from tasker.events.position import format_position, parse_position
from tasker.events.reads import EventPage, EventView
from tasker.events.subjects import Subjects

LOG_ID = "k3xw7q"
SHARDS = 4
NULL = msgspec.Raw(b"null")


class ScriptedLog:
    """Events of a few shards, in memory."""

    def __init__(self) -> None:
        self.events: list[EventView] = []
        self.pages_read = 0
        self.on_page: Callable[[], object] | None = None
        """Called before a page is read."""

    def append(self, task_id: str, type: str, *, shard: int = 0, data: object = None) -> EventView:
        position = 1 + sum(event.shard == shard for event in self.events)
        event = EventView(
            task_id=task_id,
            seq=1 + sum(one.task_id == task_id for one in self.events),
            type=type,
            version=1,
            at="2026-11-21T10:00:00.000000Z",
            tenant="default",
            shard=shard,
            position=f"{shard}:{position}",
            epoch=1,
            data=msgspec.Raw(msgspec.json.encode(data)),
            meta=msgspec.Raw(b'{"correlation_id":"c"}'),
        )
        self.events.append(event)
        return event

    def page(self, query: Any) -> EventPage:
        self.pages_read += 1
        if self.on_page is not None:
            self.on_page()
        heads = {shard: sum(event.shard == shard for event in self.events) for shard in range(SHARDS)}
        after = dict.fromkeys(range(SHARDS), 0)
        if query.get("after") == "latest":
            after = dict(heads)
        elif query.get("after"):
            after.update(parse_position(query["after"], log_id=LOG_ID, shards=SHARDS))
        items: list[EventView] = []
        for event in self.events:
            position = int(event.position.partition(":")[2])
            if position <= after[event.shard] or len(items) == int(query["limit"]):
                continue
            after[event.shard] = position
            if query.get("task_id") in (None, event.task_id) and query.get("type") in (None, event.type):
                items.append(event)
        return EventPage(
            items=items, next=format_position(after, LOG_ID), position=format_position(heads, LOG_ID), log_id=LOG_ID
        )


class ScriptedPublisher:
    """Publishes events of the log to the stream, with ids, as the service does."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects

    async def publish(self, *views: EventView, template: str = "hello", message_id: str = "") -> None:
        for view in views:
            position = view.position.partition(":")[2]
            event = LifecycleEvent(
                id=f"{LOG_ID}:{view.position}",
                source=f"/tasker/{LOG_ID}",
                type=f"tasker.{view.type}.v{view.version}",
                subject=view.task_id,
                time=view.at,
                tenant=view.tenant,
                shard=view.shard,
                position=position,
                seq=view.seq,
                data=view.data,
                correlationid="c",
            )
            subject = self._subjects.event("default", "default", template, view.task_id, view.type)
            headers = {"Nats-Msg-Id": message_id or event.id}
            await self._bus.request(subject, msgspec.json.encode(event), timeout_s=5, headers=headers)

    async def mark(self, shard: int, position: int, *, log_id: str = LOG_ID) -> None:
        mark = Mark(log_id=log_id, shard=shard, position=position)
        await self._bus.request(self._subjects.mark(shard), msgspec.json.encode(mark), timeout_s=5)


Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def http_service(endpoint: Endpoint) -> AsyncIterator[str]:
    """Run `endpoint` for every request; yields the address."""
    app = web.Application()

    async def answer(request: web.Request) -> web.StreamResponse:
        return await endpoint(request)

    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def log_endpoint(log: ScriptedLog) -> Endpoint:
    async def answer(request: web.Request) -> web.Response:
        assert request.path == "/v1/events"
        return web.Response(body=msgspec.json.encode(log.page(request.query)), content_type="application/json")

    return answer


def as_json(value: object, *, status: int = 200) -> web.Response:
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return web.Response(status=status, body=body, content_type="application/json")


def refused(error: TaskerError) -> web.Response:
    return as_json(error.problem(), status=error.status)


async def body_of(request: web.Request) -> Any:
    return json.loads(await request.read() or b"null")
