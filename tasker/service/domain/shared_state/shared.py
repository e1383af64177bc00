"""The state that the steps of a task share: what each wrote, and what a step sees of it.

    step completed, yielded (with writes) -> kept, by step
    a step begins                         -> it sees what the steps ahead of it wrote, merged in declared order

Nothing is merged when it is written: what a step sees is a function of the writes ahead of it alone, so that it does
not depend on which branch finished first. It stays what it was when the step began, over all its attempts.

*Ahead* of a step are its ancestors, and in a loop all that the visits before did. The order is that of the edges: the
parents as `after` names them, each behind all that is ahead of itself; visits in theirs, the items of a list in theirs.

| policy               | value                                                                      |
|----------------------|----------------------------------------------------------------------------|
| `fail`               | the newest write; two of which neither is ahead of the other fail the step |
| `last_edge_wins`     | the last write in order                                                    |
| `sum`, `max`, ...    | all writes, joined in order: each counts once                              |

A conflict fails the step where the branches meet first. When a person completes that by hand, the last edge wins behind
it. What failed attempts, cancelled steps and compensations wrote does not count.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from tasker.errors import ExpressionFailed
from tasker.events.codec import canonical, decode_value
from tasker.events.task_events import ErrorInfo, StepFailed
from tasker.service.domain.shared_state.state_policies import joined
from tasker.service.domain.shared_state.written import Written
from tasker.service.domain.state import StepStatus, TaskState
from tasker.templates import CompiledTemplate
from tasker.templates.instances import is_undo, name_of, node_of, undone_by, visit_of
from tasker.templates.loops import Loop
from tasker.templates.model import Using

KEPT_WRITES_MAX: Final = 20_000
KEPT_BYTES_MAX: Final = 1024 * 1024
"""Most writes that a task keeps, and most bytes of them."""

SEEN_BYTES_MAX: Final = 16 * 1024
"""Most bytes of what a step sees: it goes with the work."""

_SHOWN_CHARS: Final = 60
_NAMED_MAX: Final = 5
_COMPARED_MAX: Final = 200
_NEVER: Final = 1 << 62


class Clash(Exception):
    """The writes of a key cannot be made one value."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def fault_of_writes(state: TaskState, instance: str, writes: Mapping[str, msgspec.Raw]) -> ErrorInfo | None:
    """Return why an attempt may not write these; None: it may."""
    if is_undo(instance):
        return _error("state_invalid", "a compensation writes nothing to the state: no step comes behind it")
    shared = state.shared
    if shared is None:
        return None
    size = shared.size + sum(len(bytes(value)) for value in writes.values())
    if shared.count + len(writes) > KEPT_WRITES_MAX or size > KEPT_BYTES_MAX:
        most = f"{KEPT_WRITES_MAX} writes and {KEPT_BYTES_MAX} bytes"
        return _error("state_too_large", f"the task's steps have written all that they may: {most}")
    return None


def fault_of_state(state: TaskState, template: CompiledTemplate, step: str) -> ErrorInfo | None:
    """Return why a step that may begin cannot see the state; None: it can."""
    if state.shared is None:
        return None
    try:
        size = len(canonical(_seen(state, template, state.node(step), strict=True)))
    except Clash as clash:
        return _error("state_conflict", clash.detail)
    if size > SEEN_BYTES_MAX:
        return _error("state_too_large", f"the state has {size} bytes here, above the {SEEN_BYTES_MAX} of a step")
    return None


def failed_by_state(node: str, error: ErrorInfo) -> StepFailed:
    """Return the event that fails a step that cannot see the state."""
    return StepFailed(step=node, attempt=1, reason="state_conflict", error=error)


def _error(kind: str, message: str) -> ErrorInfo:
    return ErrorInfo(type=kind, message=message[:2000], retryable=False)


def seen_by(state: TaskState, template: CompiledTemplate, instance: str) -> dict[str, Any]:
    """Return the state as one instance sees it, by key in code point order; {} when nothing was written ahead of it."""
    if state.shared is None:
        return {}
    return _seen(state, template, instance, strict=False)


def seen_behind(state: TaskState, template: CompiledTemplate, step: str) -> dict[str, Any]:
    """Return the state as a step leaves it: what an edge from it sees."""
    if state.shared is None:
        return {}
    node = state.node(step)
    own = [
        _placed(state, template, 0, step, written)
        for written in state.shared.written.get(step, ())
        if node_of(written.instance) == node and _counts(state, written, _NEVER)
    ]
    own.sort(key=lambda write: write.place)
    return _merged(template, [*_ahead_of(state, template, node), *own], None)


def seen_raw(state: TaskState, template: CompiledTemplate, instance: str) -> msgspec.Raw | None:
    """Return the same as JSON, for work; None when there is nothing to see."""
    shared = state.shared
    if shared is None:
        return None
    node = node_of(instance)
    if node != instance and not is_undo(instance) and not shared.has_written(instance):
        cached = shared.seen.get(node)
        if cached is None:
            cached = shared.seen[node] = msgspec.Raw(canonical(_seen(state, template, instance, strict=False)))
        return cached
    seen = _seen(state, template, instance, strict=False)
    return msgspec.Raw(canonical(seen)) if seen else None


def final_state(state: TaskState, template: CompiledTemplate) -> msgspec.Raw | None:
    """Return the state as the last steps leave it; None: nothing was written, or it is none that can be kept."""
    if state.shared is None:
        return None
    names: dict[str, None] = {}
    for sink in template.graph.sinks:
        names.update(dict.fromkeys((*_order(template, sink), sink)))
    seen = canonical(_merged(template, _found(state, template, names, _NEVER), None))
    return msgspec.Raw(seen) if seen != b"{}" and len(seen) <= SEEN_BYTES_MAX else None


# ---------------------------------------------------------------- what is ahead


@functools.lru_cache(maxsize=4096)
def _ahead(template: CompiledTemplate, step: str) -> frozenset[str]:
    return template.graph.ancestors(step)


@functools.lru_cache(maxsize=4096)
def _order(template: CompiledTemplate, step: str) -> tuple[str, ...]:
    """Return the ancestors of a step in the order of the edges, each behind what is ahead of it."""
    found: dict[str, None] = {}
    walk = [iter(template.graph.parents[step])]
    path: list[str] = []
    while walk:
        for parent in walk[-1]:
            if parent not in found:
                walk.append(iter(template.graph.parents[parent]))
                path.append(parent)
                break
        else:
            walk.pop()
            if path:
                found[path.pop()] = None
    return tuple(found)


@functools.lru_cache(maxsize=1024)
def _largest_first(template: CompiledTemplate) -> tuple[Loop, ...]:
    return tuple(sorted(template.loops, key=lambda loop: -len(loop.body)))


class _Write(NamedTuple):
    """One write with its place in the order."""

    place: tuple[Any, ...]
    turns: tuple[int, ...]
    step: str
    written: Written


class _Meeting(NamedTuple):
    """A visit at which branches meet that wrote one key."""

    state: TaskState
    node: str


def _seen(state: TaskState, template: CompiledTemplate, instance: str, *, strict: bool) -> dict[str, Any]:
    """Return what an instance sees; a compensation sees what the step did that it undoes."""
    shared = state.shared
    assert shared is not None  # noqa: S101 - the callers looked
    instance = undone_by(instance)
    step, node = name_of(instance), node_of(instance)
    writes = _ahead_of(state, template, node)
    writes += [_Write((), (), step, one) for one in shared.written.get(step, ()) if one.instance == instance]
    return _merged(template, writes, _Meeting(state, node) if strict else None)


def _ahead_of(state: TaskState, template: CompiledTemplate, node: str) -> list[_Write]:
    """Return what was written ahead of a visit when it began, in order."""
    shared = state.shared
    assert shared is not None  # noqa: S101 - the callers looked
    step, until = name_of(node), shared.begun.get(node, 0) if node in state.steps else _NEVER
    names = list(_order(template, step))
    writes = _found(state, template, names, until) + _of_earlier_visits(state, template, step, names, until)
    writes.sort(key=lambda write: write.place)
    return writes


def _found(state: TaskState, template: CompiledTemplate, names: Iterable[str], until: int) -> list[_Write]:
    shared = state.shared
    assert shared is not None  # noqa: S101 - the callers looked
    found = [
        _placed(state, template, at, name, written)
        for at, name in enumerate(names)
        if name in shared.written
        for written in shared.written[name]
        if _counts(state, written, until)
    ]
    found.sort(key=lambda write: write.place)
    return found


def _of_earlier_visits(
    state: TaskState, template: CompiledTemplate, step: str, names: list[str], until: int
) -> list[_Write]:
    """Return what the visits before wrote behind the step (or in it): in a loop that is ahead of it as well."""
    shared = state.shared
    assert shared is not None  # noqa: S101 - the callers looked
    around = [loop for loop in template.loops if step in loop.body]
    bodies = dict.fromkeys(name for loop in around for name in loop.body)

    def is_earlier(name: str, seq: int) -> bool:
        return any(
            name in loop.body and shared.turned(loop.target, seq) < shared.turned(loop.target, until) for loop in around
        )

    rest = [name for name in bodies if name not in names and name in shared.written]
    return [
        _placed(state, template, len(names) + at, name, written)
        for at, name in enumerate(rest)
        for written in shared.written[name]
        if is_earlier(name, written.seq) and _counts(state, written, until)
    ]


def _counts(state: TaskState, written: Written, until: int) -> bool:
    if written.seq >= until:
        return False
    entry = state.steps[written.instance]
    return _had_completed(state, written.instance, until) and (
        entry.of is None or _had_completed(state, node_of(written.instance), until)
    )


def _had_completed(state: TaskState, instance: str, until: int) -> bool:
    shared, entry = state.shared, state.steps[instance]
    assert shared is not None  # noqa: S101 - the callers looked
    return entry.status is StepStatus.COMPLETED and (entry.completed_seq or shared.by_hand.get(instance, 0)) < until


def _placed(state: TaskState, template: CompiledTemplate, at: int, step: str, written: Written) -> _Write:
    shared = state.shared
    assert shared is not None  # noqa: S101 - the callers looked
    turns = tuple(
        shared.turned(loop.target, written.seq) if step in loop.body else 0 for loop in _largest_first(template)
    )
    of = state.steps[written.instance].of
    item = 0 if of is None else of.index_of(written.instance)
    return _Write((turns, at, item, written.seq), turns, step, written)


def _is_ahead(template: CompiledTemplate, one: _Write, other: _Write) -> bool:
    if one.written.instance == other.written.instance:
        return one.written.seq < other.written.seq
    if one.turns != other.turns:
        for loop, turn, turn_of_other in zip(_largest_first(template), one.turns, other.turns, strict=True):
            if turn != turn_of_other and one.step in loop.body and other.step in loop.body:
                return turn < turn_of_other
    return one.step in _ahead(template, other.step)


# ---------------------------------------------------------------- what it comes to


def _merged(template: CompiledTemplate, writes: list[_Write], at: _Meeting | None) -> dict[str, Any]:
    """Return the value of each key; `at`: where a conflict is one.

    Raises:
        Clash: the writes of a key cannot be made one value.
    """
    by_key: dict[str, list[_Write]] = {}
    for write in writes:
        for key in write.written.writes:
            by_key.setdefault(key, []).append(write)
    return {key: _value(template, key, by_key[key], at) for key in sorted(by_key)}


def _value(template: CompiledTemplate, key: str, writes: list[_Write], at: _Meeting | None) -> Any:
    policy = template.spec.state.get(key, "fail")
    if policy == "fail" and at is not None and len(writes) > 1:
        _must_agree(template, key, writes, at)
    if policy in ("fail", "last_edge_wins"):
        return _decoded(writes[-1], key)
    try:
        return joined(policy, [_decoded(write, key) for write in writes])
    except (ExpressionFailed, ValueError) as error:
        if at is None or _met_before(template, writes, at):
            return _decoded(writes[-1], key)
        named = f"{{using: {policy.using[:_SHOWN_CHARS]}}}" if isinstance(policy, Using) else policy
        detail = error.detail if isinstance(error, ExpressionFailed) else str(error)
        raise Clash(f"state key {key!r} has the policy {named}, but {detail}: {_told(writes, key)}") from error


def _must_agree(template: CompiledTemplate, key: str, writes: list[_Write], at: _Meeting) -> None:
    last = writes[-1]
    rivals = [write for write in writes[:-1] if not _is_ahead(template, write, last)]
    if not rivals:
        return
    newest = writes[-_COMPARED_MAX:]
    rivals = [
        one
        for one in rivals[-_COMPARED_MAX:]
        if not any(_is_ahead(template, one, other) for other in newest if other is not one)
    ]
    if not rivals:
        return
    rivals.append(last)
    if _met_before(template, rivals, at):
        return
    raise Clash(
        f"state key {key!r} was written by steps that do not wait for each other: {_told(rivals, key)}. "
        f"Name a policy for it in the template's `state` (last_edge_wins, sum, ...), or complete {name_of(at.node)} by "
        "hand: then the last edge wins"
    )


def _met_before(template: CompiledTemplate, rivals: list[_Write], at: _Meeting) -> bool:
    """Return whether a step ahead, or a visit before, saw all of these already: there it was told, and settled."""
    state, step = at.state, name_of(at.node)
    around = [loop.body for loop in template.loops if step in loop.body]
    wanted = {write.written.seq for write in rivals}
    return any(
        node != at.node
        and node in state.steps
        and wanted <= {one.written.seq for one in _ahead_of(state, template, node)}
        for name in _ahead(template, step).union(*around)
        for node in _newest(state, name)
    )


def _newest(state: TaskState, name: str) -> tuple[str, ...]:
    """Return the newest visit of a step, and the one before: what those did not see, none did."""
    visit = state.visits.get(name, 1)
    return tuple(visit_of(name, one) for one in (visit, visit - 1) if one)


def _decoded(write: _Write, key: str) -> Any:
    return decode_value(bytes(write.written.writes[key]))


def _told(writes: list[_Write], key: str) -> str:
    parts = []
    for write in writes[:_NAMED_MAX]:
        text = bytes(write.written.writes[key]).decode()
        parts.append(f"{write.written.instance} {text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + '...'}")
    more = f" and {len(writes) - _NAMED_MAX} more" if len(writes) > _NAMED_MAX else ""
    return ", ".join(parts) + more
