"""Shard after shard of one log, in one process."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Final, Self

from tasker.events.log import EventLog
from tasker.events.postgres_log import PostgresLog
from tasker.projections.postgres_store import PostgresViewStore, open_pool
from tasker.projections.store import ViewStore
from tasker.projections.views import PROJECTIONS
from tasker.replay.checkers.tried import Openings, read_openings
from tasker.replay.content import Contents
from tasker.replay.findings import Report
from tasker.replay.shard import PAGE_EVENTS, ShardResult, ShardVerifier, ViewsAt, views_at

SNAPSHOT_S_MAX: Final = 60.0
"""The views are read at one moment for so long, then anew: an old moment keeps dead rows from being cleaned away."""


COLLECT_EVERY: Final = 200_000
"""Objects that are made between two looks for garbage; by default it is 700, which costs a tenth of the time
(of a rebuild a third)."""


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Look for garbage only now and then meanwhile: what a pass over the log makes is in no cycles."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_EVERY, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[tuple[EventLog, ViewStore]]:
    """Yield the log and the views of the database that `dsn` names, to be read: its user need not be able to write."""
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(await PostgresLog.connect(dsn, committers=0))
        pool = await open_pool(dsn, size=1)
        stack.push_async_callback(pool.close)
        yield log, PostgresViewStore(pool)


class Verifier:
    """Verifies shards one after the other.

    Args:
        store: the views; None: the log alone.
        on_progress: takes the number of events read since the last call.
    """

    def __init__(
        self,
        log: EventLog,
        store: ViewStore | None,
        report: Report,
        *,
        on_progress: Callable[[int], None] = lambda _: None,
        page_events: int = PAGE_EVENTS,
    ) -> None:
        self._log = log
        self._store = store
        self._report = report
        self._on_progress = on_progress
        self._page_events = page_events
        self._contents = Contents(log)
        self._openings: Openings | None = None
        self._moment = AsyncExitStack()
        self._views: ViewsAt | None = None
        self._views_s = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Let go of the views; a second time does nothing."""
        self._views = None
        await self._moment.aclose()

    async def verify(self, shard: int) -> ShardResult:
        """Verify one shard and return what was read.

        Raises:
            Unavailable: the log or the views cannot be read.
        """
        if self._openings is None:
            self._openings = await read_openings(self._log)
        verifier = ShardVerifier(
            self._log,
            shard,
            self._report,
            contents=self._contents,
            views=await self._views_now(),
            openings=self._openings,
            on_progress=self._on_progress,
            page_events=self._page_events,
        )
        return await verifier.verify()

    async def _views_now(self) -> ViewsAt | None:
        if self._store is not None and (self._views is None or time.monotonic() - self._views_s > SNAPSHOT_S_MAX):
            await self._moment.aclose()
            snapshot = await self._moment.enter_async_context(self._store.snapshot())
            self._views = await views_at(snapshot, PROJECTIONS)
            self._views_s = time.monotonic()
        return self._views
