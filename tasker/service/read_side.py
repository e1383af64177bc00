"""The read side: views that follow the log, and HTTP over them, wired together.

It shares nothing with the write side but the log and the bus, so that a slow reader never slows a commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from uuid import UUID

import structlog
from aiohttp import web

from tasker.bus.bus import Bus, Message
from tasker.clock import SystemClock
from tasker.controls.watch import ControlsWatch
from tasker.errors import ConfigurationError, TaskerError, Undecodable
from tasker.events.codec import decode_message
from tasker.events.log import EventLog, LogInfo
from tasker.events.messages import LogHead, ShardStanding
from tasker.events.subjects import Subjects
from tasker.handlers.worker import Worker
from tasker.ids import slot_of
from tasker.metrics import Samples
from tasker.metrics.scrape import Scrape
from tasker.projections.checkpoints import PositionWatch
from tasker.projections.dead_letter_queries import DeadLetterQueries
from tasker.projections.queries import Queries
from tasker.projections.runner import Runner
from tasker.projections.store import LogTail, ViewStore
from tasker.projections.views import PROJECTIONS
from tasker.service.bulk.part import BulkParts
from tasker.service.bulk.previews import BulkPreviews
from tasker.service.bulk.targets import BulkTargets
from tasker.service.bulk.worker import bulk_worker
from tasker.service.http.app import KEEPALIVE_S, create_app
from tasker.service.http.gateway import BusGateway
from tasker.service.http.live import BusLive
from tasker.service.http.metrics import ViewMetrics, add_metrics
from tasker.service.http.place_facts import BusPlaces
from tasker.service.http.progress import OwnersProgress
from tasker.service.http.queue_facts import BusQueues
from tasker.service.http.refusals import BusRefusals
from tasker.service.http.services import Check, Services
from tasker.service.http.turn_facts import BusTurns
from tasker.service.http.watcher import BusWatcher
from tasker.settings import HttpSettings, StreamSettings

DRAIN_S: Final = 10.0
PING_S: Final = 1.0
BULK_DRAIN_S: Final = 3.0
"""A part of a bulk is over by then; what is not goes on from its checkpoint."""

FREE: Final = "free"
"""The word, below `Subjects.views`, of a node that no longer writes the views."""

_log = structlog.get_logger(__name__)


class ReadSide:
    """Projections and HTTP, with start, ready, drain and stop."""

    def __init__(
        self,
        *,
        log: EventLog,
        info: LogInfo,
        bus: Bus,
        subjects: Subjects,
        tail: LogTail,
        http_tail: LogTail,
        store: ViewStore,
        queries: Queries,
        dead_letters: DeadLetterQueries,
        http: HttpSettings,
        scrape: Scrape,
        streams: StreamSettings | None = None,
        drain_s: float = DRAIN_S,
    ) -> None:
        self._http = http
        self._streams = streams
        self._drain_s = drain_s
        self._log = log
        self._info = info
        self._bus = bus
        self._subjects = subjects
        self._tail = tail
        self._http_tail = http_tail
        self._store = store
        self._queries = queries
        self._dead_letters = dead_letters
        self._scrape = scrape
        self._scrape.askers.append(ViewMetrics(queries, dead_letters, log, info).ask)
        self._clock = SystemClock()

    async def run(
        self,
        stop: asyncio.Event,
        *,
        with_projections: bool,
        with_http: bool,
        on_ready: Callable[[str | None], None],
    ) -> None:
        """Serve until `stop`.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        watch = PositionWatch(self._queries.positions, self._clock)
        targets = BulkTargets(self._queries, self._dead_letters)
        previews = BulkPreviews(self._bus, self._subjects, targets)
        bulks = self._bulk_worker(targets, watch)
        runner: Runner | None = None
        async with asyncio.TaskGroup() as duties:
            running: list[asyncio.Task[None]] = []
            if with_projections:
                runner = self._follow(watch)
                running.append(duties.create_task(runner.run(), name="projections"))
            serving = await self._serve(watch) if with_http else None
            previews.start()
            await bulks.start()
            on_ready(None if serving is None else serving.name)
            await stop.wait()
            await previews.stop()
            await bulks.drain()
            if serving is not None:
                await serving.stop()
                await self._runner.cleanup()
            for duty in running:
                duty.cancel()
        if runner is not None and not runner.standing_by:
            self._hand_over()

    def _follow(self, watch: PositionWatch) -> Runner:
        runner = Runner(self._tail, self._store, PROJECTIONS, shards=self._info.shards, clock=self._clock, watch=watch)
        self._bus.subscribe(self._subjects.log_head, lambda message: _wake(runner, message))
        self._bus.subscribe(self._subjects.views(FREE), lambda _message: runner.take_over())
        self._scrape.tellers.append(lambda samples: _tell(runner, samples))
        return runner

    def _hand_over(self) -> None:
        """Say that nobody writes the views now, so that who stands by need not find it out."""
        try:
            self._bus.publish(self._subjects.views(FREE))
        except TaskerError as error:
            # Who stands by looks by itself.
            _log.debug("views_not_handed_over", error=error.detail)

    def _bulk_worker(self, targets: BulkTargets, watch: PositionWatch) -> Worker:
        gateway = BusGateway(self._bus, self._subjects)

        async def send(tenant: str, verb: str, body: bytes) -> bytes:
            return await gateway.send(tenant, verb, body, {}, timeout_s=self._http.command_s)

        parts = BulkParts(targets, self._queries, watch, self._log, self._info.shards, send, self._clock)
        return bulk_worker(self._bus, self._subjects, parts, self._streams, drain_s=BULK_DRAIN_S)

    async def _serve(self, watch: PositionWatch) -> web.TCPSite:
        app = create_app(
            Services(
                nats_prefix=self._subjects.prefix,
                queries=self._queries,
                dead_letters=self._dead_letters,
                positions=watch,
                log=self._log,
                info=self._info,
                tail=self._http_tail,
                controls=ControlsWatch(self._log, self._clock.monotonic_s),
                gateway=BusGateway(self._bus, self._subjects),
                watcher=BusWatcher(self._bus, self._subjects),
                refusals=BusRefusals(self._bus, self._subjects),
                clock=self._clock,
                checks=self._checks(),
                progress_of=OwnersProgress(self._bus, self._subjects, self._shard_of),
                live=BusLive(self._bus, self._subjects),
                queue_of=BusQueues(self._bus, self._subjects),
                place_of=BusPlaces(self._bus, self._subjects, self._shard_of),
                turns_of=BusTurns(self._bus, self._subjects, self._shard_of),
                settings=self._http,
            )
        )
        add_metrics(app, self._scrape)
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, keepalive_timeout=KEEPALIVE_S, shutdown_timeout=self._drain_s
        )
        await self._runner.setup()
        host, port = self._http.host, self._http.port
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigurationError(
                f"cannot bind http://{host}:{port}: {error.strerror}; choose another http.port (--http-port)"
            ) from error
        return site

    def _shard_of(self, stream_id: UUID) -> int:
        return self._info.shard_of_slot[slot_of(stream_id)]

    # ---------------------------------------------------------------- readiness

    def _checks(self) -> dict[str, Check]:
        return {"database": self._database, "nats": self._nats, "shards": self._shards}

    async def _database(self) -> str | None:
        await self._queries.positions()
        return None

    async def _nats(self) -> str | None:
        return None if self._bus.connected else "no connection to NATS"

    async def _shards(self) -> str | None:
        """Return None when every shard's owner answers, and can write."""
        answers = await asyncio.gather(*(self._ping(shard) for shard in range(self._info.shards)))
        silent = [str(shard) for shard, answer in enumerate(answers) if answer is None]
        if silent:
            return f"no owner answers for shard {', '.join(silent)}"
        troubled = [f"shard {shard}: {one.trouble}" for shard, one in enumerate(answers) if one and one.trouble]
        more = f", and so in {len(troubled) - 1} more" if len(troubled) > 1 else ""
        return f"{troubled[0]}{more}" if troubled else None

    async def _ping(self, shard: int) -> ShardStanding | None:
        try:
            answer = await self._bus.request(self._subjects.node_shard(shard, "ping"), b"", timeout_s=PING_S)
            return decode_message(answer.data, ShardStanding)
        except TaskerError:
            return None


def _tell(runner: Runner, samples: Samples) -> None:
    samples.add("tasker_projection_events_total", runner.events)


def _wake(runner: Runner, message: Message) -> None:
    try:
        runner.wake(decode_message(message.data, LogHead).positions)
    except Undecodable:
        runner.wake()
