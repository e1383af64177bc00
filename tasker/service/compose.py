"""The composition root: adapters and settings become a running side of the service.

A side imports its own parts when it runs: neither waits for, nor keeps in memory, what the other is made of.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from tasker.bus.nats_bus import NatsBus
from tasker.errors import ConfigurationError, NotPermitted
from tasker.events.postgres_log import PostgresLog
from tasker.events.subjects import Subjects
from tasker.metrics.local import SUPPORTED, socket_of, told_at
from tasker.metrics.process import Pool, ProcessMetrics
from tasker.metrics.scrape import Scrape
from tasker.outages import Outage
from tasker.settings import METRICS_ROLE, Settings, database_url_of, nats_url_of

if TYPE_CHECKING:
    from tasker.service.domain.costs.prices import PriceTable

_REMEDY: Final = (
    "give it these permissions in nats-server's configuration: deploy/nats-users.conf has a user for the service; "
    "`tasker doctor` names what else it lacks"
)

_log = structlog.get_logger(__name__)


def run_side(side: str, settings: Settings, folder: str) -> None:
    """Run the `write` or the `read` side until SIGTERM or SIGINT, then drain it.

    Args:
        side: which.
        settings: of the node.
        folder: where its sides tell each other their metrics.

    Raises:
        ConfigurationError: it cannot start.
        Unavailable: a server that it needs is away.
    """
    sides = {"write": run_write, "read": run_read}

    async def run() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        serving = loop.create_task(sides[side](settings, stop, folder, ready.set), name=side)

        def on_signal() -> None:
            stop.set()
            if not ready.is_set():
                # It waits for its servers, perhaps for ever, and has nothing under way that a drain could save.
                serving.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        try:
            await serving
        except asyncio.CancelledError:
            if not stop.is_set():
                raise

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
    side's time under load went there. A young collection walks what is under way as well, which is gone by the next:
    the rarer it is, the less of that. It takes some 50 ms of processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 5, 50)


def _nothing() -> None:
    """Do nothing."""


async def run_write(
    settings: Settings, stop: asyncio.Event, folder: str = "", on_ready: Callable[[], None] = _nothing
) -> None:
    """Run shards and publisher until `stop`.

    Args:
        settings: of the node.
        stop: drain and return.
        folder: where the other side asks for its metrics; "" nowhere.
        on_ready: called once it serves.
    """
    from tasker.service.write_side import WriteSide

    def told() -> None:
        _log.info("ready", side="write")
        on_ready()

    subjects = Subjects(settings.nats.prefix)
    database, roles = settings.database, settings.service.roles
    async with AsyncExitStack() as parts:
        log = await parts.enter_async_context(await _open_log(settings, committers=database.committers))
        bus = await _open_bus(settings, "tasker-write")
        parts.push_async_callback(bus.close)
        await _refuse_to_lack(
            bus,
            heard=(
                subjects.commands_all,
                subjects.slots_all,
                subjects.reports_of_shard(0),
                subjects.node_shard(0, "permitted"),
            ),
            said=(subjects.mark_end, subjects.log_head, subjects.node_shard(0, "permitted")),
        )
        side = WriteSide(
            log,
            await log.info(),
            bus,
            subjects,
            settings.streams,
            settings.pace,
            settings.limits,
            direct=settings.direct,
            committers=database.committers,
            drain_s=_part_drain_s(settings),
            prices=_read_prices(settings.usage.prices),
        )
        scrape = Scrape("write")
        scrape.tellers.append(side.tell)
        await _watch(parts, scrape, bus, {"log": log.pool})
        if SUPPORTED and folder:
            await parts.enter_async_context(told_at(socket_of(folder, "write"), scrape.own))
        if METRICS_ROLE in roles and not {"projections", "http"}.intersection(roles):
            await _serve_metrics(parts, scrape, settings)
        await side.run(stop, told)


def _read_prices(path: str | None) -> PriceTable | None:
    """Return the price table in a file; None when none is named.

    Raises:
        ConfigurationError: it cannot be read, or is no price table.
    """
    if path is None:
        return None
    import tomllib

    from tasker.service.domain.costs.prices import price_table

    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"usage.prices: the price table {path} cannot be read: {error}") from error
    try:
        return price_table(document)
    except ConfigurationError as error:
        raise ConfigurationError(f"usage.prices: {path}: {error.detail}") from error


async def run_read(
    settings: Settings, stop: asyncio.Event, folder: str = "", on_ready: Callable[[], None] = _nothing
) -> None:
    """Run projections and HTTP (or one of them) until `stop`; the rest as in `run_write`."""
    from tasker.projections.postgres_dead_letters import PostgresDeadLetters
    from tasker.projections.postgres_queries import PostgresQueries, open_read_pool
    from tasker.projections.postgres_store import PostgresTail, PostgresViewStore, open_pool
    from tasker.service.read_side import ReadSide

    def told(url: str | None) -> None:
        _log.info("ready", side="read", http_url=url)
        on_ready()

    subjects = Subjects(settings.nats.prefix)
    dsn = database_url_of(settings)
    async with AsyncExitStack() as parts:
        log = await parts.enter_async_context(await _open_log(settings, committers=0))
        bus = await _open_bus(settings, "tasker-read")
        parts.push_async_callback(bus.close)
        await _refuse_to_lack(
            bus,
            heard=(subjects.log_head, subjects.views("permitted")),
            said=(subjects.node_shard(0, "permitted"), subjects.views("permitted")),
        )
        pool = await open_pool(dsn, size=settings.database.view_connections)
        parts.push_async_callback(pool.close)
        read_pool = await open_read_pool(dsn, size=settings.database.query_connections)
        parts.push_async_callback(read_pool.close)
        scrape = Scrape("read", folder, ("write",) if "shards" in settings.service.roles else ())
        await _watch(parts, scrape, bus, {"log": log.pool, "projections": _pool_of(pool), "reads": _pool_of(read_pool)})
        side = ReadSide(
            log=log,
            info=await log.info(),
            bus=bus,
            subjects=subjects,
            tail=PostgresTail(pool),
            http_tail=PostgresTail(read_pool),
            store=PostgresViewStore(pool),
            queries=PostgresQueries(read_pool),
            dead_letters=PostgresDeadLetters(read_pool),
            http=settings.http,
            streams=settings.streams,
            drain_s=_part_drain_s(settings),
            scrape=scrape,
        )
        if METRICS_ROLE in settings.service.roles and "http" not in settings.service.roles:
            await _serve_metrics(parts, scrape, settings)
        await side.run(
            stop,
            with_projections="projections" in settings.service.roles,
            with_http="http" in settings.service.roles,
            on_ready=told,
        )


async def _open_log(settings: Settings, *, committers: int) -> PostgresLog:
    database = settings.database
    return await PostgresLog.connect(
        database_url_of(settings),
        committers=committers,
        readers=database.readers,
        statement_timeout_s=database.statement_timeout_s,
        read_timeout_s=database.read_timeout_s,
    )


async def _open_bus(settings: Settings, name: str) -> NatsBus:
    nats = settings.nats
    waiting = Outage(_log, "awaits_nats", time.monotonic)
    bus = await NatsBus.connect(
        nats_url_of(settings),
        name=name,
        retry_for_s=settings.service.connect_s,
        inbox_prefix=nats.inbox_prefix,
        pending_bytes_max=nats.pending_bytes_max,
        on_repeat=lambda error: waiting.goes_on(error.detail),
    )
    waiting.is_over()
    return bus


async def _refuse_to_lack(bus: NatsBus, *, heard: Sequence[str], said: Sequence[str]) -> None:
    """Raise where the user may not do what there is no service without, whoever its tenants are.

    It would wait for ever: for commands that it does not hear, for acks of what the server did not take.

    Raises:
        NotPermitted: with all of it.
    """
    refused = await bus.refused_of(heard=heard, said=said)
    if refused:
        raise NotPermitted(f"NATS does not let this user {', '.join(refused)}", remedy=_REMEDY)


def _part_drain_s(settings: Settings) -> float:
    """Return how long each of the two parts of a drain may take: both fit before the supervisor kills."""
    return settings.service.drain_s * 0.4


# ---------------------------------------------------------------- metrics


async def _watch(parts: AsyncExitStack, scrape: Scrape, bus: NatsBus, pools: Mapping[str, Callable[[], Pool]]) -> None:
    """Have a scrape tell of this process as well."""
    process = ProcessMetrics(pools, lambda: bus.connected)
    bus.on_reconnect(process.on_reconnect)
    scrape.tellers.append(process.tell)
    watcher = asyncio.create_task(process.run(), name="process-metrics")
    parts.callback(watcher.cancel)


async def _serve_metrics(parts: AsyncExitStack, scrape: Scrape, settings: Settings) -> None:
    from tasker.service.http.metrics import serve_metrics

    host, port = settings.http.host, settings.http.port
    try:
        serving = await serve_metrics(scrape, host, port)
    except OSError as error:
        raise ConfigurationError(
            f"cannot bind http://{host}:{port} for /metrics: {error.strerror}; choose another --http-port"
        ) from error
    parts.push_async_callback(serving.cleanup)


class _SizedPool(Protocol):
    def get_size(self) -> int: ...
    def get_idle_size(self) -> int: ...
    def get_max_size(self) -> int: ...


def _pool_of(pool: _SizedPool) -> Callable[[], Pool]:
    return lambda: Pool(pool.get_size(), pool.get_size() - pool.get_idle_size(), pool.get_max_size())
