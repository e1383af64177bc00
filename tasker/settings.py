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
PACE: Final = "TASKER_PACE"
"""JSON of a `Pace`, such as {"lease_s": 2, "renew_s": 0.5}."""

ROLES: Final = ("shards", "publisher", "projections", "http")


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often the write side does what it does beside the commits. The defaults suit production.

    Attributes:
        lease_s: how long a lease lasts: a killed node's shards are taken over after it at the latest. Above the
            timeout of a statement (3 s), so that an owner that waits for one knows before another takes over.
        renew_s: between renewals; a few of them fit into a lease.
        due_write_s: between writes of the due rows: so much of the log is folded again at a takeover.
        idle_s: an actor without a message for so long is dropped from memory.
        passivate_s: between looks for such actors.
    """

    lease_s: float = 5.0
    renew_s: float = 1.0
    due_write_s: float = 1.0
    idle_s: float = 10.0
    passivate_s: float = 2.0

    def __post_init__(self) -> None:
        if min(self.lease_s, self.renew_s, self.due_write_s, self.idle_s, self.passivate_s) <= 0:
            raise ValueError("every pace is above 0")
        if self.renew_s > self.lease_s / 2:
            raise ValueError("renew_s is at most half of lease_s")


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
    pace: Pace = Pace()


def from_environment(environ: Mapping[str, str] = os.environ) -> ServeSettings:
    """Return the settings that the environment names.

    Raises:
        ConfigurationError: a variable is missing, or holds nothing that fits.
    """
    missing = [name for name in (DATABASE_URL, NATS_URL) if not environ.get(name)]
    if missing:
        raise ConfigurationError(f"set {' and '.join(missing)}, or run `tasker up`, which brings its own servers")
    try:
        pace = msgspec.json.decode(environ.get(PACE) or b"{}", type=Pace)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{PACE}: {error}") from error
    return ServeSettings(
        database_url=environ[DATABASE_URL],
        nats_url=environ[NATS_URL],
        nats_prefix=environ.get(NATS_PREFIX) or "tasker",
        pace=pace,
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
