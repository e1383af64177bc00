"""How far views are, and waiting until they are further.

A checkpoint is the position of one shard up to which every event is in the rows. It moves in the
transaction that writes the rows, and only from the position the writer believes: of two writers the
second changes nothing and learns that it is the second (`CheckpointMoved`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from tasker.clock import Clock
from tasker.errors import Fenced

Positions = Mapping[int, int]
"""Shard -> position."""

POLL_S: Final = 0.025


class CheckpointMoved(Fenced):
    """Somebody else writes this view: another process, or a rebuild that has switched it. Nothing was written."""


class CheckpointMove(msgspec.Struct, frozen=True):
    """One shard's checkpoint of one view's version, from `old` to `new`."""

    projection: str
    version: int
    shard: int
    old: int
    new: int


class PositionWatch:
    """What this process knows of the views' positions, and waits for them.

    A runner in the same process tells it of each step (`advance`); otherwise it asks the store, once for all
    who wait, while anybody does.
    """

    def __init__(self, read: Callable[[], Awaitable[Positions]], clock: Clock, *, poll_s: float = POLL_S) -> None:
        self._read = read
        self._clock = clock
        self._poll_s = poll_s
        self._asking = asyncio.Lock()
        self._asked_s = float("-inf")
        self._advanced = asyncio.Event()
        self._waiting = 0
        self._hurry: Callable[[], None] | None = None
        self.positions: dict[int, int] = {}

    def on_wait(self, hurry: Callable[[], None]) -> None:
        """Call `hurry` whenever somebody begins to wait, so that a runner does not dawdle."""
        self._hurry = hurry

    @property
    def waiting(self) -> int:
        """Return how many wait now."""
        return self._waiting

    def advance(self, positions: Positions) -> None:
        """Take note of where the views are now."""
        self.positions.update(positions)
        self._advanced.set()
        self._advanced = asyncio.Event()

    async def reach(self, wanted: Positions, *, timeout_s: float) -> bool:
        """Return whether the views reached every position of `wanted` within `timeout_s`."""
        if self._has(wanted):
            return True
        deadline_s = self._clock.monotonic_s() + timeout_s
        self._waiting += 1
        try:
            while not self._has(wanted):
                left_s = deadline_s - self._clock.monotonic_s()
                if left_s <= 0:
                    return False
                if self._hurry is not None:
                    self._hurry()
                try:
                    async with asyncio.timeout(min(left_s, self._poll_s)):
                        await self._advanced.wait()
                except TimeoutError:
                    await self._ask()
            return True
        finally:
            self._waiting -= 1

    def _has(self, wanted: Positions) -> bool:
        return all(self.positions.get(shard, 0) >= position for shard, position in wanted.items())

    async def _ask(self) -> None:
        async with self._asking:
            if self._clock.monotonic_s() - self._asked_s < self._poll_s:
                return
            self.advance(await self._read())
            self._asked_s = self._clock.monotonic_s()
