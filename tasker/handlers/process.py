"""A worker as two processes: a parent that holds no user code, and a child that runs it.

User code can do to its process what no code in it can undo: block the loop, hold the interpreter's lock, crash it,
exhaust it. So the parent starts the child, passes signals on, and starts another when it ends, or when it is silent.

    lifeline  parent -> child: the options, then nothing; its end tells the child that the parent is gone
    beats     child -> parent: a line each half second with the silence, in seconds, that is still in order;
              `end` when it ends of its own will. Any other end is followed by another child.

The parent counts silence in looks of its own, not in time: when both were stopped and go on, nothing was silent.
Where there is no such thing (Windows) the worker runs in this process, unwatched.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from tasker.errors import ConfigurationError, TaskerError
from tasker.handlers.nats_worker import WorkerOptions, serve
from tasker.handlers.worker import SETTLE_S, Worker
from tasker.settings import Settings, nats_url_of, read_settings

EXIT_LOST: Final = 75
"""The child asks to be replaced."""

EXIT_ORPHANED: Final = 70
STALL_S: Final = 15
LOADING_S: Final = 300
BEAT_S: Final = 0.5
RESTART_S_BASE: Final = 0.1
RESTART_S_MAX: Final = 5.0
HEALTHY_S: Final = 10.0
_LOOK_S = 1.0
_ABORT_S = 2.0
_SPARE_S = 5.0
_READ_BYTES = 4096
_SWITCH_S = 0.001
_END = b"end"

_log = structlog.get_logger(__name__)


def run_worker(app: str, settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT, and return the exit code: 0 when it was drained.

    A second signal stops at once. Call it in the main thread.

    Args:
        app: path of a Python file, or the dotted name of a module.
        settings: where the service's NATS is, whose work to do, how many attempts at a time.

    Raises:
        ConfigurationError: no NATS is known.
    """
    options = WorkerOptions(
        app=app,
        nats_url=nats_url_of(settings),
        prefix=settings.nats.prefix,
        tenant=settings.tenant,
        slots=settings.worker.slots,
        drain_s=settings.worker.drain_s,
        inbox_prefix=settings.nats.inbox_prefix,
        pending_bytes_max=settings.nats.pending_bytes_max,
        streams=settings.streams,
        logging=settings.logging,
    )
    if sys.platform == "win32":
        return asyncio.run(_child(options, None))
    return _Parent(options).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker, or the child of one: `python -m tasker.handlers.process APP`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--child"]:
        return _child_main(int(arguments[1]), int(arguments[2]))
    parser = argparse.ArgumentParser(prog="python -m tasker.handlers.process", description="Run a worker.")
    parser.add_argument("app", help="path of a Python file, or dotted name of a module")
    parser.add_argument("--nats-url")
    parser.add_argument("--prefix")
    parser.add_argument("--tenant")
    parser.add_argument("--slots")
    parser.add_argument("--drain-s")
    given = parser.parse_args(arguments)
    flags = {
        "nats.url": given.nats_url,
        "nats.prefix": given.prefix,
        "tenant": given.tenant,
        "worker.slots": given.slots,
        "worker.drain_s": given.drain_s,
    }
    try:
        return run_worker(given.app, read_settings(flags=flags).settings)
    except ConfigurationError as error:
        _tell(error)
        return error.exit_code


# ---------------------------------------------------------------- the parent


class _Parent:
    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._signals = 0
        self._ended = False
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        signal_in, signal_out = os.pipe()
        os.set_blocking(signal_in, False)
        os.set_blocking(signal_out, False)
        before_fd = signal.set_wakeup_fd(signal_out, warn_on_full_buffer=False)
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            return self._keep_child(signal_in)
        finally:
            signal.set_wakeup_fd(before_fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(signal_in)
            os.close(signal_out)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signals += 1
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGTERM)

    def _keep_child(self, signal_in: int) -> int:
        failures = 0
        while True:
            began_s = time.monotonic()
            code = self._run_child(signal_in)
            if self._ended:
                return code
            if self._is_stopping():
                return 1
            lived_s = time.monotonic() - began_s
            failures = 0 if code == EXIT_LOST or lived_s > HEALTHY_S else failures + 1
            delay_s = min(RESTART_S_MAX, RESTART_S_BASE * 2.0**failures) if failures else 0.0
            _log.warning("worker_restarts", exit_code=code, lived_s=round(lived_s, 1), in_s=delay_s)
            self._pause(signal_in, delay_s)
            if self._is_stopping():
                return 0

    def _is_stopping(self) -> bool:
        return self._signals > 0

    def _pause(self, signal_in: int, delay_s: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(signal_in, selectors.EVENT_READ)
            selector.select(delay_s)

    def _run_child(self, signal_in: int) -> int:
        """Start a child and return its exit code; negative: the signal that ended it."""
        lifeline_in, lifeline_out = os.pipe()
        beats_in, beats_out = os.pipe()
        os.set_blocking(beats_in, False)
        argv = [sys.executable, "-m", "tasker.handlers.process", "--child", str(lifeline_in), str(beats_out)]
        try:
            # Of a session of its own: a Ctrl-C of the terminal reaches it through us alone, once.
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, pass_fds=[lifeline_in, beats_out], start_new_session=True
            )
        finally:
            os.close(lifeline_in)
            os.close(beats_out)
        self._child = child
        try:
            with contextlib.suppress(BrokenPipeError):
                os.write(lifeline_out, msgspec.json.encode(self._options) + b"\n")
            if self._signals:
                child.terminate()  # it came while there was no child to pass it to
            self._watch(child, beats_in, signal_in)
            self._ended = self._ended or _drain_pipe(beats_in).split()[-1:] == [_END]
            return child.wait()
        finally:
            self._child = None
            if child.poll() is None:
                child.kill()
                child.wait()
            os.close(lifeline_out)
            os.close(beats_in)

    def _watch(self, child: subprocess.Popen[bytes], beats_in: int, signal_in: int) -> None:
        """Return when the child has ended, by itself or by us because it was silent for too long."""
        allowed = LOADING_S
        silent = 0
        stopping_s: float | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(beats_in, selectors.EVENT_READ)
            selector.register(signal_in, selectors.EVENT_READ)
            while child.poll() is None:
                ready = {key.fd for key, _ in selector.select(_LOOK_S)}
                if signal_in in ready:
                    _drain_pipe(signal_in)
                if beats_in in ready:
                    lines = _drain_pipe(beats_in).split()
                    if lines:
                        silent = 0
                        self._ended = lines[-1] == _END
                        allowed = allowed if self._ended else int(lines[-1])
                    else:  # closed: the child ends
                        selector.unregister(beats_in)
                elif not ready:
                    silent += 1
                if self._signals and stopping_s is None:
                    stopping_s = time.monotonic() + self._options.drain_s + 2 * SETTLE_S + _SPARE_S
                if silent * _LOOK_S > allowed or (stopping_s is not None and time.monotonic() > stopping_s):
                    _log.error("worker_silent", pid=child.pid, silent_s=silent)
                    _abort(child)
                    return


def _abort(child: subprocess.Popen[bytes]) -> None:
    """End a child that does not answer; faulthandler, which needs no interpreter lock, says where it stood."""
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGABRT)
    try:
        child.wait(_ABORT_S)
    except subprocess.TimeoutExpired:
        child.kill()


def _drain_pipe(fd: int) -> bytes:
    try:
        return os.read(fd, _READ_BYTES)
    except BlockingIOError:
        return b""


# ---------------------------------------------------------------- the child


def _child_main(lifeline_fd: int, beats_fd: int) -> int:
    import faulthandler

    from tasker.telemetry import configure_logging

    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_S)
    with os.fdopen(lifeline_fd, "rb", buffering=0) as lifeline:
        options = msgspec.json.decode(lifeline.readline(), type=WorkerOptions)
        configure_logging(options.logging.level, options.logging.form)
        factory = _loop_factory()
        with asyncio.Runner(loop_factory=factory) as runner:
            code = runner.run(_child(options, (lifeline.fileno(), beats_fd)))
    return code


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


async def _child(options: WorkerOptions, pipes: tuple[int, int] | None) -> int:
    loop = asyncio.get_running_loop()
    stop, quit_now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (quit_now if stop.is_set() else stop).set()

    beats_fd: int | None = None
    beater: asyncio.Task[None] | None = None
    running: list[Worker] = []
    if pipes is not None:
        loop.add_signal_handler(signal.SIGTERM, on_signal)
        lifeline_fd, beats_fd = pipes
        threading.Thread(target=_wait_for_orphanhood, args=(lifeline_fd, loop, quit_now), daemon=True).start()
        beater = asyncio.create_task(_beat(beats_fd, running), name="tasker-worker-beat")
    try:
        worker = await serve(options, stop=stop, quit_now=quit_now, watch=running.append)
        code = EXIT_LOST if worker is not None and worker.lost_why is not None else 0
    except TaskerError as error:
        _tell(error)
        code = error.exit_code
    finally:
        if beater is not None:
            beater.cancel()
    if code == EXIT_LOST:
        # A stuck handler must not keep the interpreter from ending.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_LOST)
    if beats_fd is not None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(beats_fd, _END + b"\n")
    return code


def _tell(error: TaskerError) -> None:
    print(f"tasker worker: {error.detail}", file=sys.stderr, flush=True)  # noqa: T201 - a line for its user
    for fault in error.errors:
        print(f"  {fault.pointer}: {fault.detail}", file=sys.stderr, flush=True)  # noqa: T201 - as above


async def _beat(beats_fd: int, running: list[Worker]) -> None:
    """Tell the parent that the I/O loop turns, as long as it does."""
    os.set_blocking(beats_fd, False)
    while True:
        allowed_s = max([STALL_S, *(int(worker.heartbeat_s_max) for worker in running)])
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(beats_fd, b"%d\n" % allowed_s)
        await asyncio.sleep(BEAT_S)


def _wait_for_orphanhood(lifeline_fd: int, loop: asyncio.AbstractEventLoop, quit_now: asyncio.Event) -> None:
    """Stop the child when its parent is gone; in a thread, so that a blocked loop does not save it."""
    while os.read(lifeline_fd, _READ_BYTES):
        pass
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(quit_now.set)
    time.sleep(2 * SETTLE_S)
    os._exit(EXIT_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
