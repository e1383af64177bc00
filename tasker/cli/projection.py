"""`tasker projection`: what the log looks like."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from tasker.cli.options import Output

app = App(name="projection", help="Rebuild what reads show from the log.")


@app.command
async def rebuild(name: str, /, *, data: Path | None = None, output: Output = "table") -> None:
    """Fill a view anew from the log beside the old one, then switch to it; reads go on meanwhile.

    Reads and writes Postgres directly (TASKER_DATABASE_URL, or the stack that runs here).

    For example:

    $ tasker projection rebuild task

    Args:
        name: of the projection, such as task or step.
        data: data directory of a running `tasker up`, instead of TASKER_DATABASE_URL.
        output: the form of what is printed.
    """
    from tasker.cli.reach import database_url
    from tasker.cli.rebuilding import rebuild_view

    await rebuild_view(database_url(data), name, output=output)
