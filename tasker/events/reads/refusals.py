"""Submitted commands that were refused."""

from __future__ import annotations

import msgspec

from tasker.events.messages import RefusedCommand


class Refusal(RefusedCommand, kw_only=True, omit_defaults=True):
    """A submitted command that was refused; `id` is its place in the list."""

    id: str


class RefusalPage(msgspec.Struct, kw_only=True):
    """A page of refusals, oldest first; `next` asks for the one behind it."""

    items: list[Refusal]
    next: str | None
