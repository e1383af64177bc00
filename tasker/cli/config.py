"""`tasker config`: what the settings are, why, and whether they can be used."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from tasker.cli.options import Output

app = App(name="config", help="Show, explain and check the settings.")


@app.command
def show(part: str | None = None, /, *, data: Path | None = None, output: Output = "table") -> None:
    """Show what holds, and where each value comes from. Passwords and tokens are masked.

    Later sources win: defaults, a `tasker up` that runs here (addresses only), tasker.toml, environment, options.

    For example:

    $ tasker config show
    $ tasker config show pace -o json
    $ TASKER_HTTP_PORT=9000 tasker config show http

    Args:
        part: only the keys of this part, such as http.
        data: data directory of a running `tasker up`, for its addresses.
        output: the form of what is printed.
    """
    from tasker.cli.configuring import show_settings

    show_settings(part, data=data, output=output)


@app.command
def explain(key: str, /, *, data: Path | None = None, output: Output = "table") -> None:
    """Explain a key: what it does, its unit, its default, what sets it, and where it is set now.

    For example:

    $ tasker config explain pace.lease_s
    $ tasker config explain TASKER_HTTP_PORT

    Args:
        key: its name, or that of its variable.
        data: data directory of a running `tasker up`, for its addresses.
        output: the form of what is printed.
    """
    from tasker.cli.configuring import explain_key

    explain_key(key, data=data, output=output)


@app.command
def validate(
    file: Path | None = None,
    /,
    *,
    output: Output = "table",
) -> None:
    """Check the settings, every fault at once. Exit code 9 when there is one.

    For example:

    $ tasker config validate
    $ tasker config validate deploy/tasker.toml

    Args:
        file: check this file alone; else the file that is found, together with the environment.
        output: the form of what is printed.
    """
    from tasker.cli.configuring import validate_settings

    validate_settings(file, output=output)
