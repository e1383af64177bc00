"""Rows and checkpoints in PostgreSQL, and the log's tail over many shards.

Plans are kept on the indexes: a plan that was cached on an empty table would scan a full one for ever. Commits of
views do not wait for the disk: rows and checkpoint are one transaction, so a crash of the server loses both, and
the runner folds the log again from the older checkpoint.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from tasker.errors import ConfigurationError, Unavailable
from tasker.events.envelope import RecordedEvent
from tasker.projections.checkpoints import CheckpointMove, CheckpointMoved, Positions
from tasker.projections.projection import Key, Projection
from tasker.projections.sql import statements
from tasker.projections.store import RowRefused, RowWrites, ViewInUse, ViewSnapshot

UPDATED_ROWS_MAX: Final = 1000
"""Rows of one statement that updates."""

COPIED_ROWS_MAX: Final = 10_000
"""Rows of one that copies: the larger, the less of its own work there is in it."""

SCAN_ROWS: Final = 1000

_SQL = statements("store")
_NO_KEY: Final[Key] = (UUID(int=0), "")
_SERVER_SETTINGS: Final = {
    "application_name": "tasker-projections",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "idle_in_transaction_session_timeout": "30s",
    "jit": "off",
    "lock_timeout": "5s",
    "statement_timeout": "20s",
    "synchronous_commit": "off",
}

COUNT_S_MAX: Final = 3600.0
"""Rows are counted in one scan of their table, which of a large one takes minutes."""

REPLACE_LOCK_TIMEOUT: Final = "200ms"

_SNAPSHOT_SETTINGS: Final = {
    "statement_timeout": f"{COUNT_S_MAX:.0f}s",
    # Who compares a long log with the views asks for their rows now and then, and meanwhile the transaction is idle.
    "idle_in_transaction_session_timeout": "1h",
}

LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.InternalClientError,  # a connection that the server is just ending, met between its last word and its end
    ConnectionResetError,
)
"""What a connection that the server ended answers."""

_OUTSIDE: Final = (*LOST, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the driver raises into our errors.

    Raises:
        RowRefused: the server or the driver refuses a value.
        Unavailable: the server cannot be reached, or gave up.
    """
    try:
        yield
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError) as error:
        raise RowRefused(f"a row cannot be stored: {error}") from error
    except _OUTSIDE as error:
        raise Unavailable(f"the database: {str(error) or type(error).__name__}") from error


async def open_pool(dsn: str, *, size: int = 3) -> asyncpg.Pool:
    """Return a pool of connections for a runner, set up as this module needs them."""
    with translated():
        return await asyncpg.create_pool(
            dsn, min_size=1, max_size=size, server_settings=_SERVER_SETTINGS, command_timeout=25, reset=_keep
        )


async def _keep(connection: object) -> None:
    """Leave a connection as it is: no statement of ours changes its session."""


class PostgresTail:
    """The log's tail over many shards, in one statement."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def read_shards(self, after: Positions, *, limit: int, bytes_max: int | None = None) -> list[RecordedEvent]:
        """Return up to `limit` events of each shard of `after` behind its position; each shard's in order."""
        with translated():
            if bytes_max is None:
                rows = await self._pool.fetch(_SQL["tail"], list(after), list(after.values()), limit)
            else:
                rows = await self._pool.fetch(
                    _SQL["tail_by_bytes"], list(after), list(after.values()), limit, bytes_max
                )
        return [RecordedEvent(*row) for row in rows]


class PostgresViewStore:
    """Rows in tables `<view>_v<version>`, checkpoints in `checkpoint`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def active(self, names: Sequence[str]) -> dict[str, int]:
        """Return name -> the version that is read."""
        with translated():
            rows = await self._pool.fetch(_SQL["versions"], list(names))
        found: dict[str, int] = pairs(rows)
        unknown = set(names) - set(found)
        if unknown:
            raise ConfigurationError(f"the database has no views {sorted(unknown)}: run `tasker migrate`")
        return found

    async def checkpoints(self, name: str, version: int, shards: int) -> dict[int, int]:
        """Return the positions of one version over all `shards`, entering what is not there yet as 0."""
        with translated():
            rows = await self._pool.fetch(_SQL["checkpoints_of"], name, version)
            if len(rows) < shards:
                await self._pool.execute(_SQL["enter_read_checkpoints"], name, version, list(range(shards)))
                rows = await self._pool.fetch(_SQL["checkpoints_of"], name, version)
        if len(rows) < shards:
            raise CheckpointMoved(f"version {version} of view {name} is gone: a rebuild has made another one")
        return pairs(rows)

    async def positions(self) -> dict[int, int]:
        """Return shard -> the position that every view that is read has reached."""
        with translated():
            rows = await self._pool.fetch(_SQL["positions"])
        return pairs(rows)

    async def fetch(self, projection: Projection[Any], version: int, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return the rows of `keys` that exist."""
        found: dict[Key, Any] = {}
        statement = _statement(projection.name, "fetch", version)
        row_type, key_of = projection.row_type, projection.key_of
        with translated():
            for at in range(0, len(keys), SCAN_ROWS):
                some = keys[at : at + SCAN_ROWS]
                records = await self._pool.fetch(statement, [key[0] for key in some], [key[1] for key in some])
                rows = [row_of(row_type, record) for record in records]
                found.update((key_of(row), row) for row in rows)
        return found

    async def rows_of(self, projection: Projection[Any], version: int, stream_ids: Sequence[UUID]) -> Sequence[Any]:
        """Return all rows of some streams, in any order."""
        found: list[Any] = []
        statement = _statement(projection.name, "rows_of", version)
        with translated():
            for at in range(0, len(stream_ids), SCAN_ROWS):
                records = await self._pool.fetch(statement, stream_ids[at : at + SCAN_ROWS])
                found += [row_of(projection.row_type, record) for record in records]
        return found

    async def write(self, moves: Sequence[CheckpointMove], writes: Sequence[RowWrites]) -> None:
        """Move checkpoints and write rows, in one transaction."""
        if not moves:
            return
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                await _move(connection, moves)
                for write in writes:
                    await _write(connection, write)

    def snapshot(self) -> AbstractAsyncContextManager[ViewSnapshot]:
        """Return the views as they are at one moment, for comparing them with the log."""
        return self._snapshot()

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[ViewSnapshot]:
        with translated():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                await connection.fetch(_SQL["choose"], list(_SNAPSHOT_SETTINGS), list(_SNAPSHOT_SETTINGS.values()))
                yield _PostgresSnapshot(connection, pairs(await connection.fetch(_SQL["all_versions"])))


class _PostgresSnapshot:
    """The views within one transaction: by their tables, as a rebuild may let a view show another one meanwhile."""

    def __init__(self, connection: Any, versions: Mapping[str, int]) -> None:
        self._connection = connection
        self._versions = versions

    async def positions(self, projection: Projection[Any]) -> dict[int, int]:
        """Return how far the view is, by shard."""
        with translated():
            rows = await self._connection.fetch(
                _SQL["checkpoints_of"], projection.name, self._versions[projection.name]
            )
        return pairs(rows)

    async def counts(self, projection: Projection[Any]) -> dict[int, int]:
        """Return how many rows the view has, by shard; a shard without any is left out."""
        with translated():
            rows = await self._connection.fetch(self._statement(projection, "count_rows"), timeout=COUNT_S_MAX)
        return dict(rows)

    async def rows_of(self, projection: Projection[Any], stream_ids: Sequence[UUID]) -> Sequence[Any]:
        """Return all rows of some streams, in any order."""
        with translated():
            records = await self._connection.fetch(
                self._statement(projection, f"{projection.name}_rows_of"), stream_ids
            )
        return [row_of(projection.row_type, record) for record in records]

    async def rows(self, projection: Projection[Any]) -> AsyncIterator[Sequence[Any]]:
        """Yield all rows of the view, by key, in pages."""
        statement = self._statement(projection, f"scan_{projection.name}")
        after = _NO_KEY
        while True:
            with translated():
                records = await self._connection.fetch(statement, *after, SCAN_ROWS)
            rows = [row_of(projection.row_type, record) for record in records]
            if rows:
                yield rows
            if len(rows) < SCAN_ROWS:
                return
            after = projection.key_of(rows[-1])

    def _statement(self, projection: Projection[Any], name: str) -> str:
        return _SQL[name].replace("{table}", f"{projection.name}_v{self._versions[projection.name]:d}")


def row_of(row_type: type[Any], record: asyncpg.Record) -> Any:
    """Return a record as the row it was: its columns are the fields, in order."""
    return row_type(*record)


def pairs(records: Iterable[asyncpg.Record]) -> dict[Any, Any]:
    """Return records of two columns as a dict."""
    return {key: value for key, value in records}  # noqa: C416 - a Record is no tuple to the type checker


def _statement(name: str, what: str, version: int) -> str:
    return _SQL[f"{name}_{what}"].replace("{table}", f"{name}_v{version:d}")


async def _move(connection: Any, moves: Sequence[CheckpointMove]) -> None:
    names, versions, shards, old, new = zip(*sorted(map(msgspec.structs.astuple, moves)), strict=True)
    moved = await connection.fetch(_SQL["move_checkpoints"], names, versions, shards, old, new)
    if len(moved) != len(moves):
        raise CheckpointMoved(
            f"{len(moves) - len(moved)} of {len(moves)} checkpoints are not where this process left them: "
            "another process writes the views"
        )


async def _write(connection: Any, write: RowWrites) -> None:
    projection = write.projection
    table = f"{projection.name}_v{write.version:d}"
    for some in _parts(write.born, COPIED_ROWS_MAX):
        try:
            await connection.copy_records_to_table(
                table, records=map(msgspec.structs.astuple, some), columns=projection.row_type.__struct_fields__
            )
        except (OverflowError, UnicodeEncodeError) as error:  # which the driver translates in arguments, but not here
            raise RowRefused(f"a row cannot be stored: {error}") from error
    statement = _statement(projection.name, "update", write.version)
    for some in _parts(write.moved, UPDATED_ROWS_MAX):
        columns = list(zip(*map(msgspec.structs.astuple, some), strict=True))
        await connection.execute(statement, *columns[: projection.keys], *columns[projection.facts :])


def _parts(rows: Sequence[msgspec.Struct], rows_max: int) -> Iterator[Sequence[msgspec.Struct]]:
    for at in range(0, len(rows), rows_max):
        yield rows[at : at + rows_max]


class PostgresRebuildStore(PostgresViewStore):
    """A store whose views can be built beside themselves: version n + 1 beside version n."""

    async def begin(self, name: str, shards: int) -> int:
        """Return the version to fill, with an empty table; what an abandoned rebuild left is dropped."""
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                active = await connection.fetchval(_SQL["lock_projection"], name)
                await _drop_unread(connection, name, active)
                await connection.execute(_SQL["create_table"], name, active + 1)
                await connection.execute(_SQL["enter_checkpoints"], name, active + 1, list(range(shards)))
        return int(active) + 1

    async def switch(self, name: str, version: int) -> dict[int, int] | None:
        """Make `version` the one that is read, if it is nowhere behind the present one.

        The checkpoints are locked first, as a runner does: its batch in flight ends before, its next one finds
        its version gone.
        """
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                active = await connection.fetchval(_SQL["lock_projection"], name)
                if active != version - 1:
                    raise CheckpointMoved(f"another rebuild of {name} made version {active} the one that is read")
                present: dict[int, int] = pairs(await connection.fetch(_SQL["lock_checkpoints"], name, active))
                built: dict[int, int] = pairs(await connection.fetch(_SQL["lock_checkpoints"], name, version))
                if any(built.get(shard, 0) < position for shard, position in present.items()):
                    return present
                await connection.execute(_SQL["switch_version"], name, version)
                await connection.execute(_SQL["forget_version"], name, active)
                await _replace(connection, name, _view_statement(name, version))
        return None

    async def drop_unread(self, name: str) -> None:
        """Drop the tables of versions that nobody reads."""
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                await _drop_unread(connection, name, await connection.fetchval(_SQL["lock_projection"], name))


async def _drop_unread(connection: Any, name: str, active: int) -> None:
    kept = f"{name}_v{active:d}"
    for (table,) in await connection.fetch(_SQL["tables_of"], name):
        if table != kept:
            await _replace(connection, name, _SQL["drop_table"].replace("{table}", table))
    for (version,) in await connection.fetch(_SQL["unread_versions"], name, active):
        await connection.execute(_SQL["forget_version"], name, version)


async def _replace(connection: Any, name: str, statement: str) -> None:
    """Run a statement that no reader of a view goes on beside. While it waits for one, all others wait behind it."""
    await connection.fetch(_SQL["choose"], ["lock_timeout"], [REPLACE_LOCK_TIMEOUT])
    try:
        await connection.execute(statement)
    except asyncpg.LockNotAvailableError as error:
        raise ViewInUse(f"view {name} is being read, as by `tasker log verify`") from error


def _view_statement(name: str, version: int) -> str:
    return _SQL["create_view"].replace("{view}", name).replace("{table}", f"{name}_v{version:d}")
