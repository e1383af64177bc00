"""The key `fairness` of a template: whose share of the slots its work takes, and how large that share is."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from tasker.errors import ExpressionFailed
from tasker.events.codec import decode_value
from tasker.templates.concurrency import VARIABLES_OF_TASK, key_text
from tasker.templates.expressions import compile_expression
from tasker.templates.model import Fairness
from tasker.templates.reading import ObjectReader, kind_of
from tasker.weights import WEIGHT_MAX, WEIGHT_MIN


class Share(NamedTuple):
    """Whose share an attempt takes (None: that of all without a key), and its weight."""

    key: str | None
    weight: float


NO_SHARE: Final = Share(None, 1.0)


def fairness_of(owner: ObjectReader) -> Fairness | None:
    """Return the fairness that a document spells; None: none, or a faulty one."""
    value = owner.get("fairness")
    if value is None:
        return None
    path = (*owner.path, "fairness")
    read = ObjectReader(value, path, "fairness", Fairness.__struct_fields__, owner.faults)
    if not isinstance(value, dict):
        return None
    key = read.expression("key", variables=VARIABLES_OF_TASK)
    if "key" not in read:
        owner.faults.add(path, "'key' is missing: an expression that names who shares, such as input.customer")
    if isinstance(read.get("weight"), str):
        weight: float | str | None = read.expression("weight", variables=VARIABLES_OF_TASK)
    else:
        weight = read.number("weight", 1.0, low=WEIGHT_MIN, high=WEIGHT_MAX)
    return None if key is None or weight is None else Fairness(key=key, weight=weight)


def share_of(fairness: Fairness, task_input: msgspec.Raw) -> Share:
    """Return the share that a task with this input takes.

    Raises:
        ExpressionFailed: key or weight have no usable value for it.
    """
    names = {"input": decode_value(bytes(task_input))}
    key = key_text(compile_expression(fairness.key, variables=VARIABLES_OF_TASK).evaluate(names), fairness.key)
    weight = fairness.weight
    if isinstance(weight, str):
        found = compile_expression(weight, variables=VARIABLES_OF_TASK).evaluate(names)
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            raise ExpressionFailed(f"{weight!r} gives {kind_of(found)}, which is no weight")
        if not WEIGHT_MIN <= found <= WEIGHT_MAX:
            least, most = WEIGHT_MIN, WEIGHT_MAX
            raise ExpressionFailed(f"{weight!r} gives {found:g}; a weight is at least {least:g} and at most {most:g}")
        weight = float(found)
    return Share(key, weight)
