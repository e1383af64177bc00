"""Which events of a shard may have been in a hole of the event stream.

Marks say "everything of the shard up to position p stands before this". So what a hole held of a shard lies behind a
mark that stands before the hole, and not beyond the first mark behind it. What is between the two marks and is not lost
comes once more, with its id.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tasker.bus.bus import Bus
from tasker.bus.holes import Hole
from tasker.bus.stored import Stored, last_stored, stored_after
from tasker.errors import Undecodable
from tasker.events.codec import decode_message
from tasker.events.messages import Mark
from tasker.events.subjects import Subjects

STEP_BACK_SEQS: Final = 4_096
"""How far before a hole the first look for a mark is; each next one goes four times as far."""


class Loss(NamedTuple):
    """Positions behind `after` and up to `upto` may be lost; None: no mark bounds it on that side."""

    after: int | None
    upto: int | None


async def loss_in(bus: Bus, subjects: Subjects, log_id: str, shard: int, hole: Hole, *, first_seq: int) -> Loss:
    """Return what a hole may have held of a shard, in a stream that begins at `first_seq`.

    Raises:
        Unavailable: NATS does not answer.
    """
    stream, subject = subjects.event_stream, subjects.mark(shard)

    async def mark_from(seq: int) -> Stored | None:
        found = await stored_after(bus, stream, subject, after_seq=seq - 1, limit=1)
        return found[0] if found else None

    behind = await mark_from(hole.last_seq + 1)
    upto = None if behind is None else position_of_mark(behind, log_id)
    back = STEP_BACK_SEQS
    while True:
        start = max(first_seq, hole.first_seq - back)
        before = await mark_from(start)
        if before is not None and before.seq < hole.first_seq:
            return Loss(position_of_mark(before, log_id), upto)
        if start == first_seq:
            return Loss(None, upto)
        back *= 4


async def last_mark(bus: Bus, subjects: Subjects, log_id: str, shard: int) -> Mark | None:
    """Return the stream's last mark of a shard; None when it has none of this log.

    Raises:
        Unavailable: NATS does not answer.
    """
    found = await last_stored(bus, subjects.event_stream, subjects.mark(shard))
    return None if found is None else mark_of(found, log_id)


def mark_of(stored: Stored, log_id: str) -> Mark | None:
    """Return a stored mark; None when it is none of this log."""
    try:
        mark = decode_message(stored.data, Mark)
    except Undecodable:
        return None
    return mark if mark.log_id == log_id else None


def position_of_mark(stored: Stored, log_id: str) -> int | None:
    """Return the position of a stored mark; None when it is none of this log."""
    mark = mark_of(stored, log_id)
    return None if mark is None else mark.position
