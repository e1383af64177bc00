"""Domain events against what a step declares: one rule, held to early by the worker and bindingly by the owner.

`Emitting` takes an attempt's events one by one. What it refuses has a code: `event_unknown`, `event_invalid`,
`event_too_large`, `events_too_many`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from tasker.errors import BodyTooLarge, EventInvalid, EventsTooMany, EventTooLarge, EventUnknown
from tasker.events import codec
from tasker.events.messages import DeclaredEvent, EmittedEvent
from tasker.events.task_events import NULL
from tasker.templates.input_schema import InputSchema, compiled_schema
from tasker.templates.model import Emit, StepSpec

EVENTS_PER_ATTEMPT_MAX: Final = 100
EVENT_BYTES_MAX: Final = 16 * 1024
"""Largest data of one domain event, in canonical bytes."""

EVENTS_BYTES_MAX: Final = 128 * 1024
"""Largest data of all domain events of an attempt together."""


def declared_events(step: StepSpec) -> tuple[DeclaredEvent, ...]:
    """Return the domain events that the step's handler may emit."""
    return tuple(DeclaredEvent(name=emit.name, schema=_schema_of(emit)) for emit in step.emits if not emit.auto)


class Emitting:
    """The domain events of one attempt."""

    __slots__ = ("_bytes", "_count", "_schemas", "_step")

    def __init__(self, step: str, declared: Iterable[DeclaredEvent]) -> None:
        self._step = step
        self._schemas = {one.name: bytes(one.schema) for one in declared}
        self._count = 0
        self._bytes = 0

    def add(self, name: str, data: bytes) -> EmittedEvent:
        """Return one more event, with its data in canonical form.

        Raises:
            EventUnknown: the step does not declare it. EventInvalid: its data do not match their schema.
            EventTooLarge, EventsTooMany: it is over a limit.
            BodyInvalid, ValueInvalid: its data are not JSON that can be stored.
        """
        schema = self._schemas.get(name)
        if schema is None:
            declared = ", ".join(self._schemas) or "none"
            raise EventUnknown(
                f"step {self._step} declares no domain event {name[:80]!r} for its handler to emit ({declared}): "
                f"add it to the step's `emits`"
            )
        if self._count >= EVENTS_PER_ATTEMPT_MAX:
            raise EventsTooMany(f"an attempt may emit {EVENTS_PER_ATTEMPT_MAX} domain events; {name} is one more")
        try:
            data = codec.canonicalize(data, bytes_max=EVENT_BYTES_MAX)
        except BodyTooLarge as error:
            raise EventTooLarge(f"the data of {name}: {error.detail}; keep large values where they are") from error
        if self._bytes + len(data) > EVENTS_BYTES_MAX:
            raise EventTooLarge(f"with {name} the attempt's domain events are larger than {EVENTS_BYTES_MAX} bytes")
        if schema != bytes(NULL):
            check_data(name, compiled_schema(schema), data)
        self._count += 1
        self._bytes += len(data)
        return EmittedEvent(name=name, data=msgspec.Raw(data))


def check_data(name: str, schema: InputSchema, data: bytes) -> None:
    """Return when the data of the domain event `name` match their schema.

    Raises:
        EventInvalid: they do not; `errors` has each fault with its place.
    """
    faults = schema.faults(codec.decode_value(data))
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise EventInvalid(f"{name}: {faults[0].pointer or 'its data'}: {faults[0].detail}{more}", errors=faults)


def schema_of_emit(emit: Emit) -> InputSchema | None:
    """Return what the data of `emit` must match; None: anything."""
    return None if emit.schema is None else compiled_schema(codec.canonical(emit.schema))


def _schema_of(emit: Emit) -> msgspec.Raw:
    return NULL if emit.schema is None else msgspec.Raw(codec.canonical(emit.schema))
