"""The event log on PostgreSQL.

An append is one prepared statement that commits by itself (`sql/log.sql`, append): it locks the heads of
its shards against a takeover, checks that the event it continues is there, and inserts; the primary key
(shard, position) is the compare-and-set. So no transaction of a committer spans two round trips, and a
process that dies or hangs between two of them holds nothing.

Connections, each with one statement in flight:

| connection | for                                        | commits                                          |
|------------|--------------------------------------------|--------------------------------------------------|
| committers | `append`; a shard belongs to one of them   | durable                                          |
| leases     | `acquire`, `renew`, `release`              | durable; never behind what may wait              |
| settling   | `settle`, which may wait for an append     | durable                                          |
| control    | heads, `confirm`, blobs, partitions        | durable                                          |
| behind     | `due`, publish cursors, snapshots          | not waited for: an older row only costs a repeat |
| readers    | loads and reads                            |                                                  |

A lost connection is made again by the next call, with a growing pause between attempts and for ever.
Every statement ends within a timeout below the lease, on the server and here, so that a dead peer is
noticed before a shard changes hands.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import msgspec
import structlog
from asyncpg.connect_utils import SessionAttribute

from tasker.errors import ConfigurationError, Unavailable
from tasker.events.chain import GENESIS
from tasker.events.envelope import RecordedEvent
from tasker.events.log import (
    HISTORY_PAGE_EVENTS,
    AppendOutcome,
    Due,
    DueChange,
    Head,
    Lease,
    Loaded,
    LogInfo,
    ShardAppend,
    Snapshot,
)
from tasker.events.postgres_schema import MISCONFIGURED, check_schema, migrate, misconfigured
from tasker.events.sql import statements
from tasker.metrics.process import Pool
from tasker.outages import Repetition
from tasker.settings import DatabaseSettings

__all__ = ["PostgresLog", "check_schema", "migrate"]

STATEMENT_TIMEOUT_S: Final = DatabaseSettings().statement_timeout_s
"""Of appends, leases and settling: below the lease, so that an owner knows before another takes over."""

READ_TIMEOUT_S: Final = DatabaseSettings().read_timeout_s
CONNECT_TIMEOUT_S: Final = 3.0
RECONNECT_PAUSE_S_MIN: Final = 0.05
RECONNECT_PAUSE_S_MAX: Final = 1.0
DUE_PAGE_ROWS: Final = 1_000
TURN_EVENTS_MAX: Final = 64
"""Of a turn that is written by itself: from there on, what its events share is worth sending once."""

_SNAPSHOT: Final = "snapshot"
"""What tells a snapshot among the rows of events."""

_T = TypeVar("_T")
_Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_sql = statements("log")
_APPEND: Final = _sql["append"].replace("{fence}", _sql["fence"])
_APPEND_TURN: Final = _sql["append_turn"].replace("{fence}", _sql["fence"])
_logger = structlog.get_logger(__name__)

# What went wrong lies in the events themselves: their key is taken, or a value does not fit its column.
_OWN_FAULT = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.ProgramLimitExceededError,
    UnicodeError,
)
_LOST = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that the server is just ending, met between its last word and its end
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
)

# A pooler gave the second message of a statement to another backend.
_NO_SESSION = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
_NO_SESSION_DETAIL: Final = (
    "the database connection does not keep its session, as behind PgBouncer in transaction mode: "
    "point TASKER_DATABASE_URL at PostgreSQL itself, or at a pool in session mode"
)


class PostgresLog:
    """`EventLog` on one PostgreSQL database. Made by `connect`."""

    def __init__(
        self,
        dsn: str,
        *,
        committers: int = 2,
        readers: int = 2,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self.committers = committers
        self._committers = [
            _Lane(dsn, f"committer {number}", statement_timeout_s, _COMMITTER_SETTINGS, durable=True)
            for number in range(committers)
        ]
        self._leases = _Lane(dsn, "leases", statement_timeout_s, _PLAN_SETTINGS, durable=True)
        self._settling = _Lane(dsn, "settling", statement_timeout_s, _PLAN_SETTINGS, durable=True)
        self._control = _Lane(dsn, "control", statement_timeout_s, _PLAN_SETTINGS, durable=True)
        self._behind = _Lane(dsn, "behind", statement_timeout_s, _BEHIND_SETTINGS, durable=False)
        self._readers = [
            _Lane(dsn, f"reader {number}", read_timeout_s, _PLAN_SETTINGS, durable=False) for number in range(readers)
        ]
        self._free_readers: asyncio.LifoQueue[_Lane] = asyncio.LifoQueue()
        for lane in self._readers:
            self._free_readers.put_nowait(lane)
        self._info: LogInfo | None = None
        self._partition_size = 0
        self._append_errors: dict[int, str] = {}
        self._unknown = Repetition(_logger, "append_unknown", time.monotonic)

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        committers: int = 2,
        readers: int = 2,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> PostgresLog:
        """Return the log in the database that `dsn` names.

        Args:
            dsn: of PostgreSQL itself; its `search_path`, where it names one, says the schema.
            committers: connections that append; shards are divided between them.
            readers: connections that load and read.
            statement_timeout_s: of everything but reads; must be below the lease.
            read_timeout_s: of reads.

        Raises:
            SchemaMismatch: this build does not fit the database; the detail says what to run.
            ConfigurationError: the connection does not keep a session (PgBouncer in transaction mode).
            Unavailable: the database cannot be reached.
        """
        log = cls(
            dsn,
            committers=committers,
            readers=readers,
            statement_timeout_s=statement_timeout_s,
            read_timeout_s=read_timeout_s,
        )
        try:
            await log._open()
        except BaseException:
            await log.close()
            raise
        return log

    async def _open(self) -> None:
        lanes = [*self._committers, self._control]
        try:
            await self._control.run(check_schema)
            await self._control.run(self._read_info)
            for lane in self._committers:
                await lane.run(_nothing)
            if self._committers:
                await self.ensure_partitions()
        except Unavailable as error:
            if isinstance(error.__cause__, _NO_SESSION):
                raise ConfigurationError(_NO_SESSION_DETAIL) from error
            if isinstance(error.__cause__, MISCONFIGURED):
                raise misconfigured(error.__cause__, _line(error.__cause__)) from error
            raise
        await check_sessions([lane.connection for lane in lanes if lane.connection is not None])

    async def close(self) -> None:
        """End every connection; a second time does nothing."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    @property
    def _lanes(self) -> list[_Lane]:
        return [*self._committers, self._leases, self._settling, self._control, self._behind, *self._readers]

    def pool(self) -> Pool:
        """Return how many of the log's connections are open and busy."""
        open_lanes = [lane for lane in self._lanes if lane.connection is not None]
        return Pool(len(open_lanes), sum(lane.busy for lane in open_lanes), len(self._lanes))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---------------------------------------------------------------- constants

    async def info(self) -> LogInfo:
        """Return the log's constants, read once."""
        assert self._info is not None  # noqa: S101 - `connect` read it
        return self._info

    async def _read_info(self, connection: _Connection) -> None:
        row = await connection.fetchrow(_sql["info"])
        if row is None:
            raise ConfigurationError("the table `log` is empty: this is no database that `tasker migrate` made")
        if len(row["shard_of_slot"]) != row["slots"]:
            # The streams of all slots behind a missing one would be looked for, and made, in another's shard.
            raise ConfigurationError(
                f"the table `slot` has {len(row['shard_of_slot'])} rows, and the log {row['slots']} slots: "
                "a part of the database is gone",
                remedy="restore the database",
            )
        self._info = LogInfo(log_id=row["log_id"], slots=row["slots"], shard_of_slot=tuple(row["shard_of_slot"]))
        self._partition_size = row["partition_size"]

    def partition_end(self, position: int) -> int:
        """Return the last position of the partition that holds `position`; a batch ends there at the latest."""
        return -(-position // self._partition_size) * self._partition_size

    def committer_of(self, shard: int) -> int:
        """Return the number of the connection that appends to `shard`: one append at a time on each."""
        return shard % self.committers

    async def ensure_partitions(self, ahead: int = 2) -> int:
        """Attach partitions until `ahead` empty ones follow the highest position; returns how many were made.

        To be called now and then, long before a partition is full. Appends go on meanwhile.
        """
        highest = (await self._control.fetchrow(_sql["highest_position"]))["position"]
        size = self._partition_size
        made = 0
        for partition in range(ahead + 1):
            # A statement each, so that however many are missing none takes long.
            end = self.partition_end(max(1, highest)) + partition * size
            made += (await self._control.fetchrow(_sql["attach_partitions"], end))["made"]
        return made

    # ---------------------------------------------------------------- ownership

    async def acquire(self, owner: str, shards: Sequence[int], lease_s: float) -> Lease:
        """Take those of `shards` whose lease has run out (or is ours): each one's epoch is raised.

        Returns the shards that were taken now. Waits for appends in flight; none under an older epoch can
        land afterwards.

        Raises:
            ConfigurationError: the log was renewed since it was opened. Nothing was taken.
        """
        info = await self.info()
        return await self._lease(_sql["acquire"], owner, list(shards), lease_s, info.log_id)

    async def renew(self, owner: str, lease_s: float) -> Lease:
        """Prolong every lease that `owner` holds; returns what it still holds. Never raises an epoch.

        Raises:
            ConfigurationError: the log was renewed since it was opened.
        """
        return await self._lease(_sql["renew"], owner, lease_s)

    async def _lease(self, statement: str, *arguments: object) -> Lease:
        row = await self._leases.fetchrow(statement, *arguments)
        known = (await self.info()).log_id
        if row["log_id"] != known:
            raise ConfigurationError(
                f"the log has the id {row['log_id']} now, and this process knows it as {known}: `tasker log renew` ran "
                "meanwhile. Start again"
            )
        return Lease(epochs=dict(zip(row["shards"] or (), row["epochs"] or (), strict=True)), now_us=row["now_us"])

    async def release(self, owner: str) -> None:
        """Give up every lease of `owner` at once, for a quick handover."""
        await self._leases.fetch(_sql["release"], owner)

    async def heads(self, shards: Sequence[int]) -> list[Head]:
        """Return the heads of `shards`, ascending."""
        rows = await self._control.fetch(_sql["heads"], list(shards))
        return sorted((_head(row) for row in rows), key=lambda head: head.shard)

    # ---------------------------------------------------------------- writing

    async def append(self, parts: Sequence[ShardAppend]) -> dict[int, AppendOutcome]:
        """Append parts whose shards all belong to one committer, in one statement; returns shard -> outcome.

        Never raises. When the statement fails for what it holds, each part is tried alone. A part that
        has a batch across the border of a partition is refused unsent.
        """
        lane = self._committers[self.committer_of(parts[0].shard)]
        crossing = [part for part in parts if not part.fits(self.partition_end)]
        if crossing:
            refused = dict.fromkeys((part.shard for part in crossing), AppendOutcome.REFUSED)
            rest = [part for part in parts if part.shard not in refused]
            return {**refused, **(await self.append(rest) if rest else {})}
        outcomes = await self._append(lane, parts)
        if outcomes is not None:
            return outcomes
        alone: dict[int, AppendOutcome] = {}
        for part in parts:
            found = await self._append(lane, (part,)) if len(parts) > 1 else None
            alone[part.shard] = AppendOutcome.REFUSED if found is None else found[part.shard]
        return alone

    async def _append(self, lane: _Lane, parts: Sequence[ShardAppend]) -> dict[int, AppendOutcome] | None:
        """Return shard -> outcome of one statement; None when it failed for what it holds: nothing was written."""
        try:
            turn = _turn_arguments(parts[0]) if len(parts) == 1 else None
            if turn is None:
                rows = await lane.fetch(_APPEND, *_append_arguments(parts))
            else:
                rows = await lane.fetch(_APPEND_TURN, *turn)
        except Unavailable as error:
            if _no_partition(error.__cause__) and await self._partition_made():
                return await self._append(lane, parts)
            if isinstance(error.__cause__, _OWN_FAULT) and not _no_partition(error.__cause__):
                _logger.warning("append_refused", shards=[part.shard for part in parts], error=error.detail)
                return None
            shards = [part.shard for part in parts]
            self._append_errors.update(dict.fromkeys(shards, error.detail))
            self._unknown.tell(shards=shards, error=error.detail)
            return dict.fromkeys(shards, AppendOutcome.UNKNOWN)
        if self._append_errors:
            for part in parts:
                self._append_errors.pop(part.shard, None)
        appended = {row[0] for row in rows}
        return {
            part.shard: AppendOutcome.APPENDED if part.shard in appended else AppendOutcome.FENCED for part in parts
        }

    async def _partition_made(self) -> bool:
        try:
            return await self.ensure_partitions() > 0
        except Unavailable:
            return False

    def append_error(self, shard: int) -> str | None:
        """Return why the outcome of a shard's last append is `UNKNOWN`; None: it is not, or there was none."""
        return self._append_errors.get(shard)

    async def settle(self, owner: str, part: ShardAppend) -> tuple[AppendOutcome, int]:
        """Find out how an append with outcome `UNKNOWN` ended; returns the outcome and our epoch.

        The lock on the head waits out a copy that is still running. When the events are not there, raising
        the epoch in the same transaction keeps every other copy from landing. An epoch that was raised by
        anyone since (another owner, this one when it took the shard anew, a settling whose answer was lost)
        is never handed out: two would write under it.
        """

        async def ask(connection: _Connection) -> tuple[AppendOutcome, int]:
            async with connection.transaction():
                head = await connection.fetchrow(_sql["lock_head"], part.shard)
                last = part.position + len(part.events)
                if await connection.fetchval(_sql["chain_at"], part.shard, last) == part.digest:
                    return AppendOutcome.APPENDED, part.epoch
                ends_at = await connection.fetchval(_sql["last_of_shard"], part.shard) or 0
                if head is None or (head["owner"], head["epoch"], ends_at) != (owner, part.epoch, part.position):
                    return AppendOutcome.FENCED, part.epoch
                return AppendOutcome.REFUSED, await connection.fetchval(_sql["raise_epoch"], part.shard)

        return await self._settling.run(ask)

    async def confirm(self, ends: dict[int, tuple[int, int]]) -> set[int]:
        """Return those shards whose epoch is still the one given and whose log has the position, at one moment."""
        rows = await self._control.fetch(
            _sql["confirm"],
            list(ends),
            [epoch for epoch, _ in ends.values()],
            [position for _, position in ends.values()],
        )
        return {row[0] for row in rows}

    async def put_blob(self, digest: bytes, data: bytes) -> None:
        """Store `data` under its sha256; it is durable on return. Twice is fine."""
        await self._control.fetch(_sql["put_blob"], digest, data)

    async def get_blob(self, digest: bytes) -> bytes | None:
        """Return the bytes with this sha256, or None."""
        rows = await self._read(_sql["get_blob"], digest)
        return rows[0][0] if rows else None

    # ---------------------------------------------------------------- reading

    async def streams(self, stream_ids: Sequence[UUID]) -> dict[UUID, tuple[int, int]]:
        """Return stream -> (shard, first position) of those that exist: one probe proves absence."""
        rows = await self._read(_sql["streams"], list(stream_ids))
        return {stream_id: (shard, position) for stream_id, shard, position in rows}

    async def load(self, stream_ids: Sequence[UUID]) -> dict[UUID, list[RecordedEvent]]:
        """Return each existing stream's events, by `seq`."""
        found: dict[UUID, list[RecordedEvent]] = {}
        # Partitions come in order and a stream lives in one shard, so its rows come by `seq`.
        for row in await self._read(_sql["load"], list(dict.fromkeys(stream_ids))):
            event = RecordedEvent(*row)
            found.setdefault(event.stream_id, []).append(event)
        return found

    async def last_events(self, stream_ids: Sequence[UUID]) -> dict[UUID, RecordedEvent]:
        """Return each existing stream's last event."""
        rows = await self._read(_sql["last_of_streams"], list(dict.fromkeys(stream_ids)))
        return {event.stream_id: event for event in (RecordedEvent(*row) for row in rows)}

    async def load_histories(self, stream_ids: Sequence[UUID]) -> dict[UUID, Loaded]:
        """Return what each existing stream is folded from, in one statement."""
        found: dict[UUID, Loaded] = {}
        for row in await self._read(_sql["load_histories"], list(dict.fromkeys(stream_ids)), HISTORY_PAGE_EVENTS):
            event = RecordedEvent(*row)
            loaded = found.get(event.stream_id)
            if loaded is None:
                loaded = found[event.stream_id] = Loaded(None, [])
            if event.encoding == _SNAPSHOT:
                loaded.snapshot = Snapshot(
                    shard=event.shard,
                    stream_id=event.stream_id,
                    position=event.position,
                    seq=event.seq,
                    form=event.version,
                    kind=event.kind,
                    state=event.payload,
                )
            else:
                loaded.events.append(event)
        return found

    async def load_stream(self, stream_id: UUID, *, after_seq: int, limit: int) -> list[RecordedEvent]:
        """Return a page of a stream's events, by `seq`."""
        return [RecordedEvent(*row) for row in await self._read(_sql["load_stream"], stream_id, after_seq, limit)]

    async def read(self, shard: int, *, after: int, limit: int) -> list[RecordedEvent]:
        """Return up to `limit` events of `shard` behind position `after`, in order."""
        return [RecordedEvent(*row) for row in await self._read(_sql["read"], shard, after, limit)]

    async def _read(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        lane = await self._free_readers.get()
        try:
            return await lane.fetch(statement, *arguments)
        finally:
            self._free_readers.put_nowait(lane)

    # ---------------------------------------------------------------- snapshots

    async def write_snapshots(self, snapshots: Sequence[Snapshot], epochs: dict[int, int]) -> set[UUID]:
        """Keep these, each in place of its stream's last; returns the streams whose was kept."""
        rows = await self._behind.fetch(
            _sql["write_snapshots"],
            list(epochs),
            list(epochs.values()),
            *_columns(map(msgspec.structs.astuple, snapshots), 7),
        )
        return {row[0] for row in rows}

    async def snapshots(self, shard: int, *, after: UUID | None, limit: int) -> list[Snapshot]:
        """Return a page of a shard's snapshots, by stream."""
        return [Snapshot(*row) for row in await self._read(_sql["snapshots"], shard, after, limit)]

    # ---------------------------------------------------------------- due

    async def write_due(self, changes: Sequence[DueChange]) -> set[int]:
        """Write the changes with their checkpoints, in one transaction; returns the shards that were written."""
        upserts = {
            (change.shard, stream_id, name): at_us for change in changes for stream_id, name, at_us in change.upserts
        }
        deletes = [
            key
            for change in changes
            for stream_id, name in change.deletes
            if (key := (change.shard, stream_id, name)) not in upserts
        ]
        rows = await self._behind.fetch(
            _sql["write_due"],
            [change.shard for change in changes],
            [change.epoch for change in changes],
            [change.position for change in changes],
            *_columns(upserts, 3),
            list(upserts.values()),
            *_columns(deletes, 3),
        )
        return {row[0] for row in rows}

    async def due_checkpoint(self, shards: Sequence[int]) -> dict[int, int]:
        """Return shard -> the position up to which `due` is complete (0 at first)."""
        rows = await self._behind.fetch(_sql["due_checkpoint"], list(shards))
        return {row["shard"]: row["position"] for row in rows}

    async def due_between(
        self, shards: Sequence[int], after_us: int, until_us: int, *, born_before_us: int | None = None
    ) -> AsyncIterator[list[Due]]:
        """Yield pages of the rows with `after_us` < time <= `until_us`, earliest first.

        `born_before_us`: only those of streams whose first event is older.
        """
        after = (after_us + 1, UUID(int=0), "")
        while True:
            rows = await self._behind.fetch(
                _sql["due_between"], list(shards), *after, until_us, DUE_PAGE_ROWS, born_before_us
            )
            if rows:
                yield [Due(*row) for row in rows]
            if len(rows) < DUE_PAGE_ROWS:
                return
            last = rows[-1]
            after = (last["at_us"], last["stream_id"], last["obligation"])

    async def due_of(self, shard: int, stream_ids: Sequence[UUID]) -> dict[UUID, set[str]]:
        """Return stream -> the obligations that its rows name, of those that have some."""
        found: dict[UUID, set[str]] = {}
        for row in await self._behind.fetch(_sql["due_of"], shard, list(stream_ids)):
            found.setdefault(row["stream_id"], set()).add(row["obligation"])
        return found

    async def open_streams(
        self, shard: int, kind: str, ending_types: Sequence[str], *, after: int, limit: int
    ) -> list[UUID]:
        """Return the streams of `kind` that were born at the `limit` positions behind `after` and have no ending."""
        rows = await self._behind.fetch(_sql["open_streams"], shard, after, limit, kind, list(ending_types))
        return [row["stream_id"] for row in rows]

    # ---------------------------------------------------------------- publication

    async def publish_cursors(self, shards: Sequence[int]) -> dict[int, int]:
        """Return shard -> the position up to which the event stream has acknowledged (0 at first)."""
        rows = await self._behind.fetch(_sql["publish_cursors"], list(shards))
        return {row["shard"]: row["position"] for row in rows}

    async def move_publish_cursors(self, moves: Sequence[tuple[int, int, int]]) -> set[int]:
        """Move cursors; `moves` are (shard, epoch, position). Returns the shards that were moved."""
        rows = await self._behind.fetch(_sql["move_publish_cursors"], *_columns(moves, 3))
        return {row[0] for row in rows}


# -------------------------------------------------------------------- one connection

_SESSION_SETTINGS: Final = {
    "application_name": "tasker",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_generic_plan",
    "idle_in_transaction_session_timeout": "3s",
    "tcp_keepalives_idle": "1",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "3000",
}
# A plan made while a table was empty stays for the life of the connection, and would scan for ever.
_PLAN_SETTINGS: Final = {
    **_SESSION_SETTINGS,
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",  # its rows come in the order of the pages, which is not that of the events
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_COMMITTER_SETTINGS: Final = {**_SESSION_SETTINGS, "enable_seqscan": "off", "enable_mergejoin": "off"}
_BEHIND_SETTINGS: Final = {**_PLAN_SETTINGS, "synchronous_commit": "off"}
_TRANSACTION_TIMEOUT_SINCE: Final = 17


class _Lane:
    """A connection with one statement in flight, made anew after it was lost."""

    def __init__(self, dsn: str, name: str, timeout_s: float, settings: dict[str, str], *, durable: bool) -> None:
        self._dsn = dsn
        self._name = name
        self._timeout_s = timeout_s
        self._settings = {**settings, "statement_timeout": f"{int(timeout_s * 1000)}ms"}
        self._durable = durable
        self._lock = asyncio.Lock()
        self._statements: dict[str, asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]] = {}
        self._pause_s = RECONNECT_PAUSE_S_MIN
        self._not_before_s = 0.0
        self._closed = False
        self.connection: _Connection | None = None

    @property
    def busy(self) -> bool:
        """Return whether a statement is in flight."""
        return self._lock.locked()

    async def run(self, work: Callable[[_Connection], Awaitable[_T]]) -> _T:
        """Return what `work` makes of the connection.

        Raises:
            Unavailable: it could not be done, or its answer was lost; the driver's exception is the cause.
        """
        async with self._lock:
            connection = await self._connected()
            try:
                async with asyncio.timeout(self._timeout_s + 0.5):
                    return await work(connection)
            except _LOST as error:
                self._drop_unless_usable(error)
                raise Unavailable(_line(error)) from error

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Return the rows of `statement`, which stays prepared. Raises as `run`."""
        async with self._lock:
            connection = await self._connected()
            try:
                prepared = self._statements.get(statement)
                if prepared is None:
                    prepared = self._statements[statement] = await connection.prepare(
                        statement, timeout=self._timeout_s + 0.5
                    )
                return await prepared.fetch(*arguments, timeout=self._timeout_s + 0.5)
            except (*_LOST, UnicodeError) as error:
                self._drop_unless_usable(error)
                raise Unavailable(_line(error)) from error

    async def fetchrow(self, statement: str, *arguments: Any) -> asyncpg.Record:
        """Return the one row of `statement`. Raises as `run`."""
        return (await self.fetch(statement, *arguments))[0]

    async def close(self) -> None:
        """End the connection for good."""
        self._closed = True
        connection, self.connection = self.connection, None
        if connection is not None:
            try:
                await connection.close(timeout=1.0)
            except _LOST:
                # A statement was still in flight, or nobody is there to say goodbye to.
                connection.terminate()

    async def _connected(self) -> _Connection:
        if self.connection is not None and not self.connection.is_closed():
            return self.connection
        self._check_open()
        loop = asyncio.get_running_loop()
        if loop.time() < self._not_before_s:
            raise Unavailable("PostgreSQL cannot be reached", retry_after_s=self._pause_s)
        self.connection = None
        self._statements.clear()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connection = await self._connect()
        except _LOST as error:
            self._not_before_s = loop.time() + self._pause_s
            self._pause_s = min(RECONNECT_PAUSE_S_MAX, self._pause_s * 2)
            raise Unavailable(f"PostgreSQL cannot be reached: {_line(error)}") from error
        self._pause_s = RECONNECT_PAUSE_S_MIN
        try:
            self._check_open()  # it may have been closed while this was made
        except Unavailable:
            connection.terminate()
            raise
        self.connection = connection
        return connection

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the log is closed")

    async def _connect(self) -> _Connection:
        connection = await asyncpg.connect(
            self._dsn, timeout=CONNECT_TIMEOUT_S, target_session_attrs=SessionAttribute.read_write
        )
        try:
            settings = dict(self._settings)
            if connection.get_server_version().major >= _TRANSACTION_TIMEOUT_SINCE:
                # Ends even a transaction whose last message was lost on the way, which no other timeout sees.
                settings["transaction_timeout"] = settings["statement_timeout"]
            await connection.fetch(_sql["set_session"], list(settings), list(settings.values()))
            if self._durable:
                await connection.fetch(_sql["demand_durable_commits"])
            _keep_alive(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _drop_unless_usable(self, error: BaseException) -> None:
        """Give the connection up, unless the server itself said no and it goes on."""
        usable = isinstance(error, (*_OWN_FAULT, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError))
        connection = self.connection
        if connection is not None and (not usable or connection.is_closed()):
            self.connection = None
            self._statements.clear()
            if not connection.is_closed():
                connection.terminate()


async def _nothing(_connection: _Connection) -> None:
    """Do nothing: `run` connects."""


def _keep_alive(connection: _Connection) -> None:
    """Let the kernel notice a dead peer within about three seconds, where it can."""
    transport = getattr(connection, "_transport", None)
    found = transport.get_extra_info("socket") if transport is not None else None
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 1),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", 3000),
    ):
        number = getattr(socket, option, None)
        if number is not None:
            found.setsockopt(socket.IPPROTO_TCP, number, value)


async def check_sessions(connections: Sequence[_Connection]) -> None:
    """Refuse a pooler that gives each transaction another backend: what a session sets must stay with it.

    While each connection in turn holds a transaction open, all the others must still meet their own mark.

    Raises:
        ConfigurationError: it did not.
    """
    try:
        marks = {connection: secrets.token_hex(8) for connection in connections}
        pids = {}
        for connection, mark in marks.items():
            await connection.fetch(_sql["set_session"], ["tasker.session"], [mark])
            pids[connection] = (await connection.fetch(_sql["session_facts"]))[0]["pid"]
        kept = len(set(pids.values())) == len(connections)
        for holder in connections:
            async with holder.transaction():
                await holder.fetchrow(_sql["session_facts"])
                for connection, mark in marks.items():
                    facts = (await connection.fetch(_sql["session_facts"]))[0]
                    kept = kept and facts["mark"] == mark and facts["pid"] == pids[connection]
    except _NO_SESSION:
        kept = False
    except _LOST as error:
        raise Unavailable(_line(error)) from error
    if not kept:
        raise ConfigurationError(_NO_SESSION_DETAIL)


# -------------------------------------------------------------------- arguments and rows


def _turn_arguments(part: ShardAppend) -> tuple[object, ...] | None:
    """Return the arguments of the append of one turn, as its statement names them; None: it is more than one."""
    first = part.events[0]
    if part.border is not None or len(part.events) > TURN_EVENTS_MAX:
        return None
    versions: list[int] = []
    types: list[str] = []
    encodings: list[str] = []
    payloads: list[bytes] = []
    shared = (first.stream_id, first.at_us, first.meta, first.kind, first.tenant)
    for seq, event in enumerate(part.events, first.seq):
        if (event.stream_id, event.at_us, event.meta, event.kind, event.tenant) != shared or event.seq != seq:
            return None
        versions.append(event.version)
        types.append(event.type)
        encodings.append(event.encoding)
        payloads.append(event.payload)
    return (
        *(part.shard, part.epoch, part.position, part.known),
        *shared,
        first.seq - 1,
        *(len(part.events), part.digest),
        *(versions, types, encodings, payloads),
    )


def _append_arguments(parts: Sequence[ShardAppend]) -> tuple[Sequence[object], ...]:
    """Return the arguments of the append, as its statement names them."""
    places: list[tuple[int, int, int, bytes, int, int, bytes, int | None, bytes | None]] = []
    forms: dict[tuple[int, str, str, str, str], int] = {}
    births: list[tuple[UUID, int, int, int, str]] = []
    turns: list[tuple[UUID, int, bytes]] = []
    count = 0
    tags: list[int] = []
    turn_of: list[int] = []
    payloads: list[bytes] = []
    for number, part in enumerate(parts, 1):
        start = part.position - count
        stream_id, at_us, meta = None, 0, b""
        for position, event in enumerate(part.events, part.position + 1):
            form = (event.version, event.kind, event.type, event.tenant, event.encoding)
            tags.append(event.seq << 32 | number << 16 | forms.setdefault(form, len(forms) + 1))
            if event.stream_id is not stream_id or event.at_us != at_us or event.meta != meta:
                stream_id, at_us, meta = event.stream_id, event.at_us, event.meta
                turns.append((stream_id, at_us, meta))
            turn_of.append(len(turns))
            payloads.append(event.payload)
            if event.seq == 1:
                births.append((event.stream_id, position, event.at_us, part.shard, event.kind))
        before, border = part.border or (None, None)
        border_at = None if before is None else count + before
        count += len(part.events)
        places.append((part.shard, part.epoch, part.position, part.known, start, count, part.digest, border_at, border))
    return (
        *_columns(places, 9),
        *_columns(forms, 5),
        *_columns(births, 5),
        *_columns(turns, 3),
        tags,
        turn_of,
        payloads,
    )


def _columns(rows: Iterable[Sequence[Any]], count: int) -> list[list[Any]]:
    """Return the columns of `rows`, also where there are none."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(count)]


def _head(row: asyncpg.Record) -> Head:
    shard, epoch, owner, position, digest, at_us = row
    if position is None:
        return Head(shard=shard, epoch=epoch, owner=owner, position=0, digest=GENESIS, at_us=0)
    return Head(shard=shard, epoch=epoch, owner=owner, position=position, digest=digest, at_us=at_us)


def _no_partition(error: BaseException | None) -> bool:
    """Return whether Postgres found no partition for a row: a check violation that names no constraint."""
    return isinstance(error, asyncpg.CheckViolationError) and not error.constraint_name


def _line(error: BaseException) -> str:
    """Return what happened in one line, without the values that the driver quotes: they are a tenant's."""
    state = f" {error.sqlstate}" if isinstance(error, asyncpg.PostgresError) else ""
    text = str(error).partition(": [")[0].partition("\n")[0]
    return f"{type(error).__name__}{state}: {text}"[:300]
