"""Where a client finds the service: arguments first, then the environment, then a running stack."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import msgspec

from tasker.errors import ConfigurationError
from tasker.events.messages import DEFAULT_TENANT
from tasker.events.subjects import DEFAULT_PREFIX
from tasker.ids import check_name

NATS_URL = "TASKER_NATS_URL"
HTTP_URL = "TASKER_HTTP_URL"
TENANT = "TASKER_TENANT"
PREFIX = "TASKER_NATS_PREFIX"

FindStack = Callable[[], Mapping[str, str]]
"""Returns the `TASKER_*` variables of a running stack, empty when none runs."""


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses and names; at least one of the two addresses is known.

    Attributes:
        nats_url: None: commands go over HTTP.
        http_url: without a final slash. None: there are no reads, and `wait` follows events.
    """

    nats_url: str | None
    http_url: str | None
    tenant: str
    prefix: str


def client_settings(
    *,
    nats_url: str | None = None,
    http_url: str | None = None,
    tenant: str | None = None,
    prefix: str | None = None,
    environ: Mapping[str, str] = os.environ,
    find_stack: FindStack | None = None,
) -> ClientSettings:
    """Return the settings; the running stack is asked for only when neither address is known otherwise.

    An address given as "" is none, whatever the environment says.

    Raises:
        ConfigurationError: no address is known.
        NameInvalid: the tenant is no name.
    """
    if nats_url is None:
        nats_url = environ.get(NATS_URL)
    if http_url is None:
        http_url = environ.get(HTTP_URL)
    if not nats_url and not http_url and find_stack is not None:
        found = find_stack()
        nats_url, http_url = found.get(NATS_URL), found.get(HTTP_URL)
    if not nats_url and not http_url:
        raise ConfigurationError(
            f"no service is known: set {NATS_URL} and {HTTP_URL}, or start one here with `tasker up`",
        )
    return ClientSettings(
        nats_url=nats_url or None,
        http_url=http_url.rstrip("/") if http_url else None,
        tenant=check_name(tenant or environ.get(TENANT) or DEFAULT_TENANT, "tenant"),
        prefix=prefix or environ.get(PREFIX) or DEFAULT_PREFIX,
    )
