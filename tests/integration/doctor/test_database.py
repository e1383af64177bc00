"""What is wrong with PostgreSQL: each caused for real."""

import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest

from tasker.clock import SystemClock
from tasker.doctor.finding import Finding
from tasker.doctor.postgres_checks import LOOKED_AFTER, examine_database, version_findings
from tasker.events.envelope import US_PER_S
from tasker.events.postgres_log import PostgresLog
from tasker.projections.views import PROJECTIONS
from tasker.service.domain.limits.concurrency import LOOK
from tasker.service.domain.obligations import Kind
from tasker.service.domain.schedules.obligations import GO_ON, START
from tasker.settings import DatabaseSettings, DoctorSettings, Settings
from tasker.testing.postgres_databases import database_url
from tests.contracts.event_logs import Owner, stream
from tests.contracts.postgres_proxy import proxied
from tests.servers import SharedCluster

USUAL = {"fsync_off", "full_page_writes_off", "shards_unowned"}
"""The shared cluster skips the first two, and no service runs on a test's own database."""


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


class Ahead(SystemClock):
    """A machine whose clock is wrong."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now_us(self) -> int:
        return super().now_us() + round(self._seconds * 1_000_000)


async def findings(dsn: str | None, *, clock: SystemClock | None = None, **bounds: object) -> list[Finding]:
    settings = Settings(database=DatabaseSettings(url=dsn), doctor=DoctorSettings(**bounds))  # type: ignore[arg-type]
    return [one for one in await examine_database(settings, clock or SystemClock()) if one.code not in USUAL]


async def the_finding(dsn: str | None, **more: object) -> Finding:
    [found] = await findings(dsn, **more)  # type: ignore[arg-type]
    return found


async def test_nobody_holds_the_shards_of_a_service_that_is_down(database: str) -> None:
    found = await examine_database(Settings(database=DatabaseSettings(url=database)), SystemClock())
    [unowned] = [one for one in found if one.code == "shards_unowned"]
    assert "all 16 shards" in unowned.detail
    assert "tasker serve" in unowned.remedy
    async with await PostgresLog.connect(database) as log:
        await Owner(log).take(*range(15))
        found = await examine_database(Settings(database=DatabaseSettings(url=database)), SystemClock())
    assert ["shard 15" in one.detail for one in found if one.code == "shards_unowned"] == [True]


async def test_no_database_is_named() -> None:
    assert (await the_finding(None)).code == "database_unset"


@pytest.mark.parametrize("change", ["name", "socket"])
async def test_a_database_that_cannot_be_reached(database: str, change: str) -> None:
    parts = urlsplit(database)
    wrong = parts._replace(path="/nowhere") if change == "name" else parts._replace(query="host=/nowhere")
    found = await the_finding(wrong.geturl())
    assert found.code == "database_unreachable"
    assert "TASKER_DATABASE_URL" in found.remedy


async def test_a_password_is_not_told(unused_tcp_port: int) -> None:
    found = await the_finding(f"postgresql://u:secret@127.0.0.1:{unused_tcp_port}/d")
    assert found.code == "database_unreachable"
    assert "secret" not in found.detail


@pytest.mark.parametrize(("version", "wrong"), [(150_012, True), (160_000, False), (180_001, False)])
def test_an_old_server(version: int, wrong: bool) -> None:  # noqa: FBT001 - a case of the table
    assert [one.code for one in version_findings(version, "x")] == ["database_version"] * wrong


async def test_an_encoding_that_cannot_hold_the_log(cluster: SharedCluster, connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        found = await findings(database_url(cluster.addresses().database_url, "latin"))
    finally:
        await connection.execute("DROP DATABASE latin WITH (FORCE)")
    assert [one.code for one in found] == ["database_encoding", "schema"]
    assert "LATIN1" in found[0].detail
    assert found[1].remedy == "run `tasker migrate`"


async def test_a_schema_of_a_later_build(database: str, connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE schema_info SET version = 99, compatible_from = 98")
    found = await the_finding(database)
    assert (found.code, found.remedy) == ("schema", "install a newer tasker-service")


async def test_a_schema_of_an_earlier_build(database: str, connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE schema_info SET version = 1")
    found = await the_finding(database)
    assert (found.code, found.remedy) == ("schema", "run `tasker migrate`")


async def test_a_database_that_takes_no_writes(database: str, connection: asyncpg.Connection) -> None:
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    found = await the_finding(database)
    assert found.code == "database_read_only"
    assert name in found.remedy


async def test_a_pool_in_transaction_mode(database: str) -> None:
    async with proxied(database) as (wire, dsn):
        assert await findings(dsn) == []
        wire.transaction_pool = True
        found = await the_finding(dsn)
    assert found.code == "database_pooler"
    assert "a pool in session mode" in found.remedy


async def test_fewer_connections_than_the_service_needs(database: str) -> None:
    """The shared server allows 100."""
    settings = Settings(database=DatabaseSettings(url=database, query_connections=150))
    found = {one.code: one for one in await examine_database(settings, SystemClock())}
    assert set(found) - USUAL == {"connections_few"}
    needed = settings.database.connections()
    assert f"needs {needed} connections" in found["connections_few"].detail
    assert "max_connections" in found["connections_few"].remedy


async def test_a_user_who_may_do_too_little(database: str, connection: asyncpg.Connection) -> None:
    name = await connection.fetchval("SELECT current_database()")
    role = f"{name}_user"
    await connection.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 5")
    theirs = urlsplit(database)._replace(netloc=f"{role}@").geturl()
    try:
        found = {one.code: one for one in await findings(theirs)}
        assert set(found) == {"connection_limit", "privileges"}
        assert "SELECT on schema_info" in found["privileges"].detail
        await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        await connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")
        await connection.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 5")
        found = {one.code: one for one in await findings(theirs)}
        assert set(found) == {"connection_limit", "privileges"}
        assert "INSERT on event" in found["privileges"].detail
        assert "ALTER DATABASE" in found["connection_limit"].remedy
        await connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        await connection.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
        assert await findings(theirs) == []
    finally:
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_no_free_partition_ahead(database: str, connection: asyncpg.Connection) -> None:
    await connection.execute("ALTER TABLE event DETACH PARTITION event_2")
    assert await findings(database) == []
    await connection.execute("ALTER TABLE event DETACH PARTITION event_1")
    await connection.execute("ALTER TABLE event DETACH PARTITION event_0")
    found = await the_finding(database)
    assert found.code == "partitions"
    assert "ends at 0" in found.detail


@pytest.mark.parametrize("seconds", [5.0, -5.0])
async def test_a_clock_that_is_wrong(database: str, seconds: float) -> None:
    found = await the_finding(database, clock=Ahead(seconds))
    assert found.code == "clock_skew"
    assert f"is 5.0 s {'ahead of' if seconds > 0 else 'behind'} PostgreSQL's" in found.detail
    assert await findings(database, clock=Ahead(seconds), clock_skew_s_max=6.0) == []


async def test_what_lags_behind_the_log(database: str, connection: asyncpg.Connection) -> None:
    async with await PostgresLog.connect(database) as log:
        owner = await Owner(log).take(*range(16))
        await owner.write(3, stream(5, at_us=SystemClock().now_us() - 20 * US_PER_S))
    assert await findings(database) == []
    old = await the_finding(database, overdue_s_max=10.0)
    assert old.code == "publisher_behind", "few, and old: as when the store of NATS takes nothing"
    assert re.search(r"up to 5 events and \d\d s behind in shard 3", old.detail)
    found = await findings(database, lag_events_max=4)
    assert [one.code for one in found] == ["publisher_behind", *["projection_behind"] * len(PROJECTIONS)]
    assert "up to 5 events and " in found[0].detail
    assert {one.detail.split()[2] for one in found[1:]} == {view.name for view in PROJECTIONS}
    await connection.execute("UPDATE publish_cursor SET position = 5 WHERE shard = 3")
    await connection.execute("UPDATE checkpoint SET position = 5 WHERE shard = 3 AND projection <> 'step'")
    await connection.execute(
        "INSERT INTO checkpoint SELECT name, version, 3, 5 FROM projection WHERE name <> 'step' ON CONFLICT DO NOTHING"
    )
    found = await findings(database, lag_events_max=4, overdue_s_max=10.0)
    assert [one.detail.split()[2] for one in found] == ["step"]


async def test_a_due_row_that_nobody_does(database: str, connection: asyncpg.Connection) -> None:
    due = (
        "INSERT INTO due SELECT 2, gen_random_uuid(), $1, (extract(epoch FROM now() - interval '1 min') * 1e6)::bigint"
    )
    for name in LOOKED_AFTER:
        await connection.execute(due, f"{name}:step:1")
    assert await findings(database) == [], "a step that beats, or waits for a worker, a child or its place, is in order"
    await connection.execute(due, "retry:step:2")
    found = await the_finding(database)
    assert found.code == "due_overdue"
    assert await findings(database, overdue_s_max=600.0) == []


def test_what_is_looked_after_is_what_may_be_owed() -> None:
    assert set(LOOKED_AFTER) <= {*Kind, LOOK, START, GO_ON}


def test_a_finding_is_of_the_catalogue() -> None:
    with pytest.raises(AssertionError):
        Finding(code="unheard_of", detail="", remedy="")
    assert msgspec.json.decode(msgspec.json.encode(Finding(code="schema", detail="d", remedy="r"))) == {
        "code": "schema",
        "detail": "d",
        "remedy": "r",
    }
