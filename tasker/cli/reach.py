"""How a command reaches the service: the environment, else the stack that runs on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tasker.cli.options import Common
from tasker.client import TaskerClient
from tasker.errors import ConfigurationError

DATABASE_URL = "TASKER_DATABASE_URL"


def client(common: Common) -> TaskerClient:
    """Return a client of the service that `common` and the environment name.

    Raises:
        ConfigurationError: there is none.
    """
    return TaskerClient(
        tenant=common.tenant,
        timeout_s=common.timeout_s,
        environ=_environment(common.data),
        find_stack=lambda: running_stack(common.data),
    )


def database_url(data: Path | None) -> str:
    """Return the address of the log's database.

    Raises:
        ConfigurationError: none is known.
    """
    named = _environment(data).get(DATABASE_URL) or running_stack(data).get(DATABASE_URL)
    if not named:
        raise ConfigurationError(f"no database is known: set {DATABASE_URL}, or start one here with `tasker up`")
    return named


def running_stack(data: Path | None) -> Mapping[str, str]:
    """Return the `TASKER_*` variables of the stack that runs on `data` (else the default directory), or none."""
    if os.name == "nt":
        return {}
    from tasker.embedded.stack import default_data_dir, find_stack

    found = find_stack(data.absolute() if data else default_data_dir())
    return found.environment() if found else {}


def _environment(data: Path | None) -> Mapping[str, str]:
    """Return the environment; a data directory that was named outdoes the addresses in it."""
    if data is None:
        return os.environ
    addresses = ("TASKER_DATABASE_URL", "TASKER_NATS_URL", "TASKER_HTTP_URL")
    return {name: value for name, value in os.environ.items() if name not in addresses}
