"""The proxy's faults, each on a server of a few lines that speaks enough of NATS."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest

from tests.proxies.frames import NatsFraming
from tests.proxies.proxy import Proxy, Shuffle, nats_proxy

ANSWER = b"MSG r 1 3\r\nyes\r\n"


class Echo:
    """Answers pings, and a publication with a reply by a message to it; keeps what it took."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.grew = asyncio.Event()
        self.server: asyncio.Server | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framing = NatsFraming()
        try:
            while data := await reader.read(4096):
                for frame in framing.feed(data):
                    if frame.kind == "PING":
                        writer.write(b"PONG\r\n")
                    elif frame.kind in {"PUB", "HPUB"}:
                        self.taken.append(frame.subject)
                        self.grew.set()
                        if frame.reply:
                            writer.write(b"MSG %b 1 3\r\nyes\r\n" % frame.reply.encode())
        except OSError:
            return
        finally:
            writer.close()

    async def took(self, count: int) -> list[str]:
        """Return what was taken, once it is so much."""
        async with asyncio.timeout(10):
            while len(self.taken) < count:
                self.grew.clear()
                await self.grew.wait()
        return self.taken


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.server = server
    yield echo
    server.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    assert echo.server is not None
    port = echo.server.sockets[0].getsockname()[1]
    async with nats_proxy(f"nats://user:secret@127.0.0.1:{port}", random.Random(1)) as proxy:
        yield proxy


async def connected(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))


def asked(subject: str, reply: str = "r") -> bytes:
    return f"PUB {subject} {reply} 2\r\nhi\r\n".encode()


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the connection ends, however that is."""
    found = b""
    try:
        async with asyncio.timeout(10):
            while data := await reader.read(4096):
                found += data
    except ConnectionResetError:
        pass
    return found


async def test_everything_passes_and_the_secret_with_it(proxy: Proxy, echo: Echo) -> None:
    assert proxy.url.startswith("nats://user:secret@127.0.0.1:")
    reader, writer = await connected(proxy)
    writer.write(asked("a") + b"PING\r\n")
    assert await reader.readexactly(len(ANSWER) + 6) == ANSWER + b"PONG\r\n"
    assert await echo.took(1) == ["a"]
    writer.close()


async def test_an_answer_is_lost_behind_a_request_that_was_taken(proxy: Proxy, echo: Echo) -> None:
    reader, writer = await connected(proxy)
    lost = proxy.lose_answer()
    writer.write(b"PUB quiet 2\r\nhi\r\n" + asked("a") + asked("never"))
    assert await all_of(reader) == b""
    assert lost.is_set()
    assert echo.taken == ["quiet", "a"]
    assert proxy.counts.answers_lost == 1
    reader, writer = await connected(proxy)
    writer.write(asked("b"))
    assert (await reader.readexactly(3)) == b"MSG"
    writer.close()


async def test_a_frame_is_torn_and_the_next_connection_is_whole(proxy: Proxy, echo: Echo) -> None:
    torn = proxy.tear()
    reader, writer = await connected(proxy)
    for number in range(100):
        writer.write(asked(f"subject-number-{number}"))
    heard = await all_of(reader)
    assert torn.is_set()
    assert proxy.counts.torn == 1
    assert len(heard) < 100 * len(ANSWER)
    reader, writer = await connected(proxy)
    writer.write(asked("again"))
    assert (await reader.readexactly(3)) == b"MSG"
    writer.close()


async def test_a_cut_ends_every_connection(proxy: Proxy) -> None:
    pairs = [await connected(proxy) for _ in range(3)]
    for reader, writer in pairs:
        writer.write(b"PING\r\n")
        await reader.readexactly(6)
    assert proxy.cut() == 3
    for reader, _ in pairs:
        assert await all_of(reader) == b""


async def test_a_slow_and_thin_line(proxy: Proxy) -> None:
    reader, writer = await connected(proxy)
    proxy.latency_s = 0.05
    started_s = time.monotonic()
    writer.write(b"PING\r\n" * 20)
    await reader.readexactly(120)
    # Once there, once back, and no more although it is twenty frames.
    assert 0.1 <= time.monotonic() - started_s < 0.6
    proxy.calm()
    proxy.bytes_s = 1000
    started_s = time.monotonic()
    writer.write(asked("a" * 200))
    await reader.readexactly(len(ANSWER))
    assert 0.2 <= time.monotonic() - started_s < 2.0
    writer.close()


@pytest.mark.parametrize(
    ("shuffle", "wanted"),
    [
        (Shuffle(loss=1.0), []),
        (Shuffle(duplication=1.0), ["a", "a", "b", "b", "c", "c", "d", "d"]),
        (Shuffle(overtaking=1.0), ["b", "a", "d", "c"]),
    ],
    ids=["lost", "doubled", "overtaken"],
)
async def test_messages_are_shuffled(proxy: Proxy, echo: Echo, shuffle: Shuffle, wanted: list[str]) -> None:
    reader, writer = await connected(proxy)
    proxy.shuffle = shuffle
    writer.write(b"".join(f"PUB {subject} 2\r\nhi\r\n".encode() for subject in "abcd") + b"PING\r\n")
    await reader.readexactly(6)  # what is no message passes
    assert echo.taken == wanted
    writer.close()


async def test_a_message_with_an_id_is_published_again_later(proxy: Proxy, echo: Echo) -> None:
    _, writer = await connected(proxy)
    proxy.shuffle = Shuffle(repetition=1.0, repeat_after_s=0.01)
    headers = b"NATS/1.0\r\nNats-Msg-Id: one\r\n\r\n"
    writer.write(b"HPUB a %d %d\r\n%bhi\r\nPUB b 2\r\nhi\r\n" % (len(headers), len(headers) + 2, headers))
    assert sorted(await echo.took(3)) == ["a", "a", "b"]
    assert proxy.counts.repeated == 1
    writer.close()


async def test_what_is_no_protocol_fails_the_test(echo: Echo) -> None:
    assert echo.server is not None
    port = echo.server.sockets[0].getsockname()[1]

    async def use() -> None:
        async with nats_proxy(f"nats://127.0.0.1:{port}", random.Random(1)) as proxy:
            reader, writer = await connected(proxy)
            writer.write(b"PUB what is this\r\n")
            await all_of(reader)
            writer.close()

    with pytest.raises(ExceptionGroup, match="did not understand"):
        await use()
