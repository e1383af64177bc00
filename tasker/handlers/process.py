"""A worker as two processes: a parent that holds no user code, and a child that runs it.

User code can do to its process what no code in it can undo: block the loop, hold the interpreter's lock, crash it,
exhaust it. So the parent (`supervisor`) starts the child, passes signals on, and starts another when it ends, or when
it is silent. Here is the way in; the child is a module of its own, whose imports the parent does without: 15 MiB and a
third of a second. Where there is no such thing (Windows) the worker runs in this process, unwatched.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tasker.errors import ConfigurationError
from tasker.handlers.options import WorkerOptions
from tasker.handlers.supervisor import Supervisor
from tasker.remedies import tell
from tasker.settings import Settings, nats_url_of, read_settings
from tasker.telemetry import configure_logging


def run_worker(app: str, settings: Settings, *, reload: bool = False) -> int:
    """Run a worker until SIGTERM or SIGINT, and return the exit code: 0 when it was drained.

    A second signal stops at once. SIGHUP replaces its process without a gap. Call it in the main thread.

    Args:
        app: path of a Python file, or the dotted name of a module; `:name` behind it chooses of what it declares.
        settings: where the service's NATS is, whose work to do, how many attempts at a time.
        reload: replace the process when a Python file beside the app changes.

    Raises:
        ConfigurationError: no NATS is known, or `reload` without the package that watches files or a folder to watch.
    """
    options = options_of(app, settings)
    configure_logging(options.logging.level, options.logging.form)
    if sys.platform == "win32":
        import asyncio

        from tasker.handlers.child import serve_app

        return asyncio.run(serve_app(options, None))
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
        labels=settings.worker.labels,
        steps_max=settings.worker.steps_max,
        rss_mib_max=settings.worker.rss_mib_max,
        inbox_prefix=settings.nats.inbox_prefix,
        pending_bytes_max=settings.nats.pending_bytes_max,
        streams=settings.streams,
        direct=settings.direct,
        logging=settings.logging,
        output=settings.output,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker, or the child of one: `python -m tasker.handlers.process APP`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--child"]:
        from tasker.handlers.child import run_child

        return run_child(int(arguments[1]), int(arguments[2]))
    parser = argparse.ArgumentParser(prog="python -m tasker.handlers.process", description="Run a worker.")
    parser.add_argument("app", help="path of a Python file, or dotted name of a module")
    parser.add_argument("--nats-url")
    parser.add_argument("--prefix")
    parser.add_argument("--tenant")
    parser.add_argument("--slots")
    parser.add_argument("--drain-s")
    parser.add_argument("--processes")
    parser.add_argument("--health-port")
    parser.add_argument("--steps-max")
    parser.add_argument("--rss-mib-max")
    parser.add_argument("--label", action="append", metavar="NAME=VALUE")
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
        "worker.labels": given.label,
        "worker.steps_max": given.steps_max,
        "worker.rss_mib_max": given.rss_mib_max,
    }
    try:
        return run_worker(given.app, read_settings(flags=flags).settings, reload=given.reload)
    except ConfigurationError as error:
        tell(error, "table")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
