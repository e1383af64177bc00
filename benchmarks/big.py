"""One task of many items: do time and bytes grow as their number does?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from benchmarks.driving import WorkLost
from benchmarks.workloads import BIG, BIG_SIZES

WITHIN_S: Final = 600.0
POLL_S: Final = 0.02

_COMPLETED: Final = "SELECT count(*) FROM event WHERE stream_id = $1 AND type = 'task_completed'"
_SIZE: Final = """
SELECT count(*) AS events, sum(octet_length(payload) + octet_length(meta)) AS bytes FROM event WHERE stream_id = $1
"""
_WAL: Final = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"


class BigTask(msgspec.Struct, frozen=True, kw_only=True):
    """What one task took.

    Attributes:
        seconds: from its creation to its completion in the log.
        ms_per_item: of them.
        log_bytes_per_item: of its events, payload and meta.
        wal_bytes_per_item: that PostgreSQL wrote until the views had everything: log, views and indexes.
    """

    items: int
    events: int
    seconds: float
    ms_per_item: float
    log_bytes_per_item: float
    wal_bytes_per_item: float


Create = Callable[[str, int], Awaitable[list[str]]]


async def run_big(
    create: Create, connection: asyncpg.Connection, caught_up: Callable[[], Awaitable[object]]
) -> list[BigTask]:
    """Run a task of each size, one after the other, the smallest first.

    Raises:
        WorkLost: one does not complete.
    """
    return [await _one(items, create, connection, caught_up) for items in BIG_SIZES]


async def _one(
    items: int, create: Create, connection: asyncpg.Connection, caught_up: Callable[[], Awaitable[object]]
) -> BigTask:
    before = await connection.fetchval(_WAL)
    began_s = time.perf_counter()
    (task_id,) = await create(f"{BIG}{items}", 1)
    while not await connection.fetchval(_COMPLETED, UUID(task_id)):
        if time.perf_counter() - began_s > WITHIN_S:
            raise WorkLost(f"a task of {items} items did not complete within {WITHIN_S:.0f} s")
        await asyncio.sleep(POLL_S)
    seconds = time.perf_counter() - began_s
    await caught_up()
    written = await connection.fetchval(_WAL) - before
    size = await connection.fetchrow(_SIZE, UUID(task_id))
    assert size is not None  # noqa: S101 - an aggregate has a row
    return BigTask(
        items=items,
        events=size["events"],
        seconds=round(seconds, 3),
        ms_per_item=round(1000 * seconds / items, 3),
        log_bytes_per_item=round(float(size["bytes"]) / items, 1),
        wal_bytes_per_item=round(written / items, 1),
    )


def growth_of(tasks: list[BigTask]) -> dict[str, float]:
    """Return how much more an item of the largest task takes than one of the smallest; 1 is linear."""
    small, large = tasks[0], tasks[-1]
    return {
        "ms_per_item": round(large.ms_per_item / small.ms_per_item, 2),
        "log_bytes_per_item": round(large.log_bytes_per_item / small.log_bytes_per_item, 2),
        "wal_bytes_per_item": round(large.wal_bytes_per_item / small.wal_bytes_per_item, 2),
    }
