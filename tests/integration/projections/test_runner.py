"""The runner on a real log and real tables: killed, doubled, woken, hurried."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import structlog

from tasker.clock import SystemClock
from tasker.errors import Unavailable
from tasker.events.postgres_log import PostgresLog
from tasker.events.task_events import StepDispatched, StepStarted, TaskCompleted
from tasker.ids import shard_of
from tasker.projections.checkpoints import CheckpointMove, PositionWatch
from tasker.projections.memory_store import MemoryTail
from tasker.projections.postgres_store import PostgresRebuildStore, PostgresTail, open_pool
from tasker.projections.runner import Runner
from tasker.projections.store import RowWrites
from tasker.projections.views import PROJECTIONS
from tests.histories import Recorder, blocked_task, completed_task, created, ran, raw
from tests.view_rows import folded, stored


class Bench:
    """A log to append to, and runners that follow it."""

    def __init__(self, dsn: str, log: PostgresLog, epochs: dict[int, int], pool: Any) -> None:
        self.dsn = dsn
        self.log = log
        self.pool = pool
        self.epochs = epochs
        self.recorder = Recorder(shards=len(epochs))
        self.store = PostgresRebuildStore(pool)

    async def append(self) -> None:
        await self.recorder.append_to(self.log, self.epochs)

    def runner(self, store: Any = None, **more: Any) -> Runner:
        return Runner(
            PostgresTail(self.pool),
            store or self.store,
            PROJECTIONS,
            shards=len(self.epochs),
            clock=SystemClock(),
            **({"poll_s": 0.05, "standby_s": 0.05} | more),
        )

    async def is_folded(self) -> bool:
        return await stored(self.store) == folded(self.recorder.events)

    async def follow(self) -> None:
        """Return when the views are at the head."""
        async with asyncio.timeout(60):
            while not await self._is_at_the_head():  # noqa: ASYNC110 - the views are in a database, which tells nobody
                await asyncio.sleep(0.01)

    async def _is_at_the_head(self) -> bool:
        try:
            return await self.store.positions() == self.recorder.positions
        except Unavailable:  # the test kills connections, ours too
            return False


@pytest.fixture
async def bench(database: str) -> AsyncIterator[Bench]:
    log = await PostgresLog.connect(database)
    lease = await log.acquire("test", range((await log.info()).shards), 600.0)
    pool = await open_pool(database, size=6)
    yield Bench(database, log, lease.epochs, pool)
    await asyncio.gather(pool.close(), log.close())


@asynccontextmanager
async def running(*runners: Runner) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(runner.run()) for runner in runners]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class DyingStore(PostgresRebuildStore):
    """Loses its connection or its process at the `n`-th write, before or after the commit."""

    def __init__(self, pool: Any, dies_at: int, how: Callable[[], BaseException], *, after_commit: bool) -> None:
        super().__init__(pool)
        self.writes = 0
        self.dies_at = dies_at
        self.how = how
        self.after_commit = after_commit

    async def write(self, moves: list[CheckpointMove], writes: list[RowWrites]) -> None:  # type: ignore[override]
        self.writes += 1
        if self.writes == self.dies_at and not self.after_commit:
            raise self.how()
        await super().write(moves, writes)
        if self.writes == self.dies_at and self.after_commit:
            raise self.how()


class AwayStore(PostgresRebuildStore):
    """Takes no writes while it `is_away`."""

    def __init__(self, pool: Any) -> None:
        super().__init__(pool)
        self.is_away = True
        self.tries = asyncio.Semaphore(0)

    async def write(self, moves: list[CheckpointMove], writes: list[RowWrites]) -> None:  # type: ignore[override]
        self.tries.release()
        if self.is_away:
            raise Unavailable("the store is away")
        await super().write(moves, writes)


async def some_load(bench: Bench) -> None:
    for number in range(30):
        bench.recorder.task(completed_task("s1", "s2", tags={"n": str(number)}))
        bench.recorder.task(blocked_task())
    await bench.append()


async def test_the_views_follow_the_log(bench: Bench) -> None:
    await some_load(bench)
    async with running(bench.runner()):
        await bench.follow()
        task_id = bench.recorder.task([created()])
        await bench.append()
        await bench.follow()
        bench.recorder.record(task_id, [*ran("s1"), TaskCompleted(result=raw(1))])
        await bench.append()
        await bench.follow()
    assert await bench.is_folded()


async def test_a_store_that_is_away_is_told_of_when_that_begins_and_when_it_is_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line a try, each 50 to 100 ms where the store could be read and not written."""
    monkeypatch.setattr("tasker.projections.runner.BACKOFF_S_MIN", 0.001)
    monkeypatch.setattr("tasker.projections.runner.BACKOFF_S_MAX", 0.002)
    await some_load(bench)
    store = AwayStore(bench.pool)
    with structlog.testing.capture_logs() as lines:
        async with running(bench.runner(store)):
            for _ in range(5):
                await store.tries.acquire()
            store.is_away = False
            await bench.follow()
    assert [(line["event"], line.get("outage")) for line in lines] == [
        ("projection_unavailable", None),
        ("outage_over", "projection_unavailable"),
    ]


@pytest.mark.parametrize("died", ["before the commit", "after the commit"])
@pytest.mark.parametrize("dies_at", [1, 2, 5])
async def test_a_runner_killed_between_batches_goes_on_from_its_checkpoint(
    bench: Bench, dies_at: int, died: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.projections.runner.BATCH_EVENTS_MAX", 60)
    await some_load(bench)
    dying = DyingStore(bench.pool, dies_at, KeyboardInterrupt, after_commit=died == "after the commit")
    with pytest.raises(KeyboardInterrupt):
        await bench.runner(dying).catch_up()
    await bench.runner().catch_up()
    assert await bench.is_folded()


@pytest.mark.parametrize("died", ["before the commit", "after the commit"])
async def test_a_runner_that_lost_its_answer_asks_where_it_is(
    bench: Bench, died: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.projections.runner.BATCH_EVENTS_MAX", 60)
    await some_load(bench)
    dying = DyingStore(
        bench.pool, 3, lambda: Unavailable("the answer was lost"), after_commit=died == "after the commit"
    )
    async with running(bench.runner(dying)):
        await bench.follow()
    assert await bench.is_folded()


async def test_a_batch_that_takes_too_long_is_written_in_parts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is slow would never get through with the whole of it, however often that is tried."""
    monkeypatch.setattr("tasker.projections.runner.BACKOFF_S_MIN", 0.001)
    monkeypatch.setattr("tasker.projections.runner.BACKOFF_S_MAX", 0.002)

    class SlowStore(PostgresRebuildStore):
        refused = 0

        async def write(self, moves: list[CheckpointMove], writes: list[RowWrites]) -> None:  # type: ignore[override]
            if sum(len(one.born) + len(one.moved) for one in writes) > 80:
                self.refused += 1
                raise Unavailable("the database: canceling statement due to statement timeout")
            await super().write(moves, writes)

    await some_load(bench)
    store = SlowStore(bench.pool)
    async with running(bench.runner(store)):
        await bench.follow()
    assert store.refused > 1
    assert await bench.is_folded()


async def test_large_events_come_in_smaller_batches(bench: Bench) -> None:
    """However many there are: what is read at once is bounded by its bytes. One that is larger comes alone."""
    for size in (10, 3_000, 9_000, 10):
        bench.recorder.task([created(input=raw("x" * size))])
    task_id = bench.recorder.task([created(input=raw("x"))])
    shard = shard_of(task_id, len(bench.epochs))
    for size in (3_000, 3_000, 9_000, 10, 10, 3_000, 10, 3_000):
        bench.recorder.record(task_id, [StepDispatched(step="x" * size, attempt=1)])
    await bench.append()
    for tail in (PostgresTail(bench.pool), MemoryTail(bench.recorder.events)):
        pages = 0
        after = dict.fromkeys(bench.recorder.positions, 0)
        while events := await tail.read_shards(after, limit=4, bytes_max=7_000):
            sizes: dict[int, int] = {}
            for event in events:
                sizes.setdefault(event.shard, 0)
                assert sizes[event.shard] + len(event.payload) <= 7_000 or not sizes[event.shard]
                sizes[event.shard] += len(event.payload)
                assert event.position == after[event.shard] + 1
                after[event.shard] = event.position
            pages += shard in sizes
        assert after == bench.recorder.positions
        assert pages >= 4


async def test_who_stands_by_learns_how_long_batches_take(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took over whenever a batch took longer than its pause, and folded in vain what the other wrote meanwhile."""
    monkeypatch.setattr("tasker.projections.runner.BATCH_EVENTS_MAX", 60)
    long_s = 0.3

    class SlowStore(PostgresRebuildStore):
        async def write(self, moves: list[CheckpointMove], writes: list[RowWrites]) -> None:  # type: ignore[override]
            await asyncio.sleep(long_s)
            await super().write(moves, writes)

    await some_load(bench)
    with structlog.testing.capture_logs() as lines:
        async with running(*(bench.runner(SlowStore(bench.pool)) for _ in range(2))):
            await bench.follow()
    takeovers = [line for line in lines if line["event"] == "projection_takeover"]
    assert len(takeovers) <= 8
    assert await bench.is_folded()


async def test_backends_that_are_killed_cost_a_pause(bench: Bench) -> None:
    other = await asyncpg.connect(bench.dsn)
    async with running(bench.runner()):
        for _ in range(5):
            await some_load(bench)
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name = 'tasker-projections' AND pid <> pg_backend_pid()"
            )
        await bench.follow()
    await other.close()
    assert await bench.is_folded()


async def test_of_two_runners_one_writes_and_the_other_takes_over(bench: Bench) -> None:
    first, second = bench.runner(), bench.runner()
    async with running(second):
        async with running(first):
            for _ in range(10):
                await some_load(bench)
                await bench.follow()
            writes = (first.events, second.events)
        gone = second if first.standing_by else first
        left = first if gone is second else second
        if gone is first:
            before = left.events
            await some_load(bench)
            await bench.follow()
            assert left.events > before
    assert sum(writes) == 10 * 30 * 16
    assert await bench.is_folded()


async def test_a_runner_that_stands_by_takes_over_when_the_other_is_gone(bench: Bench) -> None:
    active, standby = bench.runner(), bench.runner()
    await some_load(bench)
    await active.catch_up()
    async with running(standby):
        await bench.follow()
        standby._standing_by = True
        await some_load(bench)
        await bench.follow()
        assert await bench.is_folded()


async def test_a_runner_that_is_told_that_the_other_ended_takes_over_at_once(bench: Bench) -> None:
    active, standby = bench.runner(), bench.runner(standby_s=3600.0)
    await some_load(bench)
    await active.catch_up()
    standby._standing_by = True
    async with running(standby):
        await some_load(bench)
        standby.take_over()
        await bench.follow()
        assert not standby.standing_by
        assert await bench.is_folded()


async def test_a_runner_that_is_told_so_wrongly_stands_by_again(bench: Bench) -> None:
    active, standby = bench.runner(), bench.runner(standby_s=3600.0)
    standby._standing_by = True
    async with running(active, standby):
        await some_load(bench)
        await bench.follow()
        standby.take_over()
        async with asyncio.timeout(25):
            while standby.standing_by:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
            while standby.standing_by == active.standing_by:
                await some_load(bench)
                await bench.follow()
        assert await bench.is_folded()


async def test_a_wake_up_is_answered_at_once(bench: Bench) -> None:
    runner = bench.runner(poll_s=60.0)
    watch = PositionWatch(bench.store.positions, SystemClock(), poll_s=60.0)
    woken = bench.runner(poll_s=60.0, watch=watch)
    async with running(woken):
        async with asyncio.timeout(25):
            while not woken.positions():  # noqa: ASYNC110 - the runner tells the watch, which the test is about
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        bench.recorder.task([created()])
        await bench.append()
        woken.wake(bench.recorder.positions)
        assert await watch.reach(bench.recorder.positions, timeout_s=2.0)
        woken.wake(bench.recorder.positions)  # nothing new: nothing to do
    assert runner.events == 0


async def test_a_row_is_written_once_for_events_that_gather(bench: Bench) -> None:
    """Under load the runner waits a little; who waits for a position makes it hurry."""
    watch = PositionWatch(bench.store.positions, SystemClock(), poll_s=5.0)
    runner = bench.runner(watch=watch, gather_s_max=5.0)
    runner._rate = 1e6
    async with running(runner):
        await some_load(bench)
        assert await watch.reach(bench.recorder.positions, timeout_s=4.0)
    assert await bench.is_folded()


async def test_without_a_runner_here_the_watch_asks_the_store(bench: Bench) -> None:
    watch = PositionWatch(bench.store.positions, SystemClock(), poll_s=0.01)
    await some_load(bench)
    reaching = [asyncio.create_task(watch.reach(bench.recorder.positions, timeout_s=10.0)) for _ in range(50)]
    assert not await watch.reach(bench.recorder.positions, timeout_s=0.05)
    await bench.runner().catch_up()
    assert all(await asyncio.gather(*reaching))
    assert watch.waiting == 0


async def test_a_view_is_at_its_position_and_no_further(bench: Bench) -> None:
    """What a snapshot shows is the fold of the events up to its checkpoints, at any moment."""
    async with running(bench.runner(gather_s_max=0.0)):
        for number in range(15):
            task_id = bench.recorder.task([created(), StepDispatched(step="a", attempt=1)])
            await bench.append()
            bench.recorder.record(
                task_id, [StepStarted(step="a", attempt=1, worker="w", finish_by_us=number, heartbeat_s=1.0)]
            )
            await bench.append()
            async with bench.store.snapshot() as snapshot:
                for projection in PROJECTIONS:
                    positions = await snapshot.positions(projection)
                    rows = {projection.key_of(row): row async for page in snapshot.rows(projection) for row in page}
                    until = [
                        event for event in bench.recorder.events if event.position <= positions.get(event.shard, 0)
                    ]
                    assert rows == folded(until)[projection.name]
        await bench.follow()
