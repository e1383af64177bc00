"""The clock of a test: begins at a moment that never changes, and goes as its loop does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

from tasker.times import from_datetime

BEGIN: Final = datetime(2030, 1, 1, tzinfo=UTC)


class LoopClock:
    """Implements `Clock` by a loop's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._base_us = from_datetime(BEGIN) - round(loop.time() * 1e6)

    def now_us(self) -> int:
        """Return the time in microseconds since the Unix epoch."""
        return self._base_us + round(self._loop.time() * 1e6)

    def monotonic_s(self) -> float:
        """Return the loop's seconds."""
        return self._loop.time()

    def loop_s(self, at_us: int) -> float:
        """Return the loop's time at a moment."""
        return (at_us - self._base_us) / 1e6
