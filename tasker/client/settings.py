"""Where a client finds the service: arguments first, then the settings, then a running stack."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import msgspec

from tasker.errors import ConfigurationError
from tasker.ids import check_name
from tasker.settings import read_settings
from tasker.settings.keys import keys
from tasker.settings.running import data_dir_of, running_stack

NATS_URL = keys()["nats.url"].variable
HTTP_URL = keys()["http.url"].variable

FindStack = Callable[[], Mapping[str, str]]
"""Returns the `TASKER_*` variables of a running stack, empty when none runs."""


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses and names; at least one of the two addresses is known.

    Attributes:
        nats_url: None: commands go over HTTP.
        http_url: without a final slash. None: there are no reads, and `wait` follows events.
        timeout_s: how long one call may take.
        inbox_prefix: where answers come in.
        pending_bytes_max: how much may wait to be sent.
    """

    nats_url: str | None
    http_url: str | None
    tenant: str
    prefix: str
    timeout_s: float
    inbox_prefix: str
    pending_bytes_max: int


def client_settings(
    *,
    nats_url: str | None = None,
    http_url: str | None = None,
    tenant: str | None = None,
    prefix: str | None = None,
    timeout_s: float | None = None,
    environ: Mapping[str, str] = os.environ,
    find_stack: FindStack | None = None,
) -> ClientSettings:
    """Return the settings; the stack that runs here gives the addresses only when neither is known otherwise.

    An address given as "" is none, whatever the settings say.

    Raises:
        ConfigurationError: no address is known, or the settings have faults.
        NameInvalid: the tenant is no name.
    """
    found = read_settings(environ).settings
    if nats_url is None:
        nats_url = found.nats.url
    if http_url is None:
        http_url = found.http.url
    if nats_url is None and http_url is None:
        stack = running_stack(found.data, environ) if find_stack is None else find_stack()
        nats_url, http_url = stack.get(NATS_URL), stack.get(HTTP_URL)
    if not nats_url and not http_url:
        raise ConfigurationError(
            f"no service is known: set {NATS_URL} and {HTTP_URL}; `tasker up` starts one here and prints both lines "
            f"(none runs on {data_dir_of(found.data, environ)})",
        )
    return ClientSettings(
        nats_url=nats_url or None,
        http_url=http_url.rstrip("/") if http_url else None,
        tenant=check_name(tenant or found.tenant, "tenant"),
        prefix=prefix or found.nats.prefix,
        timeout_s=found.client.timeout_s if timeout_s is None else timeout_s,
        inbox_prefix=found.nats.inbox_prefix,
        pending_bytes_max=found.nats.pending_bytes_max,
    )
