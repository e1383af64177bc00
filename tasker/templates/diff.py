"""What differs between two contents, for people: one line a difference."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from tasker.templates.hash import content_of
from tasker.templates.model import TemplateSpec

DIFFERENCES_MAX: Final = 50
_VALUE_CHARS_MAX: Final = 80
_ABSENT: Final = object()


def differences(old: TemplateSpec, new: TemplateSpec) -> tuple[str, ...]:
    """Return how `new` differs from `old`, such as "steps/charge/retry/max_attempts: 3 -> 5".

    Steps are compared by name. Empty when the contents are equal; versions are not compared.
    """
    lines = list(islice(_template_lines(content_of(old), content_of(new)), DIFFERENCES_MAX + 1))
    if len(lines) > DIFFERENCES_MAX:
        lines[DIFFERENCES_MAX:] = ["..."]
    return tuple(lines)


def _template_lines(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    old_steps = {step["name"]: step for step in old.pop("steps")}
    new_steps = {step["name"]: step for step in new.pop("steps")}
    yield from _lines("", old, new)
    yield from (f"steps: - {name}" for name in old_steps if name not in new_steps)
    yield from (f"steps: + {name}" for name in new_steps if name not in old_steps)
    kept = [name for name in old_steps if name in new_steps]
    if kept != [name for name in new_steps if name in old_steps]:
        yield "steps: the order changed"
    for name in kept:
        yield from _lines(f"steps/{name}", old_steps[name], new_steps[name])


def _lines(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from _lines(f"{path}/{key}".lstrip("/"), old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif old is _ABSENT:
        yield f"{path}: + {_shown(new)}"
    elif new is _ABSENT:
        yield f"{path}: - {_shown(old)}"
    elif old != new or type(old) is not type(new):
        yield f"{path}: {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _VALUE_CHARS_MAX else text[:_VALUE_CHARS_MAX] + "..."
