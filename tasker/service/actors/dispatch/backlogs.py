"""How much work is ready in a queue and waits for a worker: what `max_ready` of a template is held against.

Nothing is counted along the way, so no crash can leave a count wrong. What waits is where it waits: in the work stream,
whose messages of a queue NATS counts for all nodes together, and in the hands of the nodes (`hands.py`).
A count is asked for at most every `LOOK_S`, and until the next one no more is let in than it left room for. What was
let in and is not in the log yet waits nowhere: it is reckoned with beside the count, however slow the log is.

The hands are counted first: what goes from there to the stream meanwhile counts twice, not in neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tasker.bus.bus import Bus
from tasker.bus.subject_counts import ask_count
from tasker.events.subjects import Subjects
from tasker.service.actors.dispatch.hands import Counted, Queue

LOOK_S: Final = 0.1
"""How old a count may be."""

GIVEN_S: Final = 30.0
"""What was let in is reckoned with for so long at most, should nobody say what became of it."""

TIMEOUT_S: Final = 2.0
QUEUES_MAX: Final = 1_000
"""Queues that are remembered; beyond, those that nobody asked after of late are forgotten."""


class Given:
    """Room that was given to a new task.

    Attributes:
        adds: how many of its steps begin in the queue.
        is_settled: the task is in the log, and its steps wait where all do; or it will not be.
    """

    __slots__ = ("adds", "is_settled", "since_s")

    def __init__(self, adds: int, since_s: float) -> None:
        self.adds = adds
        self.since_s = since_s
        self.is_settled = False


Room = Callable[[Given | bool | None], None]
"""Gets the room that was given, to be settled by who got it; False: there is none; None: nobody could say."""


class _Backlog:
    __slots__ = ("asks", "count", "given", "is_asked", "looked_s", "taken")

    def __init__(self) -> None:
        self.count = 0
        self.given: list[Given] = []
        self.taken = 0
        """What all of them add."""

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
            answered(_take(backlog, most, adds, now_s))
            return
        backlog.asks.append((most, adds, answered))
        if not backlog.is_asked:
            self._look(queue, backlog)

    def _look(self, queue: Queue, backlog: _Backlog) -> None:
        backlog.is_asked = True
        old_s = self._monotonic_s() - GIVEN_S
        backlog.given = [one for one in backlog.given if not one.is_settled and one.since_s > old_s]

        def counted(count: int | None) -> None:
            now_s = self._monotonic_s()
            backlog.is_asked = False
            asks, backlog.asks = backlog.asks, []
            if count is not None:
                backlog.looked_s = now_s
                backlog.count = count
                backlog.taken = sum(one.adds for one in backlog.given)
            for most, adds, answered in asks:
                answered(None if count is None else _take(backlog, most, adds, now_s))

        def in_hands(held: int | None) -> None:
            if held is None:
                counted(None)
                return
            work, stream = self._subjects.work(*queue), self._subjects.work_stream
            ask_count(
                self._bus,
                stream,
                work,
                lambda count: counted(None if count is None else held + count),
                timeout_s=TIMEOUT_S,
            )

        self._in_hands(queue, in_hands)

    def _make_room(self, now_s: float) -> None:
        if len(self._backlogs) >= QUEUES_MAX:
            for queue, old in list(self._backlogs.items()):
                if not (old.is_asked or old.given) and now_s - old.looked_s > LOOK_S:
                    del self._backlogs[queue]


def _take(backlog: _Backlog, most: int, adds: int, now_s: float) -> Given | bool:
    if backlog.count + backlog.taken >= most:
        return False
    if not adds:
        return True
    given = Given(adds, now_s)
    backlog.given.append(given)
    backlog.taken += adds
    return given
