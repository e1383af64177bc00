"""How many messages each queue may ask for: never more than there are free slots, and a fair share of them.

A slot is free, busy with an attempt, or promised: asked for at the server and not arrived. A promise cannot be
taken back before its pull expires, so no queue may promise itself everything while others exist: each keeps a base
in reserve, and a queue with a backlog gets its equal share among those that have one. A queue without a rival may use
all slots that the others do not keep.

Queues without a backlog promise themselves half of the slots at most, all of them together, so that a backlog in one of
many queues finds the other half. The first delivery of a burst says that there is more, and its queue asks for that.
"""

from __future__ import annotations

from collections.abc import Callable

_BASE_SHARE = 4
_PROMISED_SHARE = 2


class QueueSlots:
    """One queue's part of the slots.

    Attributes:
        busy: attempts of this queue that hold a slot.
        backlog: whether its last delivery left more behind at the server.
        promised: how many messages are asked for and have not arrived.
    """

    __slots__ = ("_slots", "backlog", "busy", "promised")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.busy = 0
        self.backlog = False
        self.promised: Callable[[], int] = _none

    @property
    def free(self) -> int:
        """How many slots it may take now: those that are free and not kept for other queues."""
        return self._slots.free_for(self)

    def credit(self) -> int:
        """Return how many messages may be asked for, those counted that already are."""
        return self._slots.credit_of(self)

    def take(self) -> None:
        """A message came and holds a slot."""
        self.busy += 1
        self._slots.busy += 1

    def release(self) -> None:
        """The attempt holds its slot no longer."""
        self.busy -= 1
        self._slots.busy -= 1


class Slots:
    """All slots of a worker.

    Attributes:
        total: how many attempts run at a time, all queues together.
        busy: how many slots are held.
        closed: the worker takes nothing more (or nothing now).
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.busy = 0
        self.closed = False
        self._queues: list[QueueSlots] = []

    @property
    def backlogs(self) -> int:
        """How many queues have a backlog."""
        return sum(queue.backlog for queue in self._queues)

    def queue(self) -> QueueSlots:
        """Return the part of one more queue. A queue needs a slot at least, so `total` grows to their number."""
        part = QueueSlots(self)
        self._queues.append(part)
        self.total = max(self.total, len(self._queues))
        return part

    def free_for(self, part: QueueSlots) -> int:
        """Return how many slots the queue may take: those that are free and not kept for others.

        What a queue asks for ahead of slots counts as promised, too, but needs none of them. So no promise reaches
        the base of another queue, nor more slots than a queue promises itself.
        """
        free = self.total - self.busy
        if free <= 0:
            return 0
        base, most = self._base, self.total // _PROMISED_SHARE
        kept = sum(
            max(min(other.promised(), most), base - other.busy, 0) for other in self._queues if other is not part
        )
        return max(free - kept, min(free, base - part.busy))

    def credit_of(self, part: QueueSlots) -> int:
        """Return how many messages the queue may ask for, those counted that it already did."""
        if self.closed or self.busy >= self.total:
            return 0
        if len(self._queues) == 1:
            return self.free_for(part)
        base = self._base
        most = max(base, self.total // (_PROMISED_SHARE if part.backlog else _PROMISED_SHARE * len(self._queues)))
        if not part.backlog and part.promised() >= most:
            return most  # all that it may ever ask for, it has: what others keep need not be counted
        free = self.free_for(part)
        if free <= 0:
            return 0
        share = max(base, self.total // (self.backlogs - part.backlog + 1)) - part.busy
        return max(0, min(free, share, most))

    @property
    def _base(self) -> int:
        return max(1, self.total // (_BASE_SHARE * len(self._queues)))


def _none() -> int:
    return 0
