"""Pages of other sites are refused: without authentication, whoever reaches the API is trusted, browsers included.

A page may have a browser send simple requests to any address, loopback too (request forgery). Under a name of its own
that comes to mean 127.0.0.1 it may even read the answers (DNS rebinding). Browsers say which site asks (`Origin`,
RFC 6454) and under which name (`Host`); other clients send no `Origin`.

    Origin   none, or the host and port that are asked, or the name in `http.url`
    Host     on loopback: an address, `localhost`, or the name in `http.url`; elsewhere any, as names are others' there
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web

from tasker.errors import SiteRefused
from tasker.service.http.problems import Endpoint
from tasker.service.http.services import SERVICES


@web.middleware
async def refuse_other_sites(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    """Let through what no page of another site sends.

    Raises:
        SiteRefused: one did, or seems to.
    """
    host, origin = request.headers.get("Host"), request.headers.get("Origin")
    own = _name_of(request.app[SERVICES].settings.url or "")
    if host is not None and _on_loopback(request) and not _means_us(_name_of(f"//{host}"), own):
        raise SiteRefused(f"the host {host[:200]!a} is not this service's", remedy="set http.url to the address asked")
    if origin is not None and not _is_same(origin, host, own):
        raise SiteRefused(
            f"a page of {origin[:200]!a} asks, another site", remedy="set http.url to the address that the page is of"
        )
    return await handler(request)


def _name_of(url: str) -> str | None:
    """Return the host that a URL names; None: it names none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _means_us(name: str | None, own: str | None) -> bool:
    """Return whether a host is an address, or a name that nobody else can have mean loopback."""
    if name is None:
        return False
    if name in ("localhost", own) or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_same(origin: str, host: str | None, own: str | None) -> bool:
    """Return whether a page of `origin` asks the site that it is of."""
    try:
        asks = urlsplit(origin)
    except ValueError:
        return False
    if asks.scheme not in ("http", "https") or not asks.netloc:
        return False
    return (host is not None and asks.netloc.lower() == host.lower()) or (own is not None and asks.hostname == own)


def _on_loopback(request: web.Request) -> bool:
    """Return whether the request came in over loopback."""
    socket = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return isinstance(socket, tuple) and ipaddress.ip_address(socket[0].partition("%")[0]).is_loopback
