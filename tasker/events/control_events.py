"""What operators do to work as a whole: the union stored in the log's one stream of kind `control`.

Every node folds this stream (`tasker.controls`), so that all hold back the same work. It is one for the whole log, not
one a tenant: a node finds it by its id alone, and reads what is new of it with one query. The event's `tenant` is that
of the caller; who asked and why is in the event's meta (`requested_by`, `reason`), always.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

ControlScope = Literal["everything", "tenant", "template", "queue"]


LimitScope = Literal["queue", "handler"]


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


AnyControlEvent = WorkPaused | WorkResumed | RateLimitSet | RateLimitRemoved
CONTROL_EVENT_TYPES: Final[tuple[type[ControlEvent], ...]] = get_args(AnyControlEvent)
