"""What the documentation says of a task as a whole, and of what another run of it takes over.

Written from docs/howto/repair-tasks.md and order-work.md alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Given:
    """What was given to a task, and what a person made of that.

    Attributes:
        timeout_s: as whoever created it gave it. has_deadline: there is one that has not passed.
    """

    timeout_s: float | None = None
    priority: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    has_deadline: bool = False

    def update(self, tags: Mapping[str, str | None], metadata: Mapping[str, Any] | None, priority: int | None) -> None:
        """Take what a person changes."""
        self.tags = {name: value for name, value in {**self.tags, **tags}.items() if value is not None}
        self.metadata = _merged(self.metadata, metadata or {})
        self.priority = self.priority if priority is None else priority


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with another merged into it (RFC 7396)."""
    found = dict(one)
    for name, value in other.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, dict):
            before = found.get(name)
            found[name] = _merged(before if isinstance(before, dict) else {}, value)
        else:
            found[name] = value
    return found
