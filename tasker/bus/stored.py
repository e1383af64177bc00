"""Reading a few messages that a stream holds, one by one and without a consumer."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from tasker.bus.bus import Bus
from tasker.bus.jetstream import NO_MESSAGE_FOUND, ApiRefused, StreamMissing, api_request


class Stored(msgspec.Struct, frozen=True):
    """A message as a stream holds it."""

    seq: int
    data: bytes


class _Message(msgspec.Struct):
    seq: int
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
        ask: dict[str, Any] = {"seq": after_seq + 1, "next_by_subj": subject}
        try:
            message = (await api_request(bus, f"STREAM.MSG.GET.{stream}", ask, _Answer)).message
        except StreamMissing:
            break
        except ApiRefused as refused:
            if refused.api_error.err_code != NO_MESSAGE_FOUND:
                raise
            break
        after_seq = message.seq
        found.append(Stored(message.seq, base64.b64decode(message.data)))
    return found
