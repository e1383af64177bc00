"""The real service as processes, `tasker serve` and `tasker worker`, on a database, prefix and port of their own."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tasker import TaskerClient
from tasker.client.attempts import RetryPolicy
from tasker.embedded.stack import Stack
from tasker.errors import TemplateUnknown
from tasker.events.postgres_log import migrate
from tasker.events.reads import TaskView
from tests.servers import SharedCluster

if TYPE_CHECKING:
    from tests.acceptance.faults import Lines, Rig

ROOT = Path(__file__).resolve().parents[2]
READY_S_MAX = 60.0
STOP_S_MAX = 45.0


class Process:
    """A `tasker` command that runs until it is stopped; its output is in a file."""

    def __init__(self, arguments: list[str], environ: dict[str, str], log: Path) -> None:
        self.arguments = arguments
        self.log = log
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, or start it again."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tasker", *self.arguments],
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended(self) -> int | None:
        """Return its exit code; None while it runs."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """End it with SIGKILL; its children are on their own."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask it to drain, and return its exit code. Twice is fine."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def said(self) -> str:
        """Return the end of its output."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


class Service:
    """A running service, and how to reach it."""

    def __init__(self, *, database_url: str, nats_url: str, nats_prefix: str, folder: Path) -> None:
        self.port = free_port()
        self.http_url = f"http://127.0.0.1:{self.port}"
        self.database_url = database_url
        self.nats_url = nats_url
        self.nats_prefix = nats_prefix
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKER_")}
        self.environ = kept | {
            "TASKER_DATABASE_URL": database_url,
            "TASKER_NATS_URL": nats_url,
            "TASKER_NATS_PREFIX": nats_prefix,
            "TASKER_HTTP_URL": self.http_url,
        }
        self.process = self.command("serve", "--http-port", str(self.port))

    def command(self, *arguments: str) -> Process:
        """Return a `tasker` command on this service, not yet started."""
        return Process(list(arguments), self.environ, self.folder / f"{arguments[0]}-{uuid.uuid4().hex[:6]}.log")

    def run(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Return what a `tasker` command that ends by itself said."""
        return subprocess.run(
            [sys.executable, "-m", "tasker", *arguments],
            cwd=ROOT,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def client(self, *, timeout_s: float = 30.0, attempt_s: float = RetryPolicy().attempt_s) -> TaskerClient:
        """Return a client of this service."""
        return TaskerClient(
            self.nats_url,
            self.http_url,
            nats_prefix=self.nats_prefix,
            environ={},
            timeout_s=timeout_s,
            retry=RetryPolicy(attempt_s=attempt_s),
        )

    def create_when_registered(self, template: str, given: object, *, namespace: str = "default") -> TaskView:
        """Return a new task when it is over; wait for a worker to make its template known."""

        async def create() -> TaskView:
            async with self.client() as client, asyncio.timeout(READY_S_MAX):
                while True:
                    try:
                        handle = await client.create(template, given, namespace=namespace)
                    except TemplateUnknown:
                        await asyncio.sleep(0.05)
                    else:
                        return await client.wait(handle)

        return asyncio.run(create())

    def start(self) -> None:
        """Start it, and return when it is ready."""
        until_s = time.monotonic() + READY_S_MAX
        while self.answers():  # the read side of one that was killed, which drains: its readiness is not ours
            assert time.monotonic() < until_s, "the read side of a killed service does not end"
            time.sleep(0.02)
        self.process.start()
        while not self.is_ready():
            assert self.process.ended() is None, self.process.said()
            assert time.monotonic() < until_s, f"not ready within {READY_S_MAX} s:\n{self.process.said()}"
            time.sleep(0.05)

    def answers(self) -> bool:
        """Say whether anybody listens at its HTTP port."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except ConnectionRefusedError:
            return False
        return True

    def is_ready(self) -> bool:
        """Say whether /health/ready says so."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Return each metric's sum over its series (of a histogram the count of values), as /metrics has them now."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request("GET", "/metrics")
            return metric_sums(connection.getresponse().read().decode())
        finally:
            connection.close()

    @contextmanager
    def worker(self, app: str | Path, *arguments: str) -> Iterator[Process]:
        """Run a worker for an app; on leaving it is drained."""
        worker = self.command("worker", str(app), *arguments)
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()


def metric_sums(text: str) -> dict[str, float]:
    """Return each metric's sum over its series; of a histogram the count of values."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name
            if family.type == "histogram":
                if not name.endswith("_count"):
                    continue
                name = name.removesuffix("_count")
            sums[name] = sums.get(name, 0.0) + sample.value
    return sums


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_service(cluster: SharedCluster, folder: Path) -> Iterator[Service]:
    """Run the service on a database and a prefix of its own; on leaving it is drained."""
    dsn = asyncio.run(cluster.create_database())
    service = Service(
        database_url=dsn,
        nats_url=cluster.addresses().nats_url,
        nats_prefix=f"t{uuid.uuid4().hex[:12]}",
        folder=folder,
    )
    try:
        service.start()
        yield service
    finally:
        code = service.process.stop()
        asyncio.run(cluster.drop_database(dsn))
    assert code == 0, service.process.said()


@pytest.fixture(scope="module")
def service(cluster: SharedCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests of a module."""
    with running_service(cluster, tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def own_service(cluster: SharedCluster, tmp_path: Path) -> Iterator[Service]:
    """A service for one test alone."""
    with running_service(cluster, tmp_path) as running:
        yield running


# -------------------------------------------------------------------- faults


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for `fault_round` so many times."""
    from tests.acceptance.faults import ROUNDS

    if "fault_round" in metafunc.fixturenames:
        metafunc.parametrize("fault_round", range(ROUNDS))


@pytest.fixture
async def rig(database: str, nats_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Service and worker of a test of faults, on the servers that all tests share."""
    from tests.acceptance.faults import Rig

    rig = Rig(database_url=database, nats_url=nats_url, folder=tmp_path)
    try:
        yield rig
    finally:
        rig.stop()


@pytest.fixture
async def lines(rig: Rig) -> AsyncIterator[Lines]:
    """Proxies through which the processes of `rig` reach their servers."""
    async with rig.lines() as lines:
        yield lines


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Stack]:
    """Servers of this test alone, to be killed."""
    stack = Stack(tmp_path / "servers", durable=False)
    stack.start()
    yield stack
    stack.remove()


@pytest.fixture
async def own_rig(servers: Stack, tmp_path: Path) -> AsyncIterator[Rig]:
    """Service and worker on `servers`."""
    from tests.acceptance.faults import Rig

    await migrate(servers.postgres.dsn)
    rig = Rig(database_url=servers.postgres.dsn, nats_url=servers.nats.url, folder=tmp_path)
    try:
        yield rig
    finally:
        rig.stop()
