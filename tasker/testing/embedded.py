"""The whole of Tasker for one test, on real servers: a database and a prefix of its own, the service, and a worker.

Service and worker run in a thread of the test's process, so that handlers may be defined in the test and reach what
it patches. They are the same that `tasker serve` and `tasker worker` run. Time is real.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final, TypeVar

from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import delete_stream
from tasker.client.client import TaskerClient
from tasker.client.requests import NamedTemplate, TaskHandle
from tasker.embedded._process import free_port
from tasker.errors import ConfigurationError, DeadlineExceeded
from tasker.events.messages import CANCEL_GRACE_S
from tasker.events.reads import EventView
from tasker.events.subjects import Subjects
from tasker.handlers.outcome import RetryableError
from tasker.handlers.registry import Registry
from tasker.handlers.worker import Worker
from tasker.service.compose import run_read, run_write
from tasker.settings import DatabaseSettings, HttpSettings, NatsSettings, Settings
from tasker.testing.engine import REAL_S_MAX, Engine
from tasker.testing.kit import NotOver
from tasker.testing.postgres_databases import create_database, drop_database
from tasker.testing.quiet import quiet_logs
from tasker.testing.run import RunView
from tasker.testing.script import Call, Script, When
from tasker.testing.servers import Servers
from tasker.testing.sources import Source, registry_of

T = TypeVar("T")

WITHIN_S: Final = 30.0
START_S: Final = 30.0


class Installation:
    """One service and one worker on shared servers. `open` it, `close` it, on its loop."""

    def __init__(self, servers: Servers, registry: Registry) -> None:
        self.loop = asyncio.get_running_loop()
        self.prefix = f"t{uuid.uuid4().hex[:12]}"
        self.database_url = ""
        self.nats_url = servers.nats_url
        port = free_port()
        self.http_url = f"http://127.0.0.1:{port}"
        self.script = Script(registry, _cannot_die, _cannot_die_in_thread)
        self.client = TaskerClient(self.nats_url, self.http_url, nats_prefix=self.prefix, environ={}, timeout_s=START_S)
        self._servers = servers
        self._registry = registry
        self._port = port
        self._stop = asyncio.Event()
        self._parts = AsyncExitStack()

    async def open(self) -> None:
        """Start everything, and register the templates."""
        parts = self._parts
        self.database_url = await create_database(self._servers.database_url)
        parts.push_async_callback(drop_database, self.database_url)
        bus = await NatsBus.connect(self.nats_url, name="tasker-test")
        parts.push_async_callback(bus.close)
        subjects = Subjects(self.prefix)
        for stream in subjects.streams:
            parts.push_async_callback(delete_stream, bus, stream)
        settings = Settings(
            database=DatabaseSettings(url=self.database_url),
            nats=NatsSettings(url=self.nats_url, prefix=self.prefix),
            http=HttpSettings(port=self._port),
        )
        sides = [asyncio.create_task(run(settings, self._stop)) for run in (run_write, run_read)]
        parts.push_async_callback(self._drain, sides)
        parts.push_async_callback(self.client.close)
        for document in self._registry.documents():
            await self.client.register(document)
        equipment = self.script.equip()
        worker = Worker(bus, self.script, subjects=subjects, limits=equipment.limits, life=equipment)
        parts.push_async_callback(worker.drain, 0.0)
        await worker.start()
        await worker.ready()

    async def close(self) -> None:
        """Drain everything, and delete what it made."""
        await self._parts.aclose()

    async def _drain(self, sides: Sequence[asyncio.Task[None]]) -> None:
        self._stop.set()
        await asyncio.gather(*sides)


class EmbeddedRun(RunView):
    """A task on the real service; what it shows is how it was when it was last waited for or refreshed."""

    def __init__(self, kit: EmbeddedTasker, handle: TaskHandle, steps: Sequence[str]) -> None:
        super().__init__(handle.task_id, steps, lambda: self._seen)
        self._kit = kit
        self._handle = handle
        self._seen: list[EventView] = []

    async def wait(self, *, within_s: float = WITHIN_S) -> EmbeddedRun:
        """Return it when it has ended or is blocked.

        Raises:
            NotOver: it is neither after `within_s`, in real time.
        """
        await self._kit._do(self._wait(within_s))  # noqa: SLF001 - a run is a part of its kit
        return self

    async def refresh(self) -> EmbeddedRun:
        """Return it as it is now."""
        await self._kit._do(self._read())  # noqa: SLF001
        return self

    async def cancel(self, *, grace_s: float = CANCEL_GRACE_S) -> None:
        """Ask for its end."""
        await self._kit._do(self._kit._installation.client.cancel(self.task_id, grace_s=grace_s))  # noqa: SLF001

    async def retry(self, step: str | None = None) -> None:
        """Give its failed steps (or one) a fresh set of attempts."""
        client = self._kit._installation.client  # noqa: SLF001
        await self._kit._do(  # noqa: SLF001
            client.retry(self.task_id) if step is None else client.step_retry(self.task_id, step)
        )

    async def _wait(self, within_s: float) -> None:
        try:
            await self._kit._installation.client.wait(self._handle, timeout_s=within_s)  # noqa: SLF001
        except DeadlineExceeded as error:
            raise NotOver(error.detail) from error
        await self._read()

    async def _read(self) -> None:
        client = self._kit._installation.client  # noqa: SLF001
        self._seen = [event async for event in client.events(self.task_id)]


class EmbeddedTasker:
    """The kit on real servers, for async tests; made by the fixture `embedded_tasker`.

    Args:
        servers: the shared ones.
        sources: templates, or modules that have some.
        handlers: functions marked `@handler`.
        labels: of the worker; None: all that its steps ask for.
    """

    def __init__(
        self,
        servers: Servers,
        *sources: Source,
        handlers: Sequence[Any] = (),
        labels: Mapping[str, str] | None = None,
        real_s_max: float = REAL_S_MAX,
    ) -> None:
        self._registry = registry_of(sources, handlers, labels)
        self._engine: Engine[Installation] = Engine(
            partial(Installation, servers, self._registry), asyncio.new_event_loop, real_s_max=real_s_max
        )
        self._quiet = quiet_logs()

    def open(self) -> None:
        """Start it."""
        self._quiet.__enter__()
        self._engine.start()

    def close(self) -> None:
        """End it."""
        self._engine.stop()
        self._quiet.__exit__(None, None, None)

    @property
    def http_url(self) -> str:
        """Where its HTTP API is."""
        return self._installation.http_url

    @property
    def nats_url(self) -> str:
        """Where its nats-server is; its subjects begin with `nats_prefix`."""
        return self._installation.nats_url

    @property
    def nats_prefix(self) -> str:
        """What its subjects and streams begin with (`TASKER_NATS_PREFIX`)."""
        return self._installation.prefix

    @property
    def database_url(self) -> str:
        """Where its database is."""
        return self._installation.database_url

    def client(self) -> TaskerClient:
        """Return a new client of it, for the test's own loop."""
        return TaskerClient(self.nats_url, self.http_url, nats_prefix=self.nats_prefix, environ={})

    def calls(self, step: str | None = None) -> tuple[Call, ...]:
        """Return which handlers were called, in order; those of one step when it is named."""
        return tuple(call for call in self._installation.script.calls if step in (None, call.step))

    def stub(self, step: str, result: object) -> None:
        """See `TaskerTest.stub`."""
        self._installation.script.stub(step, result)

    def fail(
        self,
        step: str,
        *,
        times: int = 1,
        error: BaseException | type[BaseException] | None = None,
        when: When = "before",
    ) -> None:
        """See `TaskerTest.fail`."""
        self._installation.script.fail(step, error or RetryableError("the test says so"), times=times, when=when)

    async def start(
        self, input: object = None, *, template: str | NamedTemplate | None = None, **options: Any
    ) -> EmbeddedRun:
        """See `TaskerTest.start`."""
        if template is None:
            if len(self._registry.specs) != 1:
                raise ConfigurationError("there are several templates: say which, with template=")
            [template] = self._registry.specs
        handle = await self._do(self._installation.client.create(template, input, **options))
        steps = [
            step.name
            for spec in self._registry.specs
            if (spec.namespace, spec.name) == (handle.namespace, handle.template)
            for step in spec.steps
        ]
        return await EmbeddedRun(self, handle, steps).refresh()

    async def run(
        self,
        input: object = None,
        *,
        template: str | NamedTemplate | None = None,
        within_s: float = WITHIN_S,
        **options: Any,
    ) -> EmbeddedRun:
        """See `TaskerTest.run`; `within_s` is real time."""
        run = await self.start(input, template=template, **options)
        return await run.wait(within_s=within_s)

    @property
    def _installation(self) -> Installation:
        return self._engine.world

    async def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._engine.reach(work)


async def _cannot_die() -> None:
    _cannot_die_in_thread()


def _cannot_die_in_thread() -> None:
    raise ConfigurationError("on real servers the worker shares the test's process: crash it with TaskerTest")
