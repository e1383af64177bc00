"""The schema of the database: numbered migrations and whether a build fits what it finds.

A migration is a file `migrations/NNNN_name.sql`. Each is applied once, in order, in a transaction of its
own that holds the row of `schema_info`: two processes take turns, and a process killed half-way leaves
the version it had reached. A file may lead with `-- compatible_from: N`: builds older than schema
version N cannot work on the result. Without that line a migration only adds, and older builds go on.

Everything lives in the first schema of the connection's search_path.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import Final

import asyncpg
import msgspec

from tasker.errors import AuthenticationFailed, ConfigurationError, SchemaMismatch, Unavailable
from tasker.events.sql import statements
from tasker.ids import SystemIds
from tasker.settings import LogSettings

SHARDS: Final = LogSettings().shards
PARTITION_SIZE: Final = LogSettings().partition_size
"""Positions of a shard in one partition of `event`; chosen once, when the log is made."""

LOG_ID_CHARS: Final = 8

MISCONFIGURED: Final = (
    asyncpg.exceptions.ClientConfigurationError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""What Postgres or the driver says when the address, the user or the database is wrong."""


def misconfigured(error: BaseException | None, detail: str) -> ConfigurationError:
    """Return the error for one of `MISCONFIGURED`."""
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return AuthenticationFailed(f"PostgreSQL refused the connection: {detail}")
    return ConfigurationError(
        f"TASKER_DATABASE_URL does not work: {detail}",
        remedy="mend the address, or create the database; `tasker config show database` says where the address is from",
    )


_LOST_CONNECTION: Final = (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)

_file_name = re.compile(r"(\d{4})_\w+\.sql")
_compatible_from = re.compile(r"^-- compatible_from: (\d+)$", re.MULTILINE)
_sql = statements("schema")


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema. `compatible_from`: the oldest schema version a build may know; None: as before."""

    version: int
    name: str
    sql: str
    compatible_from: int | None


@cache
def migrations() -> tuple[Migration, ...]:
    """Return every migration of this build, ascending."""
    found = []
    for file in (files("tasker.events") / "migrations").iterdir():
        match = _file_name.fullmatch(file.name)
        if match is not None:
            text = file.read_text(encoding="utf-8")
            compatible = _compatible_from.search(text)
            found.append(
                Migration(
                    version=int(match[1]),
                    name=file.name.removesuffix(".sql"),
                    sql=text,
                    compatible_from=int(compatible[1]) if compatible else None,
                )
            )
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ConfigurationError(f"the migrations are not numbered 1 to {len(found)}")
    return tuple(found)


async def migrate(
    dsn: str,
    *,
    shards: int = SHARDS,
    partition_size: int = PARTITION_SIZE,
) -> list[str]:
    """Bring the database to this build's schema; returns the names of what was applied now.

    Args:
        dsn: of PostgreSQL itself; its `search_path`, where it names one, says the schema.
        shards: of the log, where it is made now; an existing log keeps its own.
        partition_size: likewise.

    Raises:
        SchemaMismatch: the database is too new for this build.
        ConfigurationError: it cannot hold the log.
        Unavailable: it cannot be reached.
    """
    chosen = {
        "tasker.log_id": SystemIds().token()[:LOG_ID_CHARS],
        "tasker.shards": str(shards),
        "tasker.partition_size": str(partition_size),
    }
    applied = []
    async with administering(dsn, "the migration") as connection:
        await _create_schema_info(connection)
        for migration in migrations():
            if await _apply(connection, migration, chosen):
                applied.append(migration.name)  # noqa: PERF401 - each one awaits its turn
        await check_schema(connection)
    return applied


@asynccontextmanager
async def administering(dsn: str, work: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Yield a connection for a person's `work` on the database itself; closed at the end.

    Raises:
        ConfigurationError: the database cannot be used, or refuses the work.
        Unavailable: it cannot be reached, or not any more.
    """
    try:
        connection = await asyncpg.connect(dsn)
        try:
            yield connection
        finally:
            await connection.close()
    except MISCONFIGURED as error:
        raise misconfigured(error, str(error)) from error
    except (OSError, TimeoutError, asyncpg.InterfaceError, *_LOST_CONNECTION) as error:
        raise Unavailable(f"the connection to PostgreSQL was lost or not made: {error}") from error
    except asyncpg.PostgresError as error:
        raise ConfigurationError(
            f"the database refuses {work}: {error}", remedy="`tasker doctor` says what the user or the database lacks"
        ) from error


async def check_schema(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Return when this build fits the database.

    Raises:
        SchemaMismatch: it does not; the detail says what to run.
    """
    needed = migrations()[-1].version
    row = None
    if await connection.fetchval(_sql["has_schema_info"]):
        row = await connection.fetchrow(_sql["version"])
    if row is None or row["version"] == 0:
        raise SchemaMismatch(f"the database has no schema, this build needs version {needed}: run `tasker migrate`")
    if row["version"] < needed:
        raise SchemaMismatch(
            f"the database has schema version {row['version']}, this build needs {needed}: run `tasker migrate`"
        )
    if row["compatible_from"] > needed:
        raise SchemaMismatch(
            f"the database has schema version {row['version']}, which builds of versions below "
            f"{row['compatible_from']} cannot use, and this one is of {needed}: install a newer tasker-service"
        )


async def _create_schema_info(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    encoding = await connection.fetchval(_sql["server_encoding"])
    if encoding != "UTF8":
        raise ConfigurationError(f"the database has the encoding {encoding}; create it with ENCODING 'UTF8'")
    while not await connection.fetchval(_sql["has_schema_info"]):
        try:
            await connection.execute(_sql["create_schema_info"])
        except asyncpg.InvalidSchemaNameError as error:
            raise ConfigurationError("no schema on the search_path exists in the database: create it first") from error
        except (asyncpg.UniqueViolationError, asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError):
            # Another process creates it at this moment: IF NOT EXISTS does not see it before its commit.
            continue
    await connection.execute(_sql["enter_schema_info"])


async def _apply(connection: asyncpg.Connection[asyncpg.Record], migration: Migration, chosen: dict[str, str]) -> bool:
    """Apply `migration` where it is missing; returns whether it was."""
    async with connection.transaction():
        row = await connection.fetchrow(_sql["lock_version"])
        if row is None or row["version"] >= migration.version:
            return False
        await connection.execute(_sql["choose"], list(chosen), list(chosen.values()))
        await connection.execute(migration.sql)
        compatible = row["compatible_from"] if migration.compatible_from is None else migration.compatible_from
        await connection.execute(_sql["set_version"], migration.version, compatible or migration.version)
    return True
