"""Work of the stream that is in hand ahead of its slot.

What is old asks its owner before it runs, and an answer takes much longer than a quick handler. If a slot were held
meanwhile, a backlog would move as many steps a second as there are slots in the time of an answer, however quick the
handlers are; and what comes in faster than that would wait for ever, though direct work moves several times as much.

So while handlers are quick, such work is *reserved* without a slot, some of it for each slot. What its owner promised
begins when a slot is free, and is then reported as a first delivery is. The promise holds for two seconds. What has
found no slot by then goes back to the queue, where another worker may be free.

    on_work -> ask -> `reserve` -- run: true -> ready -- a slot is free --> take_up
                                |                     +- too late -------> back to the queue
                                +- gone: forgotten
    a young first delivery -------------------------> ready

What is ready stands in a line for each queue. The lines take turns, and none takes a slot that is kept for another
queue (`slots`): neither a backlog nor handlers that turn slow keep others out.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from tasker.clock import Clock
from tasker.events.messages import ReportReply
from tasker.handlers.attempt import NEVER, YOUNG_US, Attempt, Key
from tasker.handlers.attempt_reports import AttemptReports
from tasker.handlers.served_queues import ServedQueue
from tasker.handlers.slots import Slots
from tasker.handlers.tick import Tick
from tasker.handlers.vitals import WorkerCounts

_YOUNG_S: Final = YOUNG_US / 1e6


class Ahead:
    """What is asked for, or may begin, and holds no slot.

    Attributes:
        closed: it keeps nothing in hand any more.

    Args:
        attempts: all that the worker holds.
        share: how many for each slot, now. Queues with a backlog have equal parts of them.
        begin: takes up what may run, with a slot. forget: has the worker hold an attempt no more.
    """

    def __init__(  # noqa: PLR0917 - what it steers
        self,
        attempts: dict[Key, Attempt],
        slots: Slots,
        reports: AttemptReports,
        tick: Tick,
        clock: Clock,
        counts: WorkerCounts,
        *,
        share: Callable[[], int],
        begin: Callable[[Attempt], None],
        forget: Callable[[Attempt], None],
    ) -> None:
        self.closed = False
        self._attempts = attempts
        self._slots = slots
        self._reports = reports
        self._tick = tick
        self._clock = clock
        self._counts = counts
        self._share = share
        self._begin = begin
        self._forget = forget
        self._asked: Counter[ServedQueue] = Counter()
        self._ready: dict[ServedQueue, deque[tuple[float, Attempt]]] = {}
        """None of them empty, in the order of their turns; each with the end of its promise."""
        self._is_known = True
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._asked.total() + sum(map(len, self._ready.values()))

    @property
    def waiting(self) -> bool:
        """Whether something may begin as soon as a slot is free."""
        return bool(self._ready)

    def room(self, queue: ServedQueue) -> int:
        """Return how many more a queue may ask for ahead of a slot."""
        if self.closed or not self._is_known:
            return 0
        part = self._share() * self._slots.total // max(1, self._slots.backlogs)
        return max(0, part - self._asked[queue] - len(self._ready.get(queue, ())))

    def ask(self, attempt: Attempt) -> None:
        """Ask the owner of an attempt to keep it for this worker."""
        self._asked[attempt.queue] += 1
        self._hold(attempt)
        asked_s = self._clock.monotonic_s()
        attempt.claim = self._reports.send(
            attempt, "reserve", lambda reply: self._on_answer(attempt, reply, asked_s + _YOUNG_S)
        )

    def keep(self, attempt: Attempt, until_s: float) -> None:
        """Begin what may begin until `until_s`: now, if it is its turn and there is a slot, else with a later one."""
        if self.closed:
            self._give_back(attempt)
            return
        self._hold(attempt)
        self._ready.setdefault(attempt.queue, deque()).append((until_s, attempt))
        self.admit()
        if self._ready and self._timer is None:
            self._look_later()

    def admit(self) -> None:
        """Begin what is ready, queue by queue in turn, as far as there are slots for them."""
        while (queue := self._next()) is not None:
            until_s, attempt = self._take_first(queue)
            now_s = self._clock.monotonic_s()
            if until_s < now_s:
                self._give_back(attempt)
            else:
                attempt.since_s = now_s
                self._begin(attempt)

    def close(self) -> None:
        """Give back what is ready, and all that is answered from now on. Twice is fine."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for queue in list(self._ready):
            self._give_back_until(queue, NEVER)

    def _next(self) -> ServedQueue | None:
        return next((queue for queue in self._ready if queue.slots.free > 0), None)

    def _take_first(self, queue: ServedQueue) -> tuple[float, Attempt]:
        line = self._ready.pop(queue)
        first = line.popleft()
        if line:
            self._ready[queue] = line  # its next turn comes last
        return first

    def _hold(self, attempt: Attempt) -> None:
        attempt.holds_slot = False
        self._attempts[attempt.key] = attempt
        self._tick.arm(attempt.touch_s)

    def _on_answer(self, attempt: Attempt, reply: ReportReply, until_s: float) -> None:
        self._asked[attempt.queue] -= 1
        attempt.claim = None
        if reply.ok and reply.run:
            self.keep(attempt, until_s)
        elif reply.ok:
            self._counts.gone += 1
            attempt.ack()
            self._forget(attempt)
        else:
            # An owner that does not know the question is of an earlier version: it is asked with a slot, as ever.
            self._is_known = False
            self._give_back(attempt)

    def _give_back(self, attempt: Attempt) -> None:
        self._counts.returned += 1
        attempt.nak(0.0)
        self._forget(attempt)

    def _give_back_until(self, queue: ServedQueue, until_s: float) -> None:
        line = self._ready[queue]
        while line and line[0][0] <= until_s:
            self._give_back(line.popleft()[1])
        if not line:
            del self._ready[queue]

    def _look_later(self) -> None:
        delay_s = max(0.0, min(line[0][0] for line in self._ready.values()) - self._clock.monotonic_s())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._clock.monotonic_s()
        for queue in list(self._ready):
            self._give_back_until(queue, now_s)
        if self._ready:
            self._look_later()
