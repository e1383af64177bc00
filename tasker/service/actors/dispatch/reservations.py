"""Which worker was promised an attempt: for three seconds nobody else who asks gets it.

A worker of quick handlers asks ahead of its slots. The promise is recorded nowhere: it makes work that is old as good
as a young first delivery, which runs unasked as well. An owner that takes the task over knows nothing of it.
"""

from __future__ import annotations

from typing import Final

from tasker.events.messages import Report

RESERVED_US: Final = 3_000_000
"""How long a promise holds. Workers begin within two seconds of their question; the third is for `started` to come."""

_SWEEP_AT: Final = 64

_Key = tuple[str, int]


class Reservations:
    """The promises of one task."""

    __slots__ = ("_by_attempt",)

    def __init__(self) -> None:
        self._by_attempt: dict[_Key, tuple[str, int]] = {}

    def denied_until_us(self, report: Report, now_us: int) -> int:
        """Return until when the attempt is another worker's; 0: the one that asks may begin it, or is promised it."""
        key = (report.step, report.attempt)
        worker, until_us = self._by_attempt.get(key, (report.worker, 0))
        if worker != report.worker and now_us < until_us:
            return until_us
        if report.kind == "reserve":
            if len(self._by_attempt) >= _SWEEP_AT:
                self._by_attempt = {one: held for one, held in self._by_attempt.items() if now_us < held[1]}
            self._by_attempt[key] = (report.worker, now_us + RESERVED_US)
        return 0
