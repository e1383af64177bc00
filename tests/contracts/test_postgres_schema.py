"""Migrations on a real database: each once, whole or not at all, and who fits what."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from tasker.cli.serve import migrate_database
from tasker.errors import AuthenticationFailed, ConfigurationError, SchemaMismatch, Unavailable
from tasker.events import postgres_schema
from tasker.events.postgres_log import PostgresLog, check_schema, migrate
from tasker.events.postgres_schema import Migration, migrations
from tasker.settings import LogSettings


@pytest.fixture
async def empty(database: str) -> str:
    """The DSN of an empty schema."""
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE SCHEMA empty")
    await connection.close()
    parts = urlsplit(database)
    return parts._replace(query=f"{parts.query}&search_path=empty").geturl()


@pytest.fixture
async def connection(empty: str) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(empty)
    yield found
    await found.close()


@pytest.fixture
def add_migration(monkeypatch: pytest.MonkeyPatch):
    def add(sql: str, compatible_from: int | None = None) -> int:
        known = postgres_schema.migrations()
        added = Migration(version=len(known) + 1, name="added", sql=sql, compatible_from=compatible_from)
        monkeypatch.setattr(postgres_schema, "migrations", lambda: (*known, added))
        return added.version

    return add


async def version(connection: asyncpg.Connection) -> tuple[int, int]:
    [row] = await connection.fetch("SELECT version, compatible_from FROM schema_info")
    return row["version"], row["compatible_from"]


async def test_each_migration_is_applied_once(empty: str) -> None:
    assert await migrate(empty) == [migration.name for migration in migrations()]
    assert await migrate(empty) == []


async def test_a_new_log_has_the_shape_that_the_settings_say(empty: str, connection: asyncpg.Connection) -> None:
    """And keeps it, whatever they say later."""
    for shards in (3, 5):
        await asyncio.to_thread(migrate_database, empty, LogSettings(shards=shards, partition_size=200_000))
        async with await PostgresLog.connect(empty) as log:
            assert (await log.info()).shards == 3
            assert log.partition_end(1) == 200_000


async def test_two_processes_at_once_take_turns(empty: str) -> None:
    applied = await asyncio.gather(*(migrate(empty) for _ in range(4)))
    assert sorted(name for names in applied for name in names) == [migration.name for migration in migrations()]


async def test_a_migration_that_fails_leaves_nothing(empty: str, connection: asyncpg.Connection, add_migration) -> None:
    await migrate(empty)
    before = await version(connection)
    add_migration("CREATE TABLE half (); SELECT 1 / 0")
    with pytest.raises(ConfigurationError, match="division by zero"):
        await migrate(empty)
    assert await version(connection) == before
    assert await connection.fetchval("SELECT to_regclass('half')") is None


async def test_a_migration_killed_half_way_is_done_again(
    empty: str, connection: asyncpg.Connection, add_migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(postgres_schema, "migrations", migrations)
        add_migration("CREATE TABLE half (); SELECT pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(Unavailable):
            await migrate(empty)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    monkeypatch.setattr(postgres_schema, "migrations", migrations)
    added = add_migration("CREATE TABLE half ()")
    assert await migrate(empty) == ["added"]
    assert (await version(connection))[0] == added


async def test_a_database_without_schema_names_the_command(empty: str, connection: asyncpg.Connection) -> None:
    with pytest.raises(SchemaMismatch, match="run `tasker migrate`"):
        await check_schema(connection)
    with pytest.raises(SchemaMismatch, match="run `tasker migrate`"):
        await PostgresLog.connect(empty)


async def test_an_older_database_names_the_command(empty: str, connection: asyncpg.Connection, add_migration) -> None:
    await migrate(empty)
    add_migration("CREATE TABLE more ()")
    with pytest.raises(SchemaMismatch, match="run `tasker migrate`"):
        await check_schema(connection)


async def test_a_newer_database_is_fine_while_it_says_so(
    empty: str, connection: asyncpg.Connection, add_migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = len(migrations())
    add_migration("CREATE TABLE more ()")
    await migrate(empty)
    monkeypatch.undo()
    assert await version(connection) == (known + 1, 1)
    await check_schema(connection)
    assert await migrate(empty) == []


async def test_a_newer_database_that_needs_a_newer_build_is_refused(
    empty: str, connection: asyncpg.Connection, add_migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = len(migrations())
    add_migration("CREATE TABLE more ()", compatible_from=known + 1)
    await migrate(empty)
    monkeypatch.undo()
    with pytest.raises(SchemaMismatch, match="install a newer"):
        await check_schema(connection)
    with pytest.raises(SchemaMismatch, match="install a newer"):
        await migrate(empty)


async def test_the_log_is_made_as_asked_and_named_at_random(empty: str, connection: asyncpg.Connection) -> None:
    await migrate(empty, shards=3, partition_size=7)
    async with await PostgresLog.connect(empty) as log:
        info = await log.info()
        assert (info.shards, log.partition_end(8)) == (3, 14)
        assert len(info.log_id) == 8
    assert await connection.fetchval("SELECT log_id FROM public.log") != info.log_id


async def test_only_utf8_holds_the_log(cluster) -> None:
    dsn = cluster.addresses().database_url
    admin = await asyncpg.connect(dsn)
    try:
        await admin.execute("CREATE DATABASE ascii_only TEMPLATE template0 ENCODING SQL_ASCII LOCALE 'C'")
        with pytest.raises(ConfigurationError, match="UTF8"):
            await migrate(urlsplit(dsn)._replace(path="/ascii_only").geturl())
        await admin.execute("DROP DATABASE ascii_only WITH (FORCE)")
    finally:
        await admin.close()


async def test_a_missing_database_or_schema_is_a_clear_line(cluster, database: str) -> None:
    missing = urlsplit(database)._replace(path="/no_such_database").geturl()
    for call in (migrate, PostgresLog.connect):
        with pytest.raises(ConfigurationError, match="no_such_database") as refused:
            await call(missing)
        assert "create the database" in refused.value.context["remedy"]
    with pytest.raises(ConfigurationError, match="no schema"):
        await migrate(database + "&search_path=nowhere")


async def test_a_user_that_is_refused_is_a_matter_of_authentication(database: str) -> None:
    """It has an exit code of its own, as a script that is to ask for another password wants to know."""
    split = urlsplit(database)
    stranger = split._replace(netloc=f"nobody@{split.netloc.rpartition('@')[2]}").geturl()
    for call in (migrate, PostgresLog.connect):
        with pytest.raises(AuthenticationFailed, match="nobody"):
            await call(stranger)
