"""The one connection to NATS that all calls of a client share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from tasker.bus.bus import Bus
from tasker.errors import Unavailable


class SharedBus:
    """A connection that is made with the first call, once however many calls wait for it.

    Args:
        connect: makes it.
        bus: one that there is already.
    """

    def __init__(self, connect: Callable[[], Coroutine[Any, Any, Bus]], bus: Bus | None = None) -> None:
        self._connect = connect
        self._bus = bus
        self._making: asyncio.Task[Bus] | None = None

    async def get(self, *, within_s: float) -> Bus:
        """Return the connection.

        Raises:
            Unavailable: nobody answered in time, or the client was closed meanwhile.
            ConfigurationError: the server refused us.
        """
        if self._bus is not None:
            return self._bus
        try:
            async with asyncio.timeout(within_s):
                while True:
                    others, making = self._making, self._begun()
                    try:
                        return await asyncio.shield(making)
                    except Unavailable:
                        if others is None:
                            raise  # else its time was that of an earlier call, and this one has some left
                    except asyncio.CancelledError:
                        if making.cancelled():
                            raise Unavailable("the client was closed") from None
                        raise
        except TimeoutError as error:
            raise Unavailable(f"no connection to NATS within {within_s:g} s") from error

    async def close(self) -> None:
        """Give it back, or stop making it. Twice is fine."""
        making, (bus, self._bus) = self._making, (self._bus, None)
        if making is not None:
            making.cancel()
            await asyncio.wait({making})
        if bus is not None:
            await bus.close()

    def _begun(self) -> asyncio.Task[Bus]:
        if self._making is None:
            self._making = asyncio.create_task(self._make(), name="connect to NATS")
            self._making.add_done_callback(_retrieved)
        return self._making

    async def _make(self) -> Bus:
        try:
            self._bus = await self._connect()
        finally:
            self._making = None
        return self._bus


def _retrieved(making: asyncio.Task[Bus]) -> None:
    """Take the error of what nobody waits for any more: whoever did was told that it took too long."""
    if not making.cancelled():
        making.exception()
