"""How much work is ready in a queue and waits for a worker: what `max_ready` of a template is held against.

Nothing is counted along the way, so no crash can leave a count wrong. What waits is where it waits: in the work stream,
whose messages of a queue NATS counts for all nodes together, and in the hands of the nodes (`hands.py`).
A count is asked for at most every `LOOK_S`, and until the next one no more is let in than it left room for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tasker.bus.bus import Bus
from tasker.bus.subject_counts import ask_count
from tasker.events.subjects import Subjects
from tasker.service.actors.dispatch.hands import Counted, Queue

LOOK_S: Final = 0.1
"""How old a count may be. What was let in before the last one is in it by then."""

TIMEOUT_S: Final = 2.0
QUEUES_MAX: Final = 1_000
"""Queues that are remembered; beyond, those that nobody asked after of late are forgotten."""

Room = Callable[[bool | None], None]
"""Gets whether there is room; None: nobody could say."""


class _Backlog:
    __slots__ = ("asks", "count", "given", "is_asked", "looked_s")

    def __init__(self) -> None:
        self.count = 0
        self.given = 0
        self.looked_s = float("-inf")
        self.is_asked = False
        self.asks: list[tuple[int, int, Room]] = []


class Backlogs:
    """The queues of this node that somebody asks after.

    Args:
        in_hands: counts what waits of a queue in the hands of all nodes.
    """

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        monotonic_s: Callable[[], float],
        in_hands: Callable[[Queue, Counted], None],
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._monotonic_s = monotonic_s
        self._in_hands = in_hands
        self._backlogs: dict[Queue, _Backlog] = {}

    def ask(self, queue: Queue, most: int, adds: int, answered: Room) -> None:
        """Find out whether the queue has room for what begins with `adds` steps in it, when `most` may wait."""
        now_s = self._monotonic_s()
        backlog = self._backlogs.get(queue)
        if backlog is None:
            self._make_room(now_s)
            backlog = self._backlogs[queue] = _Backlog()
        if now_s - backlog.looked_s < LOOK_S:
            answered(_take(backlog, most, adds))
            return
        backlog.asks.append((most, adds, answered))
        if not backlog.is_asked:
            self._look(queue, backlog)

    def _look(self, queue: Queue, backlog: _Backlog) -> None:
        backlog.is_asked = True

        def counted(count: int | None) -> None:
            backlog.is_asked = False
            asks, backlog.asks = backlog.asks, []
            if count is not None:
                backlog.looked_s = self._monotonic_s()
                backlog.count = count
                backlog.given = 0
            for most, adds, answered in asks:
                answered(None if count is None else _take(backlog, most, adds))

        def in_stream(count: int | None) -> None:
            if count is None:
                counted(None)
            else:
                self._in_hands(queue, lambda more: counted(None if more is None else count + more))

        ask_count(self._bus, self._subjects.work_stream, self._subjects.work(*queue), in_stream, timeout_s=TIMEOUT_S)

    def _make_room(self, now_s: float) -> None:
        if len(self._backlogs) >= QUEUES_MAX:
            for queue, old in list(self._backlogs.items()):
                if not old.is_asked and now_s - old.looked_s > LOOK_S:
                    del self._backlogs[queue]


def _take(backlog: _Backlog, most: int, adds: int) -> bool:
    if backlog.count + backlog.given >= most:
        return False
    backlog.given += adds
    return True
