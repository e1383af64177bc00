"""What a node does for all tenants at once is shared among them by their weights, where it is short.

Their workers are their own. What they share is a node: its entrance, which takes so many commands at a time
(`TenantRoom`), and its way to the work stream, which takes so many messages at a time (`TenantLine`). A tenant without
a weight has that of 1. Shares count among those who want something at the moment: alone, one gets everything.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_SLACK: Final = 64


class TenantRoom:
    """How much each tenant has under way.

    While there is room everybody gets in. When it is full only who has less than his share of it does; so what is under
    way stays below twice the room, and one beyond his share gets in again once enough of it has ended.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = weights or {}
        self._held: dict[str, int] = {}
        self._weight = 0.0
        self.count = 0

    def enter(self, tenant: str, room: float) -> bool:
        """Count one more; returns whether it gets in. One that does not leaves as well."""
        self.count += 1
        held = self._held.get(tenant, 0) + 1
        self._held[tenant] = held
        if held == 1:
            self._weight += self._weights.get(tenant, 1.0)
        return self.count <= room or held <= max(1.0, room * self._weights.get(tenant, 1.0) / self._weight)

    def leave(self, tenant: str) -> None:
        """Count one less."""
        self.count -= 1
        held = self._held[tenant] - 1
        if held:
            self._held[tenant] = held
            return
        del self._held[tenant]
        self._weight = self._weight - self._weights.get(tenant, 1.0) if self._held else 0.0


class TenantLine(Generic[T]):
    """What waits of all tenants: of each the oldest first, and among them by stride scheduling.

    Args:
        cost: how much of its tenant's share an item takes; without it each takes 1.

    Source: C. Waldspurger, W. Weihl, "Stride Scheduling: Deterministic Proportional-Share Resource Management", 1995.
    """

    def __init__(self, weights: Mapping[str, float] | None = None, *, cost: Callable[[T], float] | None = None) -> None:
        self._weights = weights or {}
        self._cost = cost
        self._room = TenantRoom(weights)
        self._waiting: dict[str, deque[T]] = {}
        self._turns: list[tuple[float, int, str]] = []
        self._left: dict[str, float] = {}
        self._now = 0.0
        self._added = 0

    def __len__(self) -> int:
        return self._room.count

    def add(self, tenant: str, item: T, room: float = inf) -> bool:
        """Let one more wait; False: there is no room for it, see `TenantRoom`."""
        if not self._room.enter(tenant, room):
            self._room.leave(tenant)
            return False
        waiting = self._waiting.get(tenant)
        if waiting is None:
            waiting = self._waiting[tenant] = deque()
            self._turn(tenant, max(self._now, self._left.pop(tenant, 0.0)))
        waiting.append(item)
        return True

    def first(self) -> T:
        """Return the next one, which goes on waiting; IndexError: nothing waits."""
        return self._waiting[self._turns[0][2]][0]

    def take(self) -> T:
        """Return the next one, which waits no more; IndexError: nothing waits."""
        passed, _, tenant = heapq.heappop(self._turns)
        self._now = passed
        waiting = self._waiting[tenant]
        item = waiting.popleft()
        self._room.leave(tenant)
        passed += (1.0 if self._cost is None else self._cost(item)) / self._weights.get(tenant, 1.0)
        if waiting:
            self._turn(tenant, passed)
        else:
            del self._waiting[tenant]
            self._left[tenant] = passed
            if len(self._left) > len(self._waiting) + _SLACK:
                self._left = {one: at for one, at in self._left.items() if at > self._now}
        return item

    def _turn(self, tenant: str, passed: float) -> None:
        self._added += 1
        heapq.heappush(self._turns, (passed, self._added, tenant))
