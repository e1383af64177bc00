"""The key `rate_limit` of a step is read: how many of its attempts may begin in a time."""

from __future__ import annotations

from typing import Final

from tasker.templates import model
from tasker.templates.concurrency import VARIABLES_OF_TASK
from tasker.templates.model import RateLimit
from tasker.templates.reading import ObjectReader

_DEFAULT: Final = 1.0


def rate_limit_of(step: ObjectReader) -> RateLimit | None:
    """Return the limit that a step's document spells; None: none, or a faulty one."""
    value = step.get("rate_limit")
    if value is None:
        return None
    path = (*step.path, "rate_limit")
    read = ObjectReader(value, path, "rate_limit", RateLimit.__struct_fields__, step.faults)
    if not isinstance(value, dict):
        return None
    if "per_s" not in read:
        step.faults.add(path, "'per_s' is missing: how many attempts may begin in a second")
    return RateLimit(
        per_s=read.number("per_s", _DEFAULT, low=model.PER_S_MIN, high=model.PER_S_MAX),
        burst=read.whole("burst", 1, low=1, high=model.BURST_MAX),
        key=read.expression("key", variables=VARIABLES_OF_TASK),
    )
