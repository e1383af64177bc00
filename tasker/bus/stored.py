"""Reading a few messages that a stream holds, one by one and without a consumer."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from tasker.bus.bus import Bus
from tasker.bus.jetstream import NO_MESSAGE_FOUND, ApiRefused, StreamMissing, api_request
from tasker.times import from_rfc3339


class Stored(msgspec.Struct, frozen=True):
    """A message as a stream holds it."""

    seq: int
    data: bytes
    at_us: int


class _Message(msgspec.Struct):
    seq: int
    time: str
    data: str = ""


class _Answer(msgspec.Struct):
    message: _Message


async def stored_after(bus: Bus, stream: str, subject: str, *, after_seq: int, limit: int) -> list[Stored]:
    """Return up to `limit` messages of a subject behind a sequence, oldest first; none when there is no stream.

    Raises:
        Unavailable: NATS does not answer.
    """
    found: list[Stored] = []
    while len(found) < limit:
        try:
            stored = await _stored(bus, stream, {"seq": after_seq + 1, "next_by_subj": subject})
        except StreamMissing:
            break
        if stored is None:
            break
        after_seq = stored.seq
        found.append(stored)
    return found


async def stored_at(bus: Bus, stream: str, seq: int) -> Stored | None:
    """Return the message at a sequence; None when the stream has none there.

    Raises:
        Unavailable: NATS does not answer, or there is no stream (`StreamMissing`).
    """
    return await _stored(bus, stream, {"seq": seq})


async def last_stored(bus: Bus, stream: str, subject: str) -> Stored | None:
    """Return the last message of a subject; None when the stream has none.

    Raises:
        Unavailable: NATS does not answer, or there is no stream (`StreamMissing`).
    """
    return await _stored(bus, stream, {"last_by_subj": subject})


async def _stored(bus: Bus, stream: str, ask: dict[str, Any]) -> Stored | None:
    try:
        message = (await api_request(bus, f"STREAM.MSG.GET.{stream}", ask, _Answer)).message
    except ApiRefused as refused:
        if refused.api_error.err_code != NO_MESSAGE_FOUND:
            raise
        return None
    return Stored(message.seq, base64.b64decode(message.data), from_rfc3339(message.time))
