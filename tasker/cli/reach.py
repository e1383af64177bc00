"""How a command reaches the service: the settings, else the stack that runs on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasker.cli.options import Common
from tasker.cli.output import note
from tasker.client import TaskerClient
from tasker.client.attempts import RetryPolicy
from tasker.errors import ConfigurationError, TaskerError
from tasker.settings import Effective, database_url_of, read_settings
from tasker.settings.keys import keys
from tasker.settings.running import running_stack

ADDRESSES = ("database.url", "nats.url", "http.url")


def client(common: Common) -> TaskerClient:
    """Return a client of the service that `common` and the settings name.

    Raises:
        ConfigurationError: there is none.
    """
    flags = {"tenant": common.tenant, "client.timeout_s": common.timeout_s}
    settings = effective(common.data, flags).settings
    return TaskerClient(
        settings.nats.url or "",
        settings.http.url or "",
        tenant=settings.tenant,
        nats_prefix=settings.nats.prefix,
        timeout_s=settings.client.timeout_s,
        retry=RetryPolicy(on_repeat=_TellOnce(settings.client.timeout_s)) if common.output == "table" else None,
    )


class _TellOnce:
    """Says the first time why a call is repeated, so that nobody sits before a silent command."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._told = False

    def __call__(self, error: TaskerError) -> None:
        if not self._told:
            self._told = True
            note(f"{error.detail}; asking again for up to {self._timeout_s:g} s")


def database_url(data: Path | None) -> str:
    """Return the address of the log's database.

    Raises:
        ConfigurationError: none is known.
    """
    return database_url_of(effective(data).settings)


def effective(
    data: Path | None = None, flags: Mapping[str, Any] | None = None, *, wants: tuple[str, ...] = ADDRESSES
) -> Effective:
    """Return the settings, with the addresses of a running stack where nothing names any.

    Args:
        data: data directory of a running stack, whose addresses then come before all others.
        flags: key -> value of the options that were given.
        wants: addresses that the command needs. One that can do with either carrier, NATS or HTTP, gets neither from
            the stack when one of them is set: two services are not to be mixed.

    Raises:
        ConfigurationError: a setting has a fault, or no stack runs on `data`.
    """
    given = dict(flags or {})
    if data is not None:
        found = running_stack(str(data))
        if not found:
            raise ConfigurationError(f"no service is known: nothing runs on {data}; start it with `tasker up`")
        return read_settings(flags=given | {name: found.get(keys()[name].variable) for name in ADDRESSES})
    settings = read_settings(flags=given)
    missing = [name for name in wants if not settings.is_set(name)]
    if "http.url" in wants and not {"nats.url", "http.url"} <= set(missing):
        missing = [name for name in missing if name == "database.url"]
    if not missing:
        return settings
    named = {keys()[name].variable for name in missing}
    found = {name: value for name, value in running_stack(settings.settings.data).items() if name in named}
    return read_settings(flags=given, stack=found) if found else settings


def tell_warnings(settings: Effective) -> None:
    """Say on stderr what is odd about the settings."""
    for warning in settings.warnings:
        note(f"warning: {warning}")
