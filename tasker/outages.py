"""How the log tells that something is away: when that begins, then less and less often, and once when it is over.

Whoever tries again twice a second would fill the log with one line for as long as a server is gone, and so would
everybody who asks meanwhile (`Repetition`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

SILENT_S_MIN: Final = 1.0
SILENT_S_MAX: Final = 20.0
"""As long as the supervisor waits at most between two tries of a process whose servers are away."""


class Log(Protocol):
    """A logger of structlog."""

    def info(self, event: str, **fields: Any) -> object:
        """Write a line."""
        ...

    def warning(self, event: str, **fields: Any) -> object:
        """Write a line that somebody should see."""
        ...


class _Pauses:
    """The time between two lines: after each one twice as long.

    Attributes:
        due_s: when the next line may be written.
    """

    def __init__(self) -> None:
        self.due_s = float("-inf")
        self._silent_s = SILENT_S_MIN

    def told(self, now_s: float) -> None:
        """Take note that a line is written now."""
        self.due_s = now_s + self._silent_s
        self._silent_s = min(self._silent_s * 2, SILENT_S_MAX)


class Outage:
    """Tells of one thing that cannot be done for a while.

    Args:
        log: where.
        name: the lines' event, as in `streams_not_checked`.
        monotonic_s: seconds that only grow.
    """

    def __init__(self, log: Log, name: str, monotonic_s: Callable[[], float]) -> None:
        self._log = log
        self._name = name
        self._monotonic_s = monotonic_s
        self._since_s: float | None = None
        self._pauses = _Pauses()

    @property
    def lasts(self) -> bool:
        """Return whether the last try failed."""
        return self._since_s is not None

    def goes_on(self, error: str) -> None:
        """Take note that a try failed, and say so if nothing was said for long enough."""
        now_s = self._monotonic_s()
        if self._since_s is None:
            self._since_s, self._pauses = now_s, _Pauses()
        if now_s < self._pauses.due_s:
            return
        self._log.warning(self._name, error=error, lasts_s=round(now_s - self._since_s, 1))
        self._pauses.told(now_s)

    def is_over(self) -> None:
        """Take note that a try succeeded, and say so if the one before had failed."""
        if self._since_s is not None:
            self._log.info("outage_over", outage=self._name, lasted_s=round(self._monotonic_s() - self._since_s, 1))
            self._since_s = None


class Repetition:
    """Tells of what befalls one caller after the other, for the same reason: the first, then fewer and fewer of them.

    Args:
        log: where.
        name: the lines' event, as in `http_error`.
        monotonic_s: seconds that only grow.
    """

    def __init__(self, log: Log, name: str, monotonic_s: Callable[[], float]) -> None:
        self._log = log
        self._name = name
        self._monotonic_s = monotonic_s
        self._pauses = _Pauses()
        self._left_out = 0

    def tell(self, **fields: Any) -> None:
        """Write a line, unless one was written lately; the next one says how many were left out since."""
        now_s = self._monotonic_s()
        if now_s < self._pauses.due_s:
            self._left_out += 1
            return
        if now_s - self._pauses.due_s > SILENT_S_MAX:
            self._pauses = _Pauses()
        more = {"left_out": self._left_out} if self._left_out else {}
        self._log.warning(self._name, **fields, **more)
        self._left_out = 0
        self._pauses.told(now_s)
