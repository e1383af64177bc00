"""Settings of a service process: read once at start, never changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from tasker.errors import ConfigurationError

DATABASE_URL: Final = "TASKER_DATABASE_URL"
NATS_URL: Final = "TASKER_NATS_URL"
NATS_PREFIX: Final = "TASKER_NATS_PREFIX"

ROLES: Final = ("shards", "publisher", "projections", "http")


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `tasker serve` runs with.

    Attributes:
        roles: parts of this node. `shards` and `publisher` share a process (the publisher is fed by the
            commits), `projections` and `http` another, so that reads never slow a commit.
        http_port: 0: a free one.
    """

    database_url: str
    nats_url: str
    nats_prefix: str = "tasker"
    roles: tuple[str, ...] = ROLES
    http_host: str = "127.0.0.1"
    http_port: int = 8080


def from_environment(environ: Mapping[str, str] = os.environ) -> ServeSettings:
    """Return the settings that the environment names.

    Raises:
        ConfigurationError: a variable is missing.
    """
    missing = [name for name in (DATABASE_URL, NATS_URL) if not environ.get(name)]
    if missing:
        raise ConfigurationError(f"set {' and '.join(missing)}, or run `tasker up`, which brings its own servers")
    return ServeSettings(
        database_url=environ[DATABASE_URL],
        nats_url=environ[NATS_URL],
        nats_prefix=environ.get(NATS_PREFIX) or "tasker",
    )


def checked_roles(roles: tuple[str, ...]) -> tuple[str, ...]:
    """Return `roles` in their usual order.

    Raises:
        ConfigurationError: one is unknown, none is named, or the publisher has no shards to publish.
    """
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        raise ConfigurationError(f"--roles takes {', '.join(ROLES)}; not {', '.join(unknown) or 'nothing'}")
    if ("publisher" in roles) != ("shards" in roles):
        raise ConfigurationError("the roles shards and publisher go together: commits feed the publisher")
    return tuple(role for role in ROLES if role in roles)
