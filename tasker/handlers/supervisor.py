"""The parent of a worker: holds no user code, keeps a child that runs it, and replaces it without a gap.

Two pipes join the parent and each child:

    lifeline  parent -> child: the options, then nothing; its end tells the child that the parent is gone
    beats     child -> parent, lines: each half second the silence in seconds that is still in order; `ready` when it
              pulls from its queues; `replace <why>` when it wants a successor; `end` when it ends of its own will

A child that ends otherwise is followed by another. On SIGHUP, on a change of files (`--reload`) and when a child asks,
a successor is started beside it; once that is ready the old one is told to drain. A successor that does not get ready
changes nothing.

The parent counts silence in looks of its own, each at most a second: when both were stopped and go on, nothing was
silent.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from tasker.errors import ConfigurationError
from tasker.handlers.options import GIVE_BACK_S, SETTLE_S, WorkerOptions

EXIT_LOST: Final = 75
"""The child asks to be replaced."""

LOADING_S: Final = 300
RESTART_S_BASE: Final = 0.1
RESTART_S_MAX: Final = 5.0
HEALTHY_S: Final = 10.0
BEAT_END: Final = b"end"
BEAT_READY: Final = b"ready"
BEAT_REPLACE: Final = b"replace"
_LOOK_S = 1.0
_ABORT_S = 2.0
_SPARE_S = 5.0
_READ_BYTES = 4096

_log = structlog.get_logger(__name__)


class Supervisor:
    """Runs a worker's children until SIGTERM or SIGINT. Use it in the main thread.

    Args:
        options: for the children.
        reload: replace the child when a Python file beside the app changes.

    Raises:
        ConfigurationError: `reload` without the package that watches files, or where there is nothing to watch.
    """

    def __init__(self, options: WorkerOptions, *, reload: bool = False) -> None:
        self._options = options
        self._watches = reload
        self._watch_stop = threading.Event()
        if reload:
            _watchfiles()
            if not (folder := watched_folder(options.app)).is_dir():
                raise ConfigurationError(f"--reload has nothing to watch: there is no folder {folder}")
        self._stops = 0
        self._asked: str | None = None
        self._current: _Child | None = None
        self._successor: _Child | None = None
        self._retiring: list[_Child] = []
        self._failures = 0
        self._start_s = 0.0
        self._code = 0

    def run(self) -> int:
        """Return the exit code: 0 when the worker was drained."""
        wake_in, wake_out = os.pipe()
        os.set_blocking(wake_in, False)
        os.set_blocking(wake_out, False)
        before_fd = signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
        before = {number: signal.signal(number, self._on_stop) for number in (signal.SIGTERM, signal.SIGINT)}
        # With a terminal it means that the terminal is gone.
        on_hangup = self._on_stop if sys.stdin is not None and sys.stdin.isatty() else self._on_hangup
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, on_hangup)
        watcher = None
        if self._watches:
            watcher = threading.Thread(target=self._watch_files, args=(wake_out,), name="tasker-reload", daemon=True)
            watcher.start()
        try:
            return self._keep(wake_in)
        finally:
            self._watch_stop.set()
            if watcher is not None:
                watcher.join()
            signal.set_wakeup_fd(before_fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            for child in self._children():
                child.close()
            os.close(wake_in)
            os.close(wake_out)

    def _on_stop(self, _number: int, _frame: object) -> None:
        self._stops += 1
        for child in self._children():
            child.terminate(self._options.drain_s)

    def _on_hangup(self, _number: int, _frame: object) -> None:
        self._asked = "SIGHUP"

    def _children(self) -> list[_Child]:
        return [child for child in (self._current, self._successor, *self._retiring) if child is not None]

    def _keep(self, wake_in: int) -> int:
        with selectors.DefaultSelector() as selector:
            selector.register(wake_in, selectors.EVENT_READ)
            while True:
                self._start_what_is_due()
                children = self._children()
                if not children and self._is_over():
                    return self._code
                watched = [child for child in children if child.beats_in is not None]
                for child in watched:
                    selector.register(child.beats_in or 0, selectors.EVENT_READ)
                ready = {key.fd for key, _ in selector.select(self._pause_s())}
                for child in watched:
                    selector.unregister(child.beats_in or 0)
                if wake_in in ready:
                    drain_pipe(wake_in)
                for child in children:
                    child.look(ready)
                    self._follow(child)

    def _pause_s(self) -> float:
        if self._current is None and self._start_s:
            return min(_LOOK_S, max(0.0, self._start_s - time.monotonic()))
        return _LOOK_S

    def _is_over(self) -> bool:
        return self._stops > 0 or (self._current is None and self._ended_by_itself and not self._watches)

    _ended_by_itself = False

    def _start_what_is_due(self) -> None:
        if self._stops:
            return
        if self._current is None:
            waits_for_change = self._ended_by_itself and self._asked is None
            if not waits_for_change and time.monotonic() >= self._start_s:
                self._ended_by_itself = False
                self._asked = None
                self._current = self._start()
        elif self._asked is not None and self._successor is None:
            _log.info("worker_replacement_starts", error=self._asked, pid=self._current.process.pid)
            self._asked = None
            self._successor = self._start()

    def _start(self) -> _Child:
        child = _Child(self._options)
        if self._stops:
            child.terminate(self._options.drain_s)  # it came while the child was not known yet
        return child

    def _follow(self, child: _Child) -> None:
        """Do what follows from what a child said, or from its end."""
        if child.wants is not None:
            if child is self._current and self._successor is None:
                self._asked = child.wants
            child.wants = None
        if child is self._successor and child.is_ready and not child.has_ended:
            _log.info("worker_replaced", pid=child.process.pid)
            self._promote()
        if not child.has_ended:
            return
        child.close()
        if child in self._retiring:
            self._retiring.remove(child)
        elif child is self._successor:
            self._successor = None
            _log.error(
                "worker_not_replaced", exit_code=child.code, hint="the old one goes on; mend the app, then ask again"
            )
        elif child is self._current:
            self._current = None
            self._on_current_ended(child)

    def _promote(self) -> None:
        old, self._current, self._successor = self._current, self._successor, None
        self._failures = 0
        if old is not None:
            self._retiring.append(old)
            old.terminate(self._options.drain_s, signal.SIGHUP)

    def _on_current_ended(self, child: _Child) -> None:
        if self._successor is not None:
            self._promote()
            return
        self._ended_by_itself = child.said_end
        self._code = child.code if child.said_end or not self._stops else 1
        if child.said_end:
            if self._watches and not self._stops:
                _log.error("worker_waits_for_a_change", exit_code=child.code)
            return
        if self._stops:
            return
        lived_s = time.monotonic() - child.began_s
        self._failures = 0 if child.code == EXIT_LOST or lived_s > HEALTHY_S else self._failures + 1
        delay_s = min(RESTART_S_MAX, RESTART_S_BASE * 2.0**self._failures) if self._failures else 0.0
        _log.warning("worker_restarts", exit_code=child.code, lived_s=round(lived_s, 1), in_s=delay_s)
        self._start_s = time.monotonic() + delay_s
        self._code = 0

    def _watch_files(self, wake_out: int) -> None:
        """Ask for a successor at each change; in a thread."""
        watch, only_python = _watchfiles()
        for changes in watch(
            watched_folder(self._options.app),
            watch_filter=only_python,
            stop_event=self._watch_stop,
            yield_on_timeout=True,
        ):
            if changes:
                self._asked = f"changed: {', '.join(sorted(Path(path).name for _, path in changes)[:5])}"
                with contextlib.suppress(BlockingIOError):
                    os.write(wake_out, b"\0")


class _Child:
    """One child, as its parent sees it.

    Attributes:
        beats_in: where it is heard; None: it closed that.
        is_ready: it pulls from its queues. said_end: it ends of its own will. wants: a successor, for this reason.
        has_ended: the process is over, with `code` (negative: the signal).
    """

    def __init__(self, options: WorkerOptions) -> None:
        lifeline_in, self._lifeline_out = os.pipe()
        beats_in, beats_out = os.pipe()
        os.set_blocking(beats_in, False)
        self.beats_in: int | None = beats_in
        self._beats_fd = beats_in
        argv = [sys.executable, "-m", "tasker.handlers.process", "--child", str(lifeline_in), str(beats_out)]
        try:
            # Of a session of its own: a Ctrl-C of the terminal reaches it through us alone, once.
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, pass_fds=[lifeline_in, beats_out], start_new_session=True
            )
        finally:
            os.close(lifeline_in)
            os.close(beats_out)
        self.began_s = time.monotonic()
        self.is_ready = False
        self.said_end = False
        self.wants: str | None = None
        self.has_ended = False
        self.code = 0
        self._allowed = LOADING_S
        self._silent_s = 0.0
        self._looked_s = self.began_s
        self._stop_by_s: float | None = None
        self._closed = False
        with contextlib.suppress(BrokenPipeError):
            os.write(self._lifeline_out, msgspec.json.encode(options) + b"\n")

    def terminate(self, drain_s: float, number: signal.Signals = signal.SIGTERM) -> None:
        """Tell it to drain (SIGHUP: because another took its place); told again, to stop at once."""
        if self._stop_by_s is None:
            self._stop_by_s = time.monotonic() + drain_s + 2 * SETTLE_S + GIVE_BACK_S + _SPARE_S
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def look(self, ready: set[int]) -> None:
        """Hear what it says, and see whether it ended, or has to be ended because it was silent for too long."""
        if self.beats_in is not None and self.beats_in in ready:
            data = drain_pipe(self.beats_in)
            if not data:
                self.beats_in = None
            self._hear(data)
        now_s = time.monotonic()
        self._silent_s += min(_LOOK_S, now_s - self._looked_s)
        self._looked_s = now_s
        code = self.process.poll()
        if code is None and (
            self._silent_s > self._allowed or (self._stop_by_s is not None and time.monotonic() > self._stop_by_s)
        ):
            _log.error("worker_silent", pid=self.process.pid, silent_s=round(self._silent_s))
            code = _abort(self.process)
        if code is not None:
            self._hear(drain_pipe(self._beats_fd))
            self.has_ended = True
            self.code = code

    def close(self) -> None:
        """End what is left of it. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._lifeline_out)
        os.close(self._beats_fd)

    def _hear(self, data: bytes) -> None:
        for line in data.splitlines():
            self._silent_s = 0.0
            if line == BEAT_END:
                self.said_end = True
            elif line == BEAT_READY:
                self.is_ready = True
            elif line.startswith(BEAT_REPLACE):
                self.wants = line[len(BEAT_REPLACE) :].decode("utf-8", "replace").strip() or "it asked"
            elif line.isdigit():
                self._allowed = int(line)


def watched_folder(app: str) -> Path:
    """Return the folder whose Python files an app is made of, as well as its name tells."""
    import importlib.util

    name = app.partition(":")[0]
    if name.endswith(".py"):
        return Path(name).resolve().parent
    try:
        spec = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return Path.cwd()
    return Path(spec.origin).resolve().parent


def drain_pipe(fd: int) -> bytes:
    """Return what can be read now."""
    try:
        return os.read(fd, _READ_BYTES)
    except BlockingIOError:
        return b""


def _abort(process: subprocess.Popen[bytes]) -> int:
    """End a child that does not answer; faulthandler, which needs no interpreter lock, says where it stood."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGABRT)
    try:
        return process.wait(_ABORT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _watchfiles() -> tuple[Any, Any]:
    """Return the optional package's `watch`, and its filter of Python files."""
    try:
        from watchfiles import PythonFilter, watch
    except ImportError as error:
        raise ConfigurationError(
            "--reload needs the package that watches files: pip install 'tasker-service[reload]'"
        ) from error
    return watch, PythonFilter()
