"""`started` waits a moment before it is reported: an attempt that ends meanwhile is told of by its outcome alone."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from tasker.clock import Clock
from tasker.handlers.attempt import Attempt, Stop
from tasker.handlers.tick import TICK_S_MIN

STARTED_DELAY_S: Final = 0.005
"""Long enough for what does not wait for anything, and far below any timeout."""

_EARLY_S: Final = TICK_S_MIN / 10


class Starts:
    """Attempts that have begun and are not reported yet.

    Args:
        report: says of an attempt that it has started.
    """

    def __init__(self, clock: Clock, report: Callable[[Attempt], None]) -> None:
        self._clock = clock
        self._report = report
        self._young: deque[tuple[float, Attempt]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def report_soon(self, attempt: Attempt, now_s: float) -> None:
        """Have the attempt reported in a moment, if it has not ended then."""
        self._young.append((now_s + STARTED_DELAY_S, attempt))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(STARTED_DELAY_S, self._report_due)

    def stop(self) -> None:
        """Report no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _report_due(self) -> None:
        self._timer = None
        now_s = self._clock.monotonic_s()
        young = self._young
        while young and young[0][0] <= now_s + _EARLY_S:
            attempt = young.popleft()[1]
            if attempt.running and not attempt.reported and not attempt.recorded and attempt.stop is not Stop.DROPPED:
                self._report(attempt)
        if young:
            delay_s = max(0.0, young[0][0] - now_s)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._report_due)
