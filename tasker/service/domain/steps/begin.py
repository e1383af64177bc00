"""How a step that may begin does: on a worker, for each item of a list, or by the service itself.

    branches ahead of it disagree     -> failed, without an attempt (see `shared`)
    its condition is false            -> paths closed
    an expression of it has no value  -> failed, without an attempt
    transform, asserts                -> completed (or failed) at once
    delay_s, until                    -> delayed
    signal                            -> awaited
    approval                          -> requested
    each, batches                     -> expanded; its items begin as it follows from that
    concurrency                       -> place requested; it goes on when its key grants one
    else                              -> dispatched

Everything here asks the state as it is when its turn comes: generators are resumed after what they yielded has been
taken up, with all that followed from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from tasker.errors import ExpressionFailed, ValueInvalid
from tasker.events.codec import canonical
from tasker.events.envelope import US_PER_S
from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    ErrorInfo,
    FailureReason,
    PathsClosed,
    StepCancelled,
    StepCancelRequested,
    StepCompleted,
    StepDelayed,
    StepDispatched,
    StepExpanded,
    StepFailed,
    StepGathered,
    StepItemsHeld,
    StepRetried,
)
from tasker.service.domain.limits.places import request_for_step
from tasker.service.domain.shared_state.shared import failed_by_state, fault_of_state
from tasker.service.domain.state import STEP_CANCELLED, STEP_OPEN, STEP_WAITING, Expansion, StepState, TaskState
from tasker.service.domain.steps.bindings import (
    bindings_of,
    expression_error,
    is_true,
    items_of,
    raw_items,
    value_of,
)
from tasker.service.domain.steps.children import request_child
from tasker.service.domain.steps.sticky import kept_for
from tasker.service.domain.waits.common import begin_wait
from tasker.templates import CompiledTemplate, StepSpec
from tasker.templates.instances import is_item_key, item_of, node_of
from tasker.templates.model import INSTANCES_MAX, ITEMS_MAX
from tasker.times import from_rfc3339

RESULT_BYTES_MAX: Final = 64 * 1024
CURSORS_BYTES_MAX: Final = 512 * 1024
"""They go into one event; only what a step gives that runs for a list itself can be more."""

Moves = Iterator[AnyTaskEvent]


def begin(state: TaskState, template: CompiledTemplate, step: str, at_us: int) -> Moves:
    """Begin the newest visit of `step`, whose parents say that it may; nothing begins while the task stops."""
    if state.stopping is not None:
        return
    node = state.node(step)
    if len(state.steps) >= _steps_max(template):
        yield _exhausted(state, node)
        return
    spec = template.steps[step]
    if state.shared is not None and (error := fault_of_state(state, template, step)) is not None:
        yield failed_by_state(node, error)
        return
    if step in template.plain:
        yield dispatch_first(state, spec, node, 1, at_us)
        return
    try:
        if spec.when is not None and not is_true(state, template, step, spec.when):
            yield _not_run(state, step, node, f"its condition is false: {spec.when}")
            return
        if spec.expands:
            yield _expanded(state, template, spec, node)
        elif spec.waits or spec.kind in ("handler", "child"):
            yield attempt_of(state, template, spec, node, 1, at_us)
        else:
            yield _done_here(state, template, spec, node, at_us)
    except ExpressionFailed as failed:
        yield StepFailed(step=node, attempt=1, reason="expression_failed", error=expression_error(failed))


def _not_run(state: TaskState, step: str, node: str, reason: str) -> AnyTaskEvent:
    """Return that a step does not run; one that has failed at its condition before is cancelled, as it has a row."""
    entry = state.steps.get(node)
    if entry is None:
        return PathsClosed(steps=(step,), by=node, reason=reason)
    return StepCancelled(step=node, attempt=entry.attempt, reason=reason)


def dispatch(  # noqa: PLR0917 - the facts of an attempt
    state: TaskState, spec: StepSpec, instance: str, attempt: int, at_us: int, ran_on: str | None = None
) -> StepDispatched:
    """Return the event that owes an attempt to the workers; `ran_on`: the worker of the one that has just ended."""
    limit_s = spec.schedule_to_start_s
    return StepDispatched(
        step=instance,
        attempt=attempt,
        start_by_us=None if limit_s is None else after(at_us, limit_s),
        worker=None if spec.sticky is None else kept_for(state, spec, instance, ran_on),
    )


def attempt_of(  # noqa: PLR0917 - the facts of an attempt
    state: TaskState, template: CompiledTemplate, spec: StepSpec, instance: str, attempt: int, at_us: int
) -> AnyTaskEvent:
    """Return the event by which an attempt begins: with a place of its key, or what comes behind that."""
    if spec.concurrency is not None:
        try:
            request = request_for_step(state, template, spec, instance, attempt)
        except ExpressionFailed as error:
            return StepFailed(step=instance, attempt=attempt, reason="expression_failed", error=expression_error(error))
        if request is not None:
            return request
    return attempt_with_place(state, template, spec, instance, attempt, at_us)


def attempt_with_place(  # noqa: PLR0917 - the facts of an attempt
    state: TaskState, template: CompiledTemplate, spec: StepSpec, instance: str, attempt: int, at_us: int
) -> AnyTaskEvent:
    """Return the event by which an attempt begins: with the workers, as a child task, or as a wait."""
    if spec.child is not None:
        return request_child(state, template, spec, instance, attempt)
    if spec.waits:
        return begin_wait(state, template, spec, instance, attempt, at_us)
    return dispatch_first(state, spec, instance, attempt, at_us)


def dispatch_first(state: TaskState, spec: StepSpec, instance: str, attempt: int, at_us: int) -> StepDispatched:
    """Return the same for the first of a set of attempts, from which the time counts that all of them have."""
    dispatched = dispatch(state, spec, instance, attempt, at_us)
    if spec.schedule_to_close_s is None:
        return dispatched
    return msgspec.structs.replace(dispatched, close_by_us=after(at_us, spec.schedule_to_close_s))


def after(at_us: int, seconds: float) -> int:
    """Return the time `seconds` behind `at_us`: later at all events, since what is due at once wakes nobody."""
    return at_us + max(1, round(seconds * US_PER_S))


def begin_again(state: TaskState, template: CompiledTemplate, instance: str, attempt: int, at_us: int) -> Moves:
    """Begin the next attempt of an instance that a person retries."""
    entry = state.steps[instance]
    if entry.expansion is not None:
        yield from retry_items(state, left_items(instance, entry.expansion))
        yield from next_items(state, template, instance, at_us)
    elif entry.of is not None and entry.waits != "turn":
        return  # it began with another one of its list
    elif entry.waits == "turn" and _takes_items(state, state.steps[node_of(instance)]):
        yield from next_items(state, template, node_of(instance), at_us)
    else:
        yield attempt_of(state, template, template.step(instance), instance, attempt, at_us)


# ---------------------------------------------------------------- by the service itself


def _done_here(state: TaskState, template: CompiledTemplate, spec: StepSpec, node: str, at_us: int) -> AnyTaskEvent:
    name = spec.name
    if spec.transform is not None:
        result = canonical(value_of(state, template, name, spec.transform))
        if len(result) > RESULT_BYTES_MAX:
            raise ExpressionFailed(
                f"{spec.transform!r} gives {len(result)} bytes, above the {RESULT_BYTES_MAX} of a result"
            )
        return StepCompleted(step=node, attempt=1, result=msgspec.Raw(result))
    if spec.asserts is not None:
        if is_true(state, template, name, spec.asserts):
            return StepCompleted(step=node, attempt=1, result=NULL)
        return _failed(node, "assertion_failed", f"it is false: {spec.asserts}")
    if spec.delay_s is not None:
        return StepDelayed(step=node, attempt=1, until_us=after(at_us, spec.delay_s))
    assert spec.until is not None  # noqa: S101 - the last kind there is
    return StepDelayed(
        step=node, attempt=1, until_us=max(at_us + 1, _time(value_of(state, template, name, spec.until), spec.until))
    )


def _time(value: Any, text: str) -> int:
    try:
        return from_rfc3339(value)
    except (ValueInvalid, ValueError, TypeError, AttributeError) as error:
        raise ExpressionFailed(
            f"{text!r} gives {value!r:.80}, which is no time such as 2026-11-21T10:00:00Z"
        ) from error


# ---------------------------------------------------------------- for each item of a list


def _steps_max(template: CompiledTemplate) -> int:
    """Return how many step instances a task may begin: visits, and items of lists."""
    return template.spec.max_steps or INSTANCES_MAX


def _exhausted(state: TaskState, node: str) -> StepFailed:
    return _failed(node, "steps_exhausted", f"the task has begun {len(state.steps)} step instances, all it may")


def _expanded(state: TaskState, template: CompiledTemplate, spec: StepSpec, node: str) -> StepExpanded | StepFailed:
    keys: tuple[str, ...] = ()
    if spec.batches is not None:
        items, count = _cursors(state, spec.batches)
    else:
        assert spec.each is not None  # noqa: S101 - a step expands by one of the two
        values = items_of(state, template, spec.name, spec.each)
        items = msgspec.Raw(canonical(values))
        count = len(values)
        if count > ITEMS_MAX:
            raise ExpressionFailed(f"{spec.each!r} gives {count} items, above the {ITEMS_MAX} of a step")
        if spec.item_key is not None:
            keys = _keys(state, template, spec, values)
    begun, most = len(state.steps) + (node not in state.steps), _steps_max(template)
    if begun + count > most:
        told = f"{count} items are more than the task may begin: {begun} of {most} step instances have begun"
        return _failed(node, "steps_exhausted", told)
    return StepExpanded(step=node, items=items, keys=keys)


def _cursors(state: TaskState, batchable: str) -> tuple[msgspec.Raw, int]:
    result = state.result_of(batchable) or NULL
    try:
        found = raw_items(result)
    except (msgspec.DecodeError, ValueError) as error:
        raise ExpressionFailed(f"the result of {batchable} is no list of cursors: return Batches(...)") from error
    if len(found) > ITEMS_MAX:
        raise ExpressionFailed(f"{batchable} gives {len(found)} batches, above the {ITEMS_MAX} of a step")
    size = len(memoryview(result))
    if size > CURSORS_BYTES_MAX:
        raise ExpressionFailed(f"{batchable} gives {size} bytes of cursors, above the {CURSORS_BYTES_MAX} of a step")
    return result, len(found)


def _keys(state: TaskState, template: CompiledTemplate, spec: StepSpec, values: list[Any]) -> tuple[str, ...]:
    assert spec.item_key is not None  # noqa: S101 - as the caller saw
    keys: dict[str, int] = {}
    expression = template.expression(spec.item_key)
    bindings = bindings_of(state, template, spec.name, expression, {})
    for index, item in enumerate(values):
        key = expression.evaluate({**bindings, "item": item, "index": index})
        if not is_item_key(key):
            raise ExpressionFailed(
                f"{spec.item_key!r} names item {index} {key!r:.80}; "
                "a key is text of at most 64 letters, digits, '.', '_' and '-'"
            )
        if keys.setdefault(str(key), index) != index:
            raise ExpressionFailed(f"{spec.item_key!r} names items {keys[str(key)]} and {index} alike: {key!r}")
    return tuple(keys)


def next_items(state: TaskState, template: CompiledTemplate, node: str, at_us: int) -> Moves:
    """Begin as many further items of a step as may run, and end the step when nothing of it is left to do."""
    entry = state.steps[node]
    expansion = entry.expansion
    if expansion is None or not _takes_items(state, entry):
        return
    spec = template.step(node)
    if is_over(spec, expansion):
        yield from cancel_items(state, template, expansion, f"step {node} has failed", at_us)
        yield _failed(node, "items_failed", _told(expansion))
        return
    while len(expansion.open) - len(expansion.again) < spec.items_at_a_time and expansion.waiting:
        if expansion.again:
            item = next(iter(expansion.again))
            yield attempt_of(state, template, spec, item, state.steps[item].first_attempt, at_us)
        elif len(state.steps) >= _steps_max(template):  # another list, or a loop, has begun what was left
            yield from cancel_items(state, template, expansion, f"step {node} has failed", at_us)
            yield _exhausted(state, node)
            return
        else:
            yield attempt_of(state, template, spec, item_of(node, expansion.keys[expansion.begun]), 1, at_us)
        if not _takes_items(state, entry):
            return  # that item ended at once, and with it the step
    waiting = expansion.waiting
    if expansion.open and not expansion.is_held and waiting:
        yield StepItemsHeld(step=node, limit=spec.items_at_a_time, waiting=waiting)
    gathered = _gathered(spec, node, expansion)
    if gathered is not None:
        yield gathered


def complete_lists(state: TaskState, template: CompiledTemplate) -> list[StepGathered]:
    """Return what completes the steps of a held task all of whose items have ended; nothing where a loop may turn.

    Nothing begins by that, so that the task is done if nothing else is left of it.
    """
    if template.loops:
        return []
    steps = [(spec, spec.name, state.steps.get(spec.name)) for spec in template.steps.values() if spec.expands]
    found = [
        _gathered(spec, node, entry.expansion)
        for spec, node, entry in steps
        if entry is not None and entry.expansion is not None and _takes_items(state, entry)
    ]
    return [one for one in found if one is not None]


def _gathered(spec: StepSpec, node: str, expansion: Expansion) -> StepGathered | None:
    """Return the event that completes a step when all its items have ended, and nobody has to repair one."""
    if expansion.open or expansion.waiting or is_over(spec, expansion) or (expansion.failed and spec.isolates):
        return None
    return StepGathered(step=node, completed=expansion.completed, failed=len(expansion.failed))


def _takes_items(state: TaskState, entry: StepState) -> bool:
    return entry.status is STEP_WAITING and state.stopping is None


def is_over(spec: StepSpec, expansion: Expansion) -> bool:
    """Return whether more items have failed than the step can stand."""
    failed = len(expansion.failed)
    if not failed:
        return False
    match spec.item_policy:
        case "fail_fast":
            return True
        case "tolerate":
            return failed > tolerated_of(spec.tolerate, len(expansion.items))
        case _:
            return False


def tolerated_of(tolerate: int | str | None, items: int) -> int:
    """Return how many of `items` may fail: a number of them, or a share such as "10%", rounded down."""
    if isinstance(tolerate, str):
        return int(items * float(tolerate.rstrip("%")) // 100)
    return tolerate or 0


def _told(expansion: Expansion) -> str:
    names = list(expansion.failed)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004 - enough to see
    return f"{len(names)} of {len(expansion.items)} items failed: {shown}"


def cancel_items(state: TaskState, template: CompiledTemplate, expansion: Expansion, reason: str, at_us: int) -> Moves:
    """Cancel the open items of a step."""
    for name in list(expansion.open):
        yield cancel(template, name, state.steps[name], reason, at_us)


def left_items(node: str, expansion: Expansion) -> list[str]:
    """Return the failed and the cancelled items of a step, in the list's order."""
    left = [name for name in (*expansion.failed, *expansion.cancelled) if node_of(name) == node]
    return sorted(left, key=expansion.index_of)


def retry_items(state: TaskState, items: Iterable[str]) -> Moves:
    """Retry items of a step that a person retries."""
    for name in items:
        entry = state.steps[name]
        yield StepRetried(step=name, attempt=entry.attempt + 1, cancelled=entry.status is STEP_CANCELLED)


# ---------------------------------------------------------------- cancelling


CHILD_GRACE_S: Final = 30 * 24 * 3600.0
"""A child has limits of its own; this one only says that it is asked to stop."""


def cancel(
    template: CompiledTemplate, name: str, entry: StepState, reason: str, at_us: int
) -> StepCancelled | StepCancelRequested:
    """Return the event that cancels an open instance; one whose child is not abandoned stays open until that ended."""
    if entry.status is STEP_WAITING and waits_for_childs_end(template, name, entry):
        return StepCancelRequested(step=name, attempt=entry.attempt, grace_until_us=after(at_us, CHILD_GRACE_S))
    return StepCancelled(step=name, attempt=entry.attempt, reason=reason)


def waits_for_childs_end(template: CompiledTemplate, name: str, entry: StepState) -> bool:
    """Return whether an instance is cancelled in a turn of its own, once the child that it waits for has ended."""
    return entry.waits == "child" and template.step(name).on_parent_close != "abandon"


def cancel_node(state: TaskState, template: CompiledTemplate, node: str, reason: str, at_us: int) -> Moves:
    """Cancel a step's visit, its items first."""
    entry: StepState = state.steps[node]
    if entry.expansion is not None:
        yield from cancel_items(state, template, entry.expansion, reason, at_us)
    if entry.status in STEP_OPEN:
        yield cancel(template, node, entry, reason, at_us)


def _failed(node: str, reason: FailureReason, message: str) -> StepFailed:
    return StepFailed(
        step=node, attempt=1, reason=reason, error=ErrorInfo(type=reason, message=message, retryable=False)
    )
