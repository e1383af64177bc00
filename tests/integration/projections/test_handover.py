"""Two read sides of one service: the one that stops in order hands the views over."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tasker.events.postgres_log import PostgresLog
from tasker.projections.postgres_store import PostgresViewStore, open_pool
from tasker.projections.runner import Runner
from tasker.service import read_side
from tasker.service.compose import run_read
from tasker.settings import Settings, read_settings
from tests.histories import Recorder, completed_task

LONG_S = 3600.0


class Views:
    """A log to append to, and its views."""

    def __init__(self, log: PostgresLog, epochs: dict[int, int], store: PostgresViewStore) -> None:
        self._log = log
        self._epochs = epochs
        self._store = store
        self._recorder = Recorder(shards=len(epochs))

    async def grow(self) -> None:
        """Append a task to the log, and return when the views have it."""
        self._recorder.task(completed_task())
        await self._recorder.append_to(self._log, self._epochs)
        while not await self._have_all():  # noqa: ASYNC110 - the views are in a database, which tells nobody
            await asyncio.sleep(0.01)

    async def _have_all(self) -> bool:
        return await self._store.positions() == self._recorder.positions


@pytest.fixture
async def views(database: str) -> AsyncIterator[Views]:
    log = await PostgresLog.connect(database)
    lease = await log.acquire("test", range((await log.info()).shards), 600.0)
    pool = await open_pool(database, size=2)
    yield Views(log, lease.epochs, PostgresViewStore(pool))
    await asyncio.gather(pool.close(), log.close())


@pytest.fixture
def settings(database: str, nats_url: str, nats_prefix: str) -> Settings:
    environ = {
        "TASKER_DATABASE_URL": database,
        "TASKER_NATS_URL": nats_url,
        "TASKER_NATS_PREFIX": nats_prefix,
        "TASKER_SERVICE_ROLES": "projections",
    }
    return read_settings(environ).settings


async def test_who_stands_by_goes_on_when_the_writer_stops(
    views: Views, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the word of the one that stops it would not look again in the time of this test."""
    runners: list[Runner] = []

    class Patient(Runner):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **options, standby_s=LONG_S)
            runners.append(self)

    monkeypatch.setattr(read_side, "Runner", Patient)
    async with asyncio.timeout(60), asyncio.TaskGroup() as sides:
        stops = []
        for _ in range(2):
            stop, ready = asyncio.Event(), asyncio.Event()
            stops.append((stop, sides.create_task(run_read(settings, stop, on_ready=ready.set))))
            await ready.wait()
        while runners[0].standing_by == runners[1].standing_by:
            await views.grow()
        writer = 0 if runners[1].standing_by else 1
        stop, side = stops.pop(writer)
        stop.set()
        await side
        await views.grow()
        assert not runners[1 - writer].standing_by
        stops[0][0].set()
