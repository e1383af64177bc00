"""`tasker worker`: run the handlers of a Python file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def worker(
    app: str,
    /,
    *,
    slots: int | None = None,
    drain_s: Annotated[float | None, Parameter(name="--drain-s")] = None,
    tenant: str | None = None,
    data: Path | None = None,
    processes: int | None = None,
    health_port: Annotated[int | None, Parameter(name="--health-port")] = None,
    max_tasks: Annotated[int | None, Parameter(name="--max-tasks")] = None,
    max_rss_mib: Annotated[int | None, Parameter(name="--max-rss-mib")] = None,
    reload: Annotated[bool, Parameter(name="--reload", negative="")] = False,
    owned: Annotated[bool, Parameter(name="--owned", negative="", show=False)] = False,
) -> int:
    """Run a worker: register the app's templates, take work for its handlers, drain on SIGTERM and Ctrl-C.

    SIGHUP replaces its process without a gap: a new one starts, then the old one drains.

    Needs TASKER_NATS_URL only (and TASKER_NATS_PREFIX where it is not the default).

    For example:

    $ tasker worker app.py
    $ tasker worker shop.workflows --slots 64 --drain-s 120
    $ tasker worker shop.workflows:orders,returns --health-port 9300 --max-rss-mib 800
    $ tasker worker app.py --reload  # while you write it

    Args:
        app: a Python file, or the dotted name of a module, with templates and handlers; `:name,name` chooses some.
        slots: steps at a time.
        drain_s: how long running steps may take to end after SIGTERM.
        tenant: whose work; else TASKER_TENANT, else "default".
        data: data directory of a running `tasker up`, instead of TASKER_NATS_URL.
        processes: for handlers with process=True; else one a core.
        health_port: serve /health/live and /health/ready on 127.0.0.1.
        max_tasks: replace the process after so many steps.
        max_rss_mib: replace the process when it and its children hold more memory.
        reload: replace the process when a Python file beside the app changes.
        owned: started by `tasker up`.
    """
    import os

    from tasker.cli.owned import end_with_owner
    from tasker.cli.reach import running_stack
    from tasker.client.settings import NATS_URL, PREFIX, TENANT
    from tasker.errors import ConfigurationError
    from tasker.events.messages import DEFAULT_TENANT
    from tasker.events.subjects import DEFAULT_PREFIX
    from tasker.handlers.process import run_worker
    from tasker.handlers.worker import DRAIN_S_DEFAULT, SLOTS_DEFAULT

    check_app(app)
    nats_url = (None if data else os.environ.get(NATS_URL)) or running_stack(data).get(NATS_URL)
    if not nats_url:
        raise ConfigurationError(f"no NATS is known: set {NATS_URL}, or start one here with `tasker up`")
    if owned:
        end_with_owner()
    return run_worker(
        app,
        nats_url=nats_url,
        prefix=os.environ.get(PREFIX) or DEFAULT_PREFIX,
        tenant=tenant or os.environ.get(TENANT) or DEFAULT_TENANT,
        slots=SLOTS_DEFAULT if slots is None else slots,
        drain_s=DRAIN_S_DEFAULT if drain_s is None else drain_s,
        processes=_at_least_one("--processes", processes),
        health_port=health_port,
        tasks_max=_at_least_one("--max-tasks", max_tasks),
        rss_mib_max=_at_least_one("--max-rss-mib", max_rss_mib),
        reload=reload,
    )


def _at_least_one(flag: str, value: int | None) -> int | None:
    from tasker.errors import ConfigurationError

    if value is not None and value < 1:
        raise ConfigurationError(f"{flag} is {value}: give at least 1, or leave it out")
    return value


def check_app(app: str | None) -> None:
    """Refuse an app that names a file which is not there, before anything is started for it.

    Raises:
        ConfigurationError: there is no such file.
    """
    from tasker.errors import ConfigurationError

    if app is None or Path(app).is_file():
        return
    place = app.partition(":")[0]
    if place.endswith(".py") and not Path(place).is_file():
        raise ConfigurationError(f"there is no file {place}: name the one that has your templates and handlers")
