"""How long a task, or a step of it, may stand still before somebody is told: its dead letter says `stale`.

A task that was created with limits (`stale_after` of its template) notes since when it is pending, blocked or paused,
and since when each of its steps waits. When that is longer than the limit an obligation comes due and `went_stale` is
recorded, once for each time it stands still. When it moves, `stale_ended` says so, at the latest before the task's end.
Nothing else follows: what is stale goes on as before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tasker.events.envelope import US_PER_S
from tasker.events.task_events import StaleLimits

WAITING = "waiting"


class Standing(NamedTuple):
    """Where something stands still: `state` is the task's, or `waiting` for a step."""

    state: str
    since_us: int


class Staleness:
    """What stands still of one task, by scope: a step's instance, or "" for the task.

    Attributes:
        told: what is recorded as stale, as it stood then.
    """

    __slots__ = ("limits", "standing", "told")

    def __init__(self, limits: StaleLimits) -> None:
        self.limits = limits
        self.standing: dict[str, Standing] = {}
        self.told: dict[str, Standing] = {}

    def stands(self, scope: str, state: str, at_us: int) -> None:
        """Take note that `scope` stands still in `state`, since `at_us` unless it did already."""
        found = self.standing.get(scope)
        if found is None or found.state != state:
            self.standing[scope] = Standing(state, at_us)

    def moves(self, scope: str) -> None:
        """Take note that `scope` does not stand still."""
        self.standing.pop(scope, None)

    def tell(self, scope: str) -> None:
        """Take note that it is recorded as stale."""
        if scope in self.standing:
            self.told[scope] = self.standing[scope]

    def due_us(self, scope: str) -> int | None:
        """Return when `scope` is stale; None: it moves, has no limit, or is told."""
        found = self.standing.get(scope)
        if found is None or self.told.get(scope) == found:
            return None
        after_s = self.after_s(found.state)
        return None if after_s is None else found.since_us + round(after_s * US_PER_S)

    def after_s(self, state: str) -> float | None:
        """Return the limit of a state; None: it has none."""
        found: float | None = getattr(self.limits, f"{state}_s")
        return found

    def over(self) -> str | None:
        """Return a scope that is told as stale and has moved since; None: there is none."""
        for scope, told in self.told.items():
            if self.standing.get(scope) != told:
                return scope
        return None

    def is_stale(self, scope: str) -> bool:
        """Return whether it stands still for longer than its limit, and that is recorded."""
        return scope in self.told

    def copy(self) -> Staleness:
        """Return one that moves by itself."""
        made = Staleness(self.limits)
        made.standing, made.told = dict(self.standing), dict(self.told)
        return made

    def document(self) -> dict[str, Any]:
        """Return it as a JSON value, without limits: the task's first event has those."""
        return {
            "standing": {scope: list(standing) for scope, standing in self.standing.items()},
            "told": {scope: list(standing) for scope, standing in self.told.items()},
        }
