"""`tasker up`: everything on this machine, for development, demos and small installations.

The servers run under this process; the service and the worker are children of their own, so that one
of them can die and come back. They are ended in order: worker, service, servers.
"""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from cyclopts import Parameter

if TYPE_CHECKING:
    from tasker.cli.owned import Child
    from tasker.embedded.stack import Stack

_READY_S = 60.0
_POLL_S = 0.1
_DRAIN_S = 30.0
_WORKER_S = 10.0
_CRASHES_MAX = 5
_LIVED_WELL_S = 30.0
_PORT_FILE = "http.port"
_HOPELESS = frozenset({2, 4})
"""Exit codes of a child whose configuration, credentials or app do not work: it would end in the same way again."""


def up(
    app: str | None = None,
    /,
    *,
    http_port: Annotated[int | None, Parameter(name="--http-port")] = None,
    data: Path | None = None,
    slots: int | None = None,
    label: Annotated[list[str] | None, Parameter(name="--label", negative="")] = None,
) -> int:
    """Run everything on this machine: PostgreSQL, nats-server, the service, and a worker when an app is named.

    Runs until Ctrl-C or SIGTERM, then drains. Data is kept between starts.

    For example:

    $ tasker up                    # without a worker: `tasker worker app.py`
    $ tasker up app.py --slots 32  # with one, for the handlers of app.py

    Args:
        app: a Python file, or the dotted name of a module, with templates and handlers.
        http_port: of the HTTP API; else `http.port` where it is set, else a free one, the same at every start.
        data: directory; else TASKER_DATA, else under your XDG data directory (/var/lib/tasker for root).
        slots: steps that the worker runs at a time; else `worker.slots`, 100 at first.
        label: what a step may require of the worker (`requires`), as name=value; may stand several times; else
            `worker.labels`.
    """
    import os

    from tasker.cli.output import note
    from tasker.cli.owned import Child
    from tasker.cli.reach import tell_warnings
    from tasker.cli.serve import migrate_database
    from tasker.cli.worker import check_app
    from tasker.embedded.stack import Stack
    from tasker.settings import read_settings
    from tasker.settings.running import data_dir_of

    check_app(app)
    flags = {
        "http.port": http_port,
        "worker.slots": slots,
        "worker.labels": label or None,
        "data": str(data) if data else None,
    }
    found = read_settings(flags=flags)
    tell_warnings(found)
    settings = found.settings
    stop = Stop()
    with stop, Stack(data_dir_of(settings.data), settings.embedded) as stack:
        port = (settings.http.port if found.is_set("http.port") else 0) or usual_port(stack.data_dir / _PORT_FILE)
        info = stack.publish(http_url=f"http://127.0.0.1:{port}")
        environ = {**os.environ, **info.environment()}
        migrate_database(info.database_url, settings.log)
        service = Child("service", ["serve", "--http-host", "127.0.0.1", "--http-port", str(port)], environ)
        health_port = settings.worker.health_port or _free_port()
        wanted = ["--slots", str(settings.worker.slots), "--health-port", str(health_port)]
        wanted += [f"--label={one}" for one in settings.worker.labels]
        children = [service, *([Child("worker", ["worker", app, *wanted], environ)] if app else [])]
        try:
            for child in children:  # side by side: the worker waits for the service by itself
                child.start()
            code = _await_ready(port, service, stop)
            if not code and not stop.asked and app:
                code = _await_worker(health_port, children[1], stop)
            if not code and not stop.asked:
                _announce(info.environment(), app)
                code = _watch(children, stack, stop)
        finally:
            note("stopping: worker, service, servers")
            for child in reversed(children):
                if not child.stop(_DRAIN_S, lambda: stop.times > 1):
                    note(f"the {child.name} was killed before it had drained; what it was at is done again")
    return code


class Stop:
    """Whether Ctrl-C or SIGTERM came; a second one hurries. A context manager that puts the old handlers back."""

    def __init__(self) -> None:
        self.times = 0
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return self.times > 0

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._count)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _count(self, _number: int, _frame: object) -> None:
        self.times += 1


def usual_port(kept: Path) -> int:
    """Return the port of the last start, kept in a file, while it is free: what was told the address goes on.

    Else a free one, which is the usual one from now on.
    """
    try:
        port = _free_port(int(kept.read_text()))
    except (OSError, ValueError, OverflowError):
        port = _free_port()
        kept.write_text(f"{port}\n")
    return port


def _free_port(wanted: int = 0) -> int:
    """Return `wanted`, or any port.

    Raises:
        OSError: somebody listens there.
    """
    import socket

    with socket.socket() as probe:
        # A port whose last connections are only fading away is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", wanted))
        return int(probe.getsockname()[1])


def _await_ready(port: int, service: Child, stop: Stop) -> int:
    """Return 0 once the service says that it is ready, or we are to stop; else our exit code."""
    from tasker.cli.output import note

    until_s = time.monotonic() + _READY_S
    while not stop.asked:
        crash = service.crash()
        if crash is not None:
            note(f"error: the service ended with code {crash.code} before it was ready")
            return crash.code if crash.code in _HOPELESS else 1
        if _get(port, "/health/ready") is not None:
            return 0
        if time.monotonic() > until_s:
            note(f"error: the service was not ready within {_READY_S:g} s; `tasker health` says why")
            return 1
        time.sleep(_POLL_S)
    return 0


def _await_worker(health_port: int, worker: Child, stop: Stop) -> int:
    """Wait a little until the worker has made its templates known and pulls, so that the first command finds them.

    Returns our exit code when its app can never run, else 0: what may pass is for `_watch`.
    """
    from tasker.cli.output import note

    until_s = time.monotonic() + _WORKER_S
    while not stop.asked and time.monotonic() < until_s:
        crash = worker.crash()
        if crash is not None:
            if crash.code not in _HOPELESS:
                return 0
            note("error: the worker cannot run this app; what is wrong stands above")
            return crash.code
        if _get(health_port, "/health/ready") is not None:
            return 0
        time.sleep(_POLL_S)
    return 0


def _get(port: int, path: str) -> bytes | None:
    """Return the body of a good answer."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read() if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _watch(children: list[Child], stack: Stack, stop: Stop) -> int:
    """Start children again that die, until we are to stop; returns 1 when that makes no sense any more."""
    from tasker.cli.output import note

    crashes = dict.fromkeys((child.name for child in children), 0)
    while not stop.asked:
        time.sleep(_POLL_S)
        for name, server in (("PostgreSQL", stack.postgres), ("nats-server", stack.nats)):
            if not server.running:
                note(f"error: {name} has ended; {server.last_words()}")
                return 1
        for child in children:
            crash = child.crash()
            if crash is None or stop.asked:
                continue
            crashes[child.name] = 1 if crash.lived_s > _LIVED_WELL_S else crashes[child.name] + 1
            if crashes[child.name] > _CRASHES_MAX:
                note(f"error: the {child.name} ends again and again (code {crash.code})")
                return 1
            note(f"the {child.name} ended with code {crash.code}; it is started again")
            child.start()
    return 0


def _announce(environ: Mapping[str, str], app: str | None) -> None:
    """Print what a person opens and what clients need; on stdout, so that it can be evaluated."""
    from tasker.cli.output import line, note

    url = environ["TASKER_HTTP_URL"]
    note(f"tasker is up: {url}/v1/tasks   {url}/health/ready   NATS at {_without_secret(environ['TASKER_NATS_URL'])}")
    note("commands on this machine find it by themselves; other programs need:")
    for name, value in environ.items():
        line(f"export {name}={shlex.quote(value)}")
    note(f"worker: {app or 'none; start one with `tasker worker app.py`'}")
    note("Ctrl-C drains and stops")


def _without_secret(url: str) -> str:
    from urllib.parse import urlsplit

    split = urlsplit(url)
    return f"{split.scheme}://{split.hostname}:{split.port}"
