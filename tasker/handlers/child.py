"""The child of a worker: the process that holds user code, and tells its parent that it lives."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
import time
from typing import Final

import msgspec
import structlog

from tasker.errors import TaskerError
from tasker.handlers.equipment import Equipment
from tasker.handlers.leak_guard import guard, own_and_children_bytes, reason_to_replace
from tasker.handlers.nats_worker import serve
from tasker.handlers.options import SETTLE_S, WorkerOptions
from tasker.handlers.supervisor import BEAT_END, BEAT_READY, BEAT_REPLACE, EXIT_LOST
from tasker.handlers.worker import Worker
from tasker.remedies import tell

EXIT_ORPHANED: Final = 70
STALL_S: Final = 15
BEAT_S: Final = 0.5
_READ_BYTES = 4096
_SWITCH_S = 0.001
_YOUNG_OBJECTS = 10_000
"""Made and not freed, before the cyclic collector looks at them. By default 700: less than the attempts that are under
way have, so that it walked them again and again, for a quarter of a worker's time under load."""

_log = structlog.get_logger(__name__)


def run_child(lifeline_fd: int, beats_fd: int) -> int:
    """Run the child that a parent has started, and return its exit code; the options come through the lifeline."""
    import faulthandler

    from tasker.telemetry import configure_logging

    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])  # the app, which is imported later, may think otherwise
    # It is not closed: until the process ends there is a thread that reads it.
    with os.fdopen(lifeline_fd, "rb", buffering=0, closefd=False) as lifeline:
        options = msgspec.json.decode(lifeline.readline(), type=WorkerOptions)
        configure_logging(options.logging.level, options.logging.form)
        factory = _loop_factory()
        with asyncio.Runner(loop_factory=factory) as runner:
            code = runner.run(serve_app(options, (lifeline.fileno(), beats_fd)))
    threading.Thread(target=_end_in_time, args=(code,), name="tasker-worker-end", daemon=True).start()
    return code


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


async def serve_app(options: WorkerOptions, pipes: tuple[int, int] | None) -> int:
    """Serve an app until a signal comes, and return the exit code; `pipes` lead to the parent, if there is one."""
    loop = asyncio.get_running_loop()
    stop, quit_now, replaced = asyncio.Event(), asyncio.Event(), asyncio.Event()

    was_told = False

    def on_signal() -> None:
        # Of its own kind: one that drains already, for its successor, has not been told to stop at once.
        nonlocal was_told
        (quit_now if was_told else stop).set()
        was_told = True

    def on_replaced() -> None:
        replaced.set()
        stop.set()

    beats_fd: int | None = None
    duties: list[asyncio.Task[None]] = []
    running: list[Worker] = []

    def say(line: bytes) -> None:
        if beats_fd is not None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(beats_fd, line + b"\n")

    def on_ready(worker: Worker, equipment: Equipment) -> None:
        running.append(worker)
        say(BEAT_READY)

        def look() -> str | None:
            return reason_to_replace(
                ran=worker.counts.run,
                rss_bytes=own_and_children_bytes(equipment.process_ids),
                steps_max=options.steps_max,
                rss_mib_max=options.rss_mib_max,
            )

        if beats_fd is not None and (options.steps_max is not None or options.rss_mib_max is not None):
            watching = guard(look, lambda why: say(BEAT_REPLACE + b" " + why.encode()))
            duties.append(asyncio.create_task(watching, name="tasker-worker-guard"))

    if pipes is not None:
        loop.add_signal_handler(signal.SIGTERM, on_signal)
        loop.add_signal_handler(signal.SIGHUP, on_replaced)
        lifeline_fd, beats_fd = pipes
        orphaned = (lifeline_fd, loop, quit_now)
        threading.Thread(target=_wait_for_orphanhood, args=orphaned, name="tasker-worker-parent", daemon=True).start()
        duties.append(asyncio.create_task(_beat(beats_fd, running), name="tasker-worker-beat"))
    try:
        worker = await serve(options, stop=stop, quit_now=quit_now, replaced=replaced, watch=on_ready)
        code = EXIT_LOST if worker is not None and worker.lost_why is not None else 0
    except TaskerError as error:
        tell(error, options.output)
        code = error.exit_code
    finally:
        for duty in duties:
            duty.cancel()
    if code == EXIT_LOST:
        # A stuck handler must not keep the interpreter from ending.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_LOST)
    say(BEAT_END)
    return code


def _end_in_time(code: int) -> None:
    """End the process when the interpreter does not: it waits for threads, which handlers may have left behind."""
    time.sleep(SETTLE_S)
    left = [one.name for one in threading.enumerate() if not one.name.startswith(("MainThread", "tasker-"))]
    if left:  # else it is slow, and nothing is wrong
        _log.warning("threads_left_behind", threads=left)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


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
