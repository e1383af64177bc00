"""A server process under its supervisor, and the lock that makes it the only one on its data.

The lock is an `flock` whose descriptor the owner, the supervisor and the server with all its children share. So it is
free exactly when no process of the server is left, whoever was killed and how: a pid file found under a lock that
we hold is stale, without looking at pids.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tasker.errors import ConfigurationError
from tasker.settings.running import process_mark

_SUPERVISOR = Path(__file__).with_name("_supervisor.py")
_POLL_S = 0.005
_LOCK_WAIT_S = 30.0
_LOG_BYTES_MAX = 10 * 1024 * 1024
_LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class Account:
    """A system user to run a server as."""

    name: str
    uid: int
    gid: int


class DataLock:
    """The right to run the one server on a data directory."""

    def __init__(self, path: Path, *, what: str) -> None:
        self._path = path
        self._what = what
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """The descriptor that the server inherits."""
        assert self._fd is not None, "the lock is not held"  # noqa: S101 a bug of ours, not of the caller
        return self._fd

    def acquire(self) -> None:
        """Take the lock; wait for a server whose owner is gone and that is still stopping.

        Raises:
            ConfigurationError: a live process runs a server on this data.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = self._live_owner(fd)
                if owner is not None or time.monotonic() > deadline:
                    os.close(fd)
                    who = f"process {owner}" if owner else "a process that does not end"
                    message = (
                        f"{self._what} in {self._path.parent} is already running, started by {who}: "
                        "stop it first, or choose another directory with TASKER_DATA"
                    )
                    raise ConfigurationError(message) from None
            time.sleep(_POLL_S)
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()} {process_mark(os.getpid())}".encode(), 0)

    def release(self) -> None:
        """Give up our share of the lock. The server keeps its own until its last process ended."""
        if self._fd is not None:
            # Unsigned: who starts next waits for the last process instead of blaming us.
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    @staticmethod
    def _live_owner(fd: int) -> int | None:
        pid, _, mark = os.pread(fd, 100, 0).decode().partition(" ")
        if not pid.isdecimal():
            # The holder has not signed yet: it is just starting. Look again.
            return None
        return int(pid) if process_mark(int(pid)) == mark else None


class ServerProcess:
    """A running server: its pid, and the ways to end it."""

    def __init__(self, supervisor: subprocess.Popen[bytes], pid: int) -> None:
        self._supervisor = supervisor
        self.pid = pid

    @classmethod
    def start(
        cls,
        argv: list[str],
        *,
        cwd: Path,
        log: Path,
        stop_signal: signal.Signals,
        stop_timeout_s: float,
        account: Account | None,
        lock: DataLock,
    ) -> "ServerProcess":
        """Start `argv` under a supervisor. It may still fail: watch `ended`."""
        config = {
            "argv": argv,
            "cwd": str(cwd),
            "log": str(log),
            "stop_signal": int(stop_signal),
            "stop_timeout_s": stop_timeout_s,
            "user": account and account.uid,
            "group": account and account.gid,
            "pass_fds": [lock.fd],
        }
        supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SUPERVISOR), json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[lock.fd],
            start_new_session=True,
        )
        assert supervisor.stdout is not None  # noqa: S101 for the type checker: asked for above
        with supervisor.stdout as stdout:
            line = stdout.readline()
        if not line:
            code = supervisor.wait()
            message = f"{argv[0]} did not start (exit code {code}); see {log}"
            raise ConfigurationError(message)
        return cls(supervisor, int(line))

    @property
    def ended(self) -> bool:
        """Whether the server is gone."""
        return self._supervisor.poll() is not None

    def stop(self) -> None:
        """Ask the server to end, wait for it, and kill it when it takes too long. Twice is fine."""
        if self._supervisor.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._supervisor.stdin.close()
        self._supervisor.wait()

    def kill(self) -> None:
        """End the server with SIGKILL and return when it is gone."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.stop()


def free_port() -> int:
    """Return a port of the loopback that was free just now; somebody else may take it first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rotate_log(path: Path) -> None:
    """Set a log aside that has grown past `_LOG_BYTES_MAX`; one older log is kept."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))


def last_lines(path: Path) -> str:
    """Return the end of a server's log, for the message about a server that did not start."""
    try:
        text = path.read_bytes()[-4096:].decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-_LAST_LINES:])


def write_private(path: Path, text: str) -> None:
    """Write a 0600 file at once and whole: a reader finds the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    temporary.replace(path)
