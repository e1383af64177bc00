"""What each process loads: time at its start, and memory for as long as it runs."""

import subprocess
import sys

import pytest

SERVERS = {"asyncpg", "nats", "aiohttp"}

LOADS = {
    "tasker": {"msgspec", "asyncio", *SERVERS},
    "tasker.embedded.stack": {"asyncio", *SERVERS, "tasker.events", "tasker.service", "tasker.handlers"},
    "tasker.service.process": {*SERVERS, "tasker.service.compose", "tasker.events.log"},
    "tasker.service.compose, tasker.service.write_side": {
        "aiohttp.web",
        "tasker.projections",
        "tasker.service.http",
        "tasker.service.read_side",
        "tasker.contracts",
    },
    "tasker.service.compose, tasker.service.read_side": {
        "tasker.service.actors",
        "tasker.service.runtime",
        "tasker.service.domain",
        "tasker.service.write_side",
    },
    "tasker.handlers.process": {*SERVERS, "tasker.service", "tasker.projections", "tasker.client"},
    "tasker.handlers.child": {"asyncpg", "tasker.service", "tasker.projections", "tasker.client"},
}
"""What a program imports -> what it must not bring along."""


@pytest.mark.parametrize("imported", LOADS)
def test_a_process_loads_only_its_own_parts(imported: str) -> None:
    code = f"import sys, {imported}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert imported.split(", ", maxsplit=1)[0] in loaded
    assert loaded & LOADS[imported] == set()


AS_ON_WINDOWS = """
import asyncio, concurrent.futures.process, multiprocessing.connection, multiprocessing.context, os, signal, subprocess
import sys, aiohttp, nats.aio.client, structlog
for missing in ("fcntl", "grp", "pwd", "resource", "termios", "uvloop"):
    sys.modules[missing] = None
for missing in ("fork", "geteuid", "getuid", "getpgid", "killpg", "set_blocking", "waitid"):
    delattr(os, missing)
for missing in ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2"):
    delattr(signal, missing)
sys.platform = "win32"
"""
"""What is not there on Windows is gone; what needs it of the standard library and the drivers is imported before."""


@pytest.mark.parametrize(
    "used",
    [
        "import tasker.client, tasker.client.sync; tasker.client.TaskerClient('nats://h:1', 'http://h:2', environ={})",
        "import tasker.handlers; tasker.handlers.Template('t').step(lambda: 1, name='s')",
        "import tasker.handlers.process, tasker.handlers.child, tasker.handlers.nats_worker",
    ],
    ids=["client", "sdk", "worker"],
)
def test_client_and_worker_can_be_imported_on_windows(used: str) -> None:
    done = subprocess.run([sys.executable, "-c", AS_ON_WINDOWS + used], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_not_there_on_windows_is_missed() -> None:
    used = "import tasker.embedded.stack"
    done = subprocess.run([sys.executable, "-c", AS_ON_WINDOWS + used], capture_output=True, text=True, check=False)
    assert "fcntl" in done.stderr
