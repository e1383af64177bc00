"""A recorded event as the CloudEvents 1.0 document that is published.

Built from bytes: the payload is JSON already, and every other value is ours and needs no escaping
(names, numbers, UUIDs); what came from a caller (correlation, trace) passes the encoder.

Source: CloudEvents 1.0.2, JSON event format.
"""

from __future__ import annotations

import msgspec

from tasker.errors import Undecodable
from tasker.events.envelope import NewEvent, RecordedEvent
from tasker.events.stored import meta_of
from tasker.times import to_rfc3339

_encode = msgspec.json.encode


def cloud_event(  # noqa: PLR0917 - the facts of a document, on the hot path
    identity: str, source: str, shard: int, position: int, event: NewEvent | RecordedEvent, subject: str
) -> bytes:
    """Return the document of the event at this place; `LifecycleEvent` reads it.

    Args:
        identity: the event's id (`envelope.event_id`).
        source: `/tasker/<log id>`.
        shard: of the event.
        position: in the shard.
        event: as recorded.
        subject: its stream's id, as text.
    """
    head = (
        f'{{"specversion":"1.0","id":"{identity}","source":"{source}",'
        f'"type":"tasker.{event.type}.v{event.version}","subject":"{subject}",'
        f'"time":"{to_rfc3339(event.at_us)}","datacontenttype":"application/json","tenant":"{event.tenant}",'
        f'"shard":{shard},"position":"{position}","seq":{event.seq}{_extensions(event)},"data":'
    )
    return b"".join((head.encode(), event.payload, b"}"))


def _extensions(event: NewEvent | RecordedEvent) -> str:
    if event.meta == b"{}":
        return ""
    try:
        meta = meta_of(event)
    except Undecodable:
        # It says who caused the event; what happened is told all the same.
        return ""
    found = {
        "correlationid": meta.correlation_id,
        "causationid": meta.causation_id,
        "traceparent": meta.traceparent,
    }
    return "".join(f',"{name}":{_encode(value).decode()}' for name, value in found.items() if value is not None)
