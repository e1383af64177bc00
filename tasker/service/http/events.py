"""Endpoints of events: pages, and live streams of server-sent events, both from the log.

A stream reads a page, writes it, and reads the next when the caller has taken it: what waits for a slow reader is
one page, bounded in bytes, and the socket's buffer, and nobody else waits for him.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator
from http import HTTPMethod
from typing import Final
from uuid import UUID

import msgspec
import structlog
from aiohttp import web

from tasker.errors import Busy, PositionInvalid, TaskerError, TaskUnknown
from tasker.events.codec import encode_message
from tasker.events.envelope import Encoding, RecordedEvent, StreamKind
from tasker.events.position import format_position, parse_position
from tasker.events.reads import EventPage, EventView
from tasker.events.stored import VERSION_OF
from tasker.events.task_events import ENDING_TYPES
from tasker.projections.queries import PAGE_BYTES_MAX
from tasker.service.http.event_scan import EventFilter, EventScan, Scanned, fitting
from tasker.service.http.parameters import HEADER_LAST_EVENT_ID
from tasker.service.http.requests import (
    EVENT_STREAM,
    Parameters,
    json_response,
    task_id_of,
    tenant_of,
    wants_event_stream,
)
from tasker.service.http.services import SERVICES, Services, Watch
from tasker.service.http.waiting import reach_log
from tasker.tenant_book import TenantBook
from tasker.times import to_rfc3339

STREAMS_MAX: Final = 500
"""Event streams open at once, of one tenant four fifths of them; more are told `busy`."""

_STREAM_EVENTS: Final = 200
_STREAM_BYTES: Final = 1024 * 1024

_log = structlog.get_logger(__name__)

SCAN: Final = web.AppKey("scan", EventScan)
STREAMS: Final = web.AppKey("streams", TenantBook[tuple[str, str], object])


async def of_task(request: web.Request) -> web.StreamResponse:
    """GET /v1/tasks/{task_id}/events: by `seq`; as a live stream until the task has ended, when asked for one."""
    services = request.app[SERVICES]
    tenant, task_id = tenant_of(request), task_id_of(request)
    parameters = Parameters(request)
    after_seq = seq_of(request.headers.get(HEADER_LAST_EVENT_ID) or parameters.after())
    await reach_log(services, parameters.text("at_least"))
    limit = parameters.limit()
    if not wants_event_stream(request):
        events = await services.log.load_stream(task_id, after_seq=after_seq, limit=limit + 1)
        head = events or await services.log.load_stream(task_id, after_seq=0, limit=1)
        _must_be_of(head, tenant, task_id)
        page = fitting(events, limit, PAGE_BYTES_MAX)
        last = (page or head)[-1]
        return json_response(
            EventPage(
                items=[view_of(event) for event in page],
                next=str(page[-1].seq) if len(events) > len(page) else None,
                position=format_position({last.shard: last.position}),
                log_id=services.info.log_id,
            )
        )
    _must_be_of(await services.log.load_stream(task_id, after_seq=0, limit=1), tenant, task_id)
    if await _has_ended_at(services, task_id, after_seq):
        return web.Response(status=204)  # the one answer after which an EventSource does not come back
    return await stream_frames(request, _task_stream(services, tenant, task_id, after_seq))


async def of_log(request: web.Request) -> web.StreamResponse:
    """GET /v1/events: the tenant's events behind `after`, filtered; as a live stream when asked for one."""
    services = request.app[SERVICES]
    wanted, parameters = _filter(request)
    after = await _start(services, request.headers.get(HEADER_LAST_EVENT_ID) or parameters.after())
    await reach_log(services, parameters.text("at_least"))
    limit = parameters.limit()
    scan = request.app[SCAN]
    if wants_event_stream(request):
        return await stream_frames(request, _log_stream(services, scan, wanted, after))
    heads = await services.log.heads(range(services.info.shards))
    scanned = await scan.page(wanted, after, limit=limit)
    return json_response(
        EventPage(
            items=[view_of(event) for event in scanned.events],
            next=format_position(scanned.after, services.info.log_id),
            position=format_position({head.shard: head.position for head in heads}, services.info.log_id),
            log_id=services.info.log_id,
        )
    )


def view_of(event: RecordedEvent) -> EventView:
    """Return an event as reads show it; its payload and meta go through as they are stored."""
    return EventView(
        task_id=str(event.stream_id) if event.kind == StreamKind.TASK else "_",
        seq=event.seq,
        type=event.type,
        version=event.version,
        at=to_rfc3339(event.at_us),
        tenant=event.tenant,
        shard=event.shard,
        position=f"{event.shard}:{event.position}",
        epoch=event.epoch,
        data=_embedded(event.payload, is_json=event.encoding == Encoding.JSON),
        meta=_embedded(event.meta, is_json=True),
    )


def _embedded(data: bytes, *, is_json: bool) -> msgspec.Raw:
    """Return stored bytes as a JSON value: as they are, or in base64 when they are damaged or of another encoding."""
    if is_json:
        try:
            msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            return msgspec.Raw(data)
    return msgspec.Raw(encode_message({"base64": base64.b64encode(data).decode()}))


# ---------------------------------------------------------------- what is asked for


def _filter(request: web.Request) -> tuple[EventFilter, Parameters]:
    parameters = Parameters(request)
    wanted = EventFilter(
        tenant=tenant_of(request),
        types=frozenset(parameters.choices("type", VERSION_OF)),
        namespace=parameters.name("namespace"),
        template=parameters.name("template"),
        task_id=parameters.task_id(),
    )
    return wanted, parameters


async def _start(services: Services, token: str | None) -> dict[int, int]:
    """Return where to start: behind `token`, at the head (`latest`), or at the beginning."""
    positions = dict.fromkeys(range(services.info.shards), 0)
    if token == "latest":  # noqa: S105 - a word for a position
        positions.update({head.shard: head.position for head in await services.log.heads(list(positions))})
    elif token is not None:
        positions.update(parse_position(token, log_id=services.info.log_id, shards=services.info.shards))
    return positions


def seq_of(text: str | None) -> int:
    """Return the `seq` that a parameter names; 0 when it is absent.

    Raises:
        PositionInvalid: it is none.
    """
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > len(str(2**53)):
        raise PositionInvalid(f"{text[:80]!r} is no seq; the events of one stream are counted from 1")
    return int(text)


def _must_be_of(events: list[RecordedEvent], tenant: str, task_id: UUID) -> None:
    if not events or events[0].tenant != tenant or events[0].kind != StreamKind.TASK:
        raise TaskUnknown(f"there is no task {task_id}", task_id=str(task_id))


async def _has_ended_at(services: Services, task_id: UUID, seq: int) -> bool:
    """Return whether event number `seq` ended the task, so that nothing follows it."""
    if seq == 0:
        return False
    at = await services.log.load_stream(task_id, after_seq=seq - 1, limit=1)
    return bool(at) and at[0].type in ENDING_TYPES


# ---------------------------------------------------------------- live


Frames = AsyncGenerator[bytes]
"""Pieces of a stream, already framed; b"" means that there was nothing new."""


async def _task_stream(services: Services, tenant: str, task_id: UUID, after_seq: int) -> Frames:
    at_once = _STREAM_EVENTS
    with services.watcher.task(tenant, str(task_id)) as watch:
        while not services.stopping.is_set():
            read = await services.log.load_stream(task_id, after_seq=after_seq, limit=at_once)
            events = fitting(read, at_once, _STREAM_BYTES)
            at_once = 2 * len(events) if len(events) < len(read) else _STREAM_EVENTS
            del read  # a slow reader holds a page, not what it was cut from
            if events:
                after_seq = events[-1].seq
                yield b"".join(_frame(str(event.seq), event) for event in events)
                if events[-1].type in ENDING_TYPES:
                    return
            else:
                yield await _quiet(services, watch)


async def _log_stream(services: Services, scan: EventScan, wanted: EventFilter, at: dict[int, int]) -> Frames:
    log_id = services.info.log_id
    with services.watcher.log() as watch:
        while not services.stopping.is_set():
            scanned: Scanned = await scan.page(wanted, at, limit=_STREAM_EVENTS, bytes_max=_STREAM_BYTES)
            frames = []
            for event in scanned.events:
                at[event.shard] = event.position
                frames.append(_frame(format_position(at, log_id), event))
            moved = scanned.after != at
            at = scanned.after
            if frames or moved:
                # The last id covers what was looked at behind the last match.
                frames.append(b"id: " + format_position(at, log_id).encode() + b"\n\n")
                yield b"".join(frames)
            if not scanned.more:
                yield await _quiet(services, watch)


async def _quiet(services: Services, watch: Watch) -> bytes:
    """Wait for news, and for what comes with it, or until it is time to look again."""
    if await watch.news(services.settings.poll_s):
        await asyncio.sleep(services.settings.gather_s)
    return b""


def _frame(event_id: str, event: RecordedEvent) -> bytes:
    """Return one server-sent event. A line break in JSON text is white space, so one `data` line is enough."""
    data = encode_message(view_of(event)).replace(b"\n", b" ").replace(b"\r", b" ")
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), event.type.encode(), data)


async def stream_frames(request: web.Request, frames: Frames) -> web.StreamResponse:
    """Answer with a stream of server-sent events, kept alive, until `frames` end or the reader is gone."""
    services, streams = request.app[SERVICES], request.app[STREAMS]
    tenant = tenant_of(request)
    headers = {"Content-Type": EVENT_STREAM, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == HTTPMethod.HEAD:
        return web.Response(headers=headers)
    if not streams.has_room(tenant, STREAMS_MAX):
        raise Busy(f"{len(streams)} event streams are open already", retry_after_s=5.0)
    response = web.StreamResponse(headers=headers)
    ticket = (tenant, f"{id(response):x}")
    streams[ticket] = response
    try:
        await response.prepare(request)
        await response.write(b"retry: 1000\n\n")
        written_s = services.clock.monotonic_s()
        async with contextlib.aclosing(frames):
            async for frame in frames:
                now_s = services.clock.monotonic_s()
                if frame:
                    await response.write(frame)
                    written_s = now_s
                elif now_s - written_s >= services.settings.keepalive_s:
                    await response.write(b": still here\n\n")
                    written_s = now_s
        await response.write_eof()
    except ConnectionError:
        pass  # the reader is gone
    except TaskerError as error:
        # The answer has begun, so the problem comes as an event; the reader may come back with its last id.
        await response.write(b"event: problem\ndata: " + encode_message(error.problem()) + b"\n\n")
        await response.write_eof()
    except Exception as error:  # noqa: BLE001 - the answer has begun: what can still be done is to break it off
        _log.exception("event_stream_failed", path=request.path, exc_info=error)
        response.force_close()
    finally:
        del streams[ticket]
    return response
