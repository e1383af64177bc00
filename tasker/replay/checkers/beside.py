"""What stands beside a shard's events is of their time: its epoch (I3), its due rows (I2), its publish cursor (I4).

An owner writes each of them behind the events that they tell of. So one that is ahead of the log, or gone, is of
another time than the events: a table was restored without the others, or events were taken away from the end.
"""

from __future__ import annotations

from typing import NamedTuple

from tasker.events.envelope import RecordedEvent
from tasker.events.log import EventLog, Head
from tasker.replay.findings import Finding, Invariant, Report


class Beside(NamedTuple):
    """What stands beside a shard's events; None: it has no row.

    Attributes:
        due: the position up to which its due rows are complete.
        cursor: the position up to which its events were published.
    """

    shard: int
    due: int | None
    cursor: int | None
    head: Head | None


async def read_beside(log: EventLog, shard: int) -> Beside:
    """Return what stands beside a shard's events, with its head; what is of an owner is read before the head.

    Raises:
        Unavailable: the log cannot be read.
    """
    due = (await log.due_checkpoint([shard])).get(shard)
    cursor = (await log.publish_cursors([shard])).get(shard)
    heads = await log.heads([shard])
    return Beside(shard, due, cursor, heads[0] if heads else None)


def check_beside(beside: Beside, last: RecordedEvent | None, report: Report) -> None:
    """Report what is not of the time of the shard's last event (None: it has none)."""
    shard, due, cursor, head = beside
    position, epoch = (0, 0) if last is None else (last.position, last.epoch)

    def find(invariant: Invariant, detail: str) -> None:
        report(Finding(invariant=invariant, shard=shard, position=position, detail=f"shard {shard}: {detail}"))

    if head is None:
        find(Invariant.EPOCHS, "it has no row in shard_head, so nobody can own it")
    elif head.epoch < epoch:
        find(Invariant.EPOCHS, f"its epoch is {head.epoch}, below the {epoch} of its last event")
    if due is None:
        find(Invariant.COMPLETE, "it has no row in due_checkpoint, so what its tasks owe is not written")
    elif due > position:
        find(Invariant.COMPLETE, f"what its tasks owe is written up to {due}, the log ends at {position}")
    if cursor is None:
        find(Invariant.PUBLISHED, "it has no row in publish_cursor, so how far it is published is not written")
    elif cursor > position:
        find(Invariant.PUBLISHED, f"it was published up to {cursor}, the log ends at {position}")
