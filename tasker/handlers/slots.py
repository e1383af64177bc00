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

    def queue(self) -> QueueSlots:
        """Return the part of one more queue. A queue needs a slot at least, so `total` grows to their number."""
        part = QueueSlots(self)
        self._queues.append(part)
        self.total = max(self.total, len(self._queues))
        return part

    def credit_of(self, part: QueueSlots) -> int:
        """Return how many messages the queue may ask for, those counted that it already did."""
        if self.closed:
            return 0
        queues = self._queues
        if len(queues) == 1:
            return self.total - self.busy
        base = max(1, self.total // (_BASE_SHARE * len(queues)))
        free = self.total - self.busy
        rivals = 0
        for other in queues:
            if other is not part:
                free -= max(other.promised(), base - other.busy, 0)
                rivals += other.backlog
        share = max(base, self.total // (rivals + 1)) - part.busy
        most = self.total // (_PROMISED_SHARE if part.backlog else _PROMISED_SHARE * len(queues))
        return max(0, min(free, share, max(base, most)))


def _none() -> int:
    return 0
