"""A recorded event as the CloudEvents 1.0 document that is published.

Built from bytes: the payload is JSON already, and every other value is ours and needs no escaping
(names, numbers, UUIDs); what came from a caller (correlation, trace) passes the encoder.

Source: CloudEvents 1.0.2, JSON event format.
"""

from __future__ import annotations

import msgspec

from tasker.errors import Undecodable
from tasker.events.envelope import Meta, NewEvent, RecordedEvent
from tasker.events.messages import DomainEventMessage
from tasker.events.stored import meta_of
from tasker.events.task_events import DomainEventRaised
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


def domain_cloud_event(  # noqa: PLR0917 - the facts of a document
    identity: str,
    source: str,
    shard: int,
    position: int,
    event: NewEvent | RecordedEvent,
    raised: DomainEventRaised,
    template: tuple[str, str],
) -> DomainEventMessage:
    """Return the document of a domain event at this place of the log.

    Args:
        identity: its id (`envelope.domain_event_id`).
        source: as of `cloud_event`, as are the three behind it.
        shard: of the event.
        position: in the shard.
        event: as recorded.
        raised: the event, decoded.
        template: namespace and name of the task's template.
    """
    try:
        meta = meta_of(event)
    except Undecodable:
        meta = Meta()  # as of a lifecycle event
    return DomainEventMessage(
        id=identity,
        source=source,
        type=raised.name,
        subject=str(event.stream_id),
        time=to_rfc3339(event.at_us),
        tenant=event.tenant,
        namespace=template[0],
        template=template[1],
        step=raised.step,
        attempt=raised.attempt,
        outcome=raised.outcome,
        shard=shard,
        position=str(position),
        seq=event.seq,
        data=raised.data,
        correlationid=meta.correlation_id,
        traceparent=meta.traceparent,
    )


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
