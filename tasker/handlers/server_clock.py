"""How old a message is, by the clock of the server that stamped it.

The age of a first delivery decides whether it may run at once. The machine's own wall clock may be minutes off; so
the server is asked for its time, and from there the monotonic clock counts.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import structlog

from tasker.bus.bus import Bus
from tasker.bus.jetstream import api_request
from tasker.clock import Clock, SystemClock
from tasker.errors import Unavailable
from tasker.times import from_rfc3339

REFRESH_S: Final = 60.0
RETRY_S: Final = 1.0

_log = structlog.get_logger(__name__)


class _Told(msgspec.Struct, frozen=True):
    ts: str | None = None


class ServerClock:
    """The JetStream server's time. Until it was asked for nothing is young."""

    def __init__(self, bus: Bus, stream: str, clock: Clock | None = None) -> None:
        self._bus = bus
        self._clock = clock or SystemClock()
        self._stream = stream
        self._offset_us: int | None = None

    def age_us(self, at_us: int) -> int | None:
        """Return how long ago the server stamped a message with `at_us`; None: we cannot tell."""
        if self._offset_us is None:
            return None
        return self._monotonic_us() + self._offset_us - at_us

    def now_us(self) -> int:
        """Return the time; this machine's until the server was asked."""
        if self._offset_us is None:
            return self._clock.now_us()
        return self._monotonic_us() + self._offset_us

    async def refresh(self) -> None:
        """Ask the server.

        Raises:
            Unavailable: it does not answer, or tells no time.
        """
        asked_us = self._monotonic_us()
        told = await api_request(self._bus, f"STREAM.INFO.{self._stream}", None, _Told)
        if told.ts is None:  # a server before 2.10
            self._offset_us = self._clock.now_us() - self._monotonic_us()
            return
        # Stamped before the answer came back: counted from the question, ages come out too old, never too young.
        try:
            self._offset_us = from_rfc3339(told.ts) - asked_us
        except ValueError as error:
            raise Unavailable(f"the server tells no time: {told.ts!r:.60}") from error

    def _monotonic_us(self) -> int:
        return int(self._clock.monotonic_s() * 1e6)

    async def keep(self) -> None:
        """Refresh for ever."""
        while True:
            try:
                await self.refresh()
                await asyncio.sleep(REFRESH_S)
            except Unavailable as error:
                _log.debug("server_clock_not_told", error=str(error))
                await asyncio.sleep(RETRY_S)
