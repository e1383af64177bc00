"""How long to wait before another attempt."""

from __future__ import annotations

import math
from typing import Final

from tasker.templates import Retry

RETRY_AFTER_S_MAX: Final = 3600.0
"""A target may ask for no longer a wait than this."""

DOUBLINGS_MAX: Final = 64
"""So often doubled, every wait is longer than a wait may be."""

GROWING: Final = frozenset({"exponential", "linear", "fibonacci"})
"""Backoffs that `delay_s_max` bounds; the others do not grow."""


def retry_delay_s(policy: Retry, *, failures: int, jitter: float, retry_after_s: float | None = None) -> float:
    """Return the wait before the next attempt, in seconds.

    The backoff grows with the number of failures, up to `delay_s_max`, and is spread by `policy.jitter`
    to either side, so that a burst of failures does not come back as a burst. What the target asked
    for (Retry-After) is a lower bound: to come earlier is what it refused.

    Args:
        policy: of the step.
        failures: attempts that failed since the last fresh start, from 1.
        jitter: in [0, 1), drawn by the caller; the event records the result.
        retry_after_s: bounded here by `RETRY_AFTER_S_MAX`.

    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    base = _backoff_s(policy, failures)
    if policy.backoff in GROWING:
        base = min(base, policy.delay_s_max)
    spread = base * (1.0 + policy.jitter * (2.0 * jitter - 1.0))
    asked = min(max(retry_after_s or 0.0, 0.0), RETRY_AFTER_S_MAX)
    return round(max(spread, asked), 6)


def _backoff_s(policy: Retry, failures: int) -> float:
    match policy.backoff:
        case "exponential":
            if math.log2(policy.factor) * (failures - 1) > DOUBLINGS_MAX:
                return policy.delay_s_max  # a larger power only overflows
            return float(policy.delay_s * policy.factor ** (failures - 1))
        case "linear":
            return policy.delay_s * failures
        case "fibonacci":
            return policy.delay_s * _fibonacci(min(failures, 2 * DOUBLINGS_MAX))
        case "constant":
            return policy.delay_s
        case "none":
            return 0.0


def _fibonacci(n: int) -> int:
    """Return 1, 1, 2, 3, 5, ... for n = 1, 2, 3, 4, 5, ..."""
    before, now = 0, 1
    for _ in range(n - 1):
        before, now = now, before + now
    return now
