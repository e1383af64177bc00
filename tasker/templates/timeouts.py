"""The key `on_timeout` of a step: what happens when one of its limits is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from tasker.templates import model
from tasker.templates.model import OnTimeout, StepSpec
from tasker.templates.reading import ObjectReader

_NEEDED: Final = {"schedule_to_start": "schedule_to_start_s", "schedule_to_close": "schedule_to_close_s"}
"""Limits that a step only has with a key."""


def on_timeout_of(step: ObjectReader) -> OnTimeout | None:
    """Return what a step's document spells; None: as by default, or there was a fault."""
    value = step.get("on_timeout")
    if value is None:
        return None
    path = (*step.path, "on_timeout")
    limits = OnTimeout.__struct_fields__
    if isinstance(value, str):
        step.fault("on_timeout", f"must say it of each limit by itself, such as {{start_to_close: {value[:20]}}}")
        return None
    read = ObjectReader(value, path, "on_timeout", limits, step.faults)
    if not isinstance(value, dict):
        return None
    if not value:
        step.fault("on_timeout", f"does nothing without one of {', '.join(limits)}")
    found: dict[str, Any] = {}
    for limit in limits:
        if limit in read and limit in _NEEDED and _NEEDED[limit] not in step:
            read.fault(limit, f"does nothing without {_NEEDED[limit]}")
        if limit == "schedule_to_close" and read.get(limit) == "retry":
            read.fault(limit, "'retry' cannot be: the time over all attempts is over. Use fail, block or continue")
            continue
        kind = model.OnLastLimit if limit == "schedule_to_close" else model.OnLimit
        found[limit] = read.choice(limit, kind, getattr(OnTimeout(), limit))
    return OnTimeout(**found)


def check_on_timeout(step: StepSpec, steps: Iterable[StepSpec], fault: Callable[[str, str], None]) -> None:
    """Note what the step is that makes an action impossible."""
    if step.on_timeout is None:
        return
    actions = [getattr(step.on_timeout, limit) for limit in OnTimeout.__struct_fields__]
    if "continue" in actions:
        if step.routes:
            fault("on_timeout", f"'continue' cannot be: {step.name} is a decision, and nobody would have decided")
        behind = next((one.name for one in steps if one.batches == step.name), None)
        if behind is not None:
            fault("on_timeout", f"'continue' cannot be: step {behind} runs for the batches that {step.name} gives")
    if "block" in actions and step.expands and not step.isolates:
        key = "on_item_failure" if step.batches is None else "failure_strategy"
        fault("on_timeout", f"'block' cannot hold back a single item, unless {key} is 'isolate'")
