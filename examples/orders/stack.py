"""The demo's own `tasker up`: data of its own, its processes, and how to kill the service among them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tasker import TaskerClient
from tasker.embedded.stack import Stack
from tasker.errors import TaskerError
from tasker.settings.running import find_stack

ROOT = Path(__file__).resolve().parents[2]
START_S_MAX = 90.0
STOP_S_MAX = 45.0
VERIFY_S_MAX = 120.0

_FOREIGN = ("CONFIG", "DATABASE_URL", "NATS_URL", "NATS_PREFIX", "HTTP_URL", "TENANT", "DATA", "OUTPUT")


class DidNotStart(Exception):
    """The stack did not become ready, or a command of it failed."""


class DemoStack:
    """`tasker up APP` on data of its own, cleaned at the start; the data of the last run is kept to look at."""

    def __init__(self, app: Path) -> None:
        self.folder = _own_folder()
        self.data = self.folder / "data"
        self.log_file = self.folder / "service.log"
        self.partners_file = self.folder / "partners.sqlite"
        self.nats_url = ""
        self.http_url = ""
        self._app = app
        self._up: subprocess.Popen[bytes] | None = None
        self._environ = {name: value for name, value in os.environ.items() if name not in _foreign()}
        self._environ["ORDERS_PARTNERS"] = str(self.partners_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def start(self) -> None:
        """Start everything, and return when the service is ready and the worker has registered its template.

        Raises:
            DidNotStart: it ended, or took too long.
        """
        up = self._up = self._begin()
        until_s = time.monotonic() + START_S_MAX
        while not await self._is_ready():
            if up.poll() is not None:
                raise DidNotStart(f"`tasker up` ended with code {up.returncode}")
            if time.monotonic() > until_s:
                raise DidNotStart(f"it was not ready within {START_S_MAX:g} s")
            await asyncio.sleep(0.1)

    def _begin(self) -> subprocess.Popen[bytes]:
        self.log_file.touch(mode=0o600)  # it has the secret of nats-server, as `tasker up` prints it
        with self.log_file.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tasker", "up", str(self._app), "--data", str(self.data)],
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops it in order
            )

    async def _is_ready(self) -> bool:
        found = find_stack(self.data)
        if found is None or not found.http_url:
            return False
        self.nats_url, self.http_url = found.nats_url, found.http_url
        async with TaskerClient("", self.http_url, environ={}, timeout_s=0.5) as client:
            with contextlib.suppress(TaskerError):
                await client.template("order_fulfillment", namespace="shop")
                return True
        return False

    def kill_service(self) -> int:
        """End the service's supervisor and both its sides with SIGKILL; returns how many processes that were."""
        if self._up is None:
            return 0
        supervisors = [child for child in psutil.Process(self._up.pid).children() if "serve" in child.cmdline()]
        victims = [*supervisors, *(side for one in supervisors for side in one.children(recursive=True))]
        for victim in victims:
            victim.send_signal(signal.SIGKILL)
        return len(victims)

    async def verify(self) -> dict[str, Any]:
        """Run `tasker log verify`; returns its exit code and its report."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tasker", "log", "verify", "-o", "json", "--data", str(self.data)),
            cwd=ROOT,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(VERIFY_S_MAX):
            out, err = await process.communicate()
        with self.log_file.open("ab") as log:
            log.write(err)
        report = json.loads(out) if out.strip() else {"stderr": err.decode(errors="replace")[-2000:]}
        return {"exit_code": process.returncode, **report}

    def command(self, *words: str) -> str:
        """Return a `tasker` command on this stack, as a person types it in the checkout."""
        tasker = Path(sys.executable).parent / "tasker"
        with contextlib.suppress(ValueError):
            tasker = tasker.relative_to(ROOT)
        return shlex.join([str(tasker), *words, "--data", str(self.data)])

    def log_end(self, lines: int = 25) -> str:
        """Return the end of the log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def wait(self) -> None:
        """Wait until the stack ends."""
        if self._up is not None:
            self._up.wait()

    def stop(self) -> None:
        """Drain and stop everything. Twice is fine."""
        if self._up is None or self._up.poll() is not None:
            return
        self._up.terminate()
        try:
            self._up.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._up.kill()
            self._up.wait()


def _foreign() -> set[str]:
    """Return the variables that would lead the demo to somebody's service."""
    return {f"TASKER_{name}" for name in _FOREIGN}


def _own_folder() -> Path:
    """Return a folder of ours alone, empty: the one of the last demo, or another while that one is in use."""
    folder = Path(tempfile.gettempdir()).resolve() / f"tasker-demo-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o711)
    found = folder.lstat()
    ours = folder.is_dir() and not folder.is_symlink() and found.st_uid == os.geteuid()
    if not ours or find_stack(folder / "data") is not None:
        folder = Path(tempfile.mkdtemp(prefix="tasker-demo-"))
    # For root, PostgreSQL runs as another user, who has to pass through, to what is closed itself.
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    Stack(folder / "data").remove()
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return folder
