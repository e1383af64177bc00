"""The key `debounce` of a template."""

from __future__ import annotations

from tasker.templates.concurrency import VARIABLES_OF_TASK
from tasker.templates.model import Debounce
from tasker.templates.reading import ObjectReader


def debounce_of(owner: ObjectReader) -> Debounce | None:
    """Return how starts of the template wait for each other; None: they do not, or there was a fault."""
    if "debounce" not in owner:
        return None
    document = owner.get("debounce")
    path = (*owner.path, "debounce")
    read = ObjectReader(document, path, "debounce", Debounce.__struct_fields__, owner.faults)
    if not isinstance(document, dict):
        return None
    if "singleton" in owner:
        owner.fault("debounce", "does not go with 'singleton': both say what becomes of a start that meets another one")
    key = read.expression("key", variables=VARIABLES_OF_TASK)
    if "key" not in read:
        owner.faults.add(path, "'key' is missing: an expression that names which starts meet, such as input.customer")
    if "for_s" not in read:
        owner.faults.add(path, "'for_s' is missing: how long after the last start the task begins")
    for_s = read.seconds("for_s", 1.0)
    max_s = read.optional_seconds("max_s")
    if max_s is not None and max_s < for_s:
        read.fault("max_s", f"must be at least the {for_s:g} of 'for_s', not {max_s:g}")
        return None
    return None if key is None else Debounce(key=key, for_s=for_s, max_s=max_s)
