"""A real HTTP server over a real log and real views; the owner behind the gateway is scripted."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from tasker.bus.memory_bus import MemoryBroker
from tasker.clock import SystemClock
from tasker.controls.watch import ControlsWatch
from tasker.errors import TaskerError
from tasker.events.codec import encode_message
from tasker.events.envelope import StreamKind
from tasker.events.messages import LifecycleEvent, LogHead, Refused
from tasker.events.postgres_log import PostgresLog
from tasker.events.subjects import Subjects
from tasker.projections.checkpoints import PositionWatch
from tasker.projections.postgres_dead_letters import PostgresDeadLetters
from tasker.projections.postgres_queries import PostgresQueries, open_read_pool
from tasker.projections.postgres_store import PostgresTail, PostgresViewStore, open_pool
from tasker.projections.runner import Runner
from tasker.projections.views import PROJECTIONS
from tasker.service.http.app import create_app
from tasker.service.http.refusals import BusRefusals
from tasker.service.http.services import Services
from tasker.service.http.watcher import BusWatcher
from tasker.settings import HttpSettings
from tasker.times import to_rfc3339
from tests.histories import Recorder
from tests.servers import SharedCluster

LEASE_S = 600.0

SHARES_SITE = pytest.mark.asyncio(loop_scope="module")
"""Of a test that leaves no trace: it asks for `shared_site` or `shared_client`, which run in a loop of the module."""


class ScriptedGateway:
    """Answers commands as a test tells it.

    Attributes:
        answers: what comes back, in turn: JSON values, bytes, or errors to raise.
        sent: (tenant, verb, body, headers) as they came.
    """

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.sent: list[tuple[str, str, Any, dict[str, str]]] = []

    async def send(self, tenant: str, verb: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> bytes:
        self.sent.append((tenant, verb, body, dict(headers)))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def refuse(self, error: TaskerError) -> None:
        self.answers.append(encode_message(Refused(ok=False, error=error.problem())))


class Site:
    """The server, and what a test does behind it."""

    def __init__(self, log: PostgresLog, epochs: dict[int, int], shards: int, runner: Runner) -> None:
        self.log = log
        self.runner = runner
        self.gateway = ScriptedGateway()
        self.bus = MemoryBroker().connect()
        self.subjects = Subjects()
        self.recorder = Recorder(shards=shards)
        self.url = ""
        self.services: Any = None
        self._epochs = epochs
        self._published = 0

    async def append(self) -> None:
        """Append what was recorded to the log; the views do not know it yet."""
        await self.recorder.append_to(self.log, self._epochs)

    async def settle(self) -> None:
        """Append, and bring the views up to the log."""
        await self.append()
        await self.runner.catch_up()

    def publish(self) -> None:
        """Publish live what was recorded since the last call."""
        for event in self.recorder.events[self._published :]:
            if event.kind == StreamKind.TASK:
                message = LifecycleEvent(
                    id="x",
                    source="/tasker/x",
                    type=f"tasker.{event.type}.v1",
                    subject=str(event.stream_id),
                    time=to_rfc3339(event.at_us),
                    tenant=event.tenant,
                    shard=event.shard,
                    position=str(event.position),
                    seq=event.seq,
                    data=msgspec.Raw(event.payload),
                )
                subject = self.subjects.event(event.tenant, "shop", "t", str(event.stream_id), event.type)
                self.bus.publish(subject, encode_message(message))
        self._published = len(self.recorder.events)
        self.bus.publish(self.subjects.log_head, encode_message(LogHead(positions=self.recorder.positions)))

    async def task(self, events: Any, **more: Any) -> UUID:
        """Record a task and let the views know; returns its id."""
        task_id = self.recorder.task(events, **more)
        await self.settle()
        return task_id


class Client:
    """Requests to the site; answers decoded."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = aiohttp.ClientSession()

    async def ask(
        self, method: str, path: str, *, status: int | None = None, **more: Any
    ) -> tuple[aiohttp.ClientResponse, Any]:
        """Return the response and its JSON."""
        async with self.session.request(method, self.url + path, **more) as response:
            body = await response.json(content_type=None)
        if status is not None:
            assert response.status == status, body
        return response, body

    async def get(self, path: str, *, status: int = 200, **more: Any) -> Any:
        return (await self.ask("GET", path, status=status, **more))[1]

    async def problem(self, method: str, path: str, status: int, code: str, **more: Any) -> Any:
        """Return the problem that a request is answered with, after checking its form."""
        response, body = await self.ask(method, path, status=status, **more)
        assert response.content_type == "application/problem+json"
        assert (body["status"], body["code"]) == (status, code), body
        assert body["type"] == f"urn:tasker:error:{code}"
        assert body["title"]
        assert body["detail"]
        return body


@asynccontextmanager
async def running_site(database: str) -> AsyncIterator[Site]:
    """Run the server on a database."""
    log = await PostgresLog.connect(database)
    info = await log.info()
    lease = await log.acquire("test", range(info.shards), LEASE_S)
    pool, reads = await open_pool(database), await open_read_pool(database)
    clock = SystemClock()
    queries = PostgresQueries(reads)
    watch = PositionWatch(queries.positions, clock)
    runner = Runner(
        PostgresTail(pool), PostgresViewStore(pool), PROJECTIONS, shards=info.shards, clock=clock, watch=watch
    )
    site = Site(log, lease.epochs, info.shards, runner)
    services = Services(
        queries=queries,
        dead_letters=PostgresDeadLetters(reads),
        positions=watch,
        log=log,
        info=info,
        tail=PostgresTail(reads),
        controls=ControlsWatch(log, clock.monotonic_s),
        gateway=site.gateway,
        watcher=BusWatcher(site.bus, site.subjects),
        refusals=BusRefusals(site.bus, site.subjects),
        clock=clock,
        settings=HttpSettings(
            url="https://tasker.example",
            at_least_s=0.3,
            poll_s=0.05,
            keepalive_s=0.1,
            command_s=1.0,
            check_s=0.2,
            wait_s_max=5.0,
        ),
        checks={"log": _fine},
    )
    site.services = services
    server = web.AppRunner(create_app(services), handle_signals=False)
    await server.setup()
    where = web.TCPSite(server, "127.0.0.1", 0)
    await where.start()
    site.url = f"http://127.0.0.1:{server.addresses[0][1]}"
    yield site
    await server.cleanup()
    await asyncio.gather(pool.close(), reads.close(), log.close(), site.bus.close())


async def _fine() -> str | None:
    return None


@pytest.fixture
async def site(database: str) -> AsyncIterator[Site]:
    async with running_site(database) as site:
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_site(cluster: SharedCluster) -> AsyncIterator[Site]:
    """One site for all tests of a module that leave no trace on it."""
    database = await cluster.create_database()
    async with running_site(database) as site:
        yield site
    await cluster.drop_database(database)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_client(shared_site: Site) -> AsyncIterator[Client]:
    client = Client(shared_site.url)
    yield client
    await client.session.close()


@pytest.fixture
async def client(site: Site) -> AsyncIterator[Client]:
    client = Client(site.url)
    yield client
    await client.session.close()
