"""What a worker makes of work that a node sent itself: an attempt, or nothing, and then it is given back.

What finds no slot is held for a moment: the stream filled the slots that were promised to its node. Of a queue with a
backlog in the stream nodes send only what is urgent: it is held for longer, for the next slot that is free.

While handlers are quick a worker tells more slots than it has, so that the next item is there when one ends; what is
held then waits far less than that moment.

Handlers with a limit have slots of their own, out of the worker's, so that no node sends more than finds a place, and a
limit does not keep the other handlers of its queue waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from tasker.clock import Clock
from tasker.events.messages import Work
from tasker.handlers.attempt import NEVER, Attempt, Key, may_run
from tasker.handlers.direct import DirectInbox, PartRoom, Room, Source
from tasker.handlers.limits import LimitedPart, Limits
from tasker.handlers.runner import Invocable
from tasker.handlers.served_queues import ServedQueue, ServedQueues
from tasker.handlers.slots import Slots
from tasker.handlers.stream_intake import TakeUp
from tasker.handlers.vitals import WorkerCounts
from tasker.settings import DirectSettings

BACKLOG_HOLD_S: Final = 5.0
"""The same of a queue with a backlog in the stream: what comes straight is urgent, and gets the next free slot."""

_MEAN_WEIGHT: Final = 0.05
"""Of one attempt in the mean time: some twenty of them tell whether handlers are quick."""


class DirectIntake:
    """Takes work from nodes, and tells them how much of it.

    Attributes:
        closed: it takes no more; what still comes is given back.
        held: items that wait for a slot: since when, their queue, work, source, and age when they came.

    Args:
        lookup: returns the handler of a namespace, a queue and a name; None: there is none.
        attempts: all that the worker holds.
        take_up: what becomes of an attempt. give_back: has the owner offer work to others.
    """

    def __init__(  # noqa: PLR0917 - what it steers
        self,
        inbox: DirectInbox,
        lookup: Callable[[str, str, str], Invocable | None],
        attempts: Mapping[Key, Attempt],
        queues: ServedQueues,
        slots: Slots,
        limits: Limits[Attempt],
        settings: DirectSettings,
        clock: Clock,
        counts: WorkerCounts,
        *,
        take_up: TakeUp,
        give_back: Callable[[Work], None],
    ) -> None:
        self.closed = False
        self.held: deque[tuple[float, ServedQueue, Work, Source, int | None]] = deque()
        self._inbox = inbox
        self._lookup = lookup
        self._attempts = attempts
        self._by_name = queues.by_name
        self._slots = slots
        self._limits = limits
        self._settings = settings
        self._quick_s = settings.quick_s
        self._clock = clock
        self._counts = counts
        self._take_up = take_up
        self._give_back = give_back
        self._mean_s = NEVER
        """Of the time that attempts held their slots lately; nothing is known of it at first."""

    def start(self) -> None:
        """Listen, unless the settings forbid it; `keep` tells the nodes."""
        if self._settings.enabled:
            self._inbox.start(self._room, self._on_work)

    async def keep(self) -> None:
        """Tell the nodes, for ever."""
        if self._settings.enabled:
            await self._inbox.keep()

    def tell(self) -> None:
        """Tell the nodes now what the worker can take."""
        self._inbox.tell()

    def close(self) -> None:
        """Take nothing more, say so, and give back what is held. Twice is fine."""
        self.closed = True
        self.tell()
        while self.held:
            self._return_first_held()

    def stop(self) -> None:
        """Hear no more. Twice is fine."""
        self._inbox.stop()

    def on_released(self, source: Source | None, held_s: float) -> None:
        """Take note that an attempt, of a node or of the stream, held its slot for so long and does no more."""
        was_quick = self._mean_s <= self._quick_s
        self._mean_s = held_s if self._mean_s == NEVER else self._mean_s + _MEAN_WEIGHT * (held_s - self._mean_s)
        if was_quick != (self._mean_s <= self._quick_s):
            self.tell()
        if source is not None:
            source.released += 1

    @property
    def ahead_share(self) -> int:
        """How many items for each slot a worker takes ahead, now."""
        return self._settings.ahead_per_slot if self._mean_s <= self._quick_s else 0

    def take_held(self) -> None:
        """Take up what is held, where there is a slot."""
        while self.held and self._slots.busy < self._slots.total:
            since_s, queue, work, source, age_us = self.held.popleft()
            if self._is_copy(work):
                source.released += 1  # another copy came meanwhile
                continue
            waited_us = round((self._clock.monotonic_s() - since_s) * 1e6)
            self._take(queue, work, source, None if age_us is None else age_us + waited_us)

    def _room(self) -> Room:
        """Return what nodes are told: nothing of a queue with a backlog in the stream.

        Nor of one with limited handlers for which there is not a single slot to set aside.
        """
        if self._slots.closed:
            return Room(slots=0, elsewhere=0, queues=())
        parts = [self._part_room(part) for part in self._limits.parts]
        without = {place[:2] for part in parts if part.slots == 0 for place in part.handlers}
        slots = self._slots.total - sum(part.slots for part in parts)
        running = self._inbox.held() - len(self.held)
        return Room(
            slots=max(1, slots) * (1 + self.ahead_share),
            elsewhere=max(0, self._slots.busy - running),
            queues=[name for name, queue in self._by_name.items() if not queue.slots.backlog and name not in without],
            parts=[part for part in parts if part.slots],
            backlogged=[name for name, queue in self._by_name.items() if queue.slots.backlog and name not in without],
        )

    def _part_room(self, part: LimitedPart) -> PartRoom:
        # Each part has its equal share of the slots at most, and so have the handlers without a limit: what is told of
        # one is told of no other.
        slots = min(part.share, self._slots.total // (len(self._limits.parts) + self._limits.has_others))
        held = sum(source.part == part.name for _, _, _, source, _ in self.held)
        running = self._inbox.held(part.name) - held
        return PartRoom(
            name=part.name,
            handlers=[place for place in part.places if not self._by_name[place[:2]].slots.backlog],
            slots=slots,
            elsewhere=max(0, slots - running - self._limits.free(part)),
        )

    def _on_work(self, work: Work, source: Source, age_us: int | None) -> None:
        self._counts.delivered += 1
        queue = self._by_name.get((work.namespace, work.queue))
        if self._is_copy(work):
            source.released += 1
        elif queue is None or self.closed:
            self._return(work, source)
        elif self._slots.busy >= self._slots.total or self.held:
            self._hold(queue, work, source, age_us)
        else:
            self._take(queue, work, source, age_us)

    def _is_copy(self, work: Work) -> bool:
        """Return whether the attempt is here already: the owner would let the same worker begin it again."""
        return (work.task_id, work.step, work.attempt) in self._attempts

    def _take(self, queue: ServedQueue, work: Work, source: Source, age_us: int | None) -> None:
        handler = self._lookup(work.namespace, queue.name, work.handler)
        now_s = self._clock.monotonic_s()
        if handler is None:
            self._counts.unknown_handler += 1
            queue.warn_of_unknown(work, now_s)
            self._return(work, source)
            return
        if not self._limits.enter(handler):
            self._return(work, source)  # the stream took the place meanwhile
            return
        key = (work.task_id, work.step, work.attempt)
        attempt = Attempt(work, None, source, queue, handler, key, now_s)
        self._take_up(attempt, may_run=may_run(work, age_us))

    def _hold(self, queue: ServedQueue, work: Work, source: Source, age_us: int | None) -> None:
        self.held.append((self._clock.monotonic_s(), queue, work, source, age_us))
        if len(self.held) == 1:
            asyncio.get_running_loop().call_later(self._hold_s_of(queue), self._look_at_held)

    def _look_at_held(self) -> None:
        now_s = self._clock.monotonic_s()
        while self.held and self._held_until_s() <= now_s:
            self._return_first_held()
        if self.held:
            asyncio.get_running_loop().call_later(max(0.0, self._held_until_s() - now_s), self._look_at_held)

    def _held_until_s(self) -> float:
        """Return when the first of what is held is given back."""
        since_s, queue, *_ = self.held[0]
        return since_s + self._hold_s_of(queue)

    def _hold_s_of(self, queue: ServedQueue) -> float:
        hold_s = self._settings.hold_s
        return max(hold_s, BACKLOG_HOLD_S) if queue.slots.backlog else hold_s

    def _return_first_held(self) -> None:
        _, _, work, source, _ = self.held.popleft()
        self._return(work, source)

    def _return(self, work: Work, source: Source) -> None:
        """Have the owner offer it to others: it has not begun, and shall not here."""
        self._counts.returned += 1
        source.released += 1
        self._give_back(work)
