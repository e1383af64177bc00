"""`verify` on a real database: in one process and in several, and every column of an event changed behind our back."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from tasker.clock import SystemClock
from tasker.errors import ConfigurationError, Unavailable
from tasker.events.postgres_log import PostgresLog
from tasker.projections import postgres_store
from tasker.projections.postgres_store import PostgresRebuildStore, PostgresTail, PostgresViewStore, open_pool
from tasker.projections.rebuild import Rebuilder
from tasker.projections.runner import Runner
from tasker.projections.views import PROJECTIONS
from tasker.replay.findings import Invariant
from tasker.replay.report import VerifyProgress
from tasker.replay.verify import verify
from tests.runs import append_all, linear, linear4_units, put_template

TASKS = 60


@pytest.fixture
async def dsn(database: str) -> str:
    """A database with sixty tasks in sixteen shards and complete views."""
    async with await PostgresLog.connect(database) as log:
        await put_template(log, linear(4))
        await append_all(log, linear4_units(TASKS, open_tasks=20), batch_events=20)
        shards = (await log.info()).shards
    pool = await open_pool(database)
    tail, store = PostgresTail(pool), PostgresViewStore(pool)
    await Runner(tail, store, PROJECTIONS, shards=shards, clock=SystemClock()).catch_up()
    await pool.close()
    return database


@pytest.fixture
async def sql(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.mark.parametrize("workers", [None, 1, 2])
async def test_a_good_log_with_its_views_is_proved(dsn: str, workers: int | None) -> None:
    told: list[VerifyProgress] = []
    report = await verify(dsn, workers=workers, on_progress=told.append)
    assert (report.findings, report.ok) == ([], True)
    assert (report.events, report.tasks, report.shards, report.rows) == (TASKS * 14, TASKS, 16, TASKS * 5)
    assert report.workers == (workers or 1)
    assert told[-1] == VerifyProgress(events=TASKS * 14, of=TASKS * 14)
    assert report.position.startswith("0:")


async def test_what_is_found_is_the_same_whoever_reads_which_shard(dsn: str, sql: asyncpg.Connection) -> None:
    await sql.execute("UPDATE event SET payload = '\\x7b7d' WHERE type = 'step_started'")
    await sql.execute("UPDATE task_v1 SET steps_completed = 3")
    alone, together = await verify(dsn, workers=1), await verify(dsn, workers=3)
    assert (alone.workers, together.workers) == (1, 3)
    assert (alone.findings, alone.findings_total) == (together.findings, together.findings_total)
    assert len({one.shard for one in alone.findings}) == alone.shards


async def test_a_process_that_dies_meanwhile_ends_the_verification(dsn: str) -> None:
    def kill(_: VerifyProgress) -> None:
        for child in psutil.Process().children():
            if "tasker.replay.process" in child.cmdline():
                child.kill()

    with pytest.raises(Unavailable, match=r"the process that verifies shard \d+ ended with code -9"):
        await verify(dsn, workers=2, on_progress=kill)


async def test_chosen_shards_are_verified_alone(dsn: str) -> None:
    report = await verify(dsn, shards=[3, 5])
    assert (report.shards, report.ok) == (2, True)
    assert [part.partition(":")[0] for part in report.position.split(",")] == ["3", "5"]


CHANGES = {
    "epoch": "epoch + 1",
    "at_us": "at_us + 1",
    "stream_id": "overlay(stream_id::text placing 'ffff' from 1 for 4)::uuid",
    "seq": "seq + 64",
    "version": "version + 1",
    "kind": "'tasl'",
    "type": "'step_ctarted'",
    "tenant": "'defaulu'",
    "encoding": "'jsom'",
    "meta": "'\\x7b7c'::bytea",
    "payload": "set_byte(payload, 5, get_byte(payload, 5) # 1)",
    "position": "position + 1000000",
    "shard": "shard + 100",
}


@pytest.mark.parametrize(("column", "workers"), [*((column, 1) for column in CHANGES), ("payload", 2)])
async def test_a_change_behind_our_back_names_the_batch(
    dsn: str, sql: asyncpg.Connection, column: str, workers: int
) -> None:
    """F38: shard, first and last position."""
    (shard, position), *_ = await sql.fetch(
        "SELECT shard, position FROM event WHERE type = 'step_started' AND chain IS NULL"
    )
    first = await sql.fetchval(
        "SELECT coalesce(max(position), 0) + 1 FROM event WHERE shard = $1 AND position < $2 AND chain IS NOT NULL",
        shard,
        position,
    )
    last = await sql.fetchval(
        "SELECT min(position) FROM event WHERE shard = $1 AND position >= $2 AND chain IS NOT NULL", shard, position
    )
    change = f"UPDATE event SET {column} = {CHANGES[column]} WHERE shard = $1 AND position = $2"  # noqa: S608
    assert await sql.execute(change, shard, position) == "UPDATE 1"
    report = await verify(dsn, workers=workers)
    batches = {(one.shard, one.position, one.last_position) for one in report.findings if one.last_position is not None}
    assert (shard, first, last) in batches
    assert batches == {(shard, first, last)} or column == "position"


@pytest.mark.parametrize("how", ["changed", "wiped out"])
async def test_a_digest_changed_behind_our_back_names_the_batch(dsn: str, sql: asyncpg.Connection, how: str) -> None:
    (shard, position), *_ = await sql.fetch(
        "SELECT shard, max(position) FROM event GROUP BY shard ORDER BY 2 DESC LIMIT 1"
    )
    value = "set_byte(chain, 0, get_byte(chain, 0) # 1)" if how == "changed" else "NULL"
    await sql.execute(f"UPDATE event SET chain = {value} WHERE shard = $1 AND position = $2", shard, position)  # noqa: S608
    report = await verify(dsn)
    assert [(one.invariant, one.shard, one.last_position) for one in report.findings] == [
        (Invariant.COMPLETE, shard, position)
    ]


async def test_lost_events_are_found(dsn: str, sql: asyncpg.Connection) -> None:
    await sql.execute("DELETE FROM event WHERE shard = 2 AND position BETWEEN 5 AND 9")
    report = await verify(dsn)
    assert {(one.invariant, one.shard) for one in report.findings} >= {(Invariant.COMPLETE, 2)}
    assert {one.shard for one in report.findings} == {2}


async def test_rows_that_are_not_the_logs_are_found(dsn: str, sql: asyncpg.Connection) -> None:
    await sql.execute("UPDATE task_v1 SET retries = 7 WHERE ctid = (SELECT min(ctid) FROM task_v1)")
    await sql.execute("DELETE FROM step_v1 WHERE ctid = (SELECT min(ctid) FROM step_v1)")
    report = await verify(dsn, workers=2)
    assert [one.invariant for one in report.findings] == [Invariant.PROJECTED] * 2
    assert report.findings_total == 2


async def test_a_wrong_index_of_streams_is_found(dsn: str, sql: asyncpg.Connection) -> None:
    await sql.execute("UPDATE stream SET first_position = first_position + 1 WHERE shard = 4")
    report = await verify(dsn)
    assert report.findings
    assert {(one.invariant, one.shard) for one in report.findings} == {(Invariant.COMPLETE, 4)}


async def test_the_views_stay_at_their_moment_however_long_nobody_asks(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long stretch of the log has nothing to compare, and a process that is done waits for the others."""
    monkeypatch.setitem(postgres_store._SERVER_SETTINGS, "idle_in_transaction_session_timeout", "50ms")
    pool = await open_pool(dsn, size=1)
    async with PostgresViewStore(pool).snapshot() as snapshot:
        before = await snapshot.counts(PROJECTIONS[0])
        await asyncio.sleep(0.3)
        assert await snapshot.counts(PROJECTIONS[0]) == before
    await pool.close()


async def test_rows_of_a_large_view_may_take_long_to_count(
    dsn: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres_store._SERVER_SETTINGS, "statement_timeout", "50ms")
    pool = await open_pool(dsn, size=1)
    async with PostgresViewStore(pool).snapshot() as snapshot:
        async with sql.transaction():
            await sql.execute("LOCK TABLE task_v1")
            counting = asyncio.create_task(snapshot.counts(PROJECTIONS[0]))
            await asyncio.sleep(0.3)
        assert sum((await counting).values()) == TASKS
    await pool.close()


async def test_a_user_who_may_only_read_can_verify(dsn: str, sql: asyncpg.Connection) -> None:
    name = f"reader_{secrets.token_hex(4)}"
    await sql.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    report = await verify(parts._replace(netloc=f"{name}:p@{host}").geturl(), workers=2)
    assert (report.ok, report.events) == (True, TASKS * 14)
    await sql.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_a_view_that_is_rebuilt_meanwhile_is_compared_as_it_was(dsn: str) -> None:
    pool = await open_pool(dsn)
    store = PostgresRebuildStore(pool)
    async with store.snapshot() as snapshot:
        step = next(one for one in PROJECTIONS if one.name == "step")
        before = await snapshot.counts(step), await snapshot.positions(step)
        rebuilt = await Rebuilder(PostgresTail(pool), store, PROJECTIONS, shards=16).rebuild("step")
        assert rebuilt.version == 2
        assert (await snapshot.counts(step), await snapshot.positions(step)) == before
    assert (await verify(dsn)).ok
    assert (await Rebuilder(PostgresTail(pool), store, PROJECTIONS, shards=16).rebuild("step")).version == 3
    await pool.close()


async def test_a_part_of_the_database_that_is_of_another_time_is_found(dsn: str, sql: asyncpg.Connection) -> None:
    await sql.execute(
        "UPDATE due_checkpoint SET position = 10000 WHERE shard = 1; DELETE FROM shard_head WHERE shard = 2"
    )
    report = await verify(dsn)
    assert [(one.shard, one.invariant) for one in report.findings] == [(1, Invariant.COMPLETE), (2, Invariant.EPOCHS)]


async def test_a_database_that_is_not_there_is_unavailable(database: str) -> None:
    with pytest.raises((Unavailable, ConfigurationError)):
        await verify(database + "_gone")
