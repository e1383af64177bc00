"""A running service has nothing wrong; each thing that is then broken about it is found."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from tasker import TaskerClient
from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import delete_stream
from tasker.cli import main
from tasker.clock import SystemClock
from tasker.doctor.examine import examine
from tasker.doctor.finding import Finding
from tasker.doctor.http_checks import examine_http
from tasker.doctor.nats_checks import examine_nats
from tasker.events.subjects import Subjects
from tasker.service.compose import run_read, run_write
from tasker.settings import Settings, read_settings
from tests.integration.client.scripted import http_service
from tests.servers import SharedCluster

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.linux]

SHARED = {"fsync_off", "full_page_writes_off"}
"""The cluster that all tests share skips both, to be fast."""

OURS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'tasker%'
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def environ(cluster: SharedCluster, unused_tcp_port_factory) -> AsyncIterator[dict[str, str]]:
    """A running service on a database and a prefix of its own: the environment that names it."""
    dsn = await cluster.create_database()
    port = unused_tcp_port_factory()
    environ = {
        "TASKER_DATABASE_URL": dsn,
        "TASKER_NATS_URL": cluster.addresses().nats_url,
        "TASKER_NATS_PREFIX": f"t{uuid.uuid4().hex[:12]}",
        "TASKER_HTTP_URL": f"http://127.0.0.1:{port}",
        "TASKER_HTTP_PORT": str(port),
        # Little enough for the store of any machine that tests.
        "TASKER_STREAMS_WORK_BYTES_MAX": str(16 * 1024**2),
        "TASKER_STREAMS_EVENTS_BYTES_MAX": str(16 * 1024**2),
        "TASKER_DOCTOR_DISK_FREE_BYTES_MIN": "1",
    }
    async with serving(read_settings(environ).settings):
        yield environ
    await cluster.drop_database(dsn)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[None]:
    """Run the sides that the roles name until the body is over."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as sides:
        if "shards" in settings.service.roles:
            sides.create_task(run_write(settings, stop))
        sides.create_task(run_read(settings, stop))
        async with asyncio.timeout(60):
            while not await _up(settings):  # noqa: ASYNC110 - the service's own pace
                await asyncio.sleep(0.02)
        yield
        stop.set()


async def _up(settings: Settings) -> bool:
    """Return whether the API answers, and where there are shards, that it is ready."""
    found = {one.code for one in await examine_http(settings)}
    return not found or (found == {"http_not_ready"} and "shards" not in settings.service.roles)


async def findings(environ: dict[str, str], folder: Path) -> list[Finding]:
    found = await examine(
        read_settings(environ),
        data=folder / "data",
        stack_file="stack.json",
        clock=SystemClock(),
        on_progress=lambda _: None,
    )
    assert found.ok is (not found.findings)
    return list(found.findings)


async def codes(environ: dict[str, str], folder: Path) -> set[str]:
    return {found.code for found in await findings(environ, folder)} - SHARED


async def test_nothing_is_wrong_with_a_running_service(environ: dict[str, str], tmp_path: Path) -> None:
    assert await codes(environ, tmp_path) == set()


FULL_DISK = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON event FOR EACH STATEMENT EXECUTE FUNCTION full_disk()
"""


async def test_a_database_that_answers_and_takes_no_events_is_told_of_until_it_does(environ: dict[str, str]) -> None:
    settings = read_settings(environ).settings
    connection = await asyncpg.connect(environ["TASKER_DATABASE_URL"])
    async with TaskerClient(environ=environ) as client, asyncio.timeout(60):
        await connection.execute(FULL_DISK)
        registered = asyncio.create_task(client.register({"name": "full", "steps": [{"name": "a"}]}))
        while not (found := await examine_http(settings)):  # noqa: ASYNC110 - the service's own pace
            await asyncio.sleep(0.1)
        assert [one.code for one in found] == ["http_not_ready"]
        assert "shards: shard " in found[0].detail
        assert "nothing can be written for " in found[0].detail
        assert "could not extend file: No space left on device" in found[0].detail
        await connection.execute("DROP TRIGGER full_disk ON event; DROP FUNCTION full_disk")
        await registered
        while await examine_http(settings):  # noqa: ASYNC110 - the service's own pace
            await asyncio.sleep(0.1)
    await connection.close()


async def test_it_holds_no_more_connections_than_the_settings_say(environ: dict[str, str]) -> None:
    """The number is what the doctor asks of the server."""
    connection = await asyncpg.connect(environ["TASKER_DATABASE_URL"])
    held = await connection.fetchval(OURS)
    await connection.close()
    assert 8 <= held <= read_settings(environ).settings.database.connections()


async def test_fsync_and_full_page_writes(environ: dict[str, str], tmp_path: Path) -> None:
    """Found where they are off, not where they are on."""
    assert {"fsync_off", "full_page_writes_off"} <= {found.code for found in await findings(environ, tmp_path)}
    connection = await asyncpg.connect(environ["TASKER_DATABASE_URL"])
    try:
        for name in ("fsync", "full_page_writes"):
            await connection.execute(f"ALTER SYSTEM SET {name} = on")
        await connection.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(60):
            while await connection.fetchval("SHOW fsync") != "on":  # noqa: ASYNC110 - the server's own pace
                await asyncio.sleep(0.01)
        assert await findings(environ, tmp_path) == []
        await asyncio.to_thread(_command_finds_nothing, environ, tmp_path)
    finally:
        for name in ("fsync", "full_page_writes"):
            await connection.execute(f"ALTER SYSTEM RESET {name}")
        await connection.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(60):
            while await connection.fetchval("SHOW fsync") != "off":  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        await connection.close()


def _command_finds_nothing(environ: dict[str, str], folder: Path) -> None:
    """The command says so, with exit code 0; in a thread, as it has an event loop of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("TASKER_")]:
            patch.delenv(name)
        for name, value in {**environ, "TASKER_DATA": str(folder / "data")}.items():
            patch.setenv(name, value)
        assert main(["doctor", "-o", "json"]) == 0


async def test_synchronous_commit(environ: dict[str, str], tmp_path: Path) -> None:
    connection = await asyncpg.connect(environ["TASKER_DATABASE_URL"])
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    try:
        [found] = [one for one in await findings(environ, tmp_path) if one.code not in SHARED]
    finally:
        await connection.execute(f"ALTER DATABASE {name} RESET synchronous_commit")
        await connection.close()
    assert found.code == "synchronous_commit_off"
    assert f"ALTER DATABASE {name} SET synchronous_commit = on" in found.remedy


async def test_settings_that_the_streams_do_not_have(environ: dict[str, str], tmp_path: Path) -> None:
    [found] = [
        one
        for one in await findings(environ | {"TASKER_STREAMS_DEDUPE_S": "60"}, tmp_path)
        if one.code not in SHARED and "_EVENTS" in one.detail
    ]
    assert found.code == "stream_differs"
    assert "duplicate_window is 120000000000, not 60000000000" in found.detail


async def test_a_deleted_stream_until_the_service_has_made_it_again(environ: dict[str, str]) -> None:
    settings = read_settings(environ).settings
    subjects = Subjects(settings.nats.prefix)
    bus = await NatsBus.connect(environ["TASKER_NATS_URL"], name="test")
    # Whoever is quicker: the service looks each second.
    async with asyncio.timeout(60):
        while True:
            await delete_stream(bus, subjects.event_stream)
            if {found.code for found in await examine_nats(settings)} == {"stream_missing"}:
                break
        while await examine_nats(settings):  # noqa: ASYNC110 - the service's own pace
            await asyncio.sleep(0.1)
    await bus.close()


async def test_settings_that_are_odd(environ: dict[str, str], tmp_path: Path) -> None:
    odd = environ | {"TASKER_HTTP_PROT": "1", "TASKER_DATABASE_STATEMENT_TIMEOUT_S": "9"}
    assert await codes(odd, tmp_path) == {"variable_unknown", "timeout_above_lease"}


async def test_a_service_without_shards_is_not_ready(cluster: SharedCluster, unused_tcp_port: int) -> None:
    dsn = await cluster.create_database()
    settings = read_settings(
        {
            "TASKER_DATABASE_URL": dsn,
            "TASKER_NATS_URL": cluster.addresses().nats_url,
            "TASKER_NATS_PREFIX": f"t{uuid.uuid4().hex[:12]}",
            "TASKER_HTTP_URL": f"http://127.0.0.1:{unused_tcp_port}",
            "TASKER_HTTP_PORT": str(unused_tcp_port),
            "TASKER_SERVICE_ROLES": "http",
        }
    ).settings
    async with serving(settings):
        [found] = await examine_http(settings)
    assert found.code == "http_not_ready"
    assert "shards: no owner answers for shard 0" in found.detail
    [found] = await examine_http(settings)
    assert found.code == "http_unreachable"
    await cluster.drop_database(dsn)


@pytest.mark.parametrize(("status", "text"), [(200, '{"hello": 1}'), (404, "not found"), (200, "<html>")])
async def test_another_service_at_the_address_is_told(status: int, text: str) -> None:
    async def stranger(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    async with http_service(stranger) as url:
        [found] = await examine_http(read_settings(environ={"TASKER_HTTP_URL": url}).settings)
    assert found.code == "http_unreachable"
    assert url in found.detail


async def test_findings_as_json_have_a_code_each(environ: dict[str, str], tmp_path: Path) -> None:
    told = json.loads(msgspec.json.encode(await findings(environ | {"TASKER_HTTP_PROT": "1"}, tmp_path)))
    assert {tuple(one) for one in told} == {("code", "detail", "remedy")}
