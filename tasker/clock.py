"""The only clock. How its times are written is `times`'s."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a process takes for now."""

    def now_us(self) -> int:
        """Return the time, in microseconds since the Unix epoch."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that only ever grow, for measuring waits."""
        ...


class SystemClock:
    """The machine's own clock, for clients and workers; the service's comes from Postgres."""

    def now_us(self) -> int:
        """Return the machine's time in microseconds since the Unix epoch."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Return the machine's monotonic seconds."""
        return time.monotonic()
