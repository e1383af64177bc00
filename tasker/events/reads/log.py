"""Recorded events."""

from __future__ import annotations

import msgspec


class EventView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A recorded event as reads show it."""

    task_id: str
    seq: int
    type: str
    version: int
    at: str
    tenant: str
    shard: int
    position: str
    epoch: int
    data: msgspec.Raw
    meta: msgspec.Raw


class EventPage(msgspec.Struct, kw_only=True):
    """Events in order; `next` goes on with those that follow, also when none matched; `log_id` is part of their ids."""

    items: list[EventView]
    next: str | None
    position: str
    log_id: str = ""
