"""What becomes of circuits: `decide_circuit(circuits, tenant, command, at_us) -> events`.

Nodes count how attempts end and say what they found; operators open and close by hand. Nodes name the event that the
circuit stood at as they know it (`seen`): what is said of an older one, or said again, changes nothing.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

import msgspec

from tasker.controls import Circuits, Target
from tasker.errors import StateForbids
from tasker.events.control_events import AnyCircuitEvent, CircuitClosed, CircuitHalfOpened, CircuitOpened
from tasker.templates.model import BREAKER_S_MAX, CircuitBreaker

CIRCUITS_MAX: Final = 10_000
ERROR_CHARS_MAX: Final = 300
OPEN_S_MAX: Final = BREAKER_S_MAX
_BY_HAND: Final = CircuitBreaker()


class OpenCircuit(msgspec.Struct, frozen=True):
    """By hand: let no attempt of a handler begin for so long; then a trial follows, as ever."""

    namespace: str
    name: str
    open_s: float


class CloseCircuit(msgspec.Struct, frozen=True):
    """By hand: let attempts begin, spread over `ramp_s`, and forget how often the circuit had opened."""

    namespace: str
    name: str
    ramp_s: float = 0.0


class TripCircuit(msgspec.Struct, frozen=True, tag="trip"):
    """A node counted too many failures, by a breaker of a template."""

    namespace: str
    name: str
    seen: int
    breaker: CircuitBreaker
    failures: int
    attempts: int
    error: str


class TryCircuit(msgspec.Struct, frozen=True, tag="try"):
    """The wait of an open circuit is over, and attempts wait for it."""

    namespace: str
    name: str
    seen: int


class SettleCircuit(msgspec.Struct, frozen=True, tag="settle"):
    """A trial is over; `error`: the one that failed. None: all succeeded."""

    namespace: str
    name: str
    seen: int
    error: str | None = None


CircuitWord = TripCircuit | TryCircuit | SettleCircuit
"""What nodes say."""

AnyCircuitCommand = OpenCircuit | CloseCircuit | CircuitWord


def decide_circuit(
    circuits: Circuits, tenant: str, command: AnyCircuitCommand, at_us: int
) -> tuple[AnyCircuitEvent, ...]:
    """Return the events that `command` causes; () when it changes nothing, as what nodes say late does.

    Raises:
        StateForbids: by hand: the circuit is not open, or more are than is kept.
    """
    target = Target("handler", tenant, command.namespace, command.name)
    circuit = circuits.by_target.get(target)
    at: dict[str, Any] = {"scope": "handler", "namespace": command.namespace, "name": command.name}
    match command:
        case OpenCircuit(open_s=open_s):
            if circuit is not None and circuit.state == "open" and circuit.opened.open_s == open_s:
                return ()
            if (circuit is None or not circuit.holds) and circuits.holding >= CIRCUITS_MAX:
                raise StateForbids(f"{CIRCUITS_MAX} circuits are open already; pause a tenant or everything instead")
            most = max(open_s, _BY_HAND.open_s_max)
            return (CircuitOpened(**at, open_s=open_s, open_s_max=most, probes=_BY_HAND.probes),)
        case CloseCircuit(ramp_s=ramp_s):
            if circuit is None or not circuit.holds:
                raise StateForbids(
                    f"the circuit of {target.words()} is closed",
                    remedy="`tasker circuits list` shows those that are not",
                )
            return (CircuitClosed(**at, ramp_s=ramp_s, anew=True),)
        case TripCircuit(breaker=breaker, failures=failures, attempts=attempts, error=error):
            stale = command.seen != circuits.seq_of(target) or (circuit is not None and circuit.holds)
            if stale or circuits.holding >= CIRCUITS_MAX:
                return ()
            wait_s, again = min(breaker.open_s, breaker.open_s_max), 0
            if circuit is not None:
                wait_s, again = circuit.next_wait(breaker.open_s, breaker.open_s_max, at_us)
            return (
                CircuitOpened(
                    **at,
                    open_s=wait_s,
                    open_s_max=breaker.open_s_max,
                    probes=breaker.probes,
                    ramp_s=breaker.open_s,
                    again=again,
                    failures=failures,
                    attempts=attempts,
                    error=error[:ERROR_CHARS_MAX],
                ),
            )
        case TryCircuit(seen=seen):
            if circuit is None or circuit.seq != seen or circuit.state != "open" or at_us < circuit.until_us:
                return ()
            return (CircuitHalfOpened(**at),)
        case SettleCircuit(seen=seen, error=error):
            if circuit is None or circuit.seq != seen or circuit.state != "half_open":
                return ()
            opened = circuit.opened
            if error is None:
                return (CircuitClosed(**at, ramp_s=opened.ramp_s),)
            wait_s, again = circuit.next_wait(opened.open_s, opened.open_s_max, at_us)
            return (
                CircuitOpened(
                    **at,
                    open_s=wait_s,
                    open_s_max=opened.open_s_max,
                    probes=opened.probes,
                    ramp_s=opened.ramp_s,
                    again=again,
                    error=error[:ERROR_CHARS_MAX],
                ),
            )
        case _:
            assert_never(command)
