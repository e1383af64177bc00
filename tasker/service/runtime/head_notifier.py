"""Tells readers that the log grew: at once when a task ended, otherwise soon.

A wake-up only: it may be lost, and readers poll as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from tasker.bus.bus import Bus
from tasker.errors import TaskerError
from tasker.events.codec import encode_message
from tasker.events.envelope import NewEvent
from tasker.events.messages import LogHead
from tasker.events.subjects import Subjects
from tasker.events.task_events import ENDING_TYPES

PAUSE_S: Final = 0.01


class HeadNotifier:
    """Publishes `LogHead` messages."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subject = subjects.log_head
        self._grown: dict[int, int] = {}
        self._next: asyncio.TimerHandle | None = None
        self._sent_s = -PAUSE_S

    def on_committed(self, shard: int, first_position: int, events: Sequence[NewEvent]) -> None:
        """Take note that a shard grew."""
        self._grown[shard] = first_position + len(events) - 1
        loop = asyncio.get_running_loop()
        if not ENDING_TYPES.isdisjoint([event.type for event in events]) and loop.time() >= self._sent_s + PAUSE_S:
            if self._next is not None:
                self._next.cancel()
            self._send()
        elif self._next is None:
            self._next = loop.call_later(PAUSE_S, self._send)

    def on_fenced(self, shard: int) -> None:
        """Forget a shard that is another's."""
        self._grown.pop(shard, None)

    def _send(self) -> None:
        self._next = None
        self._sent_s = asyncio.get_running_loop().time()
        grown, self._grown = self._grown, {}
        try:
            self._bus.publish(self._subject, encode_message(LogHead(positions=grown)))
        except TaskerError:
            # Readers poll; a wake-up that cannot be sent is not missed for long.
            return
