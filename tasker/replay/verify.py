"""The log proved: every event read again, every task folded again, every view compared with the fold.

Shards are independent, so several processes share them, the largest first. A shard costs one reading of its events
and of the views' rows; nothing is written.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from tasker.errors import Undecodable
from tasker.events.log import EventLog
from tasker.events.position import format_position
from tasker.replay.findings import Findings, Report
from tasker.replay.process import Process
from tasker.replay.report import VerifyProgress, VerifyReport
from tasker.replay.shard import ShardResult
from tasker.replay.verifier import Verifier, opened

ALONE_EVENTS_MAX: Final = 50_000
"""A log of no more events is read by this process sooner than by others that have to start first."""

OnProgress = Callable[[VerifyProgress], None]


async def verify(
    dsn: str,
    *,
    workers: int | None = None,
    shards: Sequence[int] | None = None,
    on_progress: OnProgress = lambda _: None,
) -> VerifyReport:
    """Verify the log in the database that `dsn` names, with its views, and return what was found.

    The service may go on meanwhile: each shard is checked up to its head at the moment when its turn comes.

    Args:
        dsn: of PostgreSQL itself.
        workers: processes; None: one a core, or this one alone for a small log.
        shards: those to verify; None: all.
        on_progress: told now and then how far it is.

    Raises:
        Unavailable: the database cannot be read.
        ConfigurationError: it has no log that this build can read.
    """
    started_s = time.monotonic()
    findings = Findings()
    async with opened(dsn) as (log, store):
        chosen = range((await log.info()).shards) if shards is None else sorted(set(shards))
        sizes = {shard: await _size(log, shard) for shard in chosen}
        queue = sorted(sizes, key=sizes.__getitem__)
        progress = _Progress(sum(sizes.values()), on_progress)
        count = _count(workers, len(queue), progress.of)
        if count == 1:
            async with Verifier(log, store, findings.add, on_progress=progress.add) as verifier:
                results = [await verifier.verify(shard) for shard in queue]
        else:
            results = await _share(dsn, queue, count, findings.add, progress.add)
    seconds = time.monotonic() - started_s
    events = sum(result.events for result in results)
    return VerifyReport(
        events=events,
        tasks=sum(result.tasks for result in results),
        shards=len(results),
        rows=sum(result.rows for result in results),
        position=format_position({result.shard: result.position for result in results}),
        findings=findings.kept,
        findings_total=findings.total,
        seconds=round(seconds, 3),
        events_per_s=round(events / seconds, 1),
        workers=count,
    )


class _Progress:
    """Adds up what several shards report."""

    def __init__(self, of: int, on_progress: OnProgress) -> None:
        self.of = of
        self._events = 0
        self._on_progress = on_progress

    def add(self, events: int) -> None:
        self._events += events
        self._on_progress(VerifyProgress(events=self._events, of=max(self.of, self._events)))


def _count(workers: int | None, shards: int, events: int) -> int:
    """Return how many processes share the shards."""
    if workers is None:
        # The affinity says what a container may use, where the system has one.
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        workers = 1 if events <= ALONE_EVENTS_MAX else cores
    return max(1, min(workers, shards))


async def _size(log: EventLog, shard: int) -> int:
    try:
        return max((head.position for head in await log.heads([shard])), default=0)
    except Undecodable:
        return 0


async def _share(
    dsn: str, queue: list[int], count: int, report: Report, on_progress: Callable[[int], None]
) -> list[ShardResult]:
    """Have `count` processes verify the shards of `queue`, from its end."""
    results: list[ShardResult] = []

    async def work() -> None:
        process = await Process.start(dsn, report, on_progress)
        try:
            while queue:
                results.append(await process.verify(queue.pop()))
        finally:
            await process.stop()

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(work(), name=f"verifying process {number}")
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return results
