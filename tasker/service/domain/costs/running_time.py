"""How long a task has run: the time in which a worker runs at least one of its steps.

A task that was created with a limit of it (`running_s_max` of its template's budget) notes which of its steps run, and
since when any does. Two that run at once count once. What waits (for a worker, people, signals, a time, a place, a
retry, child tasks) counts nothing, nor does what an operator holds back.

A worker that reports an attempt by its outcome alone tells of no time; such attempts count nothing. They last at most
as long as it holds a start back (`handlers.starts`, 5 ms), unless they block its loop. A duration in every outcome, and
so in every event of one, would cost all tasks something for a rounding error of a few.
"""

from __future__ import annotations

from typing import Any

from tasker.events.envelope import US_PER_S


class RunningTime:
    """The clock of one task.

    Attributes:
        limit_s: how long it may run.
        steps: the instances that run. since_us: since when any does, without a break.
        spent_us: what was over before that.
    """

    __slots__ = ("limit_s", "since_us", "spent_us", "steps")

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.steps: set[str] = set()
        self.since_us = 0
        self.spent_us = 0

    def runs(self, step: str, at_us: int) -> None:
        """Take note that a step runs, since `at_us` unless it did already."""
        if not self.steps:
            self.since_us = at_us
        self.steps.add(step)

    def rests(self, step: str, at_us: int) -> None:
        """Take note that a step does not run."""
        if step in self.steps:
            self.steps.discard(step)
            if not self.steps:
                self.spent_us += at_us - self.since_us

    def spent_by_us(self, at_us: int) -> int:
        """Return how long the task has run."""
        return self.spent_us + (at_us - self.since_us if self.steps else 0)

    def due_us(self) -> int:
        """Return when all of its time is used, should a step run until then; what is due at once wakes nobody."""
        return self.since_us + max(1, round(self.limit_s * US_PER_S) - self.spent_us)

    def copy(self) -> RunningTime:
        """Return one that moves by itself."""
        made = RunningTime(self.limit_s)
        made.steps, made.since_us, made.spent_us = set(self.steps), self.since_us, self.spent_us
        return made

    def document(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {
            "limit_s": self.limit_s,
            "steps": sorted(self.steps),
            "since_us": self.since_us,
            "spent_us": self.spent_us,
        }
