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
    a young first delivery that finds no slot ------> ready
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from tasker.clock import Clock
from tasker.events.messages import ReportReply
from tasker.handlers.attempt import YOUNG_US, Attempt, Key
from tasker.handlers.attempt_reports import AttemptReports
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
        share: how many for each slot, now.
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
        self._asked = 0
        self._ready: deque[tuple[float, Attempt]] = deque()
        self._is_known = True
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._asked + len(self._ready)

    @property
    def waiting(self) -> bool:
        """Whether something may begin as soon as a slot is free."""
        return bool(self._ready)

    @property
    def room(self) -> int:
        """How many more are asked for ahead of a slot."""
        if self.closed or not self._is_known:
            return 0
        return max(0, self._share() * self._slots.total - len(self))

    def ask(self, attempt: Attempt) -> None:
        """Ask the owner of an attempt to keep it for this worker."""
        self._asked += 1
        self._hold(attempt)
        asked_s = self._clock.monotonic_s()
        attempt.claim = self._reports.send(
            attempt, "reserve", lambda reply: self._on_answer(attempt, reply, asked_s + _YOUNG_S)
        )

    def keep(self, attempt: Attempt, until_s: float) -> None:
        """Keep what may begin until `until_s`, for the next slot."""
        if self.closed:
            self._give_back(attempt)
            return
        self._hold(attempt)
        self._ready.append((until_s, attempt))
        if self._timer is None:
            self._look_later()

    def admit(self) -> None:
        """Begin what is ready, as far as there are slots."""
        while self._ready and self._slots.busy < self._slots.total and not self.closed:
            until_s, attempt = self._ready.popleft()
            if until_s < self._clock.monotonic_s():
                self._give_back(attempt)
            else:
                self._begin(attempt)

    def close(self) -> None:
        """Give back what is ready, and all that is answered from now on. Twice is fine."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._ready:
            self._give_back(self._ready.popleft()[1])

    def _hold(self, attempt: Attempt) -> None:
        attempt.holds_slot = False
        self._attempts[attempt.key] = attempt
        self._tick.arm(attempt.touch_s)

    def _on_answer(self, attempt: Attempt, reply: ReportReply, until_s: float) -> None:
        self._asked -= 1
        attempt.claim = None
        if reply.ok and reply.run:
            self.keep(attempt, until_s)
            self.admit()
        elif reply.ok and not reply.run:
            self._counts.gone += 1
            attempt.ack()
            self._forget(attempt)
        else:
            # An owner that does not know the question is of an earlier version: it is asked with a slot, as ever.
            self._is_known = self._is_known and reply.ok
            self._give_back(attempt)

    def _give_back(self, attempt: Attempt) -> None:
        self._counts.returned += 1
        attempt.nak(0.0)
        self._forget(attempt)

    def _look_later(self) -> None:
        delay_s = max(0.0, self._ready[0][0] - self._clock.monotonic_s())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._clock.monotonic_s()
        while self._ready and self._ready[0][0] <= now_s:
            self._give_back(self._ready.popleft()[1])
        if self._ready:
            self._look_later()
