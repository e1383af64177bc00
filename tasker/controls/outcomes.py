"""Counts how attempts of a handler ended of late: the window that a circuit breaker looks at.

Pure: the time, which only has to go forward, is handed in.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from tasker.templates.model import CircuitBreaker

PARTS: Final = 10
"""The window moves on by a tenth of itself, so what is counted is from the last 90 to 100 % of it."""


class Window:
    """The outcomes of the last `window_s` of a breaker."""

    __slots__ = ("_breaker", "_part_s", "_parts", "attempts", "failures")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._part_s = breaker.window_s / PARTS
        self._parts: deque[list[int]] = deque()
        self.attempts = 0
        self.failures = 0

    def add(self, now_s: float, *, failed: bool) -> None:
        """Count an attempt that has just ended."""
        number = int(now_s / self._part_s)
        self._forget(number)
        if not self._parts or self._parts[-1][0] != number:
            self._parts.append([number, 0, 0])
        part = self._parts[-1]
        part[1] += 1
        part[2] += failed
        self.attempts += 1
        self.failures += failed

    def is_too_bad(self, now_s: float) -> bool:
        """Return whether so many of so many failed that the circuit is to open."""
        self._forget(int(now_s / self._part_s))
        return self.attempts >= self._breaker.min_attempts and (
            self.failures >= self._breaker.failure_rate * self.attempts
        )

    def _forget(self, number: int) -> None:
        while self._parts and self._parts[0][0] <= number - PARTS:
            _, attempts, failures = self._parts.popleft()
            self.attempts -= attempts
            self.failures -= failures
