"""`tasker worker`: run the handlers of a Python file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def worker(
    app: Path,
    /,
    *,
    slots: int | None = None,
    drain_s: Annotated[float, Parameter(name="--drain-s")] = 30.0,
    data: Path | None = None,
    owned: Annotated[bool, Parameter(name="--owned", negative="", show=False)] = False,
) -> int:
    """Run a worker: register the file's templates, take work for its handlers, drain on SIGTERM and Ctrl-C.

    Needs TASKER_NATS_URL only (and TASKER_TENANT, TASKER_NATS_PREFIX where they are not the default).

    For example:

    $ tasker worker app.py
    $ tasker worker app.py --slots 64 --drain-s 120

    Args:
        app: a Python file with templates and handlers.
        slots: steps at a time.
        drain_s: how long running steps may take to end after SIGTERM.
        data: data directory of a running `tasker up`, instead of TASKER_NATS_URL.
    """
    import os

    from tasker.cli.owned import end_with_owner
    from tasker.cli.reach import running_stack
    from tasker.errors import ConfigurationError

    check_app(app)
    nats_url = (None if data else os.environ.get("TASKER_NATS_URL")) or running_stack(data).get("TASKER_NATS_URL")
    if not nats_url:
        raise ConfigurationError("no NATS is known: set TASKER_NATS_URL, or start one here with `tasker up`")
    if owned:
        end_with_owner()
    raise NotImplementedError


def check_app(app: Path | None) -> None:
    """Refuse an app that is no file.

    Raises:
        ConfigurationError: it is none.
    """
    from tasker.errors import ConfigurationError

    if app is not None and not app.is_file():
        raise ConfigurationError(f"{app} is no file: name the Python file that has your templates and handlers")
