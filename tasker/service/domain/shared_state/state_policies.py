"""How the writes of one key of the shared state become one value, by its policy; they come in declared order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final

from tasker.events.codec import JsonValue, canonical
from tasker.templates.expression_values import Fault, kept_number
from tasker.templates.expressions import compile_expression
from tasker.templates.model import StatePolicy, Using


def joined(policy: StatePolicy | Using, values: Sequence[JsonValue]) -> JsonValue:
    """Return what all `values` (at least one) come to.

    Raises:
        ValueError: a value is of a kind that the policy cannot join; the text says so.
        ExpressionFailed: the expression has no value.
    """
    if isinstance(policy, Using):
        expression = compile_expression(policy.using)
        return reduce(lambda left, right: expression.evaluate({"left": left, "right": right}), values)
    return _JOINS[policy](values)


def _sum(values: Sequence[Any]) -> Any:
    _must(all(_is_number(value) for value in values), "it sums numbers")
    try:
        return reduce(lambda total, value: kept_number(total + value), values)
    except (OverflowError, Fault) as error:
        raise ValueError("the sum is no number that can be kept") from error


def _max(values: Sequence[Any]) -> Any:
    alike = all(_is_number(value) for value in values) or all(isinstance(value, str) for value in values)
    _must(alike, "it compares numbers, or texts")
    return max(values)


def _append(values: Sequence[Any]) -> Any:
    return list(values)


def _union(values: Sequence[Any]) -> Any:
    _must(all(isinstance(value, list) for value in values), "it unites lists")
    found: dict[bytes, Any] = {}
    for value in values:
        for item in value:
            found.setdefault(canonical(item), item)
    return list(found.values())


def _merge(values: Sequence[Any]) -> Any:
    _must(all(isinstance(value, dict) for value in values), "it merges objects")
    merged: dict[str, Any] = {}
    for value in values:
        merged |= value
    return merged


_JOINS: Final[dict[str, Callable[[Sequence[Any]], Any]]] = {
    "sum": _sum,
    "max": _max,
    "append": _append,
    "union": _union,
    "merge": _merge,
}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _must(holds: object, what: str) -> None:
    if not holds:
        raise ValueError(what)
