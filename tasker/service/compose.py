"""The composition root: adapters and settings become a running side of the service."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import StreamSettings
from tasker.events.postgres_log import PostgresLog
from tasker.events.subjects import Subjects
from tasker.service.write_side import WriteSide
from tasker.settings import ServeSettings

CONNECT_S: Final = 30.0
"""How long to wait for servers that are not there yet."""

_log = structlog.get_logger(__name__)


def run_side(side: str, settings: ServeSettings) -> int:
    """Run the `write` or the `read` side until SIGTERM or SIGINT; returns the exit code."""
    sides: dict[str, Callable[[ServeSettings, asyncio.Event], Awaitable[None]]] = {"write": run_write, "read": run_read}

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await sides[side](settings, stop)

    run_event_loop(run())
    return 0


def run_event_loop(main: Awaitable[None]) -> None:
    """Run `main` on uvloop, or on asyncio's own loop where uvloop does not exist (Windows)."""
    if sys.platform == "win32":
        asyncio.run(main)  # type: ignore[arg-type]
        return
    import uvloop  # noqa: PLC0415 - not installable everywhere

    uvloop.run(main)  # type: ignore[arg-type]


async def run_write(settings: ServeSettings, stop: asyncio.Event) -> None:
    """Run shards and publisher until `stop`."""
    subjects = Subjects(settings.nats_prefix)
    log = await PostgresLog.connect(settings.database_url)
    try:
        bus = await NatsBus.connect(settings.nats_url, name="tasker-write", retry_for_s=CONNECT_S)
        try:
            side = WriteSide(log, await log.info(), bus, subjects, StreamSettings())
            await side.run(stop, lambda: _log.info("ready", side="write"))
        finally:
            await bus.close()
    finally:
        await log.close()
