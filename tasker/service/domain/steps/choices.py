"""What a decision may choose."""

from __future__ import annotations

from collections.abc import Sequence

from tasker.events.task_events import Choice


def fault_of_choice(step: str, routes: Sequence[str], choice: Choice | None) -> str | None:
    """Return what is wrong with what a step chose; None when it is one of its choices."""
    if not routes:
        return f"step {step} declares no routes, so it cannot choose: return a plain result"
    if choice is None:
        return f"step {step} is a decision: return Decision.route(...) or Decision.none(reason)"
    unknown = [route for route in choice.routes if route not in routes]
    if unknown:
        return f"step {step} chose {unknown[0][:80]!r}, which is none of its routes: {', '.join(routes)}"
    return None
