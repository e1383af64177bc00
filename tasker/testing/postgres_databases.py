"""Databases for tests: each a copy of one that has the schema already, which is quicker than migrating anew."""

from __future__ import annotations

import itertools
import uuid
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from tasker.events.postgres_schema import migrate

TEMPLATE: Final = "tasker_template"
_LOCK_KEY: Final = 7_233_001
"""Of the advisory lock under which one process makes the template."""

_numbers = itertools.count(1)
_run = uuid.uuid4().hex[:8]


async def create_database(server_url: str) -> str:
    """Return the address of a new, migrated, empty database; `server_url` names any database of the server."""
    connection = await asyncpg.connect(server_url)
    try:
        await _ensure_template(connection, server_url)
        return await _create(connection, server_url, f"TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
    finally:
        await connection.close()


async def create_empty_database(server_url: str) -> str:
    """Return the address of a new database that has nothing in it."""
    connection = await asyncpg.connect(server_url)
    try:
        return await _create(connection, server_url, "")
    finally:
        await connection.close()


async def drop_database(url: str) -> None:
    """Drop a database that `create_database` returned, whoever is still connected."""
    name = urlsplit(url).path.removeprefix("/")
    connection = await asyncpg.connect(database_url(url, "postgres"))
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()


def database_url(url: str, name: str) -> str:
    """Return the address of another database on the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


async def _create(connection: asyncpg.Connection[asyncpg.Record], server_url: str, how: str) -> str:
    name = f"t_{_run}_{next(_numbers)}"
    await connection.execute(f"CREATE DATABASE {name} {how}")
    return database_url(server_url, name)


async def _ensure_template(connection: asyncpg.Connection[asyncpg.Record], server_url: str) -> None:
    if await _has_template(connection):
        return
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
    try:
        if await _has_template(connection):
            return
        await connection.execute(f"DROP DATABASE IF EXISTS {TEMPLATE}")
        await connection.execute(f"CREATE DATABASE {TEMPLATE}")
        await migrate(database_url(server_url, TEMPLATE))
        await connection.execute(f"ALTER DATABASE {TEMPLATE} IS_TEMPLATE true")
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK_KEY)


async def _has_template(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    return bool(await connection.fetchval("SELECT datistemplate FROM pg_database WHERE datname = $1", TEMPLATE))
