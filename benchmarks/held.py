"""Tasks that wait behind one concurrency key: how fast they pass it, and what their waiting costs in memory.

All of them are created first, as fast as the service takes them. From then on nobody adds work: what is measured is how
fast places come back and are given on, in the first half of those that still wait and in the second. Both have the same
rate, and the service the same memory, when a grant costs the same however many wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from benchmarks.driving import STUCK_S, WorkLost
from benchmarks.workloads import ARRAY, HELD

LOOK_S: Final = 0.2


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured.

    Attributes:
        tasks: created. waited: of them, those that had not ended when all were created.
        created_per_s: while others passed already.
        first_half_per_s, second_half_per_s: of those that waited then, how many passed.
        first_half_us, second_half_us: processor time of the write side for one of them, which says the same and is not
            disturbed by what else the machine does.
        rss_mib_waiting, rss_mib_end: memory of the write side when all were created, and when all had ended.
    """

    tasks: int
    waited: int
    created_per_s: float
    first_half_per_s: float
    second_half_per_s: float
    first_half_us: float
    second_half_us: float
    rss_mib_waiting: float
    rss_mib_end: float


Create = Callable[[str, int], Awaitable[list[str]]]
Ended = Callable[[], Awaitable[int]]


async def measure(
    create: Create, ended: Ended, rss_mib: Callable[[], float], cpu_s: Callable[[], float], tasks: int
) -> Held:
    """Create `tasks` tasks of one key and wait for the end of all.

    Args:
        create: creates tasks of a shape.
        ended: returns how many tasks of the key have ended.
        rss_mib: returns the memory of the write side. cpu_s: the processor time that it has used.
        tasks: how many.

    Raises:
        WorkLost: they stop ending before all have.
    """
    began_s = time.perf_counter()
    for start in range(0, tasks, ARRAY):
        await create(HELD, min(ARRAY, tasks - start))
    created_s = time.perf_counter()
    waiting_mib = rss_mib()
    before = await ended()
    half = before + (tasks - before) // 2
    began_cpu_s = cpu_s()
    half_s = await _until(ended, half)
    half_cpu_s = cpu_s()
    end_s = await _until(ended, tasks)
    end_cpu_s = cpu_s()
    return Held(
        tasks=tasks,
        waited=tasks - before,
        created_per_s=round(tasks / (created_s - began_s), 1),
        first_half_per_s=round((half - before) / max(half_s - created_s, 0.001), 1),
        second_half_per_s=round((tasks - half) / max(end_s - half_s, 0.001), 1),
        first_half_us=round(1e6 * (half_cpu_s - began_cpu_s) / max(half - before, 1), 1),
        second_half_us=round(1e6 * (end_cpu_s - half_cpu_s) / max(tasks - half, 1), 1),
        rss_mib_waiting=waiting_mib,
        rss_mib_end=rss_mib(),
    )


async def _until(ended: Ended, wanted: int) -> float:
    """Return when so many have ended."""
    seen, moved_s = -1, time.perf_counter()
    while (now := await ended()) < wanted:
        if now > seen:
            seen, moved_s = now, time.perf_counter()
        elif time.perf_counter() - moved_s > STUCK_S:
            raise WorkLost(f"{now} tasks of {wanted} behind a concurrency key have ended, and no more in {STUCK_S:g} s")
        await asyncio.sleep(LOOK_S)
    return time.perf_counter()
