"""What the event stream says was published: its marks, and behind them its last events.

A shard's last mark trails what was published by a second, or by a thousand events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from tasker.bus.bus import Bus
from tasker.bus.stored import stored_at
from tasker.bus.streams import stream_info
from tasker.errors import Undecodable
from tasker.events.codec import decode_message
from tasker.events.envelope import log_of_event
from tasker.events.messages import LifecycleEvent
from tasker.events.subjects import Subjects
from tasker.service.actors.publication.stream_losses import last_mark

END_MESSAGES: Final = 32
"""A log that lost something lost its newest events, so the newest that were published are enough."""


async def published_upto(bus: Bus, subjects: Subjects, log_id: str, shards: Iterable[int]) -> dict[int, int]:
    """Return shard -> the last position that a mark tells of, or an event at the stream's end.

    NATS may be far, and a start waits for this: what can be asked at once is.

    Raises:
        Unavailable: NATS does not answer.
    """
    shards = tuple(shards)
    marks = await asyncio.gather(*(last_mark(bus, subjects, log_id, shard) for shard in shards))
    found = {shard: 0 if mark is None else mark.position for shard, mark in zip(shards, marks, strict=True)}
    last_seq = (await stream_info(bus, subjects.event_stream)).state.last_seq
    end = range(max(1, last_seq - END_MESSAGES + 1), last_seq + 1)
    for stored in await asyncio.gather(*(stored_at(bus, subjects.event_stream, seq) for seq in end)):
        event = None if stored is None else _event_of(stored.data)
        if event is not None and event.shard in found and log_of_event(event.id) == log_id:
            found[event.shard] = max(found[event.shard], int(event.position))
    return found


def _event_of(body: bytes) -> LifecycleEvent | None:
    """Return the event; None for what is none: a mark, or what this version cannot read."""
    try:
        return decode_message(body, LifecycleEvent)
    except Undecodable:
        return None
