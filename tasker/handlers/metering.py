"""What an attempt meters, from whichever of its threads."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from tasker.events.messages import UsageLine
from tasker.events.usage import Metering


class SharedMetering(Metering):
    """A `Metering` that is safe from any thread: a handler may have several."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def add(self, lines: Iterable[UsageLine]) -> None:
        """See `Metering.add`."""
        with self._lock:
            super().add(lines)

    def lines(self) -> tuple[UsageLine, ...]:
        """See `Metering.lines`."""
        with self._lock:
            return super().lines()
