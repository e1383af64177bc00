"""How often what a step owes was seen to again: an offer, the start of its child, its ask for a place.

Each is seen to again after a while, then after twice as long, and so on, until something answers. The counts of
offers are memory's alone: with a new owner, and once the task has left memory, they begin anew. What rests in the work
stream meanwhile needs none (`dispatch/copies.py`); for children and places the log says how long they took so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from tasker.events.envelope import US_PER_S

if TYPE_CHECKING:
    from tasker.service.actors.task_actor import TaskActor


class Waits(NamedTuple):
    """How long to wait before something is seen to again, in microseconds: at first, and at most."""

    first_us: int
    most_us: int

    def after_us(self, times: int) -> int:
        """Return the wait behind so many repetitions."""
        return min(self.first_us << min(times, 10), self.most_us)

    def as_long_again_us(self, waited_us: int) -> int:
        """Return the wait behind one of so long: as long again, within the bounds of what is repeated."""
        return min(max(waited_us, self.after_us(1)), self.most_us)


OFFER: Final = Waits(30 * US_PER_S, 3600 * US_PER_S)
"""An offered step that has not started is offered again."""

CHILD: Final = Waits(6 * US_PER_S, 60 * US_PER_S)
"""A child that nobody told of is started or asked after again."""

PLACE: Final = Waits(6 * US_PER_S, 60 * US_PER_S)
"""A place that nobody has heard of is asked for again: a key that could not be reached for hours does not keep its
tasks waiting once it can be."""


class Repeats:
    """The counts of one task, by step."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: dict[str, int] = {}

    def begin(self, step: str) -> None:
        """Count from now on: what the step owes is new, or was held back before."""
        self._times.pop(step, None)

    def of(self, step: str) -> int:
        """Return how often what the step owes was seen to again."""
        return self._times.get(step, 0)

    def add(self, step: str) -> int:
        """Count one more; returns how many that makes."""
        times = self._times[step] = self._times.get(step, 0) + 1
        return times

    def at_least_one(self, step: str) -> None:
        """Let the next one not be the first."""
        self._times.setdefault(step, 1)

    def leave_out_last(self, step: str) -> None:
        """Count the last one no more: it waits."""
        self._times[step] -= 1
        if not self._times[step]:
            del self._times[step]


def ask_again(actor: TaskActor, step: str, obligation: str, waits: Waits, *, since_us: int, now_us: int) -> None:
    """Have asked again, later than the last time, what a step has waited for since `since_us`.

    Its task is out of memory for most of a long wait, with all that was counted there; the log knows how long it is.
    """
    wait_us = waits.as_long_again_us(now_us - since_us)
    actor.ports.later(actor, step, obligation, now_us + wait_us, keep=wait_us > waits.after_us(1))


def look_again(actor: TaskActor, step: str, obligation: str, waits: Waits, now_us: int, *, keep: bool = True) -> int:
    """Have what a step owes seen to once more, later than the last time; returns how often that makes."""
    times = actor.repeats.add(step)
    actor.ports.later(actor, step, obligation, now_us + waits.after_us(times), keep=keep and times > 1)
    return times
