"""Keeps the views up to date: tails the log and folds it into rows, batch by batch.

It wakes when it is told that the log grew, and looks by itself each second. Idle, it reacts at once; then it
gathers, the busier the log the longer, up to `GATHER_S_MAX`, so that a row is written once for several events.

Any number of processes may run one; one of them writes. The others find the checkpoints moved, stand by and
look from time to time; when the checkpoints stand still although the log goes on, one of them takes over. When the
one that writes says that it ends (`take_over`), they try at once: the checkpoints choose one of them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Final

import structlog

from tasker.clock import Clock
from tasker.errors import Unavailable
from tasker.events.envelope import RecordedEvent
from tasker.outages import Outage
from tasker.projections.checkpoints import CheckpointMoved, Positions, PositionWatch
from tasker.projections.folding import CACHED_ROWS_MAX, Folding
from tasker.projections.projection import Projection
from tasker.projections.store import LogTail, ViewStore

BATCH_EVENTS_MAX: Final = 32000
POLL_S: Final = 1.0
GATHER_S_MIN: Final = 0.02
GATHER_S_MAX: Final = 1.0
GATHER_HURRIED_SHARE: Final = 0.05
"""How much of its pause is left when somebody waits for a position."""

STANDBY_S: Final = 2.0
BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 5.0

_CALM_EVENTS_PER_S: Final = 200.0
_FULL_EVENTS_PER_S: Final = 4000.0
_RATE_WINDOW_S: Final = 0.5

_log = structlog.get_logger(__name__)


class Runner:
    """Follows the log for all `projections` at once.

    Args:
        watch: is told of every step; those who wait at it make the runner gather less.
    """

    def __init__(
        self,
        tail: LogTail,
        store: ViewStore,
        projections: Sequence[Projection[Any]],
        *,
        shards: int,
        clock: Clock,
        watch: PositionWatch | None = None,
        poll_s: float = POLL_S,
        gather_s_max: float = GATHER_S_MAX,
        standby_s: float = STANDBY_S,
        rows_max: int = CACHED_ROWS_MAX,
    ) -> None:
        self._tail = tail
        self._store = store
        self._projections = tuple(projections)
        self._shards = shards
        self._clock = clock
        self._watch = watch
        self._poll_s = poll_s
        self._gather_s_max = gather_s_max
        self._standby_s = standby_s
        self._folding = Folding(store, rows_max=rows_max)
        self._woken = asyncio.Event()
        self._hurried = asyncio.Event()
        self._rate = 0.0
        self._written_s = clock.monotonic_s()
        self._standing_by = False
        self._freed = asyncio.Event()
        self._outage = Outage(_log, "projection_unavailable", clock.monotonic_s)
        self.events = 0
        self.behind = True
        if watch is not None:
            watch.on_wait(self._hurry)

    @property
    def standing_by(self) -> bool:
        """Return whether another process writes the views."""
        return self._standing_by

    def positions(self) -> dict[int, int]:
        """Return shard -> the position that the views have reached."""
        return dict(self._folding.positions)

    def wake(self, heads: Positions | None = None) -> None:
        """Say that the log grew (to `heads`). May be said too often or never."""
        at = self._folding.positions
        if heads is None or any(position > at.get(shard, -1) for shard, position in heads.items()):
            self._woken.set()

    def take_over(self) -> None:
        """Say that who wrote the views has ended. May be said wrongly or never."""
        self._freed.set()

    async def run(self) -> None:
        """Follow the log until cancelled."""
        backoff_s = BACKOFF_S_MIN
        while True:
            try:
                await self._open()
                await self._follow()
            except CheckpointMoved as moved:
                _log.info("projection_standby", error=moved.detail)
                self._standing_by = True
            except Unavailable as error:
                if not self._outage.lasts:
                    backoff_s = BACKOFF_S_MIN
                self._outage.goes_on(error.detail)
                await asyncio.sleep(backoff_s * (0.5 + random.random() / 2))  # noqa: S311 - spreads load, guards nothing
                backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)

    async def catch_up(self) -> None:
        """Fold what the log holds now, and return."""
        await self._open()
        while await self._step():
            pass

    async def _open(self) -> None:
        """Go on where the store is; first wait until nobody else writes."""
        while True:
            versions = await self._store.active([one.name for one in self._projections])
            before = self._folding.positions
            await self._folding.open(((one, versions[one.name]) for one in self._projections), shards=self._shards)
            self._tell()
            if not self._standing_by:
                return
            if self._freed.is_set() or (
                before == self._folding.positions and await self._tail.read_shards(before, limit=1)
            ):
                _log.info("projection_takeover")
                self._freed.clear()
                self._standing_by = False
                return
            try:
                async with asyncio.timeout(self._standby_s):
                    await self._freed.wait()
            except TimeoutError:
                pass

    async def _follow(self) -> None:
        while True:
            self._woken.clear()
            if await self._step():
                await self._gather()
                continue
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _step(self) -> int:
        """Fold one batch; returns its events."""
        limit = max(1, BATCH_EVENTS_MAX // self._shards)
        events = await self._tail.read_shards(self._folding.positions, limit=limit)
        self.behind = _is_full(events, limit)
        if events:
            await self._folding.take(events)
            self._count(len(events))
            self._tell()
        self._outage.is_over()
        return len(events)

    async def _gather(self) -> None:
        """Let events gather, the longer the busier the log is; not when we are behind."""
        if self.behind:
            return
        load = (self._rate - _CALM_EVENTS_PER_S) / _FULL_EVENTS_PER_S
        pause_s = max(min(GATHER_S_MIN, self._gather_s_max), self._gather_s_max * min(1.0, load))
        if pause_s <= 0:
            return
        self._hurried.clear()
        if self._watch is not None and self._watch.waiting:
            await asyncio.sleep(pause_s * GATHER_HURRIED_SHARE)
            return
        try:
            async with asyncio.timeout(pause_s):
                await self._hurried.wait()
        except TimeoutError:
            pass

    def _hurry(self) -> None:
        self._hurried.set()

    def _count(self, events: int) -> None:
        now_s = self._clock.monotonic_s()
        elapsed_s = max(now_s - self._written_s, 1e-4)
        self._written_s = now_s
        weight = min(1.0, elapsed_s / _RATE_WINDOW_S)
        self._rate += weight * (events / elapsed_s - self._rate)
        self.events += events

    def _tell(self) -> None:
        if self._watch is not None:
            self._watch.advance(self._folding.positions)


def _is_full(events: Sequence[RecordedEvent], limit: int) -> bool:
    """Return whether some shard gave as many events as it may: then there are more."""
    if len(events) < limit:
        return False
    counts: dict[int, int] = {}
    for event in events:
        counts[event.shard] = counts.get(event.shard, 0) + 1
    return max(counts.values()) >= limit
