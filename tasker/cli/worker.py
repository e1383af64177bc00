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
    owned: Annotated[bool, Parameter(name="--owned", negative="", show=False)] = False,
) -> int:
    """Run a worker: register the app's templates, take work for its handlers, drain on SIGTERM and Ctrl-C.

    Needs TASKER_NATS_URL only (and TASKER_NATS_PREFIX where it is not the default). What is not given here
    comes from the settings: `tasker config show`.

    For example:

    $ tasker worker app.py
    $ tasker worker shop.workflows --slots 64 --drain-s 120

    Args:
        app: a Python file, or the dotted name of a module, with templates and handlers.
        slots: steps at a time; else `worker.slots`, 100 at first.
        drain_s: how long running steps may take to end after SIGTERM; else `worker.drain_s`, 30 at first.
        tenant: whose work; else the setting `tenant`, "default" at first.
        data: data directory of a running `tasker up`, instead of TASKER_NATS_URL.
        owned: started by `tasker up`.
    """
    from tasker.cli.owned import end_with_owner
    from tasker.cli.reach import effective, tell_warnings
    from tasker.handlers.process import run_worker

    check_app(app)
    flags = {"worker.slots": slots, "worker.drain_s": drain_s, "tenant": tenant}
    found = effective(data, flags, wants=("nats.url",))
    if owned:
        end_with_owner()
    else:
        tell_warnings(found)
    return run_worker(app, found.settings)


def check_app(app: str | None) -> None:
    """Refuse an app that names a file which is not there, before anything is started for it.

    Raises:
        ConfigurationError: there is no such file.
    """
    from tasker.errors import ConfigurationError

    if app is not None and app.endswith(".py") and not Path(app).is_file():
        raise ConfigurationError(f"there is no file {app}: name the one that has your templates and handlers")
