"""What the documentation says of the state that steps share, as part of the reference model.

Written from docs/howto/share-state.md. What a step sees is kept as the list of writes that counted when it began; what
they come to is asked anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from tests.reference.names import name_of


def _of(left: Any, right: Any) -> Any:
    """Return what `{using: "right % 3 == 0 ? left.no : right"}` gives.

    Raises:
        LookupError: it has no value.
    """
    if right % 3 == 0:
        raise LookupError(right)
    return right


USING: dict[str, Callable[[Any, Any], Any]] = {
    "left * 10 + right": lambda left, right: left * 10 + right,
    "right % 3 == 0 ? left.no : right": _of,
}
"""Rules that a template names as expressions."""

POLICIES: dict[str, Callable[[list[Any]], Any]] = {
    "fail": lambda values: values[-1],
    "last_edge_wins": lambda values: values[-1],
    "sum": sum,
    "max": max,
    "append": list,
    "union": lambda values: list(dict.fromkeys(item for value in values for item in value)),
    "merge": lambda values: {key: one for value in values for key, one in value.items()},
}


@dataclass(frozen=True, eq=False)
class Write:
    """What one part of an instance wrote.

    Attributes:
        turns: how often each loop around it had turned, the largest loop first; 0 of one that it stands beside.
    """

    instance: str
    part: int
    turns: tuple[int, ...]
    values: Mapping[str, Any] = field(repr=False)

    @property
    def step(self) -> str:
        """Return its step."""
        return name_of(self.instance)

    @property
    def item(self) -> int:
        """Return its place in the list."""
        return int(self.instance.partition("[")[2].rstrip("]") or 0)


class SharedState:
    """All writes of a task, and what each step that began saw of them."""

    def __init__(self, steps: Mapping[str, Mapping[str, Any]], policies: Mapping[str, Any]) -> None:
        self.steps = steps
        self.policies = policies
        targets = {one["back_to"] for one in steps.values() if "back_to" in one}
        bodies = {target: {s for s in steps if s == target or target in self.ahead(s)} for target in targets}
        self.loops = dict(sorted(bodies.items(), key=lambda loop: -len(loop[1])))
        self.turned = dict.fromkeys(self.loops, 0)
        self.writes: list[Write] = []
        self.saw: dict[str, list[Write]] = {}

    def ahead(self, step: str) -> list[str]:
        """Return the steps ahead of one in the order of the edges, each behind what is ahead of itself."""
        found: list[str] = []
        for parent in self.steps[step]["after"]:
            found += [one for one in (*self.ahead(parent), parent) if one not in found]
        return found

    def write(self, instance: str, values: Mapping[str, Any]) -> None:
        """Keep what a part of an instance wrote."""
        if values:
            turns = tuple(self.turned[t] if name_of(instance) in body else 0 for t, body in self.loops.items())
            self.writes.append(Write(instance, len(self.writes), turns, values))

    def of(self, instance: str) -> list[Write]:
        """Return what the parts of an instance wrote."""
        return [one for one in self.writes if one.instance == instance]

    def visible(self, step: str, counting: Iterable[Write]) -> list[Write]:
        """Return what a visit of a step sees that begins now: what steps ahead and visits before wrote, in order."""
        ahead = self.ahead(step)
        around = [(target, body) for target, body in self.loops.items() if step in body]
        found = [
            one
            for one in counting
            if one.step in ahead or any(one.step in body and self._is_earlier(one, target) for target, body in around)
        ]
        return self.in_order(found, ahead)

    def _is_earlier(self, one: Write, target: str) -> bool:
        return one.turns[list(self.loops).index(target)] < self.turned[target]

    def in_order(self, writes: Iterable[Write], steps: Sequence[str]) -> list[Write]:
        """Return writes visit by visit, then by the edges (`steps`), then by the items of a list."""
        places = {step: place for place, step in enumerate(dict.fromkeys([*steps, *self.steps]))}
        return sorted(writes, key=lambda one: (one.turns, places[one.step], one.item, one.part))

    def value(self, writes: Iterable[Write]) -> dict[str, Any]:
        """Return what writes come to, by key."""
        by_key: dict[str, list[Any]] = {}
        for one in writes:
            for key, value in one.values.items():
                by_key.setdefault(key, []).append(value)
        return {key: self._joined(key, values) for key, values in by_key.items()}

    def _joined(self, key: str, values: list[Any]) -> Any:
        """Return what values come to; the last of them where they cannot be joined."""
        try:
            return self._join(key, values)
        except LookupError:
            return values[-1]

    def _join(self, key: str, values: list[Any]) -> Any:
        policy = self.policies.get(key, "fail")
        return reduce(USING[policy["using"]], values) if isinstance(policy, dict) else POLICIES[policy](values)

    def _cannot_be_joined(self, key: str, writes: Sequence[Write]) -> bool:
        try:
            self._join(key, [one.values[key] for one in writes])
        except LookupError:
            return True
        return False

    def clashes(self, node: str, writes: Sequence[Write]) -> bool:
        """Return whether branches meet at a step that wrote a key of which only one may stand, or cannot be joined."""
        for key in {key for one in writes for key in one.values}:
            wrote = [one for one in writes if key in one.values]
            is_new = not any(set(wrote) <= set(self.saw[met]) for met in self._ahead_of(node))
            if is_new and self._cannot_be_joined(key, wrote):
                return True
        keys = {key for one in writes for key in one.values if self.policies.get(key, "fail") == "fail"}
        for key in keys:
            wrote = [one for one in writes if key in one.values]
            rivals = {one for one in wrote if not any(self._is_ahead(one, other) for other in wrote)}
            if len(rivals) > 1 and not any(rivals <= set(self.saw[met]) for met in self._ahead_of(node)):
                return True
        return False

    def _is_ahead(self, one: Write, other: Write) -> bool:
        if one.instance == other.instance:
            return one.part < other.part
        share = [at for at, body in enumerate(self.loops.values()) if one.step in body and other.step in body]
        for at in share:
            if one.turns[at] != other.turns[at]:
                return one.turns[at] < other.turns[at]
        return one.step in self.ahead(other.step)

    def _ahead_of(self, node: str) -> list[str]:
        """Return what has begun ahead of a visit, the visits before it among them."""
        step = name_of(node)
        around = {one for body in self.loops.values() if step in body for one in body}
        return [one for one in self.saw if one != node and name_of(one) in {*self.ahead(step), *around}]
