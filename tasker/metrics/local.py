"""From process to process of one node: a Unix socket that gives the samples of now and closes.

Not over NATS: when NATS is away is when the numbers are wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from tasker.metrics.sample import Sample, decode_samples, encode_samples

SUPPORTED: Final = hasattr(asyncio, "start_unix_server")
ANSWER_S: Final = 2.0

_log = structlog.get_logger(__name__)


def socket_of(folder: str, process: str) -> Path:
    """Return where the process of that name tells its samples."""
    return Path(folder) / f"{process}.sock"


@contextlib.asynccontextmanager
async def told_at(path: Path, gather: Callable[[], list[Sample]]) -> AsyncIterator[None]:
    """Tell what `gather` returns to everyone who connects to the socket `path`, within the context."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(encode_samples(gather()))
            await writer.drain()
        except OSError as error:
            _log.debug("samples_not_told", error=str(error))
        finally:
            writer.close()

    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - of the process before us, which was killed
    server = await asyncio.start_unix_server(answer, str(path))
    try:
        yield
    finally:
        server.close()


async def ask_at(path: Path) -> list[Sample] | None:
    """Return the samples that are told at `path`; None: nobody tells any in time."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                return decode_samples(await reader.read())
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.DecodeError) as error:
        _log.debug("samples_not_heard", path=path.name, error=str(error))
        return None
