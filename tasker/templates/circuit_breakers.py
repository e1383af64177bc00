"""The key `circuit_breaker` of a step is read: when attempts of its handler are held instead of being let fail."""

from __future__ import annotations

from typing import Final

from tasker.templates import model
from tasker.templates.model import CircuitBreaker
from tasker.templates.reading import ObjectReader

_DEFAULT: Final = CircuitBreaker()


def circuit_breaker_of(step: ObjectReader) -> CircuitBreaker | None:
    """Return the breaker that a step's document spells; None: none, or a faulty one. An empty one is as by default."""
    value = step.get("circuit_breaker")
    if value is None:
        return None
    path = (*step.path, "circuit_breaker")
    read = ObjectReader(value, path, "circuit_breaker", CircuitBreaker.__struct_fields__, step.faults)
    if not isinstance(value, dict):
        return None
    low, high = model.BREAKER_S_MIN, model.BREAKER_S_MAX
    found = CircuitBreaker(
        failure_rate=read.number("failure_rate", _DEFAULT.failure_rate, low=0, high=1, above=True),
        min_attempts=read.whole("min_attempts", _DEFAULT.min_attempts, low=1, high=model.BREAKER_ATTEMPTS_MAX),
        window_s=read.number("window_s", _DEFAULT.window_s, low=low, high=high),
        open_s=read.number("open_s", _DEFAULT.open_s, low=low, high=high),
        open_s_max=read.number("open_s_max", _DEFAULT.open_s_max, low=low, high=high),
        probes=read.whole("probes", _DEFAULT.probes, low=1, high=model.PROBES_MAX),
    )
    if found.open_s_max < found.open_s:
        key = "open_s_max" if "open_s_max" in read else "open_s"
        step.faults.add((*path, key), f"open_s_max ({found.open_s_max:g}) is less than open_s ({found.open_s:g})")
    return found
