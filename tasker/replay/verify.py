"""The log proved: every event read again, every task folded again, every view compared with the fold.

Shards are independent, so several processes share them, the largest first; this one is one of them. A shard costs one
reading of its events and of the views' rows; nothing is written. What is found comes in the order of the shards,
whoever read them.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from tasker.events.position import format_position
from tasker.replay.checkers.tried import read_openings, unexplained
from tasker.replay.findings import Finding, Findings
from tasker.replay.process import Process
from tasker.replay.report import VerifyProgress, VerifyReport
from tasker.replay.shard import ShardResult
from tasker.replay.verifier import Verifier, collecting_rarely, opened

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
    found = _FoundByShard()
    with collecting_rarely():
        async with opened(dsn) as (log, store):
            chosen = range((await log.info()).shards) if shards is None else sorted(set(shards))
            sizes = dict.fromkeys(chosen, 0)
            sizes.update({head.shard: head.position for head in await log.heads(list(chosen))})
            queue = sorted(sizes, key=sizes.__getitem__)
            progress = _Progress(sum(sizes.values()), on_progress)
            count = _count(workers, len(queue), progress.of)
            # Before any shard is read: then each failure that a circuit opened for is below the shard's head.
            openings = await read_openings(log)
            async with Verifier(log, store, found.add, on_progress=progress.add) as verifier:
                start = partial(Process.start, dsn, found.add, progress.add)
                results = await _share(queue, verifier, start, others=count - 1)
    if shards is None and not any(result.is_blind for result in results):
        for finding in unexplained(openings, [result.failures for result in results]):
            found.add(finding)
    findings = found.merged()
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


class _FoundByShard:
    """Collects findings by shard, so that it does not matter which shard was read when."""

    def __init__(self) -> None:
        self._shards: dict[int, Findings] = {}

    def add(self, finding: Finding) -> None:
        """Take `finding`."""
        shard = -1 if finding.shard is None else finding.shard
        self._shards.setdefault(shard, Findings()).add(finding)

    def merged(self) -> Findings:
        """Return all of them, shard by shard."""
        merged = Findings()
        for _, findings in sorted(self._shards.items()):
            merged.take(findings)
        return merged


def _count(workers: int | None, shards: int, events: int) -> int:
    """Return how many processes share the shards."""
    if workers is None:
        # The affinity says what a container may use, where the system has one.
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        workers = 1 if events <= ALONE_EVENTS_MAX else cores
    return max(1, min(workers, shards))


async def _share(
    queue: list[int], verifier: Verifier, start: Callable[[], Awaitable[Process]], *, others: int
) -> list[ShardResult]:
    """Have `verifier` and so many other processes verify the shards of `queue`, from its end."""
    results: list[ShardResult] = []

    async def work(one: Verifier | Process) -> None:
        while queue:
            results.append(await one.verify(queue.pop()))
        await one.stop()  # the others may need long, and nothing of this one is to wait so long

    async def work_apart() -> None:
        process = await start()
        try:
            await work(process)
        finally:
            await process.stop()

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(others):
                group.create_task(work_apart(), name=f"verifying process {number}")
            group.create_task(work(verifier), name="verifying here")
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return results
