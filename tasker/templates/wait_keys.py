"""The keys of a step that waits for something from outside: a signal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from tasker.ids import is_event_name
from tasker.templates import model
from tasker.templates.model import StepSpec
from tasker.templates.reading import VARIABLES_OF_SIGNAL, ObjectReader, quoted

_SIGNAL_KEYS: Final = ("signal_schema", "signal_take", "signal_count", "signal_when")
_DEADLINE_KEYS: Final = ("wait_deadline_s", "on_wait_deadline")
_WAITS: Final = ("signal",)


def wait_keys(read: ObjectReader) -> dict[str, Any]:
    """Return the values of a step's keys of waiting, with the faults of each by itself noted."""
    for keys, owners in ((_SIGNAL_KEYS, ("signal",)), (_DEADLINE_KEYS, _WAITS)):
        for key in keys:
            if key in read and not any(owner in read for owner in owners):
                read.fault(key, f"does nothing without {' or '.join(owners)}")
    take = read.choice("signal_take", model.SignalTake, "first")
    if (take == "all") != ("signal_count" in read):
        at = (*read.path, "signal_count") if "signal_count" in read else read.path
        read.faults.add(at, "signal_count belongs to signal_take 'all', and that needs it: how many it waits for")
    if "on_wait_deadline" in read and "wait_deadline_s" not in read:
        read.fault("on_wait_deadline", "does nothing without wait_deadline_s")
    return {
        "signal": _signal(read),
        "signal_schema": read.schema("signal_schema"),
        "signal_take": take,
        "signal_count": read.optional_whole("signal_count", high=model.SIGNALS_MAX),
        "signal_when": read.expression("signal_when", variables=VARIABLES_OF_SIGNAL),
        "wait_deadline_s": read.optional_seconds("wait_deadline_s"),
        "on_wait_deadline": read.choice("on_wait_deadline", model.OnWaitDeadline, "fail"),
    }


def _signal(read: ObjectReader) -> str | None:
    value = read.get("signal")
    if value is None or (isinstance(value, str) and is_event_name(value)):
        return value
    read.fault("signal", f"must be a name such as 'approved' or 'order.paid', not {quoted(value)}")
    return None


def check_wait(step: StepSpec, steps: Iterable[StepSpec], fault: Callable[[str, str], None]) -> None:
    """Note what is wrong with a wait beside the other steps: the values of a signal have one schema."""
    if step.signal is None:
        return
    first = next(one for one in steps if one.signal == step.signal)
    if first.signal_schema != step.signal_schema:
        fault("signal_schema", f"step {quoted(first.name)} waits for this signal with another schema; give both one")
    if step.expands and step.items_at_a_time > model.WAITS_PARALLEL_MAX:
        key = "max_parallel" if step.batches is None else "parallelism"
        fault(key, f"at most {model.WAITS_PARALLEL_MAX} items may wait at a time, not {step.items_at_a_time}")
