"""The service itself: how much it holds, and whether it is well."""

from __future__ import annotations

import msgspec


class Stats(msgspec.Struct, kw_only=True):
    """Counts of a tenant's tasks by state, and how far the views are."""

    tasks: dict[str, int]
    events: int
    position: str
    lag_events: int


class Live(msgspec.Struct, kw_only=True):
    """The process answers."""

    live: bool = True


class Health(msgspec.Struct, kw_only=True):
    """Readiness with its reasons: name -> None when fine, else what is wrong."""

    ready: bool
    checks: dict[str, str | None]
    version: str
