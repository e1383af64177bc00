"""Connections of a proxy: each is carried in a task of its own, and all end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Carry = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Door:
    """Takes connections for `carry`; it is what `asyncio.start_server` calls."""

    def __init__(self, carry: Carry) -> None:
        self._carry = carry
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:
            # The end of a test; a callback that was cancelled would be reported as an error.
            pass
        finally:
            self._tasks.discard(task)

    async def close(self) -> None:
        """End every connection, and return when they are over."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
