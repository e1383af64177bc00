"""Schedules that are all due within one second: how late they fire, and how late their tasks are there and done.

All of them are created first, each with one time. Their times lie evenly in a second that begins once they are created.
What is read is the log: when it says that a schedule fired, and that its task was created and ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec

from benchmarks.driving import STUCK_S, WorkLost
from benchmarks.workloads import ARRAY, ARRAYS_IN_FLIGHT, INPUT

TEMPLATE: Final = "one"
AHEAD_S_MIN: Final = 4.0
CREATES_PER_S_MIN: Final = 400
"""The second begins so late that creation is over, if this many schedules are created in one."""

LOOK_S: Final = 0.2

_ENDED = "SELECT count(*) FROM event WHERE type = 'task_completed' AND stream_id = ANY($1::uuid[])"
_FIRED = "SELECT at_us, payload FROM event WHERE type = 'schedule_fired'"
_TIMES = "SELECT stream_id, at_us FROM event WHERE type = $1 AND stream_id = ANY($2::uuid[])"


class Schedules(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured.

    Attributes:
        schedules: fired, each once.
        created_per_s: schedules, in arrays.
        fired_p50_ms, fired_p99_ms: from the time of a schedule to its fire in the log.
        started_p99_ms: from its time to its task in the log. ended_p99_ms: to the end of that.
    """

    schedules: int
    created_per_s: float
    fired_p50_ms: float
    fired_p99_ms: float
    started_p99_ms: float
    ended_p99_ms: float


Accept = Callable[[str, Sequence[object]], Awaitable[object]]


async def measure(accept: Accept, connection: asyncpg.Connection, schedules: int) -> Schedules:
    """Create so many schedules, and wait for the end of their tasks.

    Args:
        accept: sends an array of commands of a verb, and returns when all are accepted.
        connection: to the log.
        schedules: how many.

    Raises:
        WorkLost: creation took longer than the time before they are due; one fired twice, or not at all.
    """
    began_s = time.perf_counter()
    due_us = time.time_ns() // 1000 + round(1e6 * max(AHEAD_S_MIN, schedules / CREATES_PER_S_MIN))
    at_us = {f"due-{number}": due_us + number * 1_000_000 // schedules for number in range(schedules)}
    names = list(at_us)
    arrays = iter([names[start : start + ARRAY] for start in range(0, schedules, ARRAY)])

    async def create() -> None:
        for array in arrays:
            await accept("schedule.create", [{"name": name, "schedule": _document(at_us[name])} for name in array])

    async with asyncio.TaskGroup() as group:
        for _ in range(ARRAYS_IN_FLIGHT):
            group.create_task(create())
    created_s = time.perf_counter() - began_s
    if time.time_ns() // 1000 >= due_us:
        raise WorkLost(f"{schedules} schedules took {created_s:.1f} s to create: the first were due before that")
    fired = await _fired(connection, schedules)
    times_us = {task_id: fire_us for task_id, (fire_us, _) in fired.items()}
    ends_us = await _ends(connection, list(times_us))
    starts_us = await _times(connection, "task_created", list(times_us))
    late = sorted(recorded_us - fire_us for fire_us, recorded_us in fired.values())
    return Schedules(
        schedules=schedules,
        created_per_s=round(schedules / created_s, 1),
        fired_p50_ms=_at(late, 0.5),
        fired_p99_ms=_at(late, 0.99),
        started_p99_ms=_at(sorted(starts_us[one] - at for one, at in times_us.items()), 0.99),
        ended_p99_ms=_at(sorted(ends_us[one] - at for one, at in times_us.items()), 0.99),
    )


def _document(at_us: int) -> dict[str, Any]:
    return {"template": TEMPLATE, "at": [datetime.fromtimestamp(at_us / 1e6, UTC).isoformat()], "input": INPUT}


async def _fired(connection: asyncpg.Connection, wanted: int) -> dict[str, tuple[int, int]]:
    """Return fire time and time of record by task, once all have fired."""

    async def count() -> int:
        return int(await connection.fetchval("SELECT count(*) FROM event WHERE type = 'schedule_fired'"))

    await _until(count, wanted, "fired")
    found = [(msgspec.json.decode(payload), at_us) for at_us, payload in await connection.fetch(_FIRED)]
    fired = {one["task_id"]: (one["fire_us"], at_us) for one, at_us in found}
    if len(fired) != wanted or len(found) != wanted:
        raise WorkLost(f"{wanted} schedules fired {len(found)} times, for {len(fired)} tasks")
    return fired


async def _ends(connection: asyncpg.Connection, task_ids: Sequence[str]) -> dict[str, int]:
    async def count() -> int:
        return int(await connection.fetchval(_ENDED, task_ids))

    await _until(count, len(task_ids), "ended")
    return await _times(connection, "task_completed", task_ids)


async def _times(connection: asyncpg.Connection, kind: str, task_ids: Sequence[str]) -> dict[str, int]:
    return {str(row[0]): row[1] for row in await connection.fetch(_TIMES, kind, task_ids)}


async def _until(count: Callable[[], Awaitable[int]], wanted: int, what: str) -> None:
    seen, moved_s = -1, time.perf_counter()
    while (now := await count()) < wanted:
        if now > seen:
            seen, moved_s = now, time.perf_counter()
        elif time.perf_counter() - moved_s > STUCK_S:
            raise WorkLost(f"{now} of {wanted} schedules' tasks have {what}, and no more in {STUCK_S:g} s")
        await asyncio.sleep(LOOK_S)


def _at(late_us: Sequence[int], share: float) -> float:
    return round(late_us[min(len(late_us) - 1, int(share * len(late_us)))] / 1000, 1)
