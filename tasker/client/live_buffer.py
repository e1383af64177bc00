"""What comes live, held for whoever reads it: nothing waits for a slow reader, and what was lost is told."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Generic, TypeVar

from tasker.errors import Unavailable

T = TypeVar("T")

LIVE_EVENTS_MAX: Final = 10_000
"""Events that wait to be read, above which the newest are lost."""


class LiveBuffer(Generic[T]):
    """Events in the order in which they came.

    Attributes:
        items: those to be read, the next one on the left.
    """

    def __init__(self) -> None:
        self.items: deque[T] = deque()
        self._lost = False
        self._arrived = asyncio.Event()

    def put(self, item: T) -> None:
        """Take the next one."""
        if len(self.items) >= LIVE_EVENTS_MAX:
            self._lost = True
        else:
            self.items.append(item)
        self._arrived.set()

    async def more(self) -> None:
        """Return when another one came; call it when `items` are read.

        Raises:
            Unavailable: some are lost.
        """
        if self._lost:
            raise Unavailable(f"more than {LIVE_EVENTS_MAX} live events waited to be read, and some are lost")
        self._arrived.clear()
        await self._arrived.wait()
