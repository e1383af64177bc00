"""How a task ends whose steps are all settled: with its result, or without one because it is larger than allowed.

The result is that of the step that the template names, of its only last step, or an object of all last steps by name.
Each step's own result has a bound, but many of them together (of last steps, or of the items of one step) would be more
than a message, an event or a reader takes. Such a task does not complete: it is blocked, or fails, as its template says
of failures. What its steps did is recorded, and their results can be read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from tasker.events.codec import canonical
from tasker.events.task_events import NULL, ErrorInfo, TaskBlocked, TaskCompleted, TaskFailed
from tasker.service.domain.shared_state.shared import final_state
from tasker.service.domain.state import TaskState
from tasker.templates import CompiledTemplate

TASK_RESULT_BYTES_MAX: Final = 512 * 1024
"""As much as a body may have; with the event around it half of what NATS takes as a message by default."""

RESULT_LIMIT: Final = "result_limit"


def completion(state: TaskState, template: CompiledTemplate) -> TaskCompleted | TaskBlocked | TaskFailed:
    """Return the event that ends, or blocks, a task of which nothing is left to do."""
    size = _result_bytes(state, template)
    if size <= TASK_RESULT_BYTES_MAX:
        return TaskCompleted(result=_result(state, template), state=final_state(state, template))
    detail = (
        f"its result would have {size:,} bytes of at most {TASK_RESULT_BYTES_MAX:,}; let the template name a step with"
        " a smaller one (`result`), or return what is large by reference"
    )
    if template.spec.on_failure == "fail":
        return TaskFailed(cause=RESULT_LIMIT, error=ErrorInfo(type=RESULT_LIMIT, message=detail, retryable=False))
    return TaskBlocked(reason=RESULT_LIMIT, detail=detail)


def _result(state: TaskState, template: CompiledTemplate) -> msgspec.Raw:
    if template.result_step is not None:
        return state.result_of(template.result_step) or NULL
    return msgspec.Raw(canonical({name: state.result_of(name) or NULL for name in _last_steps(state, template)}))


def _last_steps(state: TaskState, template: CompiledTemplate) -> list[str]:
    return [name for name in template.sinks if name not in state.closed]


def _result_bytes(state: TaskState, template: CompiledTemplate) -> int:
    """Return the size of the result without making it: names of steps need no escapes."""
    if template.result_step is not None:
        return _step_bytes(state, template.result_step)
    names = _last_steps(state, template)
    return _joined_bytes(len(f'"{name}":') + _step_bytes(state, name) for name in names)


def _step_bytes(state: TaskState, step: str) -> int:
    node = state.node(step)
    found = state.steps.get(node)
    if found is None or found.expansion is None:
        return len(bytes(state.result_of(step) or NULL))
    items = (state.steps.get(f"{node}[{key}]") for key in found.expansion.keys)
    return _joined_bytes(len(bytes((item and item.result) or NULL)) for item in items)


def _joined_bytes(parts: Iterable[int]) -> int:
    """Return the size of an object or a list of parts: two brackets, and commas between."""
    sizes = list(parts)
    return 2 + sum(sizes) + max(0, len(sizes) - 1)
