"""The bus on a nats-server that is killed, stopped, restarted and refuses."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from tasker.bus import nats_bus
from tasker.bus.bus import MSG_ID, Bus, Disconnected, Message
from tasker.bus.fast_ingest import open_ingest
from tasker.bus.jetstream import PubAck
from tasker.bus.nats_bus import NatsBus, _options
from tasker.bus.publish import AckedPublisher
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.stream_reader import FromSeq, Gap, StreamReader
from tasker.bus.streams import FAST_INGEST_VERSION, ensure_streams, ensure_work_consumer, stream_info
from tasker.embedded.nats import EmbeddedNats
from tasker.errors import AuthenticationFailed, ConfigurationError, NotPermitted, TaskerError, Unavailable
from tasker.events.subjects import Subjects
from tasker.settings import StreamSettings

pytestmark = [pytest.mark.faults, pytest.mark.linux]

SETTINGS = StreamSettings(work_bytes_max=64 * 1024**2, events_bytes_max=64 * 1024**2, ack_wait_s=1.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A nats-server of this test alone."""
    nats = EmbeddedNats(tmp_path / "nats")
    nats.start()
    yield nats
    nats.remove()


@pytest.fixture
async def bus(server: EmbeddedNats) -> AsyncIterator[NatsBus]:
    connection = await NatsBus.connect(server.url, name="test")
    yield connection
    await connection.close()


class Changes:
    """What the hooks of a bus told, and a way to wait for it."""

    def __init__(self, bus: Bus) -> None:
        self.lost, self.back = asyncio.Event(), asyncio.Event()
        self.told: list[str] = []
        self._bus = bus
        bus.on_disconnect(lambda: self._tell("lost", self.lost))
        bus.on_reconnect(lambda: self._tell("back", self.back))

    async def connected(self) -> None:
        """Return when the bus is connected."""
        while not self._bus.connected:
            self.back.clear()
            await self.back.wait()

    def _tell(self, what: str, event: asyncio.Event) -> None:
        self.told.append(what)
        event.set()


async def restart(server: EmbeddedNats, changes: Changes) -> None:
    """Kill the server, start it again, and return when the bus is back."""
    await asyncio.to_thread(server.kill)
    async with asyncio.timeout(20):
        await changes.lost.wait()
        await asyncio.to_thread(server.start)
        await changes.connected()
    changes.lost.clear()


async def test_a_kill_fails_what_waits_at_once_and_the_rest_comes_back(server: EmbeddedNats, bus: NatsBus) -> None:
    changes, silent, got = Changes(bus), asyncio.Event(), asyncio.Queue[Message]()
    bus.subscribe("never.answers", lambda _: silent.set())
    bus.subscribe("somewhere.>", got.put_nowait, queue="q")
    requests = [asyncio.create_task(bus.request("never.answers", b"", timeout_s=120)) for _ in range(20)]
    await silent.wait()
    started_s = time.monotonic()
    await asyncio.to_thread(server.kill)
    results = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(each, Disconnected) for each in results)
    assert time.monotonic() - started_s < 5
    assert not bus.connected
    with pytest.raises(Disconnected):
        await bus.request("never.answers", b"", timeout_s=120)
    with pytest.raises(Disconnected):
        await bus.flush()
    bus.publish("somewhere.kept", b"while away")
    bus.subscribe("late", got.put_nowait)
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(20):
        await changes.back.wait()
        assert (await got.get()).data == b"while away"
        bus.publish("late", b"subscribed while away")
        assert (await got.get()).data == b"subscribed while away"
        bus.publish("somewhere.else", b"queue group restored")
        assert (await got.get()).data == b"queue group restored"
        answering = bus.subscribe("echo", lambda message: bus.publish(message.reply, message.data))
        assert (await bus.request("echo", b"hello", timeout_s=10)).data == b"hello"
    answering.unsubscribe()
    await bus.flush()
    assert got.empty()
    assert changes.told == ["lost", "back"]


async def test_it_comes_back_each_time(server: EmbeddedNats, bus: NatsBus) -> None:
    changes = Changes(bus)
    for _ in range(3):
        await restart(server, changes)
        await bus.flush()
    assert changes.told == ["lost", "back"] * 3


async def test_a_frozen_server_is_noticed(server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_bus, "_PING_INTERVAL_S", 0.1)
    bus = await NatsBus.connect(server.url, name="test")
    changes = Changes(bus)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            await changes.lost.wait()
    finally:
        os.kill(server.pid, signal.SIGCONT)
    async with asyncio.timeout(20):
        await changes.back.wait()
    await bus.flush()
    await bus.close()


async def test_the_send_buffer_is_bounded(server: EmbeddedNats) -> None:
    bus = await NatsBus.connect(server.url, name="test", pending_bytes_max=1_000_000)
    os.kill(server.pid, signal.SIGSTOP)

    async def send_for_ever() -> None:
        while True:
            bus.publish("a", b"x" * 10_000)
            await asyncio.sleep(0)

    try:
        with pytest.raises(Unavailable):
            await send_for_ever()
    finally:
        os.kill(server.pid, signal.SIGCONT)
    async with asyncio.timeout(20):
        await bus.flush(timeout_s=20)
    bus.publish("a", b"again")
    await bus.close()


async def test_a_frozen_server_does_not_hold_the_close(server: EmbeddedNats) -> None:
    bus = await NatsBus.connect(server.url, name="test")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for _ in range(300):
            bus.publish("a", b"x" * 100_000)
        async with asyncio.timeout(10):
            await bus.close()
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert bus.closed


def test_what_waits_for_a_server_that_is_gone_neither_breaks_nor_holds_the_close(server: EmbeddedNats) -> None:
    """On uvloop, which takes nothing for a connection that is closed; unconfirmed farewells do not wait."""

    async def live() -> float:
        bus = await NatsBus.connect(server.url, name="test")
        changes = Changes(bus)
        subscription = bus.subscribe("a", lambda _: None)
        await asyncio.to_thread(server.kill)
        await changes.lost.wait()
        bus.publish("a", b"nobody takes this")
        started_s = time.monotonic()
        await subscription.drain(timeout_s=10)
        await bus.close()
        return time.monotonic() - started_s

    assert uvloop.run(live()) < 5


async def test_no_server_one_try(server: EmbeddedNats) -> None:
    url = server.url
    await asyncio.to_thread(server.stop)
    started_s = time.monotonic()
    with pytest.raises(Unavailable):
        await NatsBus.connect(url, name="test")
    assert time.monotonic() - started_s < 5


async def test_no_server_yet(server: EmbeddedNats) -> None:
    url = server.url
    await asyncio.to_thread(server.stop)
    connecting = asyncio.create_task(NatsBus.connect(url, name="test", retry_for_s=30))
    await asyncio.to_thread(server.start)
    bus = await connecting
    await bus.flush()
    await bus.close()


async def test_a_wrong_password_is_refused_and_not_tried_again(server: EmbeddedNats) -> None:
    wrong = server.url.replace("tasker:", "tasker:wrong")
    with pytest.raises(AuthenticationFailed):
        await NatsBus.connect(wrong, name="test", retry_for_s=30)


async def test_it_tries_for_as_long_as_it_is_told(unused_tcp_port: int) -> None:
    started_s = time.monotonic()
    with pytest.raises(Unavailable, match="no connection to NATS"):
        await NatsBus.connect(f"nats://127.0.0.1:{unused_tcp_port}", name="test", retry_for_s=0.5)
    assert 0.4 < time.monotonic() - started_s < 3.5


async def test_it_waits_no_longer_for_a_server_that_says_nothing() -> None:
    held: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _reader, writer: held.append(writer), "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        started_s = time.monotonic()
        with pytest.raises(Unavailable):
            await NatsBus.connect(f"nats://127.0.0.1:{port}", name="test", retry_for_s=0.5)
        assert time.monotonic() - started_s < 3.5
        for writer in held:
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize("url", ["", "nats://", "http://127.0.0.1:4222", "nats://host:port"])
async def test_a_url_has_a_form(url: str) -> None:
    with pytest.raises(ConfigurationError):
        await NatsBus.connect(url, name="test")


@pytest.mark.parametrize(("scheme", "port"), [("nats", 4222), ("tls", 4222), ("ws", 80), ("wss", 443)])
def test_an_address_without_a_port_means_that_of_its_scheme(scheme: str, port: int) -> None:
    assert _options(f"{scheme}://host, {scheme}://[::1]:9")["servers"] == [
        f"{scheme}://host:{port}",
        f"{scheme}://[::1]:9",
    ]


async def test_an_encrypted_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    """To a server whose certificate is trusted, as SSL_CERT_FILE says; else there is none, and it is said why."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: NO ENCRYPTED CONNECTION WAS TESTED")
    key, certificate, configuration = (tmp_path / name for name in ("key.pem", "cert.pem", "nats.conf"))
    request = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost")
    making = await asyncio.create_subprocess_exec(
        *(openssl, *request, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await making.wait() == 0
    configuration.write_text(
        f'listen: 127.0.0.1:{unused_tcp_port}\ntls {{ cert_file: "{certificate}", key_file: "{key}" }}\n'
    )
    url = f"tls://127.0.0.1:{unused_tcp_port}"
    async with nats_with(configuration):
        with monkeypatch.context() as trusting:
            trusting.setenv("SSL_CERT_FILE", str(certificate))
            await echoed(url)
        for refused in (url, url.replace("tls://", "nats://")):
            with pytest.raises(Unavailable, match=r"certificate verify failed.*SSL_CERT_FILE"):
                await NatsBus.connect(refused, name="test")
            # As a worker which waits for its server: the end comes between two tries, or in the middle of one.
            with pytest.raises(Unavailable, match=r"certificate verify failed.*SSL_CERT_FILE"):
                await NatsBus.connect(refused, name="test", retry_for_s=0.2)


@pytest.mark.filterwarnings(
    "ignore:parameter 'timeout' of type 'float' is deprecated:DeprecationWarning"
)  # nats-py to aiohttp
async def test_a_connection_through_a_websocket(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> None:
    port, plain = unused_tcp_port_factory(), unused_tcp_port_factory()
    configuration = tmp_path / "nats.conf"
    configuration.write_text(f'listen: 127.0.0.1:{plain}\nwebsocket {{ listen: "127.0.0.1:{port}", no_tls: true }}\n')
    async with nats_with(configuration):
        await echoed(f"ws://127.0.0.1:{port}")


@contextlib.asynccontextmanager
async def nats_with(configuration: Path) -> AsyncIterator[None]:
    """Run a nats-server with a configuration of a test's own."""
    process = await asyncio.create_subprocess_exec("nats-server", "-c", str(configuration), env=path_with_server())
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def echoed(url: str) -> None:
    """Send something large there and back."""
    bus = await NatsBus.connect(url, name="test", retry_for_s=20)
    bus.subscribe("echo", lambda message: bus.publish(message.reply, message.data))
    assert (await bus.request("echo", b"x" * 100_000, timeout_s=10)).data == b"x" * 100_000
    await bus.close()


async def test_nothing_is_said_in_the_clear_where_the_address_asks_for_encryption(server: EmbeddedNats) -> None:
    """Neither user nor password: nats-py alone would go on without a word."""
    with pytest.raises(Unavailable, match="the server does not encrypt"):
        await NatsBus.connect(server.url.replace("nats://", "tls://"), name="test")


async def test_a_refused_publication_does_not_end_the_connection(
    tmp_path: Path, server: EmbeddedNats, caplog: pytest.LogCaptureFixture
) -> None:
    """Permissions are told late and by the way; an odd user and password pass through the URL."""
    await asyncio.to_thread(server.stop)
    configuration = server.data_dir / "restricted.conf"
    configuration.write_text(
        f"listen: 127.0.0.1:{nats_port(server)}\n"
        'authorization { users: [ { user: "a@b", password: "p/w:%", permissions: { publish: ["_INBOX_mine.>", "ok"],'
        ' subscribe: ["_INBOX_mine.>", "ok"] } } ] }\n'
    )
    process = await asyncio.create_subprocess_exec("nats-server", "-c", str(configuration), env=path_with_server())
    try:
        bus = await NatsBus.connect(
            f"nats://a%40b:p%2Fw%3A%25@127.0.0.1:{nats_port(server)}",
            name="test",
            retry_for_s=20,
            inbox_prefix="_INBOX_mine",
        )
        bus.publish("forbidden", b"")
        bus.subscribe("forbidden.too", lambda _: None)
        got = asyncio.Queue[Message]()
        bus.subscribe("ok", got.put_nowait)
        bus.publish("ok", b"1")
        async with asyncio.timeout(10):
            await got.get()
        await bus.flush()
        assert bus.connected
        assert (bus.may_hear("ok"), bus.may_hear("forbidden.too")) == (True, False)
        for _ in range(3):  # each is told at once, and the log says it once
            with pytest.raises(NotPermitted, match="does not let this user publish to Forbidden"):
                await bus.request("Forbidden", b"", timeout_s=60)
        assert await bus.refused_of(heard=["ok", "Two.>"], said=["ok", "Three"]) == [
            "subscribe to Two.>",
            "publish to Three",
        ]
        assert caplog.text.lower().count("permissions violation") == 4
        await bus.close()
    finally:
        process.kill()
        await process.wait()


async def test_publications_in_flight_fail_at_once(server: EmbeddedNats, bus: NatsBus) -> None:
    subjects = Subjects("killed")
    await ensure_streams(bus, subjects, SETTINGS)
    publisher, answers, changes = AckedPublisher(bus), list[PubAck | TaskerError](), Changes(bus)
    os.kill(server.pid, signal.SIGSTOP)
    for number in range(1000):
        publisher.publish_acked(subjects.work("default", "shop", "charge"), b"%d" % number, answers.append)
    await asyncio.to_thread(server.kill)
    async with asyncio.timeout(10):
        await changes.lost.wait()
    assert len(answers) == 1000
    assert all(isinstance(each, Disconnected) for each in answers)
    assert publisher.in_flight == 0
    with pytest.raises(Disconnected):
        publisher.publish_acked("x", b"", answers.append)
    assert publisher.in_flight == 0


@pytest.mark.parametrize("fast", ["fast", "window"])
async def test_feeding_a_stream_goes_on_from_the_last_ack(server: EmbeddedNats, bus: NatsBus, fast: str) -> None:
    """Killed at random moments: everything is stored once, in order."""
    if fast == "fast" and bus.server_version < FAST_INGEST_VERSION:
        pytest.skip("this nats-server has no fast ingest")
    subjects, changes, total = Subjects("fed"), Changes(bus), 4000
    await ensure_streams(bus, subjects, SETTINGS)
    seed = random.randrange(1_000_000)
    print("seed", seed)  # noqa: T201 - to run it again
    rng = random.Random(seed)
    cursor, kills = 0, [rng.randrange(0, total) for _ in range(3)]
    async with asyncio.timeout(60):
        while cursor < total:
            ingest = open_ingest(bus, end_subject=subjects.mark(0), fast=fast == "fast", stall_s=2.0)
            start = cursor
            try:
                for number in range(start, total):
                    await ingest.wait_room()
                    if number in kills:
                        kills.remove(number)
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(server.pid, signal.SIGKILL)
                    ingest.publish(
                        subjects.event("default", "shop", "orders", "t", "step_completed"),
                        b"%d" % number,
                        headers={MSG_ID: f"l:3:{number}"},
                    )
                await ingest.wait_acked()
            except Unavailable:
                pass
            cursor = start + ingest.acked_count
            ingest.close()
            if not bus.connected:
                await restart(server, changes)
    info = await stream_info(bus, subjects.event_stream)
    assert info.state.last_seq == total
    reader = StreamReader(bus, subjects.event_stream, (subjects.evt_all,), FromSeq(1))
    await reader.open()
    items: list[Delivery | Gap] = []
    async with asyncio.timeout(20):
        while len(items) < total:
            items += await reader.read()
    got = [int(each.data) for each in items if isinstance(each, Delivery)]
    assert sorted(got) == list(range(total))
    if fast == "fast":
        assert got == list(range(total))
    await reader.close()


async def test_work_and_events_flow_through_restarts(server: EmbeddedNats, bus: NatsBus) -> None:
    """A pull loop and a reader need no help when the server is killed again and again."""
    subjects, changes, total = Subjects("flow"), Changes(bus), 3000
    await ensure_streams(bus, subjects, SETTINGS)
    consumer = await ensure_work_consumer(bus, subjects, SETTINGS, tenant="default", namespace="shop", queue="charge")
    publisher, done, grown = AckedPublisher(bus), set[int](), asyncio.Event()
    loops: list[PullLoop] = []

    def take(delivery: Delivery) -> None:
        done.add(int(delivery.data))
        loops[0].ack(delivery)
        grown.set()

    loops.append(PullLoop(bus, subjects.work_stream, consumer, take, lambda: 50))
    reader = StreamReader(bus, subjects.event_stream, (subjects.marks_all,), FromSeq(1))
    await reader.open()
    marks: list[int] = []

    async def read() -> None:
        while len(marks) < total:
            marks.extend(int(each.data) for each in await reader.read() if isinstance(each, Delivery))

    async def put(subject: str, number: int) -> None:
        while True:
            try:
                await publisher.publish(subject, b"%d" % number, msg_id=f"{subject}:{number}")
            except Unavailable:
                await changes.connected()
            else:
                return

    reading = asyncio.create_task(read())
    async with asyncio.timeout(90):
        for number in range(total):
            if number in {700, 1500, 2200}:
                os.kill(server.pid, signal.SIGKILL)
                await restart(server, changes)
            await put(subjects.work("default", "shop", "charge"), number)
            await put(subjects.mark(0), number)
        while len(done) < total:
            grown.clear()
            await grown.wait()
        await reading
    assert marks == list(range(total))
    await loops[0].stop()
    await reader.close()


def nats_port(server: EmbeddedNats) -> int:
    text = (server.data_dir / "nats.conf").read_text()
    return int(text.split("listen: 127.0.0.1:")[1].split("\n")[0])


def path_with_server() -> dict[str, str]:
    from tasker.embedded._binaries import find_nats

    return os.environ | {"PATH": f"{find_nats(None).parent}{os.pathsep}{os.environ['PATH']}"}
