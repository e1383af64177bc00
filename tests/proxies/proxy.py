"""A proxy before a server that knows its frames, and does to them what networks and brokers do.

    async with postgres_proxy(dsn, draw) as proxy:      connect to proxy.url
    proxy.lose_answer()                                 the next request is done, and nobody hears of it
    proxy.tear()                                        the next frame ends in the middle, and with it the connection
    proxy.latency_s = 0.2; proxy.bytes_s = 1000         a slow line, a thin line
    proxy.shuffle = Shuffle(loss=0.02)                  messages of NATS are lost, doubled, overtaken, repeated late
    proxy.calm()                                        everything passes again

What is armed for one frame returns an event, which is set once it has happened.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, Protocol
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import msgspec

from tests.proxies.door import Door
from tests.proxies.frames import STARTUP, Frame, Framing, NatsFraming, PostgresFraming

SOCKET_NAME: Final = ".s.PGSQL.5432"
READ_BYTES: Final = 65536
QUEUE_FRAMES: Final = 256
"""Frames that a direction holds; then it reads no more, as a full socket buffer would."""

PIECES_S: Final = 0.05
"""A thin line passes so much time's worth of bytes at once."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Dialect(Protocol):
    """What a proxy knows of a protocol."""

    def framing(self, *, from_client: bool) -> Framing:
        """Return what cuts one direction into frames."""
        ...

    def asks(self, frame: Frame) -> bool:
        """Return whether a client's frame asks for something whose answer may be lost."""
        ...

    def marker(self) -> bytes:
        """Return what is sent behind a request so that the server says when it is done; empty: it says so anyway."""
        ...

    def done(self, frame: Frame) -> bool:
        """Return whether a server's frame says that it has done what came before."""
        ...

    def is_message(self, frame: Frame) -> bool:
        """Return whether the frame is a message that may be lost or come twice, rather than a part of a dialogue."""
        ...


class Postgres:
    """An answer is whole with ReadyForQuery; a dialogue has no frame that it could do without."""

    def framing(self, *, from_client: bool) -> Framing:
        """See `Dialect.framing`."""
        return PostgresFraming(from_client=from_client)

    def asks(self, frame: Frame) -> bool:
        """See `Dialect.asks`."""
        return frame.kind in {"E", "Q"}

    def marker(self) -> bytes:
        """See `Dialect.marker`."""
        return b""

    def done(self, frame: Frame) -> bool:
        """See `Dialect.done`."""
        return frame.kind == "Z"

    def is_message(self, frame: Frame) -> bool:
        """See `Dialect.is_message`."""
        return False


class Nats:
    """A server answers a ping when it has taken what came before it."""

    def framing(self, *, from_client: bool) -> Framing:
        """See `Dialect.framing`."""
        return NatsFraming()

    def asks(self, frame: Frame) -> bool:
        """See `Dialect.asks`."""
        return frame.kind in {"PUB", "HPUB"} and bool(frame.reply)

    def marker(self) -> bytes:
        """See `Dialect.marker`."""
        return b"PING\r\n"

    def done(self, frame: Frame) -> bool:
        """See `Dialect.done`."""
        return frame.kind == "PONG"

    def is_message(self, frame: Frame) -> bool:
        """See `Dialect.is_message`."""
        return frame.kind in {"PUB", "HPUB", "MSG", "HMSG"}


class Shuffle(msgspec.Struct, kw_only=True):
    """What happens to messages, each by its own draw.

    Attributes:
        loss, duplication: how likely a message is dropped, or comes twice.
        overtaking: how likely it comes behind the next one.
        repetition: how likely a message for a stream, one with an id, is published again after `repeat_after_s`:
            once the stream has forgotten the id.
    """

    loss: float = 0.0
    duplication: float = 0.0
    overtaking: float = 0.0
    repetition: float = 0.0
    repeat_after_s: float = 1.0


class Counts(msgspec.Struct, kw_only=True):
    """What was done, so that a test can say that it was."""

    answers_lost: int = 0
    torn: int = 0
    cut: int = 0
    lost: int = 0
    doubled: int = 0
    overtaken: int = 0
    repeated: int = 0


class Proxy:
    """Forwards connections. Made by `postgres_proxy` or `nats_proxy`.

    Attributes:
        url: where it is reached, as a client wants it.
        latency_s, bytes_s: of each direction of each connection; 0: no limit.
    """

    def __init__(self, dialect: Dialect, upstream: Callable[[], Awaitable[Streams]], draw: random.Random) -> None:
        self.dialect = dialect
        self.draw = draw
        self.url = ""
        self.latency_s = 0.0
        self.bytes_s = 0
        self.shuffle: Shuffle | None = None
        self.counts = Counts()
        self.refuses = False
        """Whether new connections are closed at once."""
        self.errors: list[Exception] = []
        """What it did not understand: a test that used it must fail."""
        self._upstream = upstream
        self._links: set[_Link] = set()
        self._losing: asyncio.Event | None = None
        self._tearing: asyncio.Event | None = None

    # ---------------------------------------------------------------- faults

    def lose_answer(self) -> asyncio.Event:
        """Let the next request pass, swallow what the server says to it, and cut; set when that is done."""
        self._losing = asyncio.Event()
        return self._losing

    def tear(self) -> asyncio.Event:
        """Let half of the next longer frame pass, in the one direction or the other, and reset the connection."""
        self._tearing = asyncio.Event()
        return self._tearing

    def cut(self) -> int:
        """Reset every connection; returns how many there were."""
        links = list(self._links)
        for link in links:
            link.reset()
        self.counts.cut += len(links)
        return len(links)

    def calm(self) -> None:
        """Let everything pass from now on."""
        self.latency_s, self.bytes_s, self.shuffle = 0.0, 0, None
        self._losing = self._tearing = None

    # ---------------------------------------------------------------- for its links

    def takes_answer(self, frame: Frame) -> asyncio.Event | None:
        """Return the event of a lost answer when this frame is the one that asks for it."""
        if self._losing is None or not self.dialect.asks(frame):
            return None
        losing, self._losing = self._losing, None
        return losing

    def takes_torn(self, frame: Frame) -> asyncio.Event | None:
        """Return the event of a torn frame when it is this one."""
        if self._tearing is None or len(frame.data) < _TORN_BYTES_MIN or frame.kind == STARTUP:
            return None
        if self.draw.random() < _TORN_CHANCE:
            return None
        tearing, self._tearing = self._tearing, None
        return tearing

    # ---------------------------------------------------------------- connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        if self.refuses:
            _reset(writer)
            return
        try:
            up = await self._upstream()
        except OSError:
            _reset(writer)
            return
        link = _Link(self, (reader, writer), up)
        self._links.add(link)
        try:
            await link.run()
        except Exception as error:  # noqa: BLE001 - raised where the proxy ends
            self.errors.append(error)
        finally:
            self._links.discard(link)
            link.reset()


_TORN_BYTES_MIN: Final = 24
_TORN_CHANCE: Final = 0.7
"""Of passing: so the torn frame is not always the first one."""


class _Link:
    """One connection of a client and ours to the server."""

    def __init__(self, proxy: Proxy, client: Streams, server: Streams) -> None:
        self.proxy = proxy
        self.client = client[1]
        self.server = server[1]
        self.losing: asyncio.Event | None = None
        """Set while what the server says is swallowed."""
        framing = proxy.dialect.framing
        self._ways = (
            _Way(self, client[0], server[1], framing(from_client=True), from_client=True),
            _Way(self, server[0], client[1], framing(from_client=False), from_client=False),
        )

    async def run(self) -> None:
        """Carry both directions until one ends."""
        jobs = [asyncio.ensure_future(job) for way in self._ways for job in (way.read(), way.write())]
        try:
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            # What was read before the end still passes.
            await asyncio.wait(jobs, timeout=PIECES_S)
        finally:
            for job in jobs:
                job.cancel()
            for found in await asyncio.gather(*jobs, return_exceptions=True):
                if isinstance(found, Exception) and not isinstance(found, (OSError, asyncio.IncompleteReadError)):
                    raise found

    def reset(self) -> None:
        """End both connections at once, without a farewell."""
        _reset(self.client)
        _reset(self.server)


class _Way:
    """One direction of a link: frames are read, doomed or delayed, and written."""

    def __init__(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        framing: Framing,
        *,
        from_client: bool,
    ) -> None:
        self._link = link
        self._proxy = link.proxy
        self._reader = reader
        self._writer = writer
        self._framing = framing
        self._from_client = from_client
        self._queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue(QUEUE_FRAMES)
        self._held: Frame | None = None
        """A message that the next one overtakes."""

    async def read(self) -> None:
        """Take frames until the connection ends."""
        while data := await self._reader.read(READ_BYTES):
            for frame in self._framing.feed(data):
                await self._take(frame)
        await self._queue.put(None)

    async def write(self) -> None:
        """Write what is due."""
        loop = asyncio.get_running_loop()
        while (item := await self._queue.get()) is not None:
            due_s, data = item
            if due_s > loop.time():
                await asyncio.sleep(due_s - loop.time())
            while data:
                bytes_s = self._proxy.bytes_s
                size = max(1, int(bytes_s * PIECES_S)) if bytes_s else len(data)
                self._writer.write(data[:size])
                await self._writer.drain()
                data = data[size:]
                if bytes_s:
                    await asyncio.sleep(PIECES_S)

    async def _take(self, frame: Frame) -> None:
        link, proxy = self._link, self._proxy
        if link.losing is not None:
            if not self._from_client and proxy.dialect.done(frame):
                proxy.counts.answers_lost += 1
                link.losing.set()
                link.reset()
                raise ConnectionResetError
            if not self._from_client or proxy.dialect.marker():
                return
        if self._from_client and (losing := proxy.takes_answer(frame)) is not None:
            await self._send(frame.data + proxy.dialect.marker())
            link.losing = losing
            return
        if (torn := proxy.takes_torn(frame)) is not None:
            self._writer.write(frame.data[: len(frame.data) // 2])
            with suppress(OSError):
                await self._writer.drain()
            proxy.counts.torn += 1
            torn.set()
            link.reset()
            raise ConnectionResetError
        if proxy.shuffle is not None and proxy.dialect.is_message(frame):
            await self._shuffled(frame, proxy.shuffle)
        else:
            await self._release()
            await self._send(frame.data)

    async def _shuffled(self, frame: Frame, shuffle: Shuffle) -> None:
        draw, counts = self._proxy.draw, self._proxy.counts
        if draw.random() < shuffle.loss:
            counts.lost += 1
            return
        if self._held is None and draw.random() < shuffle.overtaking:
            counts.overtaken += 1
            self._held = frame
            return
        await self._send(frame.data)
        if draw.random() < shuffle.duplication:
            counts.doubled += 1
            await self._send(frame.data)
        if _has_id(frame) and draw.random() < shuffle.repetition:
            asyncio.get_running_loop().call_later(shuffle.repeat_after_s, partial(self._repeat, frame))
        await self._release()

    def _repeat(self, frame: Frame) -> None:
        if self._writer.is_closing():
            return
        with suppress(asyncio.QueueFull):
            self._queue.put_nowait((0.0, frame.data))
            self._proxy.counts.repeated += 1

    async def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            await self._send(held.data)

    async def _send(self, data: bytes) -> None:
        due_s = asyncio.get_running_loop().time() + self._proxy.latency_s if self._proxy.latency_s else 0.0
        await self._queue.put((due_s, data))


def _has_id(frame: Frame) -> bool:
    return frame.kind == "HPUB" and b"\r\nNats-Msg-Id:" in frame.data


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that its peer reads a reset where the protocol has one."""
    found = writer.get_extra_info("socket")
    if found is not None and found.family == socket.AF_INET and not writer.is_closing():
        with suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# -------------------------------------------------------------------- the two of them


@asynccontextmanager
async def postgres_proxy(dsn: str, draw: random.Random) -> AsyncIterator[Proxy]:
    """Run a proxy on loopback before the server of `dsn`, which is reached over its Unix socket."""
    parts = urlsplit(dsn)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    path = f"{query.pop('host')}/{SOCKET_NAME}"
    async with _listening(Proxy(Postgres(), partial(asyncio.open_unix_connection, path), draw)) as (proxy, port):
        query["sslmode"] = "disable"
        user = f"{quote(parts.username)}@" if parts.username else ""
        proxy.url = parts._replace(netloc=f"{user}127.0.0.1:{port}", query=urlencode(query)).geturl()
        yield proxy


@asynccontextmanager
async def nats_proxy(url: str, draw: random.Random) -> AsyncIterator[Proxy]:
    """Run a proxy on loopback before the nats-server of `url`."""
    parts = urlsplit(url)
    upstream = partial(asyncio.open_connection, parts.hostname, parts.port)
    async with _listening(Proxy(Nats(), upstream, draw)) as (proxy, port):
        proxy.url = parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}").geturl()
        yield proxy


@asynccontextmanager
async def _listening(proxy: Proxy) -> AsyncIterator[tuple[Proxy, int]]:
    door = Door(proxy.serve)
    server = await asyncio.start_server(door, "127.0.0.1", 0)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        proxy.refuses = True
        await door.close()
    if proxy.errors:
        raise ExceptionGroup("the proxy did not understand", proxy.errors)
