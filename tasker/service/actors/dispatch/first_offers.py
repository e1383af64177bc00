"""First offers that a worker may yet begin without a question: meanwhile nobody else is offered the attempt.

A worker runs a first offer that is young at once and says so beside it. Until that word is here, the owner cannot know
that it runs: it would answer the claim of another copy with `run`. So no further offer leaves in that time, whoever
wants one (a connection that dropped, a priority, a task that goes on, another owner), unless the worker gave it back.

What an owner before this one offered is not known here; it left at its dispatch or later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tasker.events.envelope import US_PER_S

UNASKED_S: Final = 3.0
"""For so long after it left: 2 s in which a worker may begin it, and one for the word of that to come."""

_UNASKED_US: Final = round(UNASKED_S * US_PER_S)

_Key = tuple[str, str, int]


class FirstOffers:
    """Those of a node, by task, step and number of the attempt."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._left: dict[_Key, tuple[int, bool]] = {}
        """When each left, the oldest first, and whether it may still be begun."""

    def __len__(self) -> int:
        return len(self._left)

    def left(self, task_id: str, step: str, attempt: int) -> None:
        """Take note that a first offer has left now."""
        self._keep((task_id, step, attempt), may_begin=True)

    def returned(self, task_id: str, step: str, attempt: int) -> None:
        """Take note that a worker has given an attempt back: it has not begun it and will not."""
        self._keep((task_id, step, attempt), may_begin=False)

    def until_us(self, task_id: str, step: str, attempt: int, dispatched_us: int) -> int:
        """Return until when a worker may have begun an attempt, or may yet, without a word of it here."""
        left_us, may_begin = self._left.get((task_id, step, attempt), (dispatched_us, True))
        return left_us + _UNASKED_US if may_begin else 0

    def _keep(self, key: _Key, *, may_begin: bool) -> None:
        left, now_us = self._left, self._now_us()
        while left:
            oldest = next(iter(left))
            if left[oldest][0] > now_us - _UNASKED_US:
                break
            del left[oldest]
        left.pop(key, None)
        left[key] = (now_us, may_begin)
