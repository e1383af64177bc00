"""`tasker serve` and `tasker migrate`: the service on servers that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    *,
    roles: str = "shards,publisher,projections,http",
    http_host: Annotated[str, Parameter(name="--http-host")] = "127.0.0.1",
    http_port: Annotated[int, Parameter(name="--http-port")] = 8080,
    insecure_bind: Annotated[bool, Parameter(name="--insecure-bind", negative="")] = False,
    owned: Annotated[bool, Parameter(name="--owned", negative="", show=False)] = False,
) -> int:
    """Run the service on TASKER_DATABASE_URL and TASKER_NATS_URL until SIGTERM or Ctrl-C, then drain.

    One supervisor keeps two processes: shards with publisher, projections with http; it restarts either.

    For example:

    $ tasker serve
    $ tasker serve --roles shards,publisher
    $ tasker serve --http-host 0.0.0.0 --insecure-bind

    Args:
        roles: what this one does, separated by commas.
        http_host: address that the HTTP API binds.
        http_port: its port; 0 for a free one.
        insecure_bind: bind another address than loopback, although anyone who reaches it may do anything.
        owned: started by `tasker up`.
    """
    import os

    import msgspec

    from tasker.cli.owned import end_with_owner
    from tasker.errors import ConfigurationError
    from tasker.service.process import serve as run
    from tasker.settings import from_environment

    if http_host not in _LOOPBACK and not insecure_bind:
        raise ConfigurationError(
            f"--http-host {http_host} can be reached from outside, and there is no authentication: "
            "bind 127.0.0.1 and put a proxy before it, or add --insecure-bind",
        )
    chosen = tuple(role.strip() for role in roles.split(",") if role.strip())
    settings = msgspec.structs.replace(
        from_environment(os.environ), roles=chosen, http_host=http_host, http_port=http_port
    )
    if owned:
        end_with_owner()
    return run(settings)


def migrate(*, data: Path | None = None) -> None:
    """Bring the database at TASKER_DATABASE_URL to the schema of this build. Twice is fine.

    Args:
        data: data directory of a running `tasker up`, instead of TASKER_DATABASE_URL.
    """
    from tasker.cli.output import note
    from tasker.cli.reach import database_url

    applied = migrate_database(database_url(data))
    note(f"applied: {', '.join(applied)}" if applied else "the schema is up to date")


def migrate_database(dsn: str) -> list[str]:
    """Apply what is missing; returns the names of what was applied."""
    import asyncio

    from tasker.events.postgres_schema import migrate as apply

    return asyncio.run(apply(dsn))
