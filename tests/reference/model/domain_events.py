"""What the documentation says of domain events, as part of the reference model.

Written from docs/howto/domain-events.md alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tests.reference.names import name_of

Outcome = Literal["success", "retryable", "permanent", "cancelled"]

RAISED: Mapping[str, tuple[Outcome, ...]] = {
    "success": ("success",),
    "retryable": ("retryable",),
    "permanent": ("permanent",),
    "failure": ("retryable", "permanent", "cancelled"),
    "always": ("success", "retryable", "permanent", "cancelled"),
}
"""How an attempt has to end, by `on`."""


@dataclass(frozen=True)
class Emitted:
    """What a handler says."""

    name: str
    data: Any = None


@dataclass(frozen=True)
class Raised:
    """What is recorded of it, or of what the service says by itself."""

    instance: str
    attempt: int
    name: str
    outcome: Outcome
    data: Any


class DomainEvents:
    """The domain events of a task.

    Attributes:
        raised: in order.
    """

    def __init__(self, steps: Mapping[str, Mapping[str, Any]]) -> None:
        self.steps = steps
        self.raised: list[Raised] = []

    def _declared(self, instance: str) -> dict[str, Mapping[str, Any]]:
        """Return what an instance may raise; a compensation is another handler, and declares nothing."""
        if instance.endswith("~undo"):
            return {}
        return {one["name"]: one for one in self.steps[name_of(instance)].get("emits", ())}

    def fault(self, instance: str, emitted: Sequence[Emitted], result: Any = None) -> str | None:
        """Return the code with which a completed attempt fails for what it emits, or for what its result would say."""
        for event in emitted:
            if (code := self._fault(instance, event)) is not None:
                return code
        for one in self._declared(instance).values():
            is_said = one.get("auto") and "success" in RAISED[one.get("on", "success")]
            if is_said and not _fits(result, one.get("schema", {})):
                return "event_invalid"
        return None

    def _fault(self, instance: str, one: Emitted) -> str | None:
        declared = self._declared(instance).get(one.name)
        if declared is None or declared.get("auto"):
            return "event_unknown"
        return None if _fits(one.data, declared.get("schema", {})) else "event_invalid"

    def ended(self, instance: str, attempt: int, outcome: Outcome, emitted: Sequence[Emitted], data: Any) -> None:
        """Raise what an attempt raises that ended so; `data` is its result, or what its error says."""
        declared = self._declared(instance)
        said = [one for one in emitted if self._fault(instance, one) is None]
        said += [Emitted(name, data) for name, one in declared.items() if one.get("auto")]
        self.raised += [
            Raised(instance, attempt, one.name, outcome, one.data)
            for one in said
            if outcome in RAISED[declared[one.name].get("on", "success")]
        ]


def _fits(data: Any, schema: Mapping[str, Any]) -> bool:
    return "maximum" not in schema or (type(data) is int and data <= schema["maximum"])
