r"""The supervisor: one process a side, restarted when it dies, ended together, no orphans.

    supervisor -- write side: shards, publisher
               \- read side:  projections, http

A child gets a pipe as stdin; when the supervisor dies, the pipe ends and the child drains. SIGTERM and
SIGINT to the supervisor are handed to the children, which drain within `service.drain_s`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Final

import msgspec
import structlog

from tasker.errors import AuthenticationFailed, ConfigurationError, NotPermitted, TaskerError, Unavailable
from tasker.orphans import end_with_owner
from tasker.remedies import tell
from tasker.settings import Settings
from tasker.settings.keys import keys, shown
from tasker.telemetry import configure_logging

RESTART_PAUSES_S: Final = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
LIVED_WELL_S: Final = 30.0
CANNOT_START: Final = frozenset({ConfigurationError.exit_code, AuthenticationFailed.exit_code})
"""Exit codes of a child whose configuration does not work: to start it again is of no use."""

AWAITS_SERVERS: Final = Unavailable.exit_code
"""Exit code of a child that cannot reach a server: it has said so."""

LOOK_S: Final = 0.05

_log = structlog.get_logger(__name__)


class Side:
    """One child process."""

    def __init__(self, name: str, settings: Settings, folder: str) -> None:
        self.name = name
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._crashes = 0
        self._start_at_s = 0.0

    def start(self) -> None:
        """Start the process."""
        argv = [sys.executable, "-m", "tasker.service.process", self.name, self._folder]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        self._process.stdin.write(msgspec.json.encode(self._settings) + b"\n")
        self._process.stdin.flush()
        self._started_s = time.monotonic()

    def tend(self, now_s: float) -> int | None:
        """Start the process again when it died; returns its code when that is of no use."""
        process = self._process
        if process is None:
            if now_s >= self._start_at_s:
                self.start()
            return None
        code = process.poll()
        if code is None:
            return None
        if code in CANNOT_START:
            return code
        self._crashes = 1 if now_s - self._started_s > LIVED_WELL_S else self._crashes + 1
        pause_s = RESTART_PAUSES_S[min(self._crashes, len(RESTART_PAUSES_S)) - 1]
        if code != AWAITS_SERVERS:
            _log.error("process_ended", side=self.name, code=code, restart_in_s=pause_s)
        self._process = None
        self._start_at_s = now_s + pause_s
        return None

    def terminate(self) -> None:
        """Ask the process to drain."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, until_s: float) -> None:
        """Wait for the end; kill what has not drained in time."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.1, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            _log.warning("killed_before_drained", side=self.name)
            self._process.kill()
            self._process.wait()


class StopSignals:
    """Says whether one of some signals has come. Made in the main thread.

    No `threading.Event`: a handler runs in the middle of whatever the main thread does, and one that sets the event
    for which that thread waits stands still for ever when it meets it with the event's lock in hand.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._came = False
        for number in numbers:
            signal.signal(number, self._take)

    def _take(self, _number: int, _frame: object) -> None:
        self._came = True

    def came_within(self, seconds: float) -> bool:
        """Wait, and return whether a signal has come."""
        if not self._came:
            time.sleep(seconds)
        return self._came


def serve(settings: Settings) -> int:
    """Run the service until SIGTERM or SIGINT; returns the exit code.

    Raises:
        ConfigurationError: a server that it needs is not named.
    """
    configure_logging(settings.logging.level, settings.logging.form)
    missing = [
        variable
        for variable, url in (("TASKER_DATABASE_URL", settings.database.url), ("TASKER_NATS_URL", settings.nats.url))
        if url is None
    ]
    if missing:
        raise ConfigurationError(f"set {' and '.join(missing)}, or run `tasker up`, which brings its own servers")
    roles = settings.service.roles
    folder = tempfile.mkdtemp(prefix="tasker-")
    """Where the sides tell each other their metrics; for this user alone."""
    sides = [
        Side(name, settings, folder)
        for name, part in (("write", "shards"), ("read", "projections"), ("read", "http"))
        if part in roles
    ]
    sides = list({side.name: side for side in sides}.values())
    stop = StopSignals(signal.SIGINT, signal.SIGTERM)
    code = 0
    for side in sides:
        side.start()
    while not stop.came_within(LOOK_S):
        now_s = time.monotonic()
        codes = [found for side in sides if (found := side.tend(now_s)) is not None]
        if codes:
            code = codes[0]
            break
    for side in sides:
        side.terminate()
    until_s = time.monotonic() + settings.service.drain_s
    for side in sides:
        side.wait(until_s)
    shutil.rmtree(folder, ignore_errors=True)
    return code


def main() -> int:
    """Run one side as a child of the supervisor; its settings come on stdin."""
    from tasker.service.compose import run_side

    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            return 1
        line += chunk
    settings = msgspec.json.decode(line, type=Settings)
    end_with_owner(settings.service.drain_s)
    configure_logging(settings.logging.level, settings.logging.form)
    code = 0
    try:
        run_side(sys.argv[1], settings, sys.argv[2])
    except* ConfigurationError as group:
        for error in _leaves(group):
            code = error.exit_code
            tell(error, "table")
    except* NotPermitted as group:
        # To start again is of no use: its permissions do not come by waiting.
        for error in _leaves(group):
            code = error.exit_code
            tell(error, "table")
    except* Unavailable as group:
        # The servers are away: the supervisor starts us again, later each time, and each time we say what is awaited.
        code = AWAITS_SERVERS
        for error in _leaves(group):
            _log.warning("awaits_servers", side=sys.argv[1], error=error.detail, **_servers(settings))
    return code


def _leaves(group: BaseExceptionGroup[TaskerError]) -> Iterator[TaskerError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _servers(settings: Settings) -> dict[str, str]:
    """Return where the servers are, without what is secret of it."""
    addresses = {"database.url": settings.database.url, "nats.url": settings.nats.url}
    return {name.partition(".")[0]: shown(keys()[name], url) for name, url in addresses.items()}


if __name__ == "__main__":
    sys.exit(main())
