"""How the instances of a step are called: `name`, `name#visit`, `name[key]`, `name#visit[key]`.

The compensation of an instance is one of its own: `charge~undo`, `check#2~undo`, `resize[17]~undo`.

A step runs once, unless a loop comes back to it (each visit is an instance: `check`, `check#2`, ...) or it runs for
each item of a list (`resize[0]`, or `resize[sku-17]` when items have keys). A name depends on the template and on the
index of the visit and the item alone, never on the order in which things happened.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tasker.errors import NameInvalid
from tasker.ids import INSTANCE_PATTERN, ITEM_KEY_PATTERN

_instance = re.compile(INSTANCE_PATTERN)
_item_key = re.compile(ITEM_KEY_PATTERN)
_UNDO: Final = "~undo"


class Instance(NamedTuple):
    """A step of the template, which of its visits, and the key of the item (its index, when items have no keys).

    `undoes`: it is not that itself but its compensation.
    """

    name: str
    visit: int = 1
    key: str | None = None
    undoes: bool = False

    def __str__(self) -> str:
        visit = visit_of(self.name, self.visit)
        instance = visit if self.key is None else item_of(visit, self.key)
        return undo_of(instance) if self.undoes else instance


def parse_instance(text: str) -> Instance:
    """Return the parts of an instance's name.

    Raises:
        NameInvalid: it is none.
    """
    found = _instance.fullmatch(text)
    if found is None:
        raise NameInvalid(f"step {text[:80]!r} is no step's name, such as check, check#2 or resize[17]")
    name, visit, key, undo = found.groups()
    return Instance(name, 1 if visit is None else int(visit), key, undo is not None)


def name_of(instance: str) -> str:
    """Return the template's step that `instance` belongs to."""
    return undone_by(instance).partition("[")[0].partition("#")[0]


def node_of(instance: str) -> str:
    """Return the visit that an item belongs to; `instance` itself when it is no item."""
    return undone_by(instance).partition("[")[0]


def visit_of(name: str, visit: int) -> str:
    """Return the name of a step's visit; the first one is called like the step."""
    return name if visit == 1 else f"{name}#{visit}"


def item_of(node: str, key: str) -> str:
    """Return the name of the item `key` of a visit."""
    return f"{node}[{key}]"


def is_item(instance: str) -> bool:
    """Return whether `instance` is one item of a step."""
    return instance[-1] == "]"


def undo_of(instance: str) -> str:
    """Return the name of the compensation of `instance`."""
    return instance + _UNDO


def is_undo(instance: str) -> bool:
    """Return whether `instance` is the compensation of another."""
    return instance.endswith(_UNDO)


def undone_by(instance: str) -> str:
    """Return what a compensation undoes; `instance` itself when it is none."""
    return instance.removesuffix(_UNDO)


def is_item_key(text: object) -> bool:
    """Return whether `text` can name an item."""
    return isinstance(text, str) and _item_key.fullmatch(text) is not None
