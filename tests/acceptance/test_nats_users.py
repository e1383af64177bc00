"""The users of deploy/nats-users.conf, on a real nats-server: each can do its work, and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasker import TaskerClient
from tasker.bus.nats_bus import NatsBus
from tasker.bus.subject_counts import count_subjects
from tasker.client import NewTask
from tasker.embedded._binaries import find_nats
from tasker.errors import AuthenticationFailed, NotPermitted
from tests.acceptance.conftest import READY_S_MAX, ROOT, Process, Service, free_port

pytestmark = [pytest.mark.linux, pytest.mark.timeout(180)]
USERS = ROOT / "deploy" / "nats-users.conf"
APP = """
from tasker import StepContext, Template

paying = Template("paying")


@paying.step(emits=["payment.captured"], heartbeat_s=1)
def capture(ctx: StepContext, input: int) -> int:
    ctx.progress(1, 2, "half")
    ctx.stream("chunk")
    ctx.emit("payment.captured", {"cents": input})
    return input


paying.wait("paid", "paid", after="capture")
"""


class Guarded:
    """A nats-server with these users, and what it has refused."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log

    def url(self, user: str) -> str:
        return f"nats://{user}:{user}-password@127.0.0.1:{self.port}"

    def environ(self, user: str) -> dict[str, str]:
        return {"TASKER_NATS_URL": self.url(user), "TASKER_NATS_INBOX_PREFIX": f"_INBOX_{user}"}

    async def bus(self, user: str) -> NatsBus:
        return await NatsBus.connect(self.url(user), name=user, inbox_prefix=f"_INBOX_{user}")

    def refused(self) -> list[str]:
        return re.findall(r"(?:Publish|Subscription) Violation.*", self._log.read_text())


@pytest.fixture
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    """A server with the users of the file; a test's parameter is left out of what they may do."""
    port = free_port()
    configuration = tmp_path / "nats.conf"
    (tmp_path / "nats-users.conf").write_text(USERS.read_text().replace(getattr(request, "param", "\0"), ""))
    store = (tmp_path / "store").as_posix()
    configuration.write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{store}" }}\ninclude "nats-users.conf"\n'
    )
    passwords = {
        f"NATS_{user.upper()}_PASSWORD": f"{user}-password" for user in ("service", "worker", "client", "reader")
    }
    log = tmp_path / "nats.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [find_nats(None), "-c", str(configuration)], stdout=out, stderr=out, env=os.environ | passwords
        )
    until_s = time.monotonic() + READY_S_MAX
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until_s
            time.sleep(0.01)
    yield Guarded(port, log)
    server.terminate()
    server.wait()


@pytest.fixture
def guarded_service(guarded: Guarded, database: str, tmp_path: Path) -> Iterator[Service]:
    service = Service(database_url=database, nats_url=guarded.url("service"), nats_prefix="tasker", folder=tmp_path)
    service.environ |= guarded.environ("service")
    service.process = service.command("serve", "--http-port", str(service.port))
    try:
        service.start()
        yield service
    finally:
        service.process.stop()


def client_of(user: str, guarded: Guarded, service: Service) -> TaskerClient:
    return TaskerClient(environ=guarded.environ(user) | {"TASKER_HTTP_URL": service.http_url})


async def test_each_user_does_its_work_and_is_refused_nothing(
    guarded: Guarded, guarded_service: Service, tmp_path: Path
) -> None:
    service = guarded_service
    app = tmp_path / "app.py"
    app.write_text(APP)
    worker = Process(["worker", str(app)], service.environ | guarded.environ("worker"), tmp_path / "worker.log")
    worker.start()
    try:
        async with (
            client_of("client", guarded, service) as client,
            client_of("reader", guarded, service) as reader,
            asyncio.timeout(READY_S_MAX),
            reader.subscribe(live=True, types="task_created") as live,
            reader.subscribe(start="start", types="task_completed") as kept,
            reader.subscribe_domain("payment.*") as raised,
        ):
            while "worker_ready" not in worker.said():
                assert worker.ended() is None, worker.said()
                await asyncio.sleep(0.05)
            handle = await client.create("paying", 7)
            assert (await anext(raised)).type == "payment.captured"
            await client.signal(handle, "paid", 1)
            assert (await client.wait(handle)).state == "completed"
            assert (await anext(live)).subject == handle.task_id
            assert (await anext(kept)).subject == handle.task_id
            async with reader.subscribe_domain("payment.*", durable="billing") as durable:
                assert (await anext(durable)).subject == handle.task_id
            assert await reader.forget_domain_subscriber("billing")
            await submitted(guarded)
        doctor = await asyncio.to_thread(service.run, "doctor")
        assert "nats_permissions" not in doctor.stdout
    finally:
        code = worker.stop()
    assert code == 0, worker.said()
    assert guarded.refused() == []


async def submitted(guarded: Guarded) -> None:
    """Submit a command, and return when its verdict has come to a subject of the client's own."""
    bus = await guarded.bus("client")
    told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    bus.subscribe("verdicts.mine", lambda message: told.set_result(message.data))
    body = b'{"template": "paying", "input": 1}'
    headers = {"Tasker-Reply-To": "verdicts.mine", "Idempotency-Key": "submitted-1"}
    await bus.request("tasker.default.submit.task.create", body, headers=headers, timeout_s=10)
    assert b'"ok":true' in await told
    await bus.close()


@pytest.mark.parametrize(
    ("user", "publish", "subscribe"),
    [
        ("client", ["tasker.default.report.0", "tasker.default.slots", "tasker._node.shard.0.cmd", "$JS.API.INFO"], []),
        ("client", ["tasker.other.cmd.task.create"], ["_INBOX_worker.>", "tasker.default.worker.>", "tasker.*.evt.>"]),
        ("worker", ["tasker.default.cmd.task.create", "$JS.API.STREAM.DELETE.TASKER_WORK"], ["tasker.*.cmd.>"]),
        ("worker", ["$JS.API.CONSUMER.CREATE.TASKER_WORK.x.tasker.other.work.>"], ["_INBOX_client.>"]),
        ("reader", ["tasker.default.cmd.task.create", "$JS.API.CONSUMER.MSG.NEXT.TASKER_WORK.x"], ["tasker.*.evt.>"]),
    ],
)
async def test_what_is_not_its_work_is_refused(
    guarded: Guarded, user: str, publish: list[str], subscribe: list[str]
) -> None:
    bus = await guarded.bus(user)
    for subject in publish:
        bus.publish(subject)
    for subject in subscribe:
        bus.subscribe(subject, lambda _message: None)
    await bus.flush(timeout_s=10)
    told = " ".join(guarded.refused())
    assert [subject for subject in (*publish, *subscribe) if f'"{subject}"' not in told] == []
    await bus.close()


@pytest.mark.parametrize("user", ["client", "worker", "reader"])
async def test_a_service_without_permissions_says_what_it_lacks_and_ends(
    guarded: Guarded, database: str, tmp_path: Path, user: str
) -> None:
    service = Service(database_url=database, nats_url=guarded.url(user), nats_prefix="tasker", folder=tmp_path)
    service.environ |= guarded.environ(user)
    assert (await asyncio.to_thread(service.run, "migrate")).returncode == 0
    done = await asyncio.to_thread(service.run, "serve", "--http-port", str(service.port))
    assert done.returncode == NotPermitted.exit_code, done.stderr
    assert "error: NATS does not let this user subscribe to tasker." in done.stderr  # whichever side comes first
    assert ", publish to tasker._node.shard.0." in done.stderr
    assert "deploy/nats-users.conf" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("guarded", ['"$JS.API.>", '], indirect=True)
async def test_a_service_that_may_not_make_its_streams_says_so_and_ends(
    guarded: Guarded, database: str, tmp_path: Path
) -> None:
    service = Service(database_url=database, nats_url=guarded.url("service"), nats_prefix="tasker", folder=tmp_path)
    service.environ |= guarded.environ("service")
    assert (await asyncio.to_thread(service.run, "migrate")).returncode == 0
    done = await asyncio.to_thread(service.run, "serve", "--http-port", str(service.port))
    assert done.returncode == NotPermitted.exit_code, done.stderr
    assert "error: NATS does not let this user publish to $JS.API.STREAM.INFO.TASKER_WORK" in done.stderr


async def test_no_answer_goes_where_the_caller_may_not_publish(guarded: Guarded, guarded_service: Service) -> None:
    """The service may: there an answer would be a command, an event or a mark in its name."""
    bus, overseer = await guarded.bus("client"), await guarded.bus("service")
    for reply in ("tasker.other.submit.task.create", "tasker.other.evt.a.b.c.d", "tasker._log.mark.1000"):
        for body in (b"none", b"[none]", b"[]", b'{"template": "none"}'):
            bus.publish("tasker.default.cmd.task.create", body, reply=reply)
    await bus.request("tasker.default.cmd.task.create", b"none", timeout_s=10)
    assert not await count_subjects(overseer, "TASKER_REFUSALS", ">")
    assert not await count_subjects(overseer, "TASKER_EVENTS", "tasker.other.>")
    assert not await count_subjects(overseer, "TASKER_EVENTS", "tasker._log.mark.1000")
    async with client_of("client", guarded, guarded_service) as client:
        handle = await client.submit(NewTask("none"))  # what is submitted is taken in the order of the stream
        async with asyncio.timeout(READY_S_MAX):
            while not await count_subjects(overseer, "TASKER_REFUSALS", ">"):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
    assert handle
    assert list(await count_subjects(overseer, "TASKER_REFUSALS", ">")) == ["tasker._log.refused.default"]
    await bus.close()
    await overseer.close()


async def test_nobody_listens_in_vain(guarded: Guarded, guarded_service: Service) -> None:
    async with client_of("client", guarded, guarded_service) as client:
        for events in (client.subscribe(live=True), client.subscribe(), client.subscribe_domain()):
            with pytest.raises(NotPermitted, match="NATS does not let this user"):
                await events.__aenter__()


async def refusal_of_worker(guarded: Guarded, user: str, folder: Path) -> str:
    """Return what a worker that lacks permissions says as it ends."""
    app = folder / "app.py"
    app.write_text(APP)
    service = Service(database_url="", nats_url="", nats_prefix="tasker", folder=folder)
    service.environ |= guarded.environ(user)
    done = await asyncio.to_thread(service.run, "worker", str(app))
    assert done.returncode == NotPermitted.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


async def test_a_worker_that_may_not_register_its_templates_ends(guarded: Guarded, tmp_path: Path) -> None:
    told = await refusal_of_worker(guarded, "reader", tmp_path)
    assert "does not let this user publish to tasker.default.cmd.template.register" in told


CREATING = '"$JS.API.CONSUMER.CREATE.TASKER_WORK.*.tasker.default.work.>"'


@pytest.mark.parametrize("guarded", [CREATING], indirect=True)
@pytest.mark.usefixtures("guarded_service")
async def test_a_worker_that_may_not_take_work_says_so_and_ends(guarded: Guarded, tmp_path: Path) -> None:
    told = await refusal_of_worker(guarded, "worker", tmp_path)
    assert "error: NATS does not let this user publish to $JS.API.CONSUMER.CREATE.TASKER_WORK." in told


async def test_who_forgot_the_place_of_answers_is_told_at_once(guarded: Guarded, tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP)
    service = Service(database_url="", nats_url=guarded.url("client"), nats_prefix="tasker", folder=tmp_path)
    for user, arguments in (("client", ["task", "create", "paying"]), ("worker", ["worker", str(app)])):
        service.environ["TASKER_NATS_URL"] = guarded.url(user)
        done = await asyncio.to_thread(service.run, *arguments)
        assert done.returncode == AuthenticationFailed.exit_code, done.stderr
        assert "NATS does not let this user hear answers" in done.stderr
        assert "\nnext: set nats.inbox_prefix (TASKER_NATS_INBOX_PREFIX)" in done.stderr
        assert "Traceback" not in done.stderr


async def test_a_command_that_the_user_may_not_give_says_so(guarded: Guarded) -> None:
    bus = await guarded.bus("reader")
    with pytest.raises(NotPermitted, match="does not let this user publish to tasker"):
        await bus.request("tasker.default.cmd.task.create", b"{}", timeout_s=READY_S_MAX)
    await bus.close()
