"""What a worker's log says of attempts that failed: a line each, as many a second as a person can read.

An app that fails at everything fails thousands of times a second. Each failure is recorded with its stack, so the log
leaves out most of them, and says how many.
"""

from __future__ import annotations

from typing import Final

import structlog

from tasker.clock import Clock
from tasker.events.task_events import ErrorInfo
from tasker.handlers.attempt import Attempt
from tasker.handlers.outcome import CANCELLED

LINES_PER_S: Final = 10

_log = structlog.get_logger(__name__)


class FailureLog:
    """One worker's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def tell(self, attempt: Attempt, error: ErrorInfo) -> None:
        """Write that `attempt` failed, and where in the user's code; unless it was cancelled, or many were just now."""
        if error.type == CANCELLED:
            return
        second = int(self._clock.monotonic_s())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= LINES_PER_S:
            self._left_out += 1
            return
        self._lines += 1
        more: dict[str, str | int] = {"exception": error.stack} if error.stack else {}
        if self._left_out:
            more["left_out"] = self._left_out
            self._left_out = 0
        _log.info("attempt_failed", **attempt.ids, error=f"{error.type}: {error.message}", **more)
