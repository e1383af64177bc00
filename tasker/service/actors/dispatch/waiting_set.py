"""The attempts of one queue that wait for a slot, in the order in which they get one.

What has the higher priority goes first. Of one priority the slots are shared among the keys (of fairness) by their
weights (`stride`). Of one key, what was dispatched first goes first; without keys that is all there is.

So that nothing starves, each `OLD_EVERY`-th slot is for what has waited longest, once that is longer than `OLD_S`:
ageing with a bound. Were a priority to grow with the time waited instead, a queue that is behind by hours would be
served by age alone, and urgent work would be none.

It names attempts, and holds no actor: that may be dropped and rebuilt while its attempt waits.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from tasker.events.envelope import US_PER_S
from tasker.service.domain.limits.ranks import OLD_EVERY, OLD_S
from tasker.service.domain.limits.stride import Stride

_SLACK: Final = 64


class Waiting:
    """An attempt that waits.

    Attributes:
        offer: its number, 0 for a first one: nobody has been offered the attempt.
        since_us: when it was dispatched.
        key, weight: whose share of the slots it takes; None: that of all without a key.
        gone: it waits no more.
    """

    __slots__ = ("attempt", "gone", "key", "offer", "priority", "shard", "since_us", "step", "stream_id", "weight")

    def __init__(  # noqa: PLR0917 - what names an attempt, and its place
        self,
        shard: int,
        stream_id: UUID,
        step: str,
        attempt: int,
        offer: int,
        priority: int,
        since_us: int,
        key: str | None = None,
        weight: float = 1.0,
    ) -> None:
        self.shard = shard
        self.stream_id = stream_id
        self.step = step
        self.attempt = attempt
        self.offer = offer
        self.priority = priority
        self.since_us = since_us
        self.key = key
        self.weight = weight
        self.gone = False


_Heap = list[tuple[int, int, Waiting]]


class _Level:
    """What waits of one priority, by key, each with the oldest first."""

    __slots__ = ("flows", "stride")

    def __init__(self) -> None:
        self.flows: dict[str | None, _Heap] = {}
        self.stride = Stride()

    def add(self, one: Waiting, order: int) -> None:
        flow = self.flows.get(one.key)
        if flow is None:
            flow = self.flows[one.key] = []
            self.stride.join(one.key)
        heapq.heappush(flow, (one.since_us, order, one))

    def first(self) -> Waiting | None:
        """Return what is next; None: nothing waits."""
        while self.stride:
            key = self.stride.next()
            found = _first(self.flows[key])
            if found is not None:
                return found
            del self.flows[key]
            self.stride.leave(key)
        return None


class WaitingSet:
    """Attempts in order; each once."""

    def __init__(self) -> None:
        self._levels: dict[int, _Level] = {}
        self._by_age: _Heap = []
        self._of: dict[UUID, dict[tuple[str, int], Waiting]] = {}
        self._count = 0
        self._added = 0
        self._turn = 0

    def __len__(self) -> int:
        return self._count

    def find(self, stream_id: UUID, step: str, attempt: int) -> Waiting | None:
        """Return the attempt when it waits here."""
        return self._of.get(stream_id, {}).get((step, attempt))

    def add(self, one: Waiting) -> None:
        """Let an attempt wait that does not yet."""
        self._of.setdefault(one.stream_id, {})[one.step, one.attempt] = one
        self._count += 1
        self._added += 1
        level = self._levels.get(one.priority)
        if level is None:
            level = self._levels[one.priority] = _Level()
        level.add(one, self._added)
        heapq.heappush(self._by_age, (one.since_us, self._added, one))
        if len(self._by_age) > 2 * self._count + _SLACK:
            self._by_age = [kept for kept in self._by_age if not kept[2].gone]
            heapq.heapify(self._by_age)

    def move(self, one: Waiting, priority: int) -> None:
        """Give an attempt that waits the place of another priority."""
        if one.priority != priority:
            self.remove(one)
            place = (one.shard, one.stream_id, one.step, one.attempt, one.offer)
            self.add(Waiting(*place, priority, one.since_us, one.key, one.weight))

    def remove(self, one: Waiting) -> None:
        """Let an attempt wait no more."""
        one.gone = True
        self._count -= 1
        of_task = self._of[one.stream_id]
        del of_task[one.step, one.attempt]
        if not of_task:
            del self._of[one.stream_id]

    def next(self, now_us: int) -> Waiting | None:
        """Return what gets the next slot; None: nothing waits."""
        if (self._turn + 1) % OLD_EVERY == 0:
            old = self.old(now_us)
            if old is not None:
                return old
        while self._levels:
            highest = max(self._levels)
            found = self._levels[highest].first()
            if found is not None:
                return found
            del self._levels[highest]
        return None

    def take(self, one: Waiting) -> None:
        """Give `one`, which is `next`, its slot."""
        self._turn += 1
        self._levels[one.priority].stride.charge(one.key, one.weight)
        self.remove(one)

    def old(self, now_us: int) -> Waiting | None:
        """Return what has waited longest, if it is old."""
        found = _first(self._by_age)
        return found if found is not None and found.since_us <= now_us - OLD_S * US_PER_S else None

    def ahead_of(self, one: Waiting) -> int:
        """Return how many of higher priority wait, or of its own and for longer; shares take turns among those."""
        place = one.priority, -one.since_us
        return sum((other.priority, -other.since_us) > place for other in self._all())

    def remove_shard(self, shard: int) -> int:
        """Let nothing of a shard wait any more; returns how many did."""
        found = [one for one in self._all() if one.shard == shard]
        for one in found:
            self.remove(one)
        return len(found)

    def _all(self) -> Iterable[Waiting]:
        return (one for of_task in self._of.values() for one in of_task.values())


def _first(heap: _Heap) -> Waiting | None:
    """Return the first of a heap that still waits."""
    while heap and heap[0][2].gone:
        heapq.heappop(heap)
    return heap[0][2] if heap else None
