"""What is wrong with NATS: each caused for real."""

import json
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tasker.bus.jetstream import api_request
from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import (
    StreamInfo,
    delete_stream,
    ensure_streams,
    ensure_work_consumer,
    stream_info,
    update_work_consumers,
)
from tasker.doctor.finding import Finding
from tasker.doctor.nats_checks import examine_nats, server_findings
from tasker.embedded._binaries import find_nats
from tasker.events.subjects import Subjects
from tasker.settings import DoctorSettings, NatsSettings, Settings, StreamSettings

SMALL = StreamSettings(work_bytes_max=2 * 1024**2, events_bytes_max=2 * 1024**2, work_messages_per_queue_max=10)
READY_S_MAX = 20.0


@pytest.fixture
def subjects(nats_prefix: str) -> Subjects:
    return Subjects(nats_prefix)


@pytest.fixture
async def bus(nats_url: str, subjects: Subjects) -> AsyncIterator[NatsBus]:
    connection = await NatsBus.connect(nats_url, name="test")
    yield connection
    for name in (subjects.work_stream, subjects.event_stream, subjects.command_stream, subjects.refusal_stream):
        await delete_stream(connection, name)
    await connection.close()


async def findings(url: str | None, prefix: str = "tasker", *, streams: StreamSettings = SMALL) -> list[Finding]:
    settings = Settings(
        nats=NatsSettings(url=url, prefix=prefix, inbox_prefix="_INBOX_doctor"),
        streams=streams,
        doctor=DoctorSettings(stream_full_share_max=0.5),
    )
    return await examine_nats(settings)


async def the_finding(url: str | None, prefix: str = "tasker", **more: StreamSettings) -> Finding:
    [found] = await findings(url, prefix, **more)
    return found


async def test_no_nats_is_named() -> None:
    assert (await the_finding(None)).code == "nats_unset"


async def test_nats_that_cannot_be_reached(unused_tcp_port: int, nats_url: str) -> None:
    found = await the_finding(f"nats://u:secret@127.0.0.1:{unused_tcp_port}")
    assert found.code == "nats_unreachable"
    assert "secret" not in found.detail
    found = await the_finding(nats_url.replace("tasker:", "nobody:"))
    assert found.code == "nats_unreachable"


@pytest.mark.parametrize(
    ("version", "payload", "codes"),
    [((2, 11), 1 << 20, ["nats_version"]), ((2, 12), 1 << 20, []), ((3, 0), 1 << 19, ["nats_payload"])],
)
def test_an_old_server(version: tuple[int, int], payload: int, codes: list[str]) -> None:
    assert [found.code for found in server_findings(version, payload)] == codes


async def test_streams_that_are_not_there_and_then_are(bus: NatsBus, nats_url: str, subjects: Subjects) -> None:
    found = await findings(nats_url, subjects.prefix)
    assert [one.code for one in found] == ["stream_missing"] * 4
    await ensure_streams(bus, subjects, SMALL)
    assert await findings(nats_url, subjects.prefix) == []
    await delete_stream(bus, subjects.work_stream)
    found = await findings(nats_url, subjects.prefix)
    assert [subjects.work_stream in one.detail for one in found] == [True]


async def test_trying_permissions_stores_nothing(bus: NatsBus, nats_url: str, subjects: Subjects) -> None:
    await ensure_streams(bus, subjects, SMALL)
    assert await findings(nats_url, subjects.prefix) == []
    for name in subjects.streams:
        state = (await stream_info(bus, name)).state
        assert state.last_seq == max(0, state.first_seq - 1)


async def test_a_stream_that_somebody_changed(bus: NatsBus, nats_url: str, subjects: Subjects) -> None:
    await ensure_streams(bus, subjects, SMALL)
    info = await stream_info(bus, subjects.event_stream)
    changed = info.config | {"max_age": 60_000_000_000, "duplicate_window": 60_000_000_000}
    await api_request(bus, f"STREAM.UPDATE.{subjects.event_stream}", changed, StreamInfo)
    found = await the_finding(nats_url, subjects.prefix)
    assert found.code == "stream_differs"
    assert "max_age is 60000000000, not 259200000000000" in found.detail


async def test_a_stream_for_which_there_was_no_room(bus: NatsBus, nats_url: str, subjects: Subjects) -> None:
    """Far more than the server has: the service asks for half as much, and so on."""
    huge = StreamSettings(work_bytes_max=1 << 53, events_bytes_max=2 * 1024**2, work_messages_per_queue_max=10)
    await ensure_streams(bus, subjects, huge)
    found = await findings(nats_url, subjects.prefix, streams=huge)
    assert "stream_small" in {one.code for one in found}
    assert any(subjects.work_stream in one.detail for one in found)


async def test_work_that_waits(bus: NatsBus, nats_url: str, subjects: Subjects) -> None:
    """In a queue without a worker; then in one that is nearly full; then in a stream that is."""
    await ensure_streams(bus, subjects, SMALL)
    queue = subjects.work("acme", "shop", "orders")
    for _ in range(5):
        await bus.request(queue, b"{}", timeout_s=5)
    found = await the_finding(nats_url, subjects.prefix)
    assert found.code == "consumer_missing"
    assert f"5 messages wait in {queue}" in found.detail
    await ensure_work_consumer(bus, subjects, SMALL, tenant="acme", namespace="shop", queue="orders")
    assert await findings(nats_url, subjects.prefix) == []
    await bus.request(queue, b"{}", timeout_s=5)
    found = await the_finding(nats_url, subjects.prefix)
    assert found.code == "stream_full"
    assert f"6 of 10 messages wait in {queue}" in found.detail
    await bus.request(queue, bytes(900_000), timeout_s=5)
    await bus.request(queue, bytes(900_000), timeout_s=5)
    found_all = await findings(nats_url, subjects.prefix)
    assert [one.code for one in found_all] == ["stream_full", "stream_full"]
    assert "streams.work_bytes_max" in found_all[0].remedy


async def test_a_consumer_with_other_settings(bus: NatsBus, nats_url: str, subjects: Subjects) -> None:
    await ensure_streams(bus, subjects, SMALL)
    await ensure_work_consumer(bus, subjects, SMALL, tenant="acme", namespace="shop", queue="orders")
    other = StreamSettings(
        work_bytes_max=SMALL.work_bytes_max,
        events_bytes_max=SMALL.events_bytes_max,
        work_messages_per_queue_max=10,
        ack_wait_s=7.0,
    )
    found = await the_finding(nats_url, subjects.prefix, streams=other)
    assert found.code == "consumer_differs"
    assert "ack_wait is 30000000000, not 7000000000" in found.detail
    assert "restart `tasker serve`" in found.remedy
    assert await update_work_consumers(bus, subjects, other) == 1
    assert await findings(nats_url, subjects.prefix, streams=other) == []


# ---------------------------------------------------------------- a server with accounts of its own

ACCOUNTS = """
max_payload: 400KB
jetstream { store_dir: %s }
accounts {
  FULL { jetstream: { max_file: 1MB, max_streams: 10 }, users: [ { user: full, password: p } ] }
  NONE { users: [ { user: none, password: p } ] }
  SOME {
    jetstream: enabled
    users: [ { user: some, password: p, permissions: {
      publish: { allow: ["_INBOX_doctor.>", "tasker.*.cmd.>", "$JS.API.>"] },
      subscribe: { allow: ["_INBOX_doctor.>", "tasker.*.cmd.>"] } } } ]
  }
}
"""


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a nats-server with accounts, to be given a user."""
    folder = tmp_path_factory.mktemp("accounts")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = folder / "nats.conf"
    configuration.write_text(f"listen: 127.0.0.1:{port}\n" + ACCOUNTS % json.dumps(str(folder / "store")))
    with Path(folder / "log").open("wb") as log:
        server = subprocess.Popen([find_nats(None), "-c", str(configuration)], stdout=log, stderr=log)
    until_s = time.monotonic() + READY_S_MAX
    while time.monotonic() < until_s:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.01)
    yield f"127.0.0.1:{port}"
    server.terminate()
    server.wait()


async def test_an_account_without_jetstream(accounts: str) -> None:
    found = {one.code: one for one in await findings(f"nats://none:p@{accounts}")}
    assert set(found) == {"nats_payload", "jetstream_off"}
    assert "400000" in found["nats_payload"].detail or "409600" in found["nats_payload"].detail


async def test_a_user_who_may_do_too_little(accounts: str) -> None:
    found = {one.code: one for one in await findings(f"nats://some:p@{accounts}")}
    assert set(found) == {"nats_payload", "nats_permissions", "stream_missing"}
    told = found["nats_permissions"].detail
    assert "subscribe to tasker.*.report.*, subscribe to tasker.*.slots, " in told
    assert "tasker.*.cmd.>" not in told


async def test_a_store_that_is_nearly_full(accounts: str) -> None:
    url = f"nats://full:p@{accounts}"
    bus = await NatsBus.connect(url, name="test")
    await api_request(
        bus, "STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["other"], "storage": "file"}, StreamInfo
    )
    for _ in range(3):
        await bus.request("other", bytes(330_000), timeout_s=5)
    await bus.close()
    found = {one.code for one in await findings(url)}
    assert found == {"nats_payload", "jetstream_full", "stream_missing"}
