"""What only a real server shows: locks, lost answers, killed backends, partitions, sessions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tasker.errors import ConfigurationError, Unavailable
from tasker.events import postgres_log
from tasker.events.envelope import NewEvent
from tasker.events.log import AppendOutcome, ShardAppend
from tasker.events.postgres_log import PostgresLog
from tasker.events.postgres_renewal import renew_log
from tests.contracts.event_logs import (
    ENDED_S,
    LEASE_S,
    PARTITION_SIZE,
    SHARDS,
    Owner,
    new_event,
    part_of,
    small_schema,
    stream,
)
from tests.contracts.postgres_proxy import PostgresProxy, proxied

APPENDED, FENCED, REFUSED, UNKNOWN = (
    AppendOutcome.APPENDED,
    AppendOutcome.FENCED,
    AppendOutcome.REFUSED,
    AppendOutcome.UNKNOWN,
)
WAITERS = """
SELECT pid, query FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'tasker' AND wait_event_type = 'Lock'
"""

OURS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tasker'"
SCANNED = """
SELECT sum(seq_scan) FROM pg_stat_user_tables
WHERE schemaname = 'small' AND relname ~ '^(event_|stream$|due$)'
"""


@pytest.fixture
async def small(database: str) -> str:
    return await small_schema(database)


@pytest.fixture
async def log(small: str) -> AsyncIterator[PostgresLog]:
    async with await PostgresLog.connect(small) as found:
        yield found


@pytest.fixture
async def owner(log: PostgresLog) -> Owner:
    return await Owner(log).take(*range(SHARDS))


@pytest.fixture
async def other(small: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else."""
    connection = await asyncpg.connect(small)
    yield connection
    await connection.close()


@asynccontextmanager
async def append_held(other: asyncpg.Connection, log: PostgresLog, part: ShardAppend) -> AsyncIterator[asyncio.Task]:
    """Have an append in flight that holds its head: another transaction is about to bear its stream."""
    born = part.events[0].stream_id
    async with other.transaction():
        await other.execute("INSERT INTO stream VALUES ($1, 1, 1, $2, 'task')", born, part.shard)
        append = asyncio.create_task(log.append([part]))
        await lock_waiters(other, 1)
        yield append
        await other.execute("DELETE FROM stream WHERE stream_id = $1", born)


async def lock_waiters(other: asyncpg.Connection, count: int) -> list[int]:
    """Return the backends of ours that wait for a lock, once they are `count`."""
    while True:
        rows = await other.fetch("SELECT pg_stat_clear_snapshot()") and await other.fetch(WAITERS)
        if len(rows) == count:
            return [row["pid"] for row in rows]


class TestStatements:
    @pytest.mark.parametrize(
        ("events", "statements"),
        [
            (stream(3), {postgres_log._APPEND_TURN}),
            (stream(4), {postgres_log._APPEND}),
            ([*stream(1), *stream(1)], {postgres_log._APPEND}),
        ],
        ids=["one turn", "two turns", "two streams"],
    )
    async def test_a_turn_alone_has_a_statement_of_its_own(
        self, log: PostgresLog, owner: Owner, events: list[NewEvent], statements: set[str]
    ) -> None:
        assert await owner.write(0, events) is APPENDED
        assert set(log._committers[log.committer_of(0)]._statements) == statements

    async def test_both_statements_have_the_same_fence(self) -> None:
        for statement in (postgres_log._APPEND, postgres_log._APPEND_TURN):
            assert postgres_log._sql["fence"] in statement


class TestTakeover:
    async def test_a_takeover_waits_for_an_append_in_flight(
        self, log: PostgresLog, small: str, other: asyncpg.Connection
    ) -> None:
        """The new owner reads its head behind the last event of the old one."""
        old = await Owner(log, "old").take(0, lease_s=ENDED_S)
        async with await PostgresLog.connect(small) as second:
            async with append_held(other, log, old.part(0, stream(1))) as append:
                taking = asyncio.create_task(Owner(second, "new").take(0))
                await lock_waiters(other, 2)
                assert not taking.done()
            assert await append == {0: APPENDED}
            new = await taking
            assert new.heads[0][0] == 1
            assert await old.write(0, stream(1)) is FENCED
            assert await new.write(0, stream(1)) is APPENDED

    async def test_a_turn_behind_a_takeover_is_fenced(
        self, log: PostgresLog, owner: Owner, other: asyncpg.Connection
    ) -> None:
        """As below, by the statement for a turn that is written by itself."""
        async with other.transaction():
            await other.execute("UPDATE shard_head SET epoch = epoch + 1, owner = 'new' WHERE shard = 0")
            append = asyncio.create_task(owner.write(0, stream(2)))
            await lock_waiters(other, 1)
        assert await append is FENCED
        assert await log.read(0, after=0, limit=10) == []

    async def test_an_append_behind_a_takeover_is_fenced(
        self, log: PostgresLog, owner: Owner, other: asyncpg.Connection
    ) -> None:
        """It read the head while the takeover had not committed: it waits, and then sees the new epoch."""
        async with other.transaction():
            await other.execute("UPDATE shard_head SET epoch = epoch + 1, owner = 'new' WHERE shard = 0")
            append = asyncio.create_task(owner.append(owner.part(0, stream(1)), owner.part(2, stream(1))))
            await lock_waiters(other, 1)
        assert await append == {0: FENCED, 2: APPENDED}
        assert await log.read(0, after=0, limit=10) == []

    async def test_renewals_and_appends_of_many_shards_do_not_lock_each_other_out(
        self, log: PostgresLog, owner: Owner
    ) -> None:
        async def write(shards: list[int]) -> None:
            for _ in range(30):
                outcomes = await owner.append(*(owner.part(shard, stream(1)) for shard in shards))
                assert set(outcomes.values()) == {APPENDED}

        async def renew() -> None:
            for _ in range(30):
                assert len((await log.renew(owner.name, LEASE_S)).epochs) == SHARDS

        await asyncio.gather(write([2, 0]), write([3, 1]), renew())


class TestRenewal:
    """A process that knows the log by its old id takes nothing any more: its events would have ids of the lost time."""

    async def test_who_knows_the_log_by_its_old_id_takes_nothing(
        self, log: PostgresLog, small: str, other: asyncpg.Connection
    ) -> None:
        renewed = await renew_log(small)
        with pytest.raises(ConfigurationError, match=f"has the id {renewed.log_id} now.*knows it as {renewed.before}"):
            await log.acquire("a", [0, 1], LEASE_S)
        assert await other.fetchval("SELECT count(*) FROM shard_head WHERE owner IS NOT NULL OR epoch > 0") == 0
        async with await PostgresLog.connect(small) as second:
            assert (await second.acquire("b", [0, 1], LEASE_S)).epochs == {0: 1, 1: 1}

    async def test_who_wakes_up_behind_its_lease_is_told_by_its_renewal(self, log: PostgresLog, small: str) -> None:
        await log.acquire("a", [0], ENDED_S)
        await renew_log(small)
        with pytest.raises(ConfigurationError, match="log renew"):
            await log.renew("a", LEASE_S)

    async def test_who_takes_shards_while_the_log_is_renewed_waits_for_the_new_id(
        self, log: PostgresLog, other: asyncpg.Connection
    ) -> None:
        async with other.transaction():
            await other.execute("UPDATE log SET log_id = 'renewed'")
            taking = asyncio.create_task(log.acquire("a", [0], LEASE_S))
            await lock_waiters(other, 1)
        with pytest.raises(ConfigurationError, match="has the id renewed now"):
            await taking
        assert await other.fetchval("SELECT owner FROM shard_head WHERE shard = 0") is None

    async def test_a_renewal_waits_for_who_is_just_taking_shards(
        self, log: PostgresLog, small: str, other: asyncpg.Connection
    ) -> None:
        async with other.transaction():
            await other.execute("SELECT FROM shard_head WHERE shard = 0 FOR UPDATE")
            taking = asyncio.create_task(log.acquire("a", [0], LEASE_S))
            await lock_waiters(other, 1)
            renewing = asyncio.create_task(renew_log(small))
            await asyncio.sleep(0.1)
        assert (await taking).epochs == {0: 1}
        with pytest.raises(ConfigurationError, match="a service owns this log until"):
            await renewing


class TestOutcomeUnknown:
    @pytest.fixture
    async def proxy(self, small: str) -> AsyncIterator[tuple[PostgresProxy, PostgresLog, Owner]]:
        async with proxied(small) as (proxy, dsn), await PostgresLog.connect(dsn) as log:
            owner = await Owner(log).take(*range(SHARDS))
            # Every statement is prepared once before faults begin.
            assert await owner.append(owner.part(0, stream(1)), owner.part(2, stream(1))) == {0: APPENDED, 2: APPENDED}
            yield proxy, log, owner

    async def test_an_answer_lost_after_the_commit(self, proxy: tuple[PostgresProxy, PostgresLog, Owner]) -> None:
        """Every shard of the statement is unknown; settling finds each committed, and the owner goes on."""
        wire, log, owner = proxy
        parts = [owner.part(0, stream(2)), owner.part(2, stream(1))]
        lost = wire.lose_answer()
        assert await log.append(parts) == {0: UNKNOWN, 2: UNKNOWN}
        assert lost.is_set()
        for part in parts:
            assert await log.settle(owner.name, part) == (APPENDED, owner.epochs[part.shard])
            owner.heads[part.shard] = (part.position + len(part.events), part.digest)
            assert await owner.write(part.shard, stream(1)) is APPENDED

    async def test_a_request_that_arrives_after_settling_changes_nothing(
        self, proxy: tuple[PostgresProxy, PostgresLog, Owner]
    ) -> None:
        """The stray copy meets the raised epoch; the same events are there once, from the second try."""
        wire, log, owner = proxy
        events = stream(2)
        part = owner.part(0, events)
        held = wire.hold_request()
        assert await log.append([part]) == {0: UNKNOWN}
        await held.wait()
        outcome, epoch = await log.settle(owner.name, part)
        assert (outcome, epoch) == (REFUSED, part.epoch + 1)
        owner.epochs[0] = epoch
        assert await owner.write(0, events) is APPENDED
        await wire.release_request()
        assert [event.epoch for event in await log.read(0, after=0, limit=10)] == [epoch - 1, epoch, epoch]

    async def test_a_request_that_arrives_before_settling_is_found(
        self, proxy: tuple[PostgresProxy, PostgresLog, Owner]
    ) -> None:
        wire, log, owner = proxy
        part = owner.part(0, stream(2))
        held = wire.hold_request()
        assert await log.append([part]) == {0: UNKNOWN}
        await held.wait()
        await wire.release_request()
        assert await log.settle(owner.name, part) == (APPENDED, owner.epochs[0])

    async def test_a_killed_backend(self, log: PostgresLog, owner: Owner, other: asyncpg.Connection) -> None:
        """Its append is gone; the same events go in on a new connection under the raised epoch."""
        events = stream(1)
        part = owner.part(0, events)
        async with append_held(other, log, part) as append:
            [pid] = await lock_waiters(other, 1)
            await other.execute("SELECT pg_terminate_backend($1)", pid)
            assert await append == {0: UNKNOWN}
        assert await log.settle(owner.name, part) == (REFUSED, part.epoch + 1)
        owner.epochs[0] += 1
        assert await owner.write(0, events) is APPENDED

    async def test_settling_waits_for_a_copy_that_still_runs(
        self, small: str, other: asyncpg.Connection, owner: Owner, log: PostgresLog
    ) -> None:
        """The owner lost sight of its statement, which commits while settling waits for the head."""
        part = owner.part(0, stream(1))
        async with await PostgresLog.connect(small) as second:
            async with append_held(other, log, part) as append:
                settling = asyncio.create_task(second.settle(owner.name, part))
                await lock_waiters(other, 2)
                assert not settling.done()
            assert await append == {0: APPENDED}
            assert await settling == (APPENDED, part.epoch)

    async def test_a_statement_that_takes_too_long(self, small: str, other: asyncpg.Connection) -> None:
        """It is unknown, for the client may have given up first; settling cannot tell before the way is free."""
        async with await PostgresLog.connect(small, statement_timeout_s=0.3) as log:
            owner = await Owner(log).take(*range(SHARDS))
            part = owner.part(0, stream(1))
            async with other.transaction():
                await other.execute("SELECT FROM shard_head WHERE shard = 0 FOR UPDATE")
                assert await log.append([part]) == {0: UNKNOWN}
                with pytest.raises(Unavailable):
                    await log.settle(owner.name, part)
            assert await log.settle(owner.name, part) == (REFUSED, part.epoch + 1)

    async def test_a_lost_server_is_an_outcome_and_comes_back(self, small: str) -> None:
        """Nothing raises out of `append`; other calls are `Unavailable`; all go on when the server is there again."""
        async with proxied(small) as (wire, dsn), await PostgresLog.connect(dsn) as log:
            owner = await Owner(log).take(0)
            part = owner.part(0, stream(1))
            upstream, wire._upstream = wire._upstream, "/nowhere"
            await wire.door.close()
            assert await log.append([part]) == {0: UNKNOWN}
            with pytest.raises(Unavailable):
                await log.confirm(owner.ends)
            wire._upstream = upstream
            outcome, epoch = await until_available(lambda: log.settle(owner.name, part))
            assert (outcome, epoch) == (REFUSED, part.epoch + 1)


async def until_available(call: Callable[[], Awaitable]) -> tuple:
    while True:
        try:
            return await call()
        except Unavailable:
            await asyncio.sleep(0)


class TestPartitions:
    async def test_partitions_are_attached_ahead(self, log: PostgresLog, owner: Owner) -> None:
        assert await log.ensure_partitions() == 0
        assert await log.ensure_partitions(3) == 1
        assert await log.ensure_partitions(3) == 0
        for _ in range(2):
            assert await owner.write(0, stream(PARTITION_SIZE)) is APPENDED
        assert await log.ensure_partitions(3) == 1
        assert await owner.write(0, stream(1)) is APPENDED
        assert await log.ensure_partitions(3) == 1

    async def test_two_processes_attach_each_partition_once(self, log: PostgresLog, small: str) -> None:
        async with await PostgresLog.connect(small) as second:
            made = await asyncio.gather(log.ensure_partitions(9), second.ensure_partitions(9))
        assert sum(made) == 7

    async def test_attaching_waits_for_no_append_and_holds_none_up(
        self, log: PostgresLog, owner: Owner, other: asyncpg.Connection
    ) -> None:
        await owner.write(1, stream(1))
        async with append_held(other, log, owner.part(0, stream(1))) as append:
            assert await log.ensure_partitions(4) == 2
            assert await owner.write(1, stream(1)) is APPENDED
        assert await append == {0: APPENDED}

    async def test_a_missing_partition_is_attached_by_the_append(self, log: PostgresLog, owner: Owner) -> None:
        for _ in range(6):
            assert await owner.write(0, stream(PARTITION_SIZE)) is APPENDED


class TestPlans:
    async def test_a_connection_from_the_first_hour_still_uses_the_keys(
        self, log: PostgresLog, owner: Owner, other: asyncpg.Connection
    ) -> None:
        """Reads whose plans were made on empty tables do not scan when there is something to scan."""
        before = await other.fetchval(SCANNED)
        ids = [event.stream_id for event in stream(1)]
        for _ in range(7):
            await log.load(ids)
            await log.load_histories(ids)
            await log.load_stream(ids[0], after_seq=0, limit=5)
            await log.read(0, after=0, limit=5)
            await log.streams(ids)
            await log.heads([0])
        for _ in range(4):
            await owner.write(0, stream(PARTITION_SIZE // 2))
        await log.load(ids)
        await log.load_histories(ids)
        await log.read(0, after=0, limit=5)
        await log.heads([0])
        await log.close()
        while await other.fetchval(OURS):
            pass
        assert await other.fetchval(SCANNED) == before
        assert await other.fetchval("SELECT idx_scan FROM pg_stat_user_tables WHERE relid = 'event_0'::regclass") > 0


class TestSessions:
    async def test_a_connection_that_is_made_while_the_log_closes_is_given_back(
        self, small: str, other: asyncpg.Connection
    ) -> None:
        log = await PostgresLog.connect(small)
        assert log._control.connection is not None
        log._control.connection.terminate()
        asked = asyncio.create_task(log.heads([0]))
        await asyncio.sleep(0)
        await log.close()
        with pytest.raises(Unavailable, match="closed"):
            await asked
        while await other.fetchval(OURS):
            pass

    async def test_a_pool_that_changes_backends_is_refused(self, small: str) -> None:
        async with proxied(small) as (wire, dsn):
            wire.transaction_pool = True
            with pytest.raises(ConfigurationError, match="PgBouncer"):
                await PostgresLog.connect(dsn)

    async def test_commits_wait_for_the_disk_where_the_database_says_otherwise(
        self, small: str, other: asyncpg.Connection
    ) -> None:
        name = await other.fetchval("SELECT current_database()")
        await other.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        async with await PostgresLog.connect(small) as log:
            owner = await Owner(log).take(*range(SHARDS))
            assert await owner.append(owner.part(0, stream(1)), owner.part(2, stream(1)))
            for lane in (*log._committers, log._control):
                assert lane.connection is not None
                assert await lane.connection.fetchval("SHOW synchronous_commit") == "on"

    async def test_a_log_without_one_of_its_slots_is_refused(self, small: str, other: asyncpg.Connection) -> None:
        await other.execute("DELETE FROM slot WHERE slot = 5")
        with pytest.raises(ConfigurationError, match="the table `slot` has 1023 rows, and the log 1024 slots"):
            await PostgresLog.connect(small)

    async def test_closing_twice_and_using_it_then(self, small: str) -> None:
        log = await PostgresLog.connect(small)
        await log.close()
        await log.close()
        with pytest.raises(Unavailable):
            await log.streams([])
        part = part_of(stream(1), shard=0, epoch=1)
        assert await log.append([part]) == {0: UNKNOWN}

    async def test_people_read_events_through_a_view(
        self, log: PostgresLog, owner: Owner, other: asyncpg.Connection
    ) -> None:
        [event] = stream(1)
        await owner.write(0, [event, new_event(event.stream_id, 2, encoding="zstd", payload=b"\xff")])
        rows = await other.fetch("SELECT at, meta, payload, pg_typeof(payload)::text AS type FROM event_readable")
        assert [row["payload"] for row in rows] == ['{"seq":1}', None]
        assert {row["type"] for row in rows} == {"json"}
        assert {row["at"].year for row in rows} == {2026}
        assert rows[0]["at"].microsecond == event.at_us % 1_000_000
