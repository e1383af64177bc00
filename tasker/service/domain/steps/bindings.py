"""What an expression of a template sees: the task's input, results of steps, the item, the task itself.

Only what an expression names is decoded. A step without a result is not among `results`. That of a step that runs for a
list has no bound of its own: one that is too large to be read has no value for an expression.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from tasker.errors import ExpressionFailed
from tasker.events.codec import JsonValue, decode_value
from tasker.events.task_events import ErrorInfo
from tasker.service.domain.shared_state.shared import seen_behind, seen_by
from tasker.service.domain.state import TaskState
from tasker.templates import CompiledTemplate
from tasker.templates.expressions import Expression
from tasker.times import to_rfc3339

READ_BYTES_MAX: Final = 1024 * 1024
"""Largest result that an expression reads."""

_KEPT_BYTES_MAX: Final = 2 * READ_BYTES_MAX
_KEPT_MAX: Final = 64


class _Decoded:
    """What was read last: the items of a list, say, all read the same input. Nothing changes what it has read."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[msgspec.Raw, JsonValue]] = OrderedDict()
        self._bytes = 0

    def value_of(self, raw: msgspec.Raw) -> JsonValue:
        """Return the value of canonical bytes that a state holds."""
        found = self._kept.get(id(raw))
        if found is not None:
            return found[1]
        value = msgspec.json.decode(raw)
        self._kept[id(raw)] = raw, value  # with the bytes, so that no others come to have their id
        self._bytes += len(memoryview(raw))
        while self._bytes > _KEPT_BYTES_MAX or len(self._kept) > _KEPT_MAX:
            _, (oldest, _) = self._kept.popitem(last=False)
            self._bytes -= len(memoryview(oldest))
        return value


_decoded: Final = _Decoded()


def bindings_of(
    state: TaskState,
    template: CompiledTemplate,
    step: str,
    expression: Expression,
    more: Mapping[str, JsonValue],
    *,
    behind: str | None = None,
) -> dict[str, JsonValue]:
    """Return the values of the names that an expression of `step` reads; `more` has those of its item.

    `behind` is the parent whose edge a condition is on.

    Raises:
        ExpressionFailed: a result is too large to be read.
    """
    names = expression.names
    found: dict[str, JsonValue] = {name: value for name, value in more.items() if name in names}
    if "input" in names:
        found["input"] = _decoded.value_of(state.input)
    if "results" in names:
        read = expression.results_read
        found["results"] = _results(state, template.graph.ancestors(step) if read is None else read)
    if "state" in names:
        found["state"] = (
            seen_by(state, template, state.node(step)) if behind is None else seen_behind(state, template, behind)
        )
    if "task" in names:
        found["task"] = {
            "template": template.spec.name,
            "namespace": template.spec.namespace,
            "version": state.template.version,
            "created_at": to_rfc3339(state.created_us),
            "tags": dict(state.tags),
        }
    return found


def _results(state: TaskState, steps: Iterable[str]) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {}
    for step in sorted(steps):
        result = state.result_of(step)
        if result is None:
            continue
        size = len(memoryview(result))
        if size > READ_BYTES_MAX:
            raise ExpressionFailed(
                f"the result of {step} has {size:,} bytes, more than the {READ_BYTES_MAX:,} that an expression reads; "
                "let a handler take it"
            )
        found[step] = _decoded.value_of(result)
    return found


def item_of(state: TaskState, instance: str) -> dict[str, Any]:
    """Return the values of `item` and `index` of an instance; {} when it is no item."""
    node, bracket, _ = instance.partition("[")
    expansion = state.steps[node].expansion if bracket and node in state.steps else None
    if expansion is None:
        return {}
    index = expansion.index_of(instance)
    return {"item": decode_value(bytes(expansion.items[index])), "index": index}


def expression_error(error: ExpressionFailed) -> ErrorInfo:
    """Return why a step failed whose expression did."""
    return ErrorInfo(type="expression_failed", message=error.detail[:2000], retryable=False)


def value_of(state: TaskState, template: CompiledTemplate, step: str, text: str, **more: Any) -> JsonValue:
    """Return the value of an expression of `step`.

    Raises:
        ExpressionFailed: it has none here.
    """
    expression = template.expression(text)
    return expression.evaluate(bindings_of(state, template, step, expression, more))


def is_true(state: TaskState, template: CompiledTemplate, step: str, text: str, *, behind: str | None = None) -> bool:
    """Return whether a condition of `step` holds; `behind`: it is one of the edge from that parent.

    Raises:
        ExpressionFailed: it is neither true nor false here.
    """
    expression = template.expression(text)
    return expression.test(bindings_of(state, template, step, expression, {}, behind=behind))


def items_of(state: TaskState, template: CompiledTemplate, step: str, text: str) -> list[JsonValue]:
    """Return the list that an expression of `step` gives.

    Raises:
        ExpressionFailed: it gives none here.
    """
    expression = template.expression(text)
    return expression.items(bindings_of(state, template, step, expression, {}))


def raw_items(value: msgspec.Raw) -> list[msgspec.Raw]:
    """Return the items of a JSON list, each as JSON.

    Raises:
        msgspec.ValidationError: it is no list.
    """
    return msgspec.json.decode(value, type=list[msgspec.Raw])
