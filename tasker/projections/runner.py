"""Keeps the views up to date: tails the log and folds it into rows, batch by batch.

It wakes when it is told that the log grew, and looks by itself each second. Idle, it reacts at once; then it
gathers, the busier the log the longer, up to `GATHER_S_MAX`, so that a row is written once for several events.

Any number of processes may run one; one of them writes. The others find the checkpoints moved, stand by and
look from time to time; when the checkpoints stand still although the log goes on, one of them takes over. Who finds
then that they moved after all waits longer the next time: the one that writes has long batches. When the
one that writes says that it ends (`take_over`), they try at once: the checkpoints choose one of them.

A batch that cannot be written is tried again by halves: what a busy database does not take in time, it takes in parts.
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
from tasker.projections.store import SHARD_BYTES_MAX, LogTail, ViewStore

BATCH_EVENTS_MAX: Final = 32000
POLL_S: Final = 1.0
GATHER_S_MIN: Final = 0.02
GATHER_S_MAX: Final = 1.0
GATHER_HURRIED_SHARE: Final = 0.05
"""How much of its pause is left when somebody waits for a position."""

STANDBY_S: Final = 2.0
PATIENCE_S_MAX: Final = 60.0
"""So long at most a batch of another process is waited for."""

BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 5.0

_CALM_EVENTS_PER_S: Final = 200.0
_FULL_EVENTS_PER_S: Final = 4000.0
_RATE_WINDOW_S: Final = 0.5
_FORGETS: Final = 0.9
"""So much of its patience a process that stands by keeps at each batch that did not need it."""

_LONG_S: Final = 5.0
_LARGE_BYTES: Final = 256 * 1024
"""Few events have more."""

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
        self._patience_s = standby_s
        self._stalled_s: float | None = None
        """Since when, by what this process saw, nobody has folded what there is to fold; None: somebody does."""
        self._has_guessed = False
        """Whether it has taken over since nobody seemed to write, and has not written yet."""
        self._cut = 1
        """A batch is so much smaller than it may be: the last ones were not written."""
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
                self._stalled_s = None
                if self._has_guessed:
                    self._patience_s = min(PATIENCE_S_MAX, 2 * self._patience_s)
                    self._has_guessed = False
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
            if self._freed.is_set() or await self._is_abandoned(before):
                _log.info("projection_takeover")
                self._has_guessed = not self._freed.is_set()
                self._freed.clear()
                self._standing_by = False
                return
            try:
                async with asyncio.timeout(self._standby_s):
                    await self._freed.wait()
            except TimeoutError:
                pass

    async def _is_abandoned(self, before: Positions) -> bool:
        """Return whether the views have stood still since `before`, and for long, although the log goes on."""
        now_s = self._clock.monotonic_s()
        if before != self._folding.positions:
            stalled_s = 0.0 if self._stalled_s is None else now_s - self._stalled_s
            learned_s = max(2 * stalled_s, _FORGETS * self._patience_s)
            self._patience_s = max(self._standby_s, min(PATIENCE_S_MAX, learned_s))
            self._stalled_s = None
        elif not await self._tail.read_shards(before, limit=1):
            self._stalled_s = None
        elif self._stalled_s is None:
            self._stalled_s = now_s
        return self._stalled_s is not None and now_s - self._stalled_s >= self._patience_s

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
        limit = max(1, BATCH_EVENTS_MAX // (self._shards * self._cut))
        # What came since the last batch is little, unless that was long ago.
        may_be_much = self.behind or self._clock.monotonic_s() - self._written_s > _LONG_S
        bytes_max = max(1, SHARD_BYTES_MAX // self._cut) if may_be_much else None
        try:
            events = await self._tail.read_shards(self._folding.positions, limit=limit, bytes_max=bytes_max)
            self.behind = _is_full(events, limit, bytes_max)
            if events:
                await self._folding.take(events)
        except Unavailable:
            self._cut = min(2 * self._cut, BATCH_EVENTS_MAX)
            self.behind = True
            raise
        if events:
            self._cut = max(1, self._cut // 2)
            self._has_guessed = False
            self._patience_s = self._standby_s
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


def _is_full(events: Sequence[RecordedEvent], limit: int, bytes_max: int | None) -> bool:
    """Return whether some shard gave as much as it may, in events or about so in bytes: then there is more."""
    if not events or (len(events) < limit and bytes_max is None):
        return False
    counts: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for event in events:
        counts[event.shard] = counts.get(event.shard, 0) + 1
        sizes[event.shard] = sizes.get(event.shard, 0) + len(event.payload)
    return max(counts.values()) >= limit or (bytes_max is not None and max(sizes.values()) + _LARGE_BYTES > bytes_max)
