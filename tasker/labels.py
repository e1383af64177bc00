"""Labels of workers, and the queues of steps that require some.

A step that requires labels is offered in a queue of its own beside the plain one: `default~gpu=a100~zone=eu` is queue
`default` with the labels that its workers must have, sorted by name. A label's name is a name, so neither `~` nor `=`
can stand in one, and the queue's name alone says who may serve it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from tasker.errors import ConfigurationError
from tasker.ids import NAME_PATTERN, is_name

LABEL_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
"""Values of labels: safe in a NATS subject."""

REQUIRED_CHARS_MAX: Final = 60
"""Most characters of all labels that a step requires, as `gpu=a100~zone=eu`: NATS bounds the names of consumers."""

_label = re.compile(rf"({NAME_PATTERN})=({LABEL_PATTERN})")
_value = re.compile(LABEL_PATTERN)


def is_label(value: object) -> bool:
    """Return whether `value` can be the value of a label."""
    return isinstance(value, str) and _value.fullmatch(value) is not None


def spelled(labels: Mapping[str, str], between: str = "~") -> str:
    """Return labels in their one spelling, such as `gpu=a100~zone=eu`."""
    return between.join(f"{name}={labels[name]}" for name in sorted(labels))


def work_queue(queue: str, requires: Mapping[str, str]) -> str:
    """Return the queue in which work of `queue` is offered that requires these labels."""
    return f"{queue}~{spelled(requires)}" if requires else queue


def plain_queue(queue: str) -> str:
    """Return the name of a queue without the labels that it requires."""
    return queue.partition("~")[0]


def required_by(queue: str) -> dict[str, str]:
    """Return the labels that workers of a queue must have."""
    _, _, labels = queue.partition("~")
    return dict(label.split("=", 1) for label in labels.split("~")) if labels else {}


def is_work_queue(queue: str) -> bool:
    """Return whether `queue` is the name of a queue, or of one that requires labels, in its one spelling."""
    if is_name(queue):
        return True
    name, _, labels = queue.partition("~")
    if not is_name(name) or len(labels) > REQUIRED_CHARS_MAX:
        return False
    found = labels.split("~")
    names = [label.partition("=")[0] for label in found]
    return all(_label.fullmatch(label) for label in found) and sorted(set(names)) == names


def may_serve(labels: Mapping[str, str], queue: str) -> bool:
    """Return whether a worker with these labels may serve a queue."""
    return all(labels.get(name) == value for name, value in required_by(queue).items())


def labels_of(given: Iterable[str]) -> dict[str, str]:
    """Return the labels of a worker, each given as `name=value`.

    Raises:
        ConfigurationError: one is no label, or a name stands twice.
    """
    found: dict[str, str] = {}
    for text in given:
        match = _label.fullmatch(text)
        if match is None:
            raise ConfigurationError(
                f"{text[:80]!r} is no label: write name=value, such as gpu=a100. A name is lower case; a value has up "
                "to 63 letters, digits, _ and -"
            )
        if found.setdefault(match[1], match[2]) != match[2]:
            raise ConfigurationError(f"label {match[1]!r} is given twice, as {found[match[1]]!r} and as {match[2]!r}")
    return found
