"""A proxy before PostgreSQL that knows its frames: it loses an answer after the commit, or lets a request arrive late.

Each fault is armed for one exchange and taken by the next connection that executes a statement.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.proxies.door import Door

EXECUTE = b"E"
READY = b"Z"
SYNC = b"S"
QUERY = b"Q"
IDLE = b"I"
SOCKET_NAME = ".s.PGSQL.5432"


class PostgresProxy:
    """Forwards connections; see `lose_answer` and `hold_request`."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.door = Door(self.serve)
        self.transaction_pool = False
        """Whether each transaction gets another backend, as in PgBouncer's transaction mode."""
        self._answer_lost: asyncio.Event | None = None
        self._request_held: asyncio.Event | None = None
        self._release = asyncio.Event()
        self._released_answer = asyncio.Event()

    def lose_answer(self) -> asyncio.Event:
        """Cut the next statement's connection when its answer comes; the event tells that it came."""
        self._answer_lost = asyncio.Event()
        return self._answer_lost

    def hold_request(self) -> asyncio.Event:
        """Cut the next statement's connection and keep its bytes for `release_request`; the event tells it is held."""
        self._request_held = asyncio.Event()
        return self._request_held

    async def release_request(self) -> None:
        """Let the held request arrive, and wait until the server has answered it."""
        self._release.set()
        await self._released_answer.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            length = await reader.readexactly(4)
            hello = length + await reader.readexactly(int.from_bytes(length, "big") - 4)
            backends = []
            for _ in range(2 if self.transaction_pool else 1):
                backend = await asyncio.open_unix_connection(self._upstream)
                backends.append(backend)
                writers.append(backend[1])
                backend[1].write(hello)
            if self.transaction_pool:
                await _pool(reader, writer, backends)
            else:
                await self._carry(reader, writer, *backends[0])
        except (OSError, asyncio.IncompleteReadError):
            # The end of a connection.
            pass
        finally:
            for each in writers:
                each.close()

    async def _carry(self, reader, writer, up_reader, up_writer) -> None:
        lost: list[asyncio.Event] = []
        answers = asyncio.create_task(self._answers(writer, up_reader, lost))
        try:
            while True:
                kind, frame = await _frame(reader)
                if kind == EXECUTE and self._request_held is not None:
                    held, self._request_held = self._request_held, None
                    writer.close()
                    answers.cancel()
                    held.set()
                    await self._release.wait()
                    # The client's Sync came in the same write.
                    up_writer.write(frame + (await _frame(reader))[1])
                    while (await _frame(up_reader))[0] != READY:
                        pass
                    self._released_answer.set()
                    return
                if kind == EXECUTE and self._answer_lost is not None:
                    lost.append(self._answer_lost)
                    self._answer_lost = None
                up_writer.write(frame)
        finally:
            answers.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
                await answers

    async def _answers(self, writer, up_reader, lost) -> None:
        while True:
            kind, frame = await _frame(up_reader)
            if not lost:
                writer.write(frame)
            elif kind == READY:
                lost[0].set()
                writer.close()
                return


async def _pool(reader, writer, backends) -> None:
    """Carry messages, each transaction to another backend than the last."""
    states: list[asyncio.Queue[bytes]] = [asyncio.Queue() for _ in backends]

    async def answer(number: int) -> None:
        greeting = True
        while True:
            kind, frame = await _frame(backends[number][0])
            if number == 0 or not greeting:
                writer.write(frame)
            if kind == READY:
                greeting = False
                states[number].put_nowait(frame[-1:])

    answers = [asyncio.create_task(answer(number)) for number in range(len(backends))]
    try:
        for state in states:
            await state.get()
        number = 0
        while True:
            kind, frame = await _frame(reader)
            backends[number][1].write(frame)
            if kind in (SYNC, QUERY) and await states[number].get() == IDLE:
                number = (number + 1) % len(backends)
    finally:
        for task in answers:
            task.cancel()
        await asyncio.gather(*answers, return_exceptions=True)


async def _frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


@asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[tuple[PostgresProxy, str]]:
    """Run a proxy before the server of `dsn` (a Unix socket); yields it and the DSN through it."""
    parts = urlsplit(dsn)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    proxy = PostgresProxy(f"{query['host']}/{SOCKET_NAME}")
    with tempfile.TemporaryDirectory(prefix="tp") as folder:
        server = await asyncio.start_unix_server(proxy.door, Path(folder) / SOCKET_NAME)
        try:
            yield proxy, parts._replace(query=urlencode({**query, "host": folder})).geturl()
        finally:
            server.close()
            await proxy.door.close()
