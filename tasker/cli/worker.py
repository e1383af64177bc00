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
    steps_max: Annotated[int | None, Parameter(name="--steps-max")] = None,
    rss_mib_max: Annotated[int | None, Parameter(name="--rss-mib-max")] = None,
    label: Annotated[list[str] | None, Parameter(name="--label", negative="")] = None,
    reload: Annotated[bool, Parameter(name="--reload", negative="")] = False,
    owned: Annotated[bool, Parameter(name="--owned", negative="", show=False)] = False,
) -> int:
    """Run a worker: register the app's templates, take work for its handlers, drain on SIGTERM and Ctrl-C.

    SIGHUP replaces its process without a gap: a new one starts, then the old one drains.

    Needs TASKER_NATS_URL only (and TASKER_NATS_PREFIX where it is not the default). What is not given here
    comes from the settings: `tasker config show`.

    For example:

    $ tasker worker app.py
    $ tasker worker shop.workflows --slots 64 --drain-s 120
    $ tasker worker shop.workflows:orders,returns --health-port 9300 --rss-mib-max 800
    $ tasker worker app.py --label gpu=a100 --label zone=eu
    $ tasker worker app.py --reload  # while you write it

    Args:
        app: a Python file, or the dotted name of a module, with templates and handlers; `:name,name` chooses some.
        slots: steps at a time; else `worker.slots`, 100 at first.
        drain_s: how long running steps may take to end after SIGTERM; else `worker.drain_s`, 30 at first.
        tenant: whose work; else the setting `tenant`, "default" at first.
        data: data directory of a running `tasker up`, instead of TASKER_NATS_URL.
        processes: for handlers with process=True; else `worker.processes`, one a core at first.
        health_port: serve /health/live and /health/ready on 127.0.0.1; else `worker.health_port`, none at first.
        steps_max: replace the process after so many steps; else `worker.steps_max`, never at first.
        rss_mib_max: replace the process when it and its children hold more memory; else `worker.rss_mib_max`.
        label: what a step may require (`requires`), as name=value; may stand several times; else `worker.labels`.
        reload: replace the process when a Python file beside the app changes.
        owned: started by `tasker up`.
    """
    from tasker.cli.reach import effective, tell_warnings
    from tasker.handlers.process import run_worker
    from tasker.orphans import end_with_owner

    check_app(app)
    flags = {
        "worker.slots": slots,
        "worker.drain_s": drain_s,
        "worker.processes": processes,
        "worker.health_port": health_port,
        "worker.labels": label or None,
        "worker.steps_max": steps_max,
        "worker.rss_mib_max": rss_mib_max,
        "tenant": tenant,
    }
    found = effective(data, flags, wants=("nats.url",))
    if owned:
        end_with_owner()
    else:
        tell_warnings(found)
    return run_worker(app, found.settings, reload=reload)


def check_app(app: str | None) -> None:
    """Refuse an app that names a file which is not there, before anything is started for it.

    Raises:
        ConfigurationError: there is no such file.
    """
    if app is None or Path(app).is_file():
        return
    place = app.partition(":")[0]
    if place.endswith(".py") and not Path(place).is_file():
        from tasker.handlers.app_module import no_file

        raise no_file(place)
