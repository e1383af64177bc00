"""Signals: how they come to a task, and which of them a waiting step takes.

    task.signal -> signal received -> (a step waits for it) step signalled -> step completed
    step begins -> step awaited    -> (one is kept for it)  step signalled -> step completed
    its deadline -> wait expired   -> step completed (`continue`), or failed

A signal is refused when no step of the template waits for its name, when its value does not match the schema, when the
task has ended or is about to, and when too many are kept. Else it is kept: before the task starts, while it is paused,
before a step waits and after. Each is taken once, by the step that waits first. A paused task takes none; when it goes
on, what came meanwhile comes before deadlines that fell due.

A signal on which the expression of a step has no value is used up, and fails the step: else it would fail each retry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from tasker.errors import ExpressionFailed, SignalInvalid, SignalsFull, SignalUnknown
from tasker.events.codec import decode_value
from tasker.events.envelope import US_PER_S
from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    ErrorInfo,
    FailureReason,
    SignalReceived,
    StepAttemptFailed,
    StepAwaited,
    StepCompleted,
    StepFailed,
    StepSignalled,
)
from tasker.service.domain.commands import SignalTask
from tasker.service.domain.repairs.guards import must_exist, must_go_on
from tasker.service.domain.state import StepState, TaskState
from tasker.service.domain.steps.bindings import bindings_of, expression_error, item_of
from tasker.service.domain.waits.wait_state import SignalWait
from tasker.suggestions import did_you_mean
from tasker.templates import CompiledTemplate, StepSpec
from tasker.templates.model import SIGNALS_MAX

SIGNALS_BYTES_MAX: Final = 1024 * 1024
"""Most bytes of signals that a task keeps until steps take them."""

COLLECTED_BYTES_MAX: Final = 64 * 1024
"""Most bytes of the signals that one step collects: they are its result."""

Moves = Iterator[AnyTaskEvent]


# ---------------------------------------------------------------- a signal comes


def receive(state: TaskState, template: CompiledTemplate, command: SignalTask) -> tuple[AnyTaskEvent, ...]:
    """Return the event that keeps a signal.

    Raises:
        TaskUnknown, TaskEnded, StateForbids: nothing of the task will take it.
        SignalUnknown, SignalInvalid, SignalsFull: it is none that the task can keep.
    """
    must_exist(state)
    name = command.name
    if name not in template.signals:
        known = ", ".join(template.signals) or "none"
        raise SignalUnknown(
            f"no step of {template.spec.name} waits for a signal {name[:80]!r}{did_you_mean(name, template.signals)}; "
            f"its steps wait for: {known}"
        )
    must_go_on(state)
    schema = template.signals[name]
    faults = () if schema is None else schema.faults(decode_value(bytes(command.value)))
    if faults:
        first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise SignalInvalid(f"{first.pointer or 'the value'}: {first.detail}{more}", errors=faults)
    inbox = state.inbox
    if inbox is not None:
        _must_have_room(inbox.kept.get(name, {}), name, inbox.size + len(bytes(command.value)))
    return (SignalReceived(name=name, number=1 if inbox is None else inbox.received + 1, value=command.value),)


def _must_have_room(kept: dict[int, msgspec.Raw], name: str, size: int) -> None:
    if len(kept) >= SIGNALS_MAX:
        raise SignalsFull(f"the task keeps {len(kept)} signals {name!r} that no step has taken, as many as it may")
    if size > SIGNALS_BYTES_MAX:
        raise SignalsFull(f"the task would keep {size} bytes of signals that no step has taken, above the limit")


def signalled(state: TaskState, template: CompiledTemplate, event: SignalReceived, _at_us: int) -> Moves:
    """Offer a signal to the steps that wait for one of its name, the first to wait first."""
    inbox = state.inbox
    if inbox is None or state.stopping is not None:
        return
    for instance in list(inbox.waiting.get(event.name, ())):
        if event.number not in inbox.kept.get(event.name, {}):
            return
        yield from take(state, template, instance, (event.number,))


# ---------------------------------------------------------------- a step waits


def await_signal(spec: StepSpec, instance: str, attempt: int, at_us: int) -> StepAwaited:
    """Return the event by which a step begins to wait."""
    assert spec.signal is not None  # noqa: S101 - the caller looked
    return StepAwaited(
        step=instance,
        attempt=attempt,
        signal=spec.signal,
        deadline_us=deadline_us_of(spec, at_us),
        count=spec.signal_count or 1,
    )


def deadline_us_of(spec: StepSpec, at_us: int) -> int | None:
    """Return until when a step that begins to wait at `at_us` does."""
    return None if spec.wait_deadline_s is None else at_us + max(1, round(spec.wait_deadline_s * US_PER_S))


def awaited(state: TaskState, template: CompiledTemplate, event: StepAwaited, _at_us: int) -> Moves:
    """Let a step that begins to wait take what came before."""
    yield from take(state, template, event.step)


def take(state: TaskState, template: CompiledTemplate, instance: str, offered: Iterable[int] | None = None) -> Moves:
    """Let a waiting step take those of the kept signals (or of `offered`) that are meant for it."""
    entry, inbox = state.steps[instance], state.inbox
    wait = entry.wait
    if not isinstance(wait, SignalWait) or inbox is None or state.stopping is not None:
        return
    spec = template.step(instance)
    kept = inbox.kept.get(wait.signal)
    if not kept:
        return
    fits = _meant_for(state, template, spec, instance)
    found: list[int] = []
    for number in list(kept) if offered is None else offered:
        try:
            if not fits(kept[number]):
                continue
        except ExpressionFailed as error:
            told = ExpressionFailed(f"{error.detail} (signal {number} of the task)")
            yield StepSignalled(step=instance, attempt=entry.attempt, numbers=(*found, number))
            yield from _failed(instance, entry.attempt, "expression_failed", expression_error(told))
            return
        found.append(number)
        if spec.signal_take != "last" and len(wait.numbers) + len(found) >= wait.count:
            break
    if not found:
        return
    yield StepSignalled(step=instance, attempt=entry.attempt, numbers=tuple(found))
    if spec.signal_take == "all" and wait.size > COLLECTED_BYTES_MAX:
        message = f"the signals collected have {wait.size} bytes, above the {COLLECTED_BYTES_MAX} of a result"
        error_info = ErrorInfo(type="result_too_large", message=message, retryable=False)
        yield from _failed(instance, entry.attempt, "result_too_large", error_info)
    elif len(wait.numbers) >= wait.count:
        yield completed(template, instance, entry, wait)


def _meant_for(
    state: TaskState, template: CompiledTemplate, spec: StepSpec, instance: str
) -> Callable[[msgspec.Raw], bool]:
    """Return what tells whether a signal is meant for a step; what does not depend on the signal is read once."""
    if spec.signal_when is None:
        return lambda _: True
    expression = template.expression(spec.signal_when)
    bindings: dict[str, Any] = {}

    def fits(value: msgspec.Raw) -> bool:
        if not bindings:  # read here: what an expression cannot read fails the step as what has no value does
            bindings.update(bindings_of(state, template, spec.name, expression, item_of(state, instance)))
        bindings["signal"] = decode_value(bytes(value))
        return expression.test(bindings)

    return fits


def completed(template: CompiledTemplate, instance: str, entry: StepState, wait: SignalWait) -> StepCompleted:
    """Return the event that completes a step with what it has taken."""
    return StepCompleted(step=instance, attempt=entry.attempt, result=_result(template.step(instance), wait))


def _result(spec: StepSpec, wait: SignalWait) -> msgspec.Raw:
    if spec.signal_take == "all":
        return msgspec.Raw(b"[" + b",".join(bytes(value) for value in wait.values) + b"]")
    return wait.values[-1] if wait.values else NULL


def _failed(instance: str, attempt: int, reason: FailureReason, error: ErrorInfo) -> Moves:
    yield StepAttemptFailed(step=instance, attempt=attempt, error=error)
    yield StepFailed(step=instance, attempt=attempt, reason=reason, error=error)
