"""Whose a cancellation is: of the attempt, or of what a user's own code cancelled and then awaited."""

from __future__ import annotations

import asyncio


def times_cancelled() -> int:
    """Return how often the running asyncio task was told to stop.

    Where that has not grown, an `asyncio.CancelledError` that comes out of an await is an error like any other.
    """
    running = asyncio.current_task()
    return 0 if running is None else running.cancelling()
