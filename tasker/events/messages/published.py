"""What is published of the log: lifecycle and domain events, marks, its head."""

from __future__ import annotations

import msgspec


class LifecycleEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A recorded event as published: a CloudEvents 1.0 JSON document.

    Attributes:
        id: `<log>:<shard>:<position>`; the same at each repetition.
        type: `tasker.<event>.v<version>`. subject: the task's id. position: within the shard, as text.
        data: the event's payload; null where that is larger than the server takes messages: the log has it.
    """

    id: str
    source: str
    type: str
    subject: str
    time: str
    tenant: str
    shard: int
    position: str
    seq: int
    data: msgspec.Raw
    specversion: str = "1.0"
    datacontenttype: str = "application/json"
    correlationid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None


class DomainEventMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A domain event as published: a CloudEvents 1.0 JSON document.

    Attributes:
        id: `<log>:<shard>:<position>:domain`; the same at each repetition.
        type: the name of the event. subject: the task's id.
        outcome: how the step's attempt ended: `success`, `retryable`, `permanent`, `cancelled`.
        shard, position, seq: of the `domain_event_raised` in the log that this tells of.
        data: of the event; null where that is larger than the server takes messages: the log has it.
    """

    id: str
    source: str
    type: str
    subject: str
    time: str
    tenant: str
    namespace: str
    template: str
    step: str
    attempt: int
    outcome: str
    shard: int
    position: str
    seq: int
    data: msgspec.Raw
    specversion: str = "1.0"
    datacontenttype: str = "application/json"
    correlationid: str | None = None
    traceparent: str | None = None


class Mark(msgspec.Struct, kw_only=True):
    """In the event stream: everything of `shard` up to `position` stands before this mark.

    Attributes:
        filled: holes of the stream, each its first and last sequence, whose events stand before this mark once more.
    """

    log_id: str
    shard: int
    position: int
    filled: tuple[tuple[int, int], ...] = ()


class LogHead(msgspec.Struct, kw_only=True):
    """A wake-up for readers: these shards grew to here. May be lost; readers poll as well."""

    positions: dict[int, int]


class ShardStanding(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the owner of a shard says to who asks whether it serves it.

    Attributes:
        trouble: what keeps it from accepting anything, in words.
    """

    trouble: str | None = None
