"""A worker on NATS, from its connection to its drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from tasker.bus.nats_bus import NatsBus
from tasker.errors import Unavailable
from tasker.events.subjects import Subjects
from tasker.handlers.app_module import load_app
from tasker.handlers.equipment import Equipment
from tasker.handlers.options import WorkerOptions
from tasker.handlers.registration import register_templates
from tasker.handlers.registry import Registry
from tasker.handlers.worker import Worker, new_worker_id
from tasker.labels import labels_of, plain_queue, required_by, spelled

if TYPE_CHECKING:
    from tasker.handlers.health import HealthServer

CONNECT_S: Final = 3.0

_log = structlog.get_logger(__name__)


async def serve(
    options: WorkerOptions,
    *,
    stop: asyncio.Event,
    quit_now: asyncio.Event,
    watch: Callable[[Worker, Equipment], object],
    replaced: asyncio.Event | None = None,
) -> Worker | None:
    """Serve an app's queues until `stop` is set, or the worker is lost; return the ended worker.

    None: it was stopped before it had a connection.

    Args:
        options: what to serve, and where.
        stop: drain and return.
        quit_now: do not wait for what runs.
        watch: called with the worker when it pulls.
        replaced: set before `stop` where another took our place: it has the health port to itself then.

    Raises:
        ConfigurationError, CommandRejected: it cannot start.
    """
    equipment = Equipment(
        registry := load_app(options.app, labels_of(options.labels)),
        app=options.app,
        processes=options.processes,
        logging=options.logging,
    )
    health = None
    if options.health_port is not None:
        from tasker.handlers.health import HealthServer

        health = HealthServer(options.health_port)
        await health.start()
    try:
        return await _serve(options, registry, equipment, health, stop, quit_now, replaced, watch)
    finally:
        if health is not None:
            await health.stop()


async def _serve(  # noqa: PLR0917 - what `serve` was given and made
    options: WorkerOptions,
    registry: Registry,
    equipment: Equipment,
    health: HealthServer | None,
    stop: asyncio.Event,
    quit_now: asyncio.Event,
    replaced: asyncio.Event | None,
    watch: Callable[[Worker, Equipment], object],
) -> Worker | None:
    worker_id = new_worker_id()
    bus = await _connect(options, worker_id, stop)
    if bus is None:
        return None
    subjects = Subjects(options.prefix)
    worker = Worker(
        bus,
        equipment,
        subjects=subjects,
        tenant=options.tenant,
        slots=options.slots,
        worker_id=worker_id,
        drain_s=options.drain_s,
        streams=options.streams,
        direct=options.direct,
        limits=equipment.limits,
        life=equipment,
    )
    try:
        await _until(register_templates(bus, subjects, options.tenant, registry.documents()), stop, quit_now)
        if not (stop.is_set() or quit_now.is_set()):
            await worker.start()
            await _until(worker.ready(), stop, quit_now)
            watch(worker, equipment)
            for namespace, queue in sorted(registry.left):
                missing = spelled(required_by(queue), ", ")
                _log.info("work_left_to_others", namespace=namespace, queue=plain_queue(queue), requires=missing)
            if health is not None:
                health.look = worker.vitals
            await _until(worker.lost(), stop, quit_now)
        if health is not None:
            health.draining = True
            if replaced is not None and replaced.is_set():
                await health.stop()
        if worker.lost_why is not None:
            await _until(worker.retire(), quit_now)
        elif not quit_now.is_set():
            await _until(worker.drain(), quit_now)
    finally:
        await worker.stop()
        await bus.close()
    return worker


async def _until(work: Any, *events: asyncio.Event) -> None:
    """Return when `work` is done or one of the events is set; then the work is cancelled."""
    doing = asyncio.ensure_future(work)
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait([doing, *waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
        if not doing.done():
            doing.cancel()
    if doing.done():
        doing.result()
        return
    await asyncio.gather(doing, return_exceptions=True)


async def _connect(options: WorkerOptions, name: str, stop: asyncio.Event) -> NatsBus | None:
    """Return a connection, however long that takes; None when it was stopped meanwhile."""
    connected: list[NatsBus] = []

    async def connect() -> None:
        while not connected:
            try:
                bus = await NatsBus.connect(
                    options.nats_url,
                    name=name,
                    retry_for_s=CONNECT_S,
                    inbox_prefix=options.inbox_prefix,
                    pending_bytes_max=options.pending_bytes_max,
                )
            except Unavailable as error:
                _log.warning("waiting_for_nats", error=str(error))
            else:
                connected.append(bus)

    await _until(connect(), stop)
    return connected[0] if connected else None
