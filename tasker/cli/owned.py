"""Children that `tasker up` starts: they end with it, also when it is killed.

A child gets a pipe as stdin whose other end only `up` holds, and watches it with `tasker.orphans.end_with_owner`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import msgspec

OWNED = "--owned"
_POLL_S = 0.05
_STDERR = 2


class Crash(msgspec.Struct, frozen=True):
    """How a child ended that nobody asked to end."""

    code: int
    lived_s: float


class Child:
    """A `tasker` command as a process of its own, out of the terminal's reach: Ctrl-C is for `up` alone."""

    def __init__(self, name: str, arguments: list[str], environ: dict[str, str]) -> None:
        self.name = name
        self._argv = [sys.executable, "-m", "tasker", *arguments, OWNED]
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it, or start it again."""
        self._started_s = time.monotonic()
        # Our stdout is for data alone; whatever a child or a handler prints goes to stderr.
        self._process = subprocess.Popen(
            self._argv, env=self._environ, stdin=subprocess.PIPE, stdout=_STDERR, start_new_session=True
        )

    def crash(self) -> Crash | None:
        """Return how it ended; None while it runs."""
        if self._process is None or self._process.poll() is None:
            return None
        return Crash(self._process.returncode, time.monotonic() - self._started_s)

    def stop(self, drain_s: float, hurried: Callable[[], bool]) -> bool:
        """Ask it to drain and wait for that, unless `hurried`; returns False when it had to be killed.

        Twice is fine.
        """
        process = self._process
        if process is None:
            return True
        process.terminate()
        until_s = time.monotonic() + drain_s
        while process.poll() is None and time.monotonic() < until_s and not hurried():
            time.sleep(_POLL_S)
        drained = process.poll() is not None
        if not drained:
            process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
        return drained
