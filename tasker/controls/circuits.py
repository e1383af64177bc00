"""The fold of circuits: whether attempts of a handler begin, after too many of them have failed.

    closed ---- too many failed ----> open ---- open_s over, work waits ----> half open
      ^                                ^                                        |  |
      |                                `------- one of the trial failed --------'  |
      `------------------------ all of the trial succeeded ------------------------'

A circuit is named by its last event: whoever wants to move it says which one that was, as far as they know, and is not
heeded when there has been another. So words that are late, that come twice, or that two nodes say at once do no harm.

Pure: the time is handed in.
"""

from __future__ import annotations

from typing import Final, Literal, assert_never

import msgspec

from tasker.controls.target import Target
from tasker.events.control_events import AnyCircuitEvent, CircuitClosed, CircuitHalfOpened, CircuitOpened
from tasker.events.envelope import US_PER_S

CircuitState = Literal["open", "half_open", "closed"]

CALM_WAITS: Final = 10
"""A circuit that has been closed for so many of its last waits begins anew: its next wait is a short one again."""

KEPT: Final = 1_000
"""Circuits that are remembered before those that have been closed for long are forgotten."""


class Circuit(msgspec.Struct, frozen=True):
    """How the circuit of a handler stands.

    Attributes:
        seq: of the event that made it so.
        since_us: when that was. by, reason: who asked for it and why.
        opened_us: when it opened; until_us: its trial may begin.
        opened: how it opened.
        is_new: nothing follows from how often it had opened.
    """

    seq: int
    state: CircuitState
    since_us: int
    by: str
    reason: str
    opened_us: int
    until_us: int
    opened: CircuitOpened
    is_new: bool = False

    @property
    def holds(self) -> bool:
        """Return whether attempts wait for it."""
        return self.state != "closed"

    def calm_us(self) -> int:
        """Return when a closed circuit has been so for long."""
        return self.since_us + round(CALM_WAITS * self.opened.open_s * US_PER_S)

    def next_wait(self, open_s: float, open_s_max: float, at_us: int) -> tuple[float, int]:
        """Return how long it is open when it opens again, and how often in a row it had by then."""
        if self.state == "closed" and (self.is_new or at_us >= self.calm_us()):
            return min(open_s, open_s_max), 0
        return min(max(self.opened.open_s * 2, open_s), open_s_max), self.opened.again + 1


class KeptCircuits(msgspec.Struct):
    """`Circuits` as a snapshot keeps them."""

    circuits: list[tuple[Target, Circuit]]
    kept_max: int


class Circuits:
    """The circuits that are not closed, and those that have not been so for long."""

    __slots__ = ("_holding", "_kept_max", "by_target")

    def __init__(self) -> None:
        self.by_target: dict[Target, Circuit] = {}
        self._kept_max = KEPT
        self._holding = 0

    @property
    def hold_something(self) -> bool:
        """Return whether attempts of any handler wait."""
        return self._holding > 0

    @property
    def holding(self) -> int:
        """Return how many circuits are not closed."""
        return self._holding

    def seq_of(self, target: Target) -> int:
        """Return the event that names the circuit as it stands; 0: nothing is known of it."""
        circuit = self.by_target.get(target)
        return 0 if circuit is None else circuit.seq

    def of(self, target: Target) -> Circuit | None:
        """Return the circuit that keeps attempts of a handler from beginning; None: it is closed."""
        circuit = self.by_target.get(target)
        return circuit if circuit is not None and circuit.holds else None

    def all_holding(self) -> list[Target]:
        """Return the handlers whose attempts wait."""
        return [target for target, circuit in self.by_target.items() if circuit.holds]

    def take(self, target: Target, event: AnyCircuitEvent, *, seq: int, at_us: int, by: str, reason: str) -> None:
        """Move on by `event`. Total."""
        before = self.by_target.pop(target, None)
        match event:
            case CircuitOpened():
                until_us = at_us + round(event.open_s * US_PER_S)
                made = Circuit(seq, "open", at_us, by, reason, at_us, until_us, event)
            case CircuitHalfOpened() | CircuitClosed():
                if before is None:
                    return
                made = msgspec.structs.replace(
                    before,
                    seq=seq,
                    state="closed" if isinstance(event, CircuitClosed) else "half_open",
                    since_us=at_us,
                    by=by,
                    reason=reason,
                    is_new=isinstance(event, CircuitClosed) and event.anew,
                )
            case _:
                assert_never(event)
        self.by_target[target] = made
        self._holding += made.holds - (before is not None and before.holds)
        if len(self.by_target) > self._kept_max:
            self._forget(at_us)

    def _forget(self, at_us: int) -> None:
        """Make room: one that has been closed for long is as good as one that never opened."""
        for old in [one for one, circuit in self.by_target.items() if not circuit.holds and circuit.calm_us() <= at_us]:
            del self.by_target[old]
        self._kept_max = max(KEPT, 2 * len(self.by_target))

    def keep(self) -> KeptCircuits:
        """Return what a snapshot keeps."""
        return KeptCircuits(list(self.by_target.items()), self._kept_max)

    @classmethod
    def restored(cls, kept: KeptCircuits) -> Circuits:
        """Return the circuits that a snapshot kept: they go on as if all events had been taken."""
        circuits = cls()
        circuits.by_target = dict(kept.circuits)
        circuits._kept_max = kept.kept_max
        circuits._holding = sum(one.holds for one in circuits.by_target.values())
        return circuits
