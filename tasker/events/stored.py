"""Stored forms: a domain event to the bytes of the log and back, through the upcasts.

`(type, version)` are columns of the log, so the payload carries no tag. What is read is always the
newest form.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec

from tasker.errors import Undecodable
from tasker.events.codec import encode_message
from tasker.events.concurrency_events import CONCURRENCY_EVENT_TYPES, ConcurrencyEvent
from tasker.events.control_events import CONTROL_EVENT_TYPES, ControlEvent
from tasker.events.dead_letter_events import DEAD_LETTER_EVENT_TYPES, DeadLetterEvent
from tasker.events.envelope import Encoding, Meta, NewEvent, RecordedEvent, StreamKind
from tasker.events.schedule_events import SCHEDULE_EVENT_TYPES, ScheduleEvent
from tasker.events.task_events import TASK_EVENT_TYPES, TaskEvent
from tasker.events.template_events import TEMPLATE_EVENT_TYPES, TemplateEvent
from tasker.events.upcast import UPCASTS

DomainEvent = TaskEvent | TemplateEvent | ScheduleEvent | DeadLetterEvent | ConcurrencyEvent | ControlEvent


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


TYPE_OF: Final[dict[type, str]] = {
    kind: _snake(kind.__name__)
    for kind in (
        *TASK_EVENT_TYPES,
        *TEMPLATE_EVENT_TYPES,
        *SCHEDULE_EVENT_TYPES,
        *DEAD_LETTER_EVENT_TYPES,
        *CONCURRENCY_EVENT_TYPES,
        *CONTROL_EVENT_TYPES,
    )
}
"""Event class -> the type's name in the log."""

VERSION_OF: Final[dict[str, int]] = dict.fromkeys(TYPE_OF.values(), 1)
"""The newest version of every type; it is raised together with an upcast."""

_KIND_OF: Final[dict[type, str]] = {
    **dict.fromkeys(TASK_EVENT_TYPES, StreamKind.TASK.value),
    **dict.fromkeys(TEMPLATE_EVENT_TYPES, StreamKind.TEMPLATE.value),
    **dict.fromkeys(SCHEDULE_EVENT_TYPES, StreamKind.SCHEDULE.value),
    **dict.fromkeys(DEAD_LETTER_EVENT_TYPES, StreamKind.INVESTIGATION.value),
    **dict.fromkeys(CONCURRENCY_EVENT_TYPES, StreamKind.CONCURRENCY.value),
    **dict.fromkeys(CONTROL_EVENT_TYPES, StreamKind.CONTROL.value),
}
_decoders: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    name: msgspec.json.Decoder(kind) for kind, name in TYPE_OF.items()
}
_JSON: Final[str] = Encoding.JSON.value
_meta_decoder = msgspec.json.Decoder(Meta)


def to_new_event(event: DomainEvent, *, stream_id: UUID, seq: int, tenant: str, at_us: int, meta: bytes) -> NewEvent:
    """Return `event` encoded in its newest form, with its place in its stream."""
    kind = type(event)
    name = TYPE_OF[kind]
    return NewEvent(
        stream_id=stream_id,
        kind=_KIND_OF[kind],
        seq=seq,
        type=name,
        version=VERSION_OF[name],
        tenant=tenant,
        at_us=at_us,
        meta=meta,
        payload=encode_message(event),
        encoding=_JSON,
    )


def from_recorded(recorded: RecordedEvent | NewEvent) -> DomainEvent:
    """Return the domain event of a stored one, in its newest form.

    Raises:
        Undecodable: this build does not know the type, its version or its encoding, or the bytes are damaged.
    """
    if VERSION_OF.get(recorded.type) != recorded.version or recorded.encoding != _JSON:
        return _upcast(recorded)
    try:
        event: DomainEvent = _decoders[recorded.type].decode(recorded.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(f"{_named(recorded)}: {error}") from error
    return event


def meta_of(recorded: RecordedEvent | NewEvent) -> Meta:
    """Return who and what caused a stored event.

    Raises:
        Undecodable: the bytes are damaged.
    """
    if recorded.meta == b"{}":
        return EMPTY_META
    try:
        return _meta_decoder.decode(recorded.meta)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(f"meta of {_named(recorded)}: {error}") from error


@lru_cache(maxsize=256)
def encode_meta(meta: Meta) -> bytes:
    """Return the stored bytes of `meta`."""
    return encode_message(meta)


EMPTY_META: Final = Meta()


def _upcast(recorded: RecordedEvent | NewEvent) -> DomainEvent:
    if recorded.encoding != Encoding.JSON.value:
        raise Undecodable(f"{_named(recorded)} has the encoding {recorded.encoding!r}, which this build does not know")
    name, version = recorded.type, recorded.version
    try:
        body = msgspec.json.decode(recorded.payload)
        while VERSION_OF.get(name) != version:
            name, version, body = UPCASTS[name, version](body)
        event: DomainEvent = msgspec.convert(body, next(kind for kind, known in TYPE_OF.items() if known == name))
    except KeyError as error:
        raise Undecodable(f"{_named(recorded)} is a form that this build does not know") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(f"{_named(recorded)}: {error}") from error
    return event


def _named(recorded: RecordedEvent | NewEvent) -> str:
    return f"event {recorded.type} v{recorded.version}, seq {recorded.seq} of {recorded.kind} {recorded.stream_id}"
