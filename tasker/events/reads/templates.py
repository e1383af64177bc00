"""Templates and their versions."""

from __future__ import annotations

import msgspec

from tasker.events.task_events import OptionalRaw


class TemplateView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A version of a template; `in_use` is the one that a task without a version gets."""

    tenant: str
    namespace: str
    name: str
    version: str
    hash: str
    registered_at: str
    in_use: bool = False
    document: OptionalRaw = None


class TemplatePage(msgspec.Struct, kw_only=True):
    """Templates by namespace, name and time."""

    items: list[TemplateView]
    next: str | None
    position: str
