"""What the steps of a task wrote to its shared state, as the events tell it; what it means is `shared`'s."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from tasker.templates.instances import name_of


class Written(NamedTuple):
    """What one outcome wrote: `seq` of its event, the step instance, key -> value."""

    seq: int
    instance: str
    writes: dict[str, msgspec.Raw]


class Shared:
    """The writes of a task.

    Attributes:
        written: step of the template -> what its instances wrote, in the order of the log.
        count, size: how many keys were written, and the bytes of their values.
        begun: instance -> seq of the first event of each that began since the first write.
        by_hand: node -> seq of the event by which a person completed it, of those of which nothing is to be undone.
        turns: target of a loop -> seq of each turn since then.
        visits: step -> its visit at the first write, of those that a loop had come back to.
        seen: node -> what its items see, while it is known; no part of the state.
    """

    __slots__ = ("begun", "by_hand", "count", "seen", "size", "turns", "visits", "written")

    def __init__(self, visits: Mapping[str, int]) -> None:
        self.visits = dict(visits)
        self.written: dict[str, list[Written]] = {}
        self.count = 0
        self.size = 0
        self.begun: dict[str, int] = {}
        self.by_hand: dict[str, int] = {}
        self.turns: dict[str, list[int]] = {}
        self.seen: dict[str, msgspec.Raw] = {}

    def write(self, seq: int, instance: str, writes: dict[str, msgspec.Raw]) -> None:
        """Keep what an outcome wrote."""
        self.written.setdefault(name_of(instance), []).append(Written(seq, instance, writes))
        self.count += len(writes)
        self.size += sum(len(bytes(value)) for value in writes.values())

    def turned(self, target: str, seq: int) -> int:
        """Return how often a loop had turned before an event."""
        return self.visits.get(target, 1) - 1 + bisect_left(self.turns.get(target, ()), seq)

    def has_written(self, instance: str) -> bool:
        """Return whether an instance that goes on wrote something already."""
        return any(written.instance == instance for written in self.written.get(name_of(instance), ()))

    def copy(self) -> Shared:
        """Return one that moves by itself."""
        made = Shared(self.visits)
        made.written = {step: list(written) for step, written in self.written.items()}
        made.count, made.size = self.count, self.size
        made.begun = dict(self.begun)
        made.by_hand = dict(self.by_hand)
        made.turns = {target: list(turns) for target, turns in self.turns.items()}
        return made

    def document(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        found = {
            "written": [
                {"step": one.instance, "seq": one.seq, "writes": _decoded(one.writes)}
                for written in self.written.values()
                for one in written
            ],
            "begun": self.begun,
            "turns": self.turns,
        }
        more = {"by_hand": self.by_hand, "visits": self.visits}
        return found | {name: value for name, value in more.items() if value}


def _decoded(writes: dict[str, msgspec.Raw]) -> dict[str, Any]:
    return {key: msgspec.json.decode(value) for key, value in writes.items()}
