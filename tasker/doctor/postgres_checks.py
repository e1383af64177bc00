"""What can be wrong with PostgreSQL, and with what is kept in it. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import asyncpg

from tasker.clock import Clock
from tasker.doctor.finding import Finding
from tasker.errors import ConfigurationError, SchemaMismatch, Unavailable
from tasker.events.envelope import US_PER_S
from tasker.events.postgres_log import check_sessions
from tasker.events.postgres_schema import MISCONFIGURED, check_schema
from tasker.events.sql import statements
from tasker.settings import DoctorSettings, Settings
from tasker.settings.keys import keys, shown

VERSION_MIN: Final = 16
CONNECT_S: Final = 5.0
CLOCK_READINGS: Final = 3

_NEEDED: Final = (
    ("event", "SELECT"),
    ("event", "INSERT"),
    ("stream", "INSERT"),
    ("blob", "INSERT"),
    ("shard_head", "UPDATE"),
    ("due", "INSERT"),
    ("due", "DELETE"),
    ("due_checkpoint", "UPDATE"),
    ("publish_cursor", "UPDATE"),
    ("snapshot", "INSERT"),
    ("checkpoint", "INSERT"),
    ("task_v1", "INSERT"),
)
LOOKED_AFTER: Final = ("offer", "heartbeat", "child", "event", "place", "look", "start", "go_on")
"""Obligations that are looked at again and again: their owner knows when next; their rows tell the first time only."""

_NAMED_MAX: Final = 5
_sql = statements("doctor", "tasker.doctor.sql")

_Connection = asyncpg.Connection


async def examine_database(settings: Settings, clock: Clock) -> list[Finding]:
    """Return what is wrong with the database, its clock and what is kept in it."""
    dsn = settings.database.url
    if dsn is None:
        return [
            Finding(
                code="database_unset",
                detail="no database is named",
                remedy="set database.url (TASKER_DATABASE_URL), or start one here with `tasker up`",
            )
        ]
    try:
        connection = await _connect(dsn)
    except (*MISCONFIGURED, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        where = shown(keys()["database.url"], dsn)
        return [
            Finding(
                code="database_unreachable",
                detail=f"PostgreSQL at {where} cannot be reached: {str(error) or type(error).__name__}",
                remedy="start it, or correct database.url (TASKER_DATABASE_URL)",
            )
        ]
    try:
        return await _examine(connection, dsn, settings, clock)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        return [
            Finding(
                code="database_unreachable",
                detail=f"PostgreSQL ended the examination: {str(error) or type(error).__name__}",
                remedy="look into PostgreSQL's log, and run `tasker doctor` again",
            )
        ]
    finally:
        connection.terminate()


async def _connect(dsn: str) -> _Connection[asyncpg.Record]:
    # No prepared statements: a pooler is to be found, not to be stumbled over.
    return await asyncpg.connect(dsn, timeout=CONNECT_S, command_timeout=30, statement_cache_size=0)


async def _examine(
    connection: _Connection[asyncpg.Record], dsn: str, settings: Settings, clock: Clock
) -> list[Finding]:
    findings = await _server(connection)
    findings += await _sessions(dsn)
    findings += await _clock(connection, settings, clock)
    findings += await _connections(connection, settings)
    try:
        await check_schema(connection)
    except SchemaMismatch as error:
        findings.append(Finding(code="schema", detail=error.detail, remedy=_schema_remedy(error.detail)))
        return findings
    except asyncpg.InsufficientPrivilegeError:
        return [*findings, await _no_privilege(connection, [("schema_info", "SELECT")])]
    refused = await connection.fetch(_sql["privileges"], *map(list, zip(*_NEEDED, strict=True)))
    if refused:
        named = [(row["name"], row["privilege"]) for row in refused]
        return [*findings, await _no_privilege(connection, named)]
    findings += await _partitions(connection)
    return findings + await _lag(connection, settings)


async def _server(connection: _Connection[asyncpg.Record]) -> list[Finding]:
    server = await connection.fetchrow(_sql["server"])
    assert server is not None  # noqa: S101 - a statement without a table has a row
    findings = list(version_findings(server["version"], server["version_text"]))
    if server["encoding"] != "UTF8":
        findings.append(
            Finding(
                code="database_encoding",
                detail=f"the database {server['database']} is in {server['encoding']}",
                remedy="create one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
            )
        )
    if server["standby"] or server["read_only"]:
        findings.append(
            Finding(
                code="database_read_only",
                detail="the server is a standby" if server["standby"] else "transactions are read-only by default",
                remedy="point database.url (TASKER_DATABASE_URL) at the primary"
                if server["standby"]
                else f"ALTER DATABASE {server['database']} SET default_transaction_read_only = off",
            )
        )
    for name, harm in (
        ("fsync", "a power failure or a crash of the system destroys the database"),
        ("full_page_writes", "a power failure may leave torn pages"),
    ):
        if server[name] == "off":
            findings.append(
                Finding(
                    code=f"{name}_off",
                    detail=f"{name} is off: {harm}",
                    remedy=f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()",
                )
            )
    if server["synchronous_commit"] in {"off", "local"}:
        findings.append(
            Finding(
                code="synchronous_commit_off",
                detail=f"synchronous_commit is {server['synchronous_commit']} for {server['username']} in "
                f"{server['database']}: our appends switch it on, whatever else writes there does not",
                remedy=f"ALTER DATABASE {server['database']} SET synchronous_commit = on, "
                "or the same with ALTER ROLE or ALTER SYSTEM, where it is set",
            )
        )
    return findings


def version_findings(version: int, text: str) -> Iterator[Finding]:
    """Yield what is wrong with a server's version, which is a number such as 160004."""
    if version < VERSION_MIN * 10_000:
        yield Finding(
            code="database_version",
            detail=f"PostgreSQL is {text}; {VERSION_MIN} and later are supported",
            remedy=f"upgrade it to {VERSION_MIN} or later",
        )


async def _sessions(dsn: str) -> list[Finding]:
    """Return whether the sessions of two connections stay apart."""
    opened = []
    try:
        for _ in range(2):
            opened.append(await asyncpg.connect(dsn, timeout=CONNECT_S, command_timeout=5))  # noqa: PERF401 - one by one
        await check_sessions(opened)
    except ConfigurationError as error:
        return [
            Finding(
                code="database_pooler",
                detail="the connection does not keep its session, as behind PgBouncer in transaction mode",
                remedy=error.detail.partition(": ")[2] or error.detail,
            )
        ]
    except (Unavailable, *_SILENT):
        # What keeps a second connection from being made has its own finding, or none: the first one works.
        return []
    finally:
        for connection in opened:
            connection.terminate()
    return []


_SILENT: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


async def _clock(connection: _Connection[asyncpg.Record], settings: Settings, clock: Clock) -> list[Finding]:
    best: tuple[int, int] | None = None
    for _ in range(CLOCK_READINGS):
        before_us = clock.now_us()
        theirs_us = await connection.fetchval(_sql["clock"])
        after_us = clock.now_us()
        reading = (after_us - before_us, theirs_us - (before_us + after_us) // 2)
        best = reading if best is None else min(best, reading)
    assert best is not None  # noqa: S101 - there was a reading
    skew_s = best[1] / US_PER_S
    if abs(skew_s) <= settings.doctor.clock_skew_s_max:
        return []
    return [
        Finding(
            code="clock_skew",
            detail=f"this machine's clock is {abs(skew_s):.1f} s {'behind' if skew_s > 0 else 'ahead of'} PostgreSQL's",
            remedy="let NTP or chrony keep both (`timedatectl set-ntp true`)",
        )
    ]


async def _connections(connection: _Connection[asyncpg.Record], settings: Settings) -> list[Finding]:
    facts = await connection.fetchrow(_sql["connections"])
    assert facts is not None  # noqa: S101 - a statement without a table has a row
    needed = settings.database.connections(settings.service.roles)
    findings = []
    free = facts["allowed"] - facts["reserved"] - max(0, facts["others"] - 1)
    if free < needed:
        findings.append(
            Finding(
                code="connections_few",
                detail=f"the service needs {needed} connections; of {facts['allowed']}, {facts['reserved']} are "
                f"reserved and {facts['others'] - 1} taken by others",
                remedy=f"ALTER SYSTEM SET max_connections = {facts['allowed'] + needed - free} and restart PostgreSQL, "
                "or lower database.query_connections",
            )
        )
    limits = [
        (facts["role_limit"], "ALTER ROLE", "the user"),
        (facts["database_limit"], "ALTER DATABASE", "the database"),
    ]
    for limit, command, whose in limits:
        if limit is not None and 0 <= limit < needed:
            findings.append(
                Finding(
                    code="connection_limit",
                    detail=f"{whose} may have {limit} connections; the service needs {needed}",
                    remedy=f"{command} ... CONNECTION LIMIT {needed}, or lower database.query_connections",
                )
            )
    return findings


async def _no_privilege(connection: _Connection[asyncpg.Record], refused: list[tuple[str, str]]) -> Finding:
    user = await connection.fetchval("SELECT current_user")
    names = ", ".join(f"{privilege} on {name}" for name, privilege in refused[:_NAMED_MAX])
    more = f" and {len(refused) - _NAMED_MAX} more" if len(refused) > _NAMED_MAX else ""
    return Finding(
        code="privileges",
        detail=f"the user {user} lacks {names}{more}",
        remedy=f"GRANT ALL ON ALL TABLES IN SCHEMA ... TO {user}, or connect as the owner who ran `tasker migrate`",
    )


def _schema_remedy(detail: str) -> str:
    return "run `tasker migrate`" if "tasker migrate" in detail else "install a newer tasker-service"


async def _partitions(connection: _Connection[asyncpg.Record]) -> list[Finding]:
    facts = await connection.fetchrow(_sql["partitions"])
    if facts is None:
        return []
    heads = await connection.fetch(_sql["heads"])
    head = max((row["position"] for row in heads), default=0)
    left = facts["free_from"] - 1 - head
    if left >= facts["partition_size"]:
        return []
    return [
        Finding(
            code="partitions",
            detail=f"the furthest shard is at {head}, and the table of events ends at {facts['free_from'] - 1}: "
            "no partition is free ahead",
            remedy="start `tasker serve`, which attaches them within 30 s; where it runs, its log says what fails",
        )
    ]


async def _lag(connection: _Connection[asyncpg.Record], settings: Settings) -> list[Finding]:
    """Return what of the service stands still, as the database tells it."""
    bounds = settings.doctor
    rows = await connection.fetch(_sql["heads"])
    findings = []
    unowned = [row["shard"] for row in rows if row["unowned"]]
    if unowned:
        findings.append(
            Finding(
                code="shards_unowned",
                detail=f"nobody holds the lease of {_shards(unowned, len(rows))}: no command on them is taken",
                remedy="start `tasker serve` with the role shards; where it runs, its log says why it takes none",
            )
        )
    now_us = await connection.fetchval(_sql["clock"])
    findings += _unpublished(rows, now_us, bounds)
    heads = {row["shard"]: row["position"] for row in rows}
    views: dict[str, int] = {}
    for row in await connection.fetch(_sql["checkpoints"]):
        views[row["name"]] = max(views.get(row["name"], 0), heads[row["shard"]] - row["position"])
    for name, lag in views.items():
        if lag > bounds.lag_events_max:
            findings.append(
                Finding(
                    code="projection_behind",
                    detail=f"the view {name} is up to {lag} events behind the log",
                    remedy="see that `tasker serve` with the role projections runs; its log names what stops it",
                )
            )
    due_us = await connection.fetchval(_sql["due"], LOOKED_AFTER)
    overdue_s = 0.0 if due_us is None else (now_us - due_us) / US_PER_S
    if overdue_s > bounds.overdue_s_max:
        findings.append(
            Finding(
                code="due_overdue",
                detail=f"the oldest due row has been waiting for {overdue_s:.0f} s",
                remedy="see that `tasker serve` with the role shards runs; its log names tasks that fail",
            )
        )
    return findings


def _unpublished(rows: Sequence[asyncpg.Record], now_us: int, bounds: DoctorSettings) -> Iterator[Finding]:
    """Yield that events are not in the event stream that are many, or that are old."""
    late: dict[int, tuple[int, float]] = {}
    for row in rows:
        lag = row["position"] - row["published"]
        age_s = 0.0 if row["unpublished_us"] is None else (now_us - row["unpublished_us"]) / US_PER_S
        if lag > bounds.lag_events_max or age_s > bounds.overdue_s_max:
            late[row["shard"]] = lag, age_s
    if late:
        lags, ages_s = zip(*late.values(), strict=True)
        yield Finding(
            code="publisher_behind",
            detail=f"the event stream is up to {max(lags)} events and {max(ages_s):.0f} s behind in "
            f"{_shards(list(late), len(rows))}",
            remedy="see that `tasker serve` with the role publisher runs and reaches NATS; where its log says "
            "publishing_interrupted, and that of nats-server that no space is left, make room and restart nats-server",
        )


def _shards(numbers: list[int], of: int) -> str:
    if len(numbers) == of:
        return f"all {of} shards"
    named = ", ".join(map(str, numbers[:_NAMED_MAX]))
    return f"shard {named}{' and others' if len(numbers) > _NAMED_MAX else ''}"
