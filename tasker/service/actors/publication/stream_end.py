"""What the end of the event stream says was published.

A shard's last mark trails what was published by a second, or by a thousand events; the events behind it are at the end
of the stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tasker.bus.bus import Bus
from tasker.bus.pull import Delivery
from tasker.bus.stored import last_stored, stored_at
from tasker.bus.stream_reader import FromTime, StreamReader
from tasker.bus.streams import stream_info
from tasker.errors import Undecodable
from tasker.events.codec import decode_message
from tasker.events.envelope import US_PER_S
from tasker.events.messages import LifecycleEvent
from tasker.events.subjects import Subjects
from tasker.service.actors.publication.stream_losses import mark_of

END_S: Final = 3.0
"""What was published before the last so many seconds is marked: shards that have gone quiet are marked each second."""


async def published_upto(bus: Bus, subjects: Subjects, log_id: str, shards: Iterable[int]) -> dict[int, int]:
    """Return shard -> the last position of which the stream tells, by a mark or by an event at its end.

    Raises:
        Unavailable: NATS does not answer.
    """
    found = {}
    for shard in shards:
        stored = await last_stored(bus, subjects.event_stream, subjects.mark(shard))
        mark = None if stored is None else mark_of(stored, log_id)
        found[shard] = 0 if mark is None else mark.position
    for event in await _end_of(bus, subjects):
        if event.id.partition(":")[0] == log_id and event.shard in found:
            found[event.shard] = max(found[event.shard], int(event.position))
    return found


async def _end_of(bus: Bus, subjects: Subjects) -> list[LifecycleEvent]:
    last_seq = (await stream_info(bus, subjects.event_stream)).state.last_seq
    last = await stored_at(bus, subjects.event_stream, last_seq) if last_seq else None
    if last is None:
        return []
    events: list[LifecycleEvent] = []
    # Whatever it is that stands last, so that reading comes to an end.
    everything = (f"{subjects.prefix}.>",)
    reader = StreamReader(bus, subjects.event_stream, everything, FromTime(last.at_us - round(END_S * US_PER_S)))
    await reader.open()
    try:
        while True:
            for item in await reader.read():
                if not isinstance(item, Delivery):
                    continue
                if subjects.is_event(item.subject):
                    events += _decoded(item.data)
                if item.stream_seq >= last_seq:
                    return events
    finally:
        await reader.close()


def _decoded(body: bytes) -> list[LifecycleEvent]:
    try:
        return [decode_message(body, LifecycleEvent)]
    except Undecodable:
        return []  # of another version: its marks tell
