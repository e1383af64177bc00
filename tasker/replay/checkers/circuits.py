"""A part of I8: a circuit opens, is tried and closes only as it may, each time for a reason that its events tell.

    closed -> open (too many failed, or by hand) -> half open (its wait is over) -> closed, or open for longer
                                   `-> closed (by hand)

Whether the failures were recorded, and whether attempts waited, stands in other streams: see `tried`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tasker.events.control_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from tasker.events.envelope import US_PER_S, RecordedEvent
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report

CALM_WAITS: Final = 10
"""A circuit that has been closed for so many of its last waits begins with a short one again."""

_EVENTS: Final = frozenset[type]({CircuitOpened, CircuitHalfOpened, CircuitClosed})


class _Circuit:
    """How the circuit of a handler stands by its events."""

    __slots__ = ("again", "at_us", "is_new", "open_s", "state")

    def __init__(self) -> None:
        self.state = "closed"
        self.is_new = True
        self.at_us = 0
        self.open_s = 0.0
        self.again = -1

    def faults(self, event: CircuitOpened | CircuitHalfOpened | CircuitClosed, at_us: int) -> Iterator[str]:
        """Move on by an event that is recorded at `at_us`, and yield what is wrong with it."""
        match event:
            case CircuitOpened():
                yield from self._opens(event, at_us)
                self.state, self.is_new, self.open_s, self.again = "open", False, event.open_s, event.again
            case CircuitHalfOpened():
                if self.state != "open":
                    yield f"is tried while it is {self.state}"
                elif (early_us := self.at_us + round(self.open_s * US_PER_S) - at_us) > 0:
                    yield f"is tried {early_us / US_PER_S:.6f} s before its wait of {self.open_s:g} s is over"
                self.state = "half open"
            case CircuitClosed(anew=anew):
                if anew and self.state == "closed":
                    yield "is closed by hand and was closed"
                elif not anew and self.state != "half open":
                    yield f"closes by itself while it is {self.state}"
                self.state, self.is_new = "closed", anew
        self.at_us = at_us

    def _opens(self, event: CircuitOpened, at_us: int) -> Iterator[str]:
        if event.open_s > event.open_s_max:
            yield f"is open for {event.open_s:g} s, of at most {event.open_s_max:g} s"
        if not event.attempts and event.error is None:
            return  # by hand
        calm_us = self.at_us + round(CALM_WAITS * self.open_s * US_PER_S)
        begins_anew = self.state == "closed" and (self.is_new or at_us >= calm_us)
        if event.attempts:
            if self.state != "closed":
                yield f"opens for failures while it is {self.state}"
            if not 0 < event.failures <= event.attempts:
                yield f"opens for {event.failures} failures of {event.attempts} attempts"
        elif self.state != "half open":
            yield f"opens for a trial that failed while it is {self.state}"
        expected = 0 if begins_anew else self.again + 1
        if event.again != expected:
            yield f"says that it opened {event.again} times in a row before, not {expected}"
        elif expected and event.open_s < min(2 * self.open_s, event.open_s_max):
            yield f"opens again for {event.open_s:g} s, after {self.open_s:g} s"


class CircuitsChecker:
    """Checks one shard: the one with the stream of controls has something to check."""

    def __init__(self, shard: int, report: Report) -> None:
        self._shard = shard
        self._report = report
        self._circuits: dict[tuple[str, str, str], _Circuit] = {}

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Check the next event of the shard."""
        if type(event) not in _EVENTS:
            return
        assert isinstance(event, CircuitOpened | CircuitHalfOpened | CircuitClosed)  # noqa: S101 - just looked
        of = (recorded.tenant, event.namespace, event.name)
        circuit = self._circuits.setdefault(of, _Circuit())
        for detail in circuit.faults(event, recorded.at_us):
            self._report(
                Finding(
                    invariant=Invariant.ORDER,
                    shard=self._shard,
                    position=recorded.position,
                    task_id=str(recorded.stream_id),
                    detail=f"the circuit of handler {event.namespace}/{event.name} {detail}",
                )
            )

    def close(self) -> None:
        """Do nothing: a circuit may stay as it is for ever."""
