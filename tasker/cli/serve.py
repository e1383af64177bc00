"""`tasker serve` and `tasker migrate`: the service on servers that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tasker.cli.options import Output

if TYPE_CHECKING:
    from tasker.settings import LogSettings


def serve(
    *,
    roles: str | None = None,
    http_host: Annotated[str | None, Parameter(name="--http-host")] = None,
    http_port: Annotated[int | None, Parameter(name="--http-port")] = None,
    insecure_bind: Annotated[bool | None, Parameter(name="--insecure-bind", negative="")] = None,
    owned: Annotated[bool, Parameter(name="--owned", negative="", show=False)] = False,
) -> int:
    """Run the service on TASKER_DATABASE_URL and TASKER_NATS_URL until SIGTERM or Ctrl-C, then drain.

    One supervisor keeps two processes: shards with publisher, projections with http; it restarts either.
    What is not given here comes from the settings: `tasker config show`.

    For example:

    $ tasker serve
    $ tasker serve --roles shards,publisher
    $ tasker serve --http-host 0.0.0.0 --insecure-bind

    Args:
        roles: what this one does, separated by commas; else `service.roles`, all at first:
            shards,publisher,projections,http. `metrics` serves /metrics alone, on a node without http.
        http_host: address that the HTTP API binds; else `http.host`, 127.0.0.1 at first.
        http_port: its port, 0 for a free one; else `http.port`, 8080 at first.
        insecure_bind: bind another address than loopback, although anyone who reaches it may do anything.
        owned: started by `tasker up`.
    """
    from tasker.cli.reach import tell_warnings
    from tasker.orphans import end_with_owner
    from tasker.service.process import serve as run
    from tasker.settings import read_settings

    flags = {
        "service.roles": roles,
        "http.host": http_host,
        "http.port": http_port,
        "http.insecure_bind": insecure_bind,
    }
    found = read_settings(flags=flags)
    if owned:
        end_with_owner()
    else:
        tell_warnings(found)
    return run(found.settings)


def migrate(*, data: Path | None = None, output: Output = "table") -> None:
    """Bring the database at TASKER_DATABASE_URL to the schema of this build. Twice is fine.

    Args:
        data: data directory of a running `tasker up`, instead of TASKER_DATABASE_URL.
        output: the form of what is printed.
    """
    from tasker.cli.output import fields
    from tasker.cli.reach import effective, tell_warnings
    from tasker.settings import database_url_of

    found = effective(data)
    tell_warnings(found)
    applied = migrate_database(database_url_of(found.settings), found.settings.log)
    fields({"applied": applied}, [("applied", applied or "nothing: the schema is up to date")], output)


def migrate_database(dsn: str, log: LogSettings) -> list[str]:
    """Apply what is missing, a new log in the shape of `log`; returns the names of what was applied."""
    import asyncio

    from tasker.events.postgres_schema import migrate as apply

    return asyncio.run(apply(dsn, shards=log.shards, partition_size=log.partition_size))
