"""Requests that wait in the order of their ranks, as far as their key's events tell.

    the highest priority -> of that the share whose turn it is (`stride`) -> of that who asked first

Each `OLD_EVERY`-th turn is for what has waited longest of all, if it is old. The line is moved by what was recorded
alone, also by grants in another order (those of a build with other rules): it names who is next, and takes any answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from tasker.service.domain.limits.ranks import OLD_EVERY, PLAIN, Rank
from tasker.service.domain.limits.stride import KeptStride, Stride


class KeptLine(msgspec.Struct, frozen=True):
    """A `RankedLine` as a snapshot keeps it, beside who waits: ranks that are not plain, and levels by priority."""

    ranks: dict[str, Rank]
    strides: dict[int, KeptStride]
    turns: int


class _Level:
    """Who waits with one priority, by share, in the order in which they asked."""

    __slots__ = ("flows", "stride")

    def __init__(self) -> None:
        self.stride = Stride()
        self.flows: dict[str | None, OrderedDict[str, None]] = {}


class RankedLine:
    """Those who wait under one key."""

    __slots__ = ("_levels", "_ranks", "_turns")

    def __init__(self, requests: Iterable[str] = ()) -> None:
        self._levels: dict[int, _Level] = {}
        self._ranks: dict[str, Rank] = {}
        self._turns = 0
        for request in requests:
            self.add(request, PLAIN)

    def rank_of(self, request: str) -> Rank:
        """Return the rank of who waits."""
        return self._ranks.get(request, PLAIN)

    def add(self, request: str, rank: Rank) -> None:
        """Let somebody wait who does not yet."""
        if rank != PLAIN:
            self._ranks[request] = rank
        level = self._levels.get(rank.priority)
        if level is None:
            level = self._levels[rank.priority] = _Level()
        flow = level.flows.get(rank.share)
        if flow is None:
            flow = level.flows[rank.share] = OrderedDict()
            level.stride.join(rank.share)
        flow[request] = None

    def remove(self, request: str) -> Rank:
        """Let somebody wait no more; returns the rank."""
        rank = self._ranks.pop(request, PLAIN)
        level = self._levels[rank.priority]
        flow = level.flows[rank.share]
        del flow[request]
        if not flow:
            del level.flows[rank.share]
            level.stride.leave(rank.share)
        return rank

    def take(self, request: str) -> None:
        """Let somebody wait no more who has had a turn."""
        rank = self._ranks.get(request, PLAIN)
        self._levels[rank.priority].stride.charge(rank.share, rank.weight)
        self._turns += 1
        self.remove(request)

    def move(self, waiting: Iterable[str], moved: Iterable[str], priority: int) -> None:
        """Give some of those who wait another priority; `waiting`: all of them, in the order in which they asked."""
        for request in moved:
            self.add(request, self.remove(request)._replace(priority=priority))
        flows = self._levels[priority].flows if priority in self._levels else {}
        for request in waiting:
            rank = self.rank_of(request)
            if rank.priority == priority:
                flows[rank.share].move_to_end(request)

    def next(self, oldest: str, *, is_old: bool) -> str:
        """Return whose turn it is: somebody waits, `oldest` longest; `is_old`: so long that some turns are for it."""
        if is_old and (self._turns + 1) % OLD_EVERY == 0:
            return oldest
        level = self._levels[max(priority for priority, one in self._levels.items() if one.flows)]
        return next(iter(level.flows[level.stride.next()]))

    def ahead_of(self, request: str, count_max: int) -> int | None:
        """Return how many go first for certain: of higher priority, and of its own share; None: more than that many."""
        rank = self.rank_of(request)
        count = sum(
            len(flow)
            for priority, level in self._levels.items()
            if priority > rank.priority
            for flow in level.flows.values()
        )
        for one in self._levels[rank.priority].flows[rank.share]:
            if one == request or count > count_max:
                break
            count += 1
        return count if count < count_max else None

    # ---------------------------------------------------------------- snapshots

    def kept(self, waiting: Iterable[str]) -> KeptLine:
        """Return what a snapshot keeps; `waiting`: who waits, in the order in which they asked."""
        ranks = {one: self._ranks[one] for one in waiting if one in self._ranks}
        strides = {priority: self._levels[priority].stride.kept() for priority in sorted(self._levels)}
        return KeptLine(ranks, strides, self._turns)

    @classmethod
    def restored(cls, kept: KeptLine, waiting: Iterable[str]) -> RankedLine:
        """Return what was kept; `waiting`: who waits, in the order in which they asked."""
        made = cls()
        made._turns = kept.turns
        for request in waiting:
            made.add(request, kept.ranks.get(request, PLAIN))
        for priority, stride in kept.strides.items():
            made._levels.setdefault(priority, _Level()).stride = Stride.restored(stride)
        return made
