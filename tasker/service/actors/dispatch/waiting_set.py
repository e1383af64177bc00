"""The attempts of one queue that wait for a slot, in the order in which they get one.

What has the higher priority goes first. Of one priority the slots are shared among the keys (of fairness) by their
weights: each slot that a key gets moves its *pass* by 1 / weight, and the key with the smallest one is next. So a key
with a long backlog holds up another one's single attempt by one slot for each key that waits. A key that comes, or
comes back, begins at the pass of the moment: nobody saves up slots, nobody gets around what he used. Of one key, what
was dispatched first goes first; without keys that is all there is.

So that nothing starves, each `OLD_EVERY`-th slot is for what has waited longest, once that is longer than `OLD_S`:
ageing with a bound. Were a priority to grow with the time waited instead, a queue that is behind by hours would be
served by age alone, and urgent work would be none.

It names attempts, and holds no actor: that may be dropped and rebuilt while its attempt waits.

Source: C. Waldspurger, W. Weihl, "Stride Scheduling: Deterministic Proportional-Share Resource Management", MIT, 1995.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from tasker.events.envelope import US_PER_S

OLD_S: Final = 60.0
"""What has waited longer than this is old."""

OLD_EVERY: Final = 16
"""One of so many slots is for what is old, whatever its priority."""

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


class _Flow:
    """What waits of one key: the oldest first. `passed` is its pass."""

    __slots__ = ("heap", "key", "passed")

    def __init__(self, key: str | None, passed: float) -> None:
        self.key = key
        self.passed = passed
        self.heap: _Heap = []


class _Level:
    """What waits of one priority.

    `turns` orders the flows by pass; an entry whose pass is not its flow's any more is passed over. `left` has the pass
    of those that left ahead of `now`, the pass of the moment.
    """

    __slots__ = ("flows", "left", "now", "turns")

    def __init__(self) -> None:
        self.flows: dict[str | None, _Flow] = {}
        self.turns: list[tuple[float, int, _Flow]] = []
        self.left: dict[str | None, float] = {}
        self.now = 0.0

    def add(self, one: Waiting, order: int) -> None:
        flow = self.flows.get(one.key)
        if flow is None:
            passed = max(self.now, self.left.pop(one.key, 0.0))
            flow = self.flows[one.key] = _Flow(one.key, passed)
            heapq.heappush(self.turns, (passed, order, flow))
        heapq.heappush(flow.heap, (one.since_us, order, one))

    def first(self) -> Waiting | None:
        """Return what is next; None: nothing waits."""
        turns = self.turns
        while turns:
            passed, _, flow = turns[0]
            if flow.passed == passed and self.flows.get(flow.key) is flow:
                found = _first(flow.heap)
                if found is not None:
                    return found
                self._leave(flow)
            heapq.heappop(turns)
        return None

    def charge(self, one: Waiting, order: int) -> None:
        """Let the key of `one`, which gets a slot, have used its share."""
        flow = self.flows[one.key]
        self.now = max(self.now, flow.passed)
        flow.passed += 1.0 / one.weight
        heapq.heappush(self.turns, (flow.passed, order, flow))

    def _leave(self, flow: _Flow) -> None:
        del self.flows[flow.key]
        if flow.passed > self.now:
            self.left[flow.key] = flow.passed
        if len(self.left) > len(self.flows) + _SLACK:
            self.left = {key: passed for key, passed in self.left.items() if passed > self.now}


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
        self._added += 1
        self._levels[one.priority].charge(one, self._added)
        self.remove(one)

    def old(self, now_us: int) -> Waiting | None:
        """Return what has waited longest, if it is old."""
        found = _first(self._by_age)
        return found if found is not None and found.since_us <= now_us - OLD_S * US_PER_S else None

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
