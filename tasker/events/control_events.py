"""What operators, and circuits, do to work as a whole: the union stored in the log's one stream of kind `control`.

Every node folds this stream (`tasker.controls`), so that all hold back the same work. It is one for the whole log, not
one a tenant: a node finds it by its id alone, and reads what is new of it with one query. The event's `tenant` is that
of the caller; who asked and why is in the event's meta (`requested_by`, `reason`), always. Of what a circuit does by
itself it is the service.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

ControlScope = Literal["everything", "tenant", "template", "queue"]


LimitScope = Literal["queue", "handler"]

CONTROL_SCOPES: Final[tuple[ControlScope | LimitScope, ...]] = tuple(
    dict.fromkeys((*get_args(ControlScope), *get_args(LimitScope)))
)
"""Everything that a control can hold for."""


def target_words(scope: str, namespace: str, name: str) -> str:
    """Return how something that a control holds for is called in a sentence."""
    match scope:
        case "everything":
            return "everything"
        case "tenant":
            return f"tenant {name}"
        case _:
            return f"{scope} {namespace}/{name}" if namespace else f"{scope} {name}"


class ControlEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every control says.

    Attributes:
        scope: what it holds for.
        namespace, name: of the template or the queue; "" for the other scopes.
    """

    scope: ControlScope | LimitScope
    namespace: str = ""
    name: str = ""


class WorkPaused(ControlEvent, frozen=True, kw_only=True):
    """No attempt in the scope begins any more; those that run go on."""


class WorkResumed(ControlEvent, frozen=True, kw_only=True):
    """Attempts begin again, what was held back spread over `ramp_s`."""

    ramp_s: float = 0.0


class RateLimitSet(ControlEvent, frozen=True, kw_only=True):
    """So many attempts of a queue or a handler begin in a time, over all nodes.

    Attributes:
        per_s: attempts a second.
        burst: so many may begin at once when none did for a while.
        key: an expression over the task's `input`; each of its values has the limit for itself.
    """

    per_s: float
    burst: int = 1
    key: str | None = None


class RateLimitRemoved(ControlEvent, frozen=True, kw_only=True):
    """Attempts of the queue or the handler begin as they come."""


class CircuitOpened(ControlEvent, frozen=True, kw_only=True):
    """No attempt of a handler begins any more: too many failed, a trial did, or an operator says so.

    Attributes:
        open_s: after so long some are let begin as a trial.
        open_s_max: the wait doubles with each trial that fails, up to this.
        probes: how many attempts are a trial.
        ramp_s: after a good trial what was held comes back evenly spread over so long.
        again: how often in a row it has opened before without having been closed for long.
        failures, attempts: what was counted when it opened by itself; 0 of 0: by hand, or a trial failed.
        error: the last failure, as its type and the beginning of its message.
    """

    open_s: float
    open_s_max: float
    probes: int
    ramp_s: float = 0.0
    again: int = 0
    failures: int = 0
    attempts: int = 0
    error: str | None = None


class CircuitHalfOpened(ControlEvent, frozen=True, kw_only=True):
    """A few attempts of the handler begin as a trial; the others wait for its outcome."""


class CircuitClosed(ControlEvent, frozen=True, kw_only=True):
    """Attempts of the handler begin again, what was held back spread over `ramp_s`.

    Attributes:
        anew: as if it had never opened: by hand.
    """

    ramp_s: float = 0.0
    anew: bool = False


AnyCircuitEvent = CircuitOpened | CircuitHalfOpened | CircuitClosed
AnyControlEvent = WorkPaused | WorkResumed | RateLimitSet | RateLimitRemoved | AnyCircuitEvent
CONTROL_EVENT_TYPES: Final[tuple[type[ControlEvent], ...]] = get_args(AnyControlEvent)
