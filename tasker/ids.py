"""Identifiers: names, task ids, stream ids and the slots they live in.

A task's id is derived from the caller's key, so that every repetition of a request meets the same
stream; without a key it is random and ordered by time. Ids are 16 bytes, written as UUID text.

Sources: RFC 9562 (UUID versions 7 and 8).
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import Final, Protocol
from uuid import UUID

from tasker.errors import NameInvalid

NAME_PATTERN = r"[a-z][a-z0-9_-]{0,62}"
"""Tenant, namespace, template, step, queue and handler names: safe in a NATS subject and in a URL."""

ITEM_KEY_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What may name an item of a list that a step runs for."""

INSTANCE_PATTERN = rf"({NAME_PATTERN})(?:#([1-9][0-9]{{0,5}}))?(?:\[({ITEM_KEY_PATTERN})\])?(~undo)?"
"""A step instance: a step, a visit of it (`check#2`), an item (`resize[17]`); or the compensation of one."""

EVENT_NAME_PATTERN = rf"{NAME_PATTERN}(?:\.{NAME_PATTERN}){{0,3}}"
"""Names of domain events: one to four names with dots between them, each a token of a NATS subject."""

RESERVED_NAMESPACE = "tasker"
"""Of the templates that the service brings itself: no other one can be registered in it."""

PERSON_CHARS_MAX = 200
KEY_CHARS_MAX = 512
"""Longest idempotency key or command id, in characters."""

TAG_CHARS_MAX = 128

SLOTS = 1024
"""Slots of the hash ring; a shard holds many of them, so shards can grow without moving streams."""

_name = re.compile(NAME_PATTERN)
_event_name = re.compile(EVENT_NAME_PATTERN)


def is_name(value: object) -> bool:
    """Return whether `value` is a name."""
    return isinstance(value, str) and _name.fullmatch(value) is not None


def is_person(value: object) -> bool:
    """Return whether `value` can name a person or a role."""
    return isinstance(value, str) and 0 < len(value) <= PERSON_CHARS_MAX and value.isprintable()


def fault_of_tag(key: str, value: str) -> str | None:
    """Return what is wrong with a tag, for people; None: nothing is."""
    if not key:
        return f"the tag with the value {value[:40]!r} has no key; a key has 1 to {TAG_CHARS_MAX} characters"
    if len(key) > TAG_CHARS_MAX:
        return f"the key {key[:40]!r}... of a tag has {len(key)} characters; at most {TAG_CHARS_MAX} are allowed"
    if len(value) > TAG_CHARS_MAX:
        return f"the value of tag {key!r} has {len(value)} characters; at most {TAG_CHARS_MAX} are allowed"
    return None


def is_event_name(value: str) -> bool:
    """Return whether `value` is the name of a domain event."""
    return _event_name.fullmatch(value) is not None


def check_name(value: str, what: str) -> str:
    """Return `value`, a name of a `what` ("step", "tenant", ...).

    Raises:
        NameInvalid: it does not match `NAME_PATTERN`.
    """
    if not is_name(value):
        detail = f"{what} {value[:80]!r} must match {NAME_PATTERN}"
        raise NameInvalid(detail)
    return value


def digest_of(*parts: bytes) -> bytes:
    """Return the sha256 over length-prefixed `parts`: no two lists of parts give the same bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def uuid8(*parts: str) -> UUID:
    """Return the UUIDv8 whose bits come from the sha256 of length-prefixed `parts`."""
    return _uuid8_of(digest_of(*(part.encode() for part in parts)))


def _uuid8_of(digest: bytes) -> UUID:
    number = int.from_bytes(digest[:16], "big")
    return UUID(int=number & ~_VERSION_AND_VARIANT | _VERSION_8)


_VERSION_AND_VARIANT: Final = 0xF << 76 | 0b11 << 62
_VERSION_8: Final = 8 << 76 | 0b10 << 62


def task_id_of(tenant: str, namespace: str, template: str, idempotency_key: str) -> UUID:
    """Return the id of the task that `idempotency_key` names: the same on every node, for ever.

    It is `uuid8("task", tenant, namespace, template, idempotency_key)`, with what tasks of a template share taken once.
    """
    digest = _digest_of_template(tenant, namespace, template).copy()
    key = idempotency_key.encode()
    digest.update(len(key).to_bytes(8, "big") + key)
    return _uuid8_of(digest.digest())


@lru_cache(maxsize=1024)
def _digest_of_template(*names: str) -> hashlib._Hash:
    digest = hashlib.sha256()
    for name in ("task", *names):
        part = name.encode()
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest


@lru_cache(maxsize=4096)
def template_stream_id(tenant: str, namespace: str, template: str) -> UUID:
    """Return the id of the stream that holds the registrations of a template."""
    return uuid8("template", tenant, namespace, template)


@lru_cache(maxsize=4096)
def schedule_stream_id(tenant: str, namespace: str, schedule: str) -> UUID:
    """Return the id of the stream that is the history of a schedule."""
    return uuid8("schedule", tenant, namespace, schedule)


@lru_cache(maxsize=4096)
def concurrency_stream_id(tenant: str, namespace: str, template: str, step: str, key: str) -> UUID:
    """Return the id of the stream that says who holds the places under a concurrency key."""
    return uuid8("concurrency", tenant, namespace, template, step, key)


@lru_cache(maxsize=4096)
def investigation_stream_id(tenant: str, task_id: UUID) -> UUID:
    """Return the id of the stream that holds what people do about a task's dead letters.

    It lies in the slot of the task, so that the same shard, now and always, orders both streams: of the ids that
    differ in their last 4 bytes, the first that does. About a thousand are tried, which takes 1 ms.
    """
    return _beside(task_id, uuid8("investigation", tenant, str(task_id)))


def restart_id_of(tenant: str, task_id: UUID, command_id: str) -> UUID:
    """Return the id of the task that a command to restart `task_id` makes: one a command, in the same shard."""
    return _beside(task_id, uuid8("restart", tenant, str(task_id), command_id))


def _beside(neighbour: UUID, drawn: UUID) -> UUID:
    """Return the first id in the slot of `neighbour` that differs from `drawn` in its last 4 bytes at most."""
    slot = slot_of(neighbour)
    stem = drawn.bytes[:12]
    tails = (stem + number.to_bytes(4, "big") for number in count())
    return UUID(bytes=next(raw for raw in tails if _slot_of_bytes(raw) == slot))


@lru_cache(maxsize=1)
def control_stream_id() -> UUID:
    """Return the id of the log's one stream of controls."""
    return uuid8("control")


def slot_of(stream_id: UUID) -> int:
    """Return the slot of a stream: the first 8 bytes of sha256(id) modulo `SLOTS`."""
    return _slot_of_bytes(stream_id.bytes)


def _slot_of_bytes(raw: bytes) -> int:
    return int.from_bytes(hashlib.sha256(raw).digest()[:8], "big") % SLOTS


def shard_of(stream_id: UUID, shards: int) -> int:
    """Return the shard of a stream while slots are dealt evenly over `shards` (as a new log does)."""
    return slot_of(stream_id) % shards


class IdSource(Protocol):
    """Draws new ids. The only randomness of identity; tests give a seeded one."""

    def uuid7(self) -> UUID:
        """Return a new id, ordered by the time it was drawn."""
        ...

    def token(self) -> str:
        """Return a short random text, for owners, log ids and command ids."""
        ...


class SystemIds:
    """Ids from the system's entropy."""

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom, time_ns: Callable[[], int] = time.time_ns) -> None:
        self._entropy = entropy
        self._time_ns = time_ns

    def uuid7(self) -> UUID:
        """Return a UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, 74 random bits."""
        raw = bytearray((self._time_ns() // 1_000_000).to_bytes(6, "big") + self._entropy(10))
        raw[6] = (raw[6] & 0x0F) | 0x70
        raw[8] = (raw[8] & 0x3F) | 0x80
        return UUID(bytes=bytes(raw))

    def token(self) -> str:
        """Return 16 lower-case base-32 characters (80 random bits)."""
        number = int.from_bytes(self._entropy(10), "big")
        return "".join("abcdefghijklmnopqrstuvwxyz234567"[number >> shift & 31] for shift in range(0, 80, 5))
