"""How a peer's application is asked for tasks, and tells their ends: a line of JSON each, on stdin and stdout.

It runs in the peers' environment and imports nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple


class Order(NamedTuple):
    """Tasks to start: one for each of `ids`, with the input `n`."""

    shape: str
    ids: list[str]
    n: int


async def orders() -> AsyncIterator[Order]:
    """Say that the application is ready, and yield what it is to start until stdin ends."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print(json.dumps({"ready": True}), flush=True)
    while line := await lines.readline():
        yield Order(**json.loads(line))


def tell(ids: Sequence[str]) -> None:
    """Tell that these tasks have ended, and that the peer has stored it."""
    print(json.dumps({"ended": ids}), flush=True)
