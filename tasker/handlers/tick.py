"""One timer for the times of all attempts, set to the next due moment of any."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tasker.clock import Clock

TICK_S_MIN: Final = 0.01
_NEVER: Final = float("inf")


class Tick:
    """A timer that is only ever set earlier.

    Args:
        on_due: told the time when it goes off; returns when to go off next, at the latest.
    """

    def __init__(self, clock: Clock, on_due: Callable[[float], float]) -> None:
        self._clock = clock
        self._on_due = on_due
        self._at_s = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, at_s: float) -> None:
        """Go off at `at_s`, unless that is earlier anyway."""
        if at_s >= self._at_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at_s = at_s
        delay_s = max(TICK_S_MIN, at_s - self._clock.monotonic_s())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._go_off)

    def stop(self) -> None:
        """Go off no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _go_off(self) -> None:
        self._timer = None
        self._at_s = _NEVER
        now_s = self._clock.monotonic_s()
        next_s = self._on_due(now_s)
        if next_s < _NEVER:
            self.arm(max(next_s, now_s + TICK_S_MIN))
