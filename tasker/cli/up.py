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


def up(
    app: str | None = None,
    /,
    *,
    http_port: Annotated[int | None, Parameter(name="--http-port")] = None,
    data: Path | None = None,
    slots: int | None = None,
) -> int:
    """Run everything on this machine: PostgreSQL, nats-server, the service, and a worker when an app is named.

    Runs until Ctrl-C or SIGTERM, then drains. Data is kept between starts.

    For example:

    $ tasker up                    # without a worker: `tasker worker app.py`
    $ tasker up app.py --slots 32  # with one, for the handlers of app.py

    Args:
        app: a Python file, or the dotted name of a module, with templates and handlers.
        http_port: of the HTTP API; else `http.port` where it is set, else a free one.
        data: directory; else TASKER_DATA, else under your XDG data directory (/var/lib/tasker for root).
        slots: steps that the worker runs at a time; else `worker.slots`, 100 at first.
    """
    import os

    from tasker.cli.output import note
    from tasker.cli.owned import Child
    from tasker.cli.reach import tell_warnings
    from tasker.cli.serve import migrate_database
    from tasker.cli.worker import check_app
    from tasker.embedded.stack import Stack, data_dir_of
    from tasker.settings import read_settings

    check_app(app)
    flags = {"http.port": http_port, "worker.slots": slots, "data": str(data) if data else None}
    found = read_settings(flags=flags)
    tell_warnings(found)
    settings = found.settings
    port = (settings.http.port if found.is_set("http.port") else 0) or _free_port()
    http_url = f"http://127.0.0.1:{port}"
    stop = Stop()
    with stop, Stack(data_dir_of(settings.data), settings.embedded) as stack:
        info = stack.publish(http_url=http_url)
        environ = {**os.environ, **info.environment()}
        migrate_database(info.database_url, settings.log)
        service = Child("service", ["serve", "--http-host", "127.0.0.1", "--http-port", str(port)], environ)
        health_port = settings.worker.health_port or _free_port()
        wanted = ["--slots", str(settings.worker.slots), "--health-port", str(health_port)]
        children = [service, *([Child("worker", ["worker", app, *wanted], environ)] if app else [])]
        try:
            for child in children:  # side by side: the worker waits for the service by itself
                child.start()
            failed = not _await_ready(port, service, stop)
            if not failed and not stop.asked:
                for child in children[1:]:
                    _await_worker(health_port, child, stop)
                _announce(info.environment(), app)
                failed = _watch(children, stack, stop)
        finally:
            note("stopping: worker, service, servers")
            for child in reversed(children):
                if not child.stop(_DRAIN_S, lambda: stop.times > 1):
                    note(f"the {child.name} was killed before it had drained; what it was at is done again")
    return 1 if failed else 0


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


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_ready(port: int, service: Child, stop: Stop) -> bool:
    """Return True once the service says that it is ready, or we are to stop; False when it ends or takes too long."""
    from tasker.cli.output import note

    until_s = time.monotonic() + _READY_S
    while not stop.asked:
        crash = service.crash()
        if crash is not None:
            note(f"error: the service ended with code {crash.code} before it was ready")
            return False
        if _get(port, "/health/ready") is not None:
            return True
        if time.monotonic() > until_s:
            note(f"error: the service was not ready within {_READY_S:g} s; `tasker health` says why")
            return False
        time.sleep(_POLL_S)
    return True


def _await_worker(health_port: int, worker: Child, stop: Stop) -> None:
    """Wait a little until the worker has made its templates known and pulls, so that the first command finds them."""
    until_s = time.monotonic() + _WORKER_S
    while not stop.asked and worker.crash() is None and time.monotonic() < until_s:
        if _get(health_port, "/health/ready") is not None:
            return
        time.sleep(_POLL_S)


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


def _watch(children: list[Child], stack: Stack, stop: Stop) -> bool:
    """Start children again that die, until we are to stop; returns True when that makes no sense any more."""
    from tasker.cli.output import note

    crashes = dict.fromkeys((child.name for child in children), 0)
    while not stop.asked:
        time.sleep(_POLL_S)
        for name, server in (("PostgreSQL", stack.postgres), ("nats-server", stack.nats)):
            if not server.running:
                note(f"error: {name} has ended; its log is under {stack.data_dir}")
                return True
        for child in children:
            crash = child.crash()
            if crash is None or stop.asked:
                continue
            crashes[child.name] = 1 if crash.lived_s > _LIVED_WELL_S else crashes[child.name] + 1
            if crashes[child.name] > _CRASHES_MAX:
                note(f"error: the {child.name} ends again and again (code {crash.code})")
                return True
            note(f"the {child.name} ended with code {crash.code}; it is started again")
            child.start()
    return False


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
