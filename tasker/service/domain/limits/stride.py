"""Turns that keys share by their weights.

Each turn that a key gets moves its *pass* by 1 / weight, and the key with the smallest one is next. So a key with a
long backlog holds up another one's single member by one turn for each key that waits. A key that comes, or comes back,
begins at the pass of the moment: nobody saves up turns, nobody gets around what he used.

Source: C. Waldspurger, W. Weihl, "Stride Scheduling: Deterministic Proportional-Share Resource Management", MIT, 1995.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

import msgspec

SLACK: Final = 64
"""So many entries that count no more are kept without a look at them."""


class KeptStride(msgspec.Struct, frozen=True):
    """A `Stride` as a snapshot keeps it: keys with their passes, those that wait in the order of their turns."""

    now: float
    waiting: tuple[tuple[str | None, float], ...]
    left: tuple[tuple[str | None, float], ...]


class Stride:
    """Keys that wait for a turn; None is one like any other."""

    __slots__ = ("_count", "_left", "_now", "_of", "_turns")

    def __init__(self) -> None:
        self._of: dict[str | None, tuple[float, int]] = {}
        """Of each key that waits its pass, and its order among those with the same one."""
        self._turns: list[tuple[float, int, str | None]] = []
        """A heap; an entry that is not that of its key any more is passed over."""
        self._left: dict[str | None, float] = {}
        """The pass of those that left ahead of `_now`."""
        self._now = 0.0
        """The pass of the moment."""
        self._count = 0

    def __contains__(self, key: str | None) -> bool:
        return key in self._of

    def __bool__(self) -> bool:
        return bool(self._of)

    def join(self, key: str | None) -> None:
        """Let a key wait that does not yet."""
        self._put(key, max(self._now, self._left.pop(key, 0.0)))

    def leave(self, key: str | None) -> None:
        """Let a key wait no more."""
        passed, _ = self._of.pop(key)
        if passed > self._now:
            self._left[key] = passed
        if len(self._left) > len(self._of) + SLACK:
            self._left = {one: passed for one, passed in self._left.items() if passed > self._now}

    def next(self) -> str | None:
        """Return the key whose turn it is: one waits."""
        turns = self._turns
        while self._of.get(turns[0][2]) != turns[0][:2]:
            heapq.heappop(turns)
        return turns[0][2]

    def charge(self, key: str | None, weight: float) -> None:
        """Let a key that waits have used a turn."""
        passed = self._of[key][0]
        self._now = max(self._now, passed)
        self._put(key, passed + 1.0 / weight)

    def _put(self, key: str | None, passed: float) -> None:
        self._count += 1
        self._of[key] = (passed, self._count)
        heapq.heappush(self._turns, (passed, self._count, key))  # the count decides before keys are compared
        if len(self._turns) > 2 * len(self._of) + SLACK:
            self._turns = [(*turn, one) for one, turn in self._of.items()]
            heapq.heapify(self._turns)

    # ---------------------------------------------------------------- snapshots

    def kept(self) -> KeptStride:
        """Return what a snapshot keeps."""
        return KeptStride(self._now, tuple(self._in_turn()), tuple(self._left.items()))

    @classmethod
    def restored(cls, kept: KeptStride) -> Stride:
        """Return what was kept."""
        made = cls()
        made._now, made._left = kept.now, dict(kept.left)
        for key, passed in kept.waiting:
            made._put(key, passed)
        return made

    def _in_turn(self) -> Iterator[tuple[str | None, float]]:
        for key, (passed, _) in sorted(self._of.items(), key=lambda one: one[1]):
            yield key, passed
