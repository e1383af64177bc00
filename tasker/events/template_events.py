"""What can happen to a template: the union stored in a template's stream.

The content itself is a blob under its hash, written before the first event that names it.
"""

from __future__ import annotations

from typing import Final, get_args

import msgspec


class TemplateEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event of a template is."""


class TemplateRegistered(TemplateEvent, frozen=True, kw_only=True):
    """A version of the template was registered; from now on "no version" means this one."""

    namespace: str
    name: str
    version: str
    hash: str


class TemplateUsed(TemplateEvent, frozen=True, kw_only=True):
    """A person chose what "no version" means."""

    namespace: str
    name: str
    version: str
    hash: str


AnyTemplateEvent = TemplateRegistered | TemplateUsed
TEMPLATE_EVENT_TYPES: Final[tuple[type[TemplateEvent], ...]] = get_args(AnyTemplateEvent)
