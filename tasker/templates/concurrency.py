"""The key `concurrency` of a template or a step, and the text that names a concurrency key."""

from __future__ import annotations

from typing import Final, cast

from tasker.errors import ExpressionFailed
from tasker.events.codec import JsonValue, canonical
from tasker.templates import model
from tasker.templates.model import Concurrency
from tasker.templates.reading import ObjectReader

VARIABLES_OF_TASK: Final = frozenset({"input"})
"""What an expression of a template as a whole reads: it is asked before anything has happened."""

KEY_CHARS_MAX: Final = 256


def concurrency_of(owner: ObjectReader, *, variables: frozenset[str]) -> Concurrency | None:
    """Return how many may run at a time; None: as many as want to, or there was a fault."""
    if "concurrency" not in owner:
        return None
    path = (*owner.path, "concurrency")
    what = "concurrency"
    read = ObjectReader(owner.get("concurrency"), path, what, Concurrency.__struct_fields__, owner.faults)
    if not isinstance(owner.get("concurrency"), dict):
        return None
    key = read.expression("key", variables=variables)
    if "key" not in read:
        owner.faults.add(
            path, "'key' is missing: an expression that names what the limit is for, such as input.customer"
        )
    strategy = cast("model.ConcurrencyStrategy", read.choice("strategy", model.ConcurrencyStrategy, "queue"))
    limit = read.whole("limit", 1, low=1, high=model.CONCURRENCY_LIMIT_MAX)
    return None if key is None else Concurrency(key=key, limit=limit, strategy=strategy)


def key_text(value: JsonValue, expression: str) -> str | None:
    """Return the text of the key that an expression gave; None: no limit holds.

    Text and the number or truth value that looks like it are different keys: `"7"` and `7`.

    Raises:
        ExpressionFailed: it is no key.
    """
    if value is None:
        return None
    if isinstance(value, (list, dict)):
        raise ExpressionFailed(
            f"{expression!r} gives a {'list' if isinstance(value, list) else 'map'}, which is no key"
        )
    text = canonical(value).decode()
    if len(text) > KEY_CHARS_MAX:
        raise ExpressionFailed(f"{expression!r} gives {len(text)} characters, above the {KEY_CHARS_MAX} of a key")
    return text
