"""GET /metrics: the numbers of this node, for Prometheus."""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

import structlog
from aiohttp import web

from tasker.errors import Unavailable
from tasker.events.log import EventLog, LogInfo
from tasker.metrics import Samples
from tasker.metrics.catalogue import STATES_IN_FLIGHT, STATES_OPEN, STATUSES_OPEN
from tasker.metrics.scrape import Scrape
from tasker.projections.dead_letter_queries import DeadLetterQueries
from tasker.projections.queries import InFlight, Queries

READ_S: Final = 5.0
KEEP_S_MIN: Final = 2.0
KEEP_FACTOR: Final = 20.0
"""What is counted is kept for so many times as long as counting took: a twentieth of a connection."""

_log = structlog.get_logger(__name__)


def add_metrics(app: web.Application, scrape: Scrape) -> None:
    """Have `app` answer GET /metrics."""

    async def metrics(request: web.Request) -> web.Response:
        from tasker.metrics.exposition import render

        body, content_type = render(await scrape.all(), request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    app.router.add_get("/metrics", metrics)


async def serve_metrics(scrape: Scrape, host: str, port: int) -> web.AppRunner:
    """Serve /metrics alone, on a node without the role `http`; returns what ends it by `cleanup`.

    Raises:
        OSError: the address cannot be bound.
    """
    app = web.Application()
    add_metrics(app, scrape)
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


class Counted(NamedTuple):
    """What was counted at one time: open tasks by state, open dead letters by status, steps in flight."""

    tasks: dict[str, int]
    dead_letters: dict[str, int]
    steps: list[InFlight]


class ViewMetrics:
    """What views and log tell at a scrape."""

    def __init__(self, queries: Queries, dead_letters: DeadLetterQueries, log: EventLog, info: LogInfo) -> None:
        self._queries = queries
        self._dead_letters = dead_letters
        self._log = log
        self._info = info
        self._counted = Counted({}, {}, [])
        self._took_s = 0.0
        self._keep_until_s = 0.0
        self._lock = asyncio.Lock()
        self._known: dict[tuple[str, str], None] = {}

    async def ask(self, samples: Samples) -> None:
        """Add lag, and what is open; nothing while the database does not answer."""
        try:
            async with asyncio.timeout(READ_S):
                positions = await self._queries.positions()
                heads = await self._log.heads(range(self._info.shards))
                lag = sum(max(0, head.position - positions.get(head.shard, 0)) for head in heads)
                samples.add("tasker_projection_lag_events", lag)
                counted = await self._count()
                for name, known, found in (
                    ("tasker_tasks_open", STATES_OPEN, counted.tasks),
                    ("tasker_dead_letters_open", STATUSES_OPEN, counted.dead_letters),
                ):
                    samples.add_counts(name, (dict.fromkeys(known, 0) | found).items())
                self._tell_steps(samples, counted.steps)
        except (Unavailable, TimeoutError) as error:
            _log.warning("views_not_measured", error=str(error) or "no answer in time")

    async def _count(self) -> Counted:
        async with self._lock:
            started_s = time.monotonic()
            if started_s >= self._keep_until_s:
                self._counted = Counted(
                    await self._queries.open_counts(),
                    await self._dead_letters.open_counts(),
                    await self._queries.in_flight(),
                )
                self._took_s = time.monotonic() - started_s
                self._keep_until_s = started_s + max(KEEP_S_MIN, KEEP_FACTOR * self._took_s)
            return self._counted

    def _tell_steps(self, samples: Samples, found: list[InFlight]) -> None:
        states = dict.fromkeys(STATES_IN_FLIGHT, 0)
        waiting: dict[tuple[str, str], InFlight] = {}
        for row in found:
            states[row.state] = states.get(row.state, 0) + row.steps
            if row.state == "dispatched":
                waiting[row.namespace, row.template] = row
        self._known.update(dict.fromkeys(waiting))
        samples.add_counts("tasker_steps_in_flight", ((state, count) for state, count in states.items()))
        for namespace, template in self._known:
            row_or_none = waiting.get((namespace, template))
            depth, age_s = (0, 0.0) if row_or_none is None else (row_or_none.steps, row_or_none.oldest_age_s)
            samples.add("tasker_queue_depth_steps", depth, namespace, template)
            samples.add("tasker_queue_oldest_age_seconds", age_s, namespace, template)
        samples.add("tasker_queue_read_duration_seconds", self._took_s)
