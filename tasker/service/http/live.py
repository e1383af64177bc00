"""What running attempts say live, over HTTP: their progress at the moment, or a stream of all that comes.

A stream begins with the progress that the owner knows (`now`), so that who comes late knows where things stand. It has
a buffer of its own: what a slow reader does not take in time is dropped from it, oldest first, and told as a number.
Nobody waits for him: neither other readers nor the worker.

What an attempt says after a later one of its step has spoken is left out: its worker does not know yet that it was
lost. What is no update of this task is left out too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from typing import Final
from uuid import UUID

import msgspec
from aiohttp import web

from tasker.bus.bus import Bus, Message
from tasker.errors import StepUnknown, TaskerError, Undecodable
from tasker.events.codec import decode_message, encode_message
from tasker.events.messages import LiveUpdate, StepProgress
from tasker.events.reads import TASK_ENDED
from tasker.events.subjects import Subjects
from tasker.service.http.events import stream_frames
from tasker.service.http.requests import Parameters, json_response, task_id_of, tenant_of, wants_event_stream
from tasker.service.http.services import SERVICES, LiveUpdates, Services
from tasker.service.http.tasks import content_of
from tasker.service.http.waiting import task_view
from tasker.templates.instances import name_of, parse_instance

WAITING_UPDATES_MAX: Final = 256
WAITING_BYTES_MAX: Final = 1024 * 1024
STEPS_KNOWN_MAX: Final = 10_000
"""Instances of which a reader's buffer knows the newest attempt; of more, those that spoke last."""

ALL_STEPS: Final = "*"


class LivePage(msgspec.Struct, kw_only=True):
    """The progress of a task's running attempts and of its lists, by step."""

    steps: dict[str, StepProgress]


async def of_task(request: web.Request) -> web.StreamResponse:
    """GET /v1/tasks/{task_id}/stream: progress now; as a live stream until the task has ended, when asked for one."""
    services = request.app[SERVICES]
    tenant, task_id = tenant_of(request), task_id_of(request)
    step = Parameters(request).text("step")
    if step is not None:
        parse_instance(step)
    view = await task_view(services, tenant, task_id)
    if step is not None:
        spec = await content_of(request.app, view.template_hash)
        if spec is not None and name_of(step) not in {one.name for one in spec.steps}:
            raise StepUnknown(f"the task has no step {step[:80]!r}", step=step)
    if wants_event_stream(request):
        if view.state in TASK_ENDED:
            return web.Response(status=204)  # the one answer after which an EventSource does not come back
        return await stream_frames(request, _frames(services, tenant, task_id, step))
    return json_response(LivePage(steps=await _progress(services, tenant, task_id, step)))


def is_of(instance: str, step: str | None) -> bool:
    """Return whether an instance is the one that was asked for, or of the step that was; None: all are."""
    return step is None or step in (instance, name_of(instance))


async def _progress(services: Services, tenant: str, task_id: UUID, step: str | None) -> dict[str, StepProgress]:
    told = {} if services.progress_of is None else await services.progress_of(tenant, task_id)
    return {name: one for name, one in told.items() if is_of(name, step)}


async def _frames(services: Services, tenant: str, task_id: UUID, step: str | None) -> AsyncGenerator[bytes]:
    if services.live is None:
        return
    with (
        services.live.of_task(tenant, str(task_id), step) as updates,
        services.watcher.task(tenant, str(task_id)) as watch,
    ):
        now = LivePage(steps=await _progress(services, tenant, task_id, step))
        yield b"event: now\ndata: %b\n\n" % encode_message(now)
        while not services.stopping.is_set():
            found, lost = updates.take()
            frames = [b"event: lost\ndata: %b\n\n" % encode_message({"updates": lost})] if lost else []
            frames += [b"event: live\ndata: %b\n\n" % body.replace(b"\n", b" ").replace(b"\r", b" ") for body in found]
            yield b"".join(frames)
            if found:
                continue
            if watch.ended_at is not None:
                await services.positions.reach(watch.ended_at, timeout_s=services.settings.at_least_s)
            view = await services.queries.task(tenant, task_id)
            if view is not None and view.state in TASK_ENDED:
                yield b"event: end\ndata: %b\n\n" % encode_message({"state": view.state})
                return
            await updates.more(services.settings.poll_s)


class BusLive:
    """`Live` over core subscriptions."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects

    @contextlib.contextmanager
    def of_task(self, tenant: str, task_id: str, step: str | None) -> Iterator[LiveUpdates]:
        """Return what attempts of a task say from now on: of a step, of one instance of it, or of all."""
        buffer = LiveBuffer(task_id, step)
        subject = self._subjects.live(tenant, task_id, ALL_STEPS if step is None else name_of(step))
        subscription = None
        with contextlib.suppress(TaskerError):  # without a connection there is nothing live
            subscription = self._bus.subscribe(subject, buffer.put)
        try:
            yield buffer
        finally:
            if subscription is not None:
                subscription.unsubscribe()


class LiveBuffer:
    """What one reader has not taken yet: bounded, the oldest dropped."""

    def __init__(self, task_id: str, step: str | None = None) -> None:
        self._task_id = task_id
        self._step = step
        self._newest: dict[str, int] = {}
        self._bodies: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0
        self._arrived = asyncio.Event()

    def put(self, message: Message) -> None:
        """Take an update; what is none of those that were asked for is left out."""
        try:
            update = decode_message(message.data, LiveUpdate)
        except Undecodable:
            return
        if update.task_id != self._task_id or not is_of(update.step, self._step) or self._is_stale(update):
            return
        self._bodies.append(message.data)
        self._bytes += len(message.data)
        while self._bytes > WAITING_BYTES_MAX or len(self._bodies) > WAITING_UPDATES_MAX:
            self._bytes -= len(self._bodies.popleft())
            self._lost += 1
        self._arrived.set()

    def take(self) -> tuple[list[bytes], int]:
        """Return what waits, and how many updates were dropped since the last call."""
        found, lost = list(self._bodies), self._lost
        self._bodies.clear()
        self._bytes = self._lost = 0
        self._arrived.clear()
        return found, lost

    def _is_stale(self, update: LiveUpdate) -> bool:
        newest = self._newest.pop(update.step, 0)
        self._newest[update.step] = max(newest, update.attempt)
        if len(self._newest) > STEPS_KNOWN_MAX:
            del self._newest[next(iter(self._newest))]
        return update.attempt < newest

    async def more(self, timeout_s: float) -> None:
        """Return when there is more than was taken, or it is time to look."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
