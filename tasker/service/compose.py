"""The composition root: adapters and settings become a running side of the service."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import structlog

from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import StreamSettings
from tasker.events.postgres_log import PostgresLog
from tasker.events.subjects import Subjects
from tasker.projections.postgres_queries import PostgresQueries, open_read_pool
from tasker.projections.postgres_store import PostgresTail, PostgresViewStore, open_pool
from tasker.service.read_side import ReadSide
from tasker.service.write_side import WriteSide
from tasker.settings import ServeSettings

CONNECT_S: Final = 30.0
"""How long to wait for servers that are not there yet."""

_log = structlog.get_logger(__name__)


def run_side(side: str, settings: ServeSettings) -> None:
    """Run the `write` or the `read` side until SIGTERM or SIGINT, then drain it.

    Raises:
        ConfigurationError: it cannot start.
        Unavailable: a server that it needs is away.
    """
    sides: dict[str, Callable[[ServeSettings, asyncio.Event], Awaitable[None]]] = {"write": run_write, "read": run_read}

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await sides[side](settings, stop)

    calm_collector()
    run_event_loop(run())


def run_event_loop(main: Awaitable[None]) -> None:
    """Run `main` on uvloop, or on asyncio's own loop where uvloop does not exist (Windows)."""
    if sys.platform == "win32":
        asyncio.run(main)  # type: ignore[arg-type]
        return
    import uvloop

    uvloop.run(main)  # type: ignore[arg-type]


def calm_collector() -> None:
    """Let the cyclic collector run rarely: a service holds many long-lived objects and makes next to no cycles.

    With the default thresholds every full collection walks all actors; a tenth to a fifth of the write
    side's time under load went there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def run_write(settings: ServeSettings, stop: asyncio.Event) -> None:
    """Run shards and publisher until `stop`."""
    subjects = Subjects(settings.nats_prefix)
    log = await PostgresLog.connect(settings.database_url)
    try:
        bus = await NatsBus.connect(settings.nats_url, name="tasker-write", retry_for_s=CONNECT_S)
        try:
            side = WriteSide(log, await log.info(), bus, subjects, StreamSettings(), settings.pace)
            await side.run(stop, lambda: _log.info("ready", side="write"))
        finally:
            await bus.close()
    finally:
        await log.close()


async def run_read(settings: ServeSettings, stop: asyncio.Event) -> None:
    """Run projections and HTTP (or one of them) until `stop`."""
    subjects = Subjects(settings.nats_prefix)
    async with AsyncExitStack() as parts:
        log = await parts.enter_async_context(await PostgresLog.connect(settings.database_url, committers=0))
        bus = await NatsBus.connect(settings.nats_url, name="tasker-read", retry_for_s=CONNECT_S)
        parts.push_async_callback(bus.close)
        pool = await open_pool(settings.database_url)
        parts.push_async_callback(pool.close)
        read_pool = await open_read_pool(settings.database_url)
        parts.push_async_callback(read_pool.close)
        side = ReadSide(
            log=log,
            info=await log.info(),
            bus=bus,
            subjects=subjects,
            tail=PostgresTail(pool),
            http_tail=PostgresTail(read_pool),
            store=PostgresViewStore(pool),
            queries=PostgresQueries(read_pool),
        )
        await side.run(
            stop,
            with_projections="projections" in settings.roles,
            http=(settings.http_host, settings.http_port) if "http" in settings.roles else None,
            on_ready=lambda url: _log.info("ready", side="read", http_url=url),
        )
