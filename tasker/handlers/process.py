"""A worker as two processes: a parent that holds no user code, and a child that runs it.

User code can do to its process what no code in it can undo: block the loop, hold the interpreter's lock, crash it,
exhaust it. So the parent (`supervisor`) starts the child, passes signals on, and starts another when it ends, or when
it is silent. Here is the child, and the way in. Where there is no such thing (Windows) the worker runs in this process,
unwatched.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from tasker.errors import ConfigurationError, TaskerError
from tasker.handlers.equipment import Equipment
from tasker.handlers.leak_guard import guard, own_and_children_bytes, reason_to_replace
from tasker.handlers.nats_worker import WorkerOptions, serve
from tasker.handlers.supervisor import BEAT_END, BEAT_READY, BEAT_REPLACE, EXIT_LOST, Supervisor
from tasker.handlers.worker import SETTLE_S, Worker
from tasker.settings import Settings, nats_url_of, read_settings

EXIT_ORPHANED: Final = 70
STALL_S: Final = 15
BEAT_S: Final = 0.5
_READ_BYTES = 4096
_SWITCH_S = 0.001


def run_worker(app: str, settings: Settings, *, reload: bool = False) -> int:
    """Run a worker until SIGTERM or SIGINT, and return the exit code: 0 when it was drained.

    A second signal stops at once. SIGHUP replaces its process without a gap. Call it in the main thread.

    Args:
        app: path of a Python file, or the dotted name of a module; `:name` behind it chooses of what it declares.
        settings: where the service's NATS is, whose work to do, how many attempts at a time.
        reload: replace the process when a Python file beside the app changes.

    Raises:
        ConfigurationError: no NATS is known, or `reload` without the package that watches files.
    """
    options = options_of(app, settings)
    if sys.platform == "win32":
        return asyncio.run(_child(options, None))
    return Supervisor(options, reload=reload).run()


def options_of(app: str, settings: Settings) -> WorkerOptions:
    """Return what a worker's process is started with.

    Raises:
        ConfigurationError: no NATS is known.
    """
    return WorkerOptions(
        app=app,
        nats_url=nats_url_of(settings),
        prefix=settings.nats.prefix,
        tenant=settings.tenant,
        slots=settings.worker.slots,
        drain_s=settings.worker.drain_s,
        processes=settings.worker.processes,
        health_port=settings.worker.health_port,
        tasks_max=settings.worker.max_tasks,
        rss_mib_max=settings.worker.max_rss_mib,
        inbox_prefix=settings.nats.inbox_prefix,
        pending_bytes_max=settings.nats.pending_bytes_max,
        streams=settings.streams,
        direct=settings.direct,
        logging=settings.logging,
    )


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
    parser.add_argument("--processes")
    parser.add_argument("--health-port")
    parser.add_argument("--max-tasks")
    parser.add_argument("--max-rss-mib")
    parser.add_argument("--reload", action="store_true")
    given = parser.parse_args(arguments)
    flags = {
        "nats.url": given.nats_url,
        "nats.prefix": given.prefix,
        "tenant": given.tenant,
        "worker.slots": given.slots,
        "worker.drain_s": given.drain_s,
        "worker.processes": given.processes,
        "worker.health_port": given.health_port,
        "worker.max_tasks": given.max_tasks,
        "worker.max_rss_mib": given.max_rss_mib,
    }
    try:
        return run_worker(given.app, read_settings(flags=flags).settings, reload=given.reload)
    except ConfigurationError as error:
        _tell(error)
        return error.exit_code


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
    stop, quit_now, replaced = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (quit_now if stop.is_set() else stop).set()

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
                tasks_max=options.tasks_max,
                rss_mib_max=options.rss_mib_max,
            )

        if beats_fd is not None and (options.tasks_max is not None or options.rss_mib_max is not None):
            watching = guard(look, lambda why: say(BEAT_REPLACE + b" " + why.encode()))
            duties.append(asyncio.create_task(watching, name="tasker-worker-guard"))

    if pipes is not None:
        loop.add_signal_handler(signal.SIGTERM, on_signal)
        loop.add_signal_handler(signal.SIGHUP, on_replaced)
        lifeline_fd, beats_fd = pipes
        threading.Thread(target=_wait_for_orphanhood, args=(lifeline_fd, loop, quit_now), daemon=True).start()
        duties.append(asyncio.create_task(_beat(beats_fd, running), name="tasker-worker-beat"))
    try:
        worker = await serve(options, stop=stop, quit_now=quit_now, replaced=replaced, watch=on_ready)
        code = EXIT_LOST if worker is not None and worker.lost_why is not None else 0
    except TaskerError as error:
        _tell(error)
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
