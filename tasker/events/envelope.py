"""What surrounds an event: its place in a stream and a shard, its time, who caused it.

A `NewEvent` has been decided and numbered within its stream; a `RecordedEvent` is in the log.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

US_PER_S: Final = 1_000_000
"""Times of events are whole microseconds; durations are seconds."""


class StreamKind(StrEnum):
    """What a stream is the history of."""

    TASK = "task"
    TEMPLATE = "template"
    SCHEDULE = "schedule"
    INVESTIGATION = "investigation"
    CONCURRENCY = "concurrency"
    CONTROL = "control"


class Encoding(StrEnum):
    """How `payload` is stored; later forms (compressed, encrypted, by reference) get names of their own."""

    JSON = "json"


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who and what caused an event. Stored beside the payload, at most `codec.META_BYTES_MAX` bytes.

    Attributes:
        command_id: the command whose decision this is; a repeat of it is answered from here.
        request: what that command asked for, in short: tells a repeat from another command with its id.
            None: builds that did not say it, and what no command caused.
        correlation_id: the caller's id of the whole undertaking.
        causation_id: id of the event or command that led here.
        traceparent: W3C trace context of the command.
        requested_by, reason: the person or system that asked, and why, as they say it.
    """

    command_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None
    requested_by: str | None = None
    reason: str | None = None
    request: str | None = None


class NewEvent(msgspec.Struct, frozen=True):
    """An event that is decided, encoded and has its place in its stream, but none in a shard yet.

    Attributes:
        seq: place in its stream, from 1, without gaps.
        type, version: the stored form (`step_completed`, 1).
        at_us: microseconds since the epoch, never decreasing within a shard.
        meta, payload: JSON as stored.
    """

    stream_id: UUID
    kind: str
    seq: int
    type: str
    version: int
    tenant: str
    at_us: int
    meta: bytes
    payload: bytes
    encoding: str = Encoding.JSON


class RecordedEvent(msgspec.Struct, frozen=True):
    """An event in the log.

    Attributes:
        shard, position: its place in the log; positions of a shard count from 1 without gaps.
        epoch: the epoch of the owner that appended it.
        chain: on the last event of each batch, the digest over all before (see `chain.py`); else None.
    """

    shard: int
    position: int
    epoch: int
    stream_id: UUID
    kind: str
    seq: int
    type: str
    version: int
    tenant: str
    at_us: int
    meta: bytes
    payload: bytes
    encoding: str
    chain: bytes | None


def event_id(log_id: str, shard: int, position: int) -> str:
    """Return the id under which an event is published: unique over logs, the same at each repetition."""
    return f"{log_id}:{shard}:{position}"


def log_of_event(identity: str) -> str:
    """Return the id of the log that an event's id names."""
    return identity.partition(":")[0]


def domain_event_id(log_id: str, shard: int, position: int) -> str:
    """Return the id under which a domain event is published, beside the event of the log that tells of it."""
    return f"{log_id}:{shard}:{position}:domain"
