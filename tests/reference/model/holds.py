"""Why nothing begins for a while, and what is followed up then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.reference.model.event_waits import EventWaits
from tests.reference.model.failures import Failures
from tests.reference.model.retries import Retries
from tests.reference.names import name_of


class Holds(Retries, Failures, EventWaits):
    """Pauses, deadlines and budgets that hold a task."""

    def pause(self) -> None:
        """A person holds the task."""
        self._hold("paused")

    def resume(self) -> None:
        """A person lets it go on."""
        if "paused" in self.holds and "budget" in self.holds and self.budget.fails and not self._is_done():
            self._stop("failed")
            self._rest()
        else:
            self._lift("paused")

    def deadline(self) -> None:
        """The task's deadline has passed."""
        self.given.has_deadline = False
        match self.document.get("on_timeout", "fail"):
            case "fail":
                self._stop("failed")
                self._rest()
            case "block":
                self._hold("late")
            case _:
                pass

    def give_time(self, within_s: float | None) -> None:
        """A person gives the task another deadline, or none."""
        self.given.has_deadline = within_s is not None
        self._lift("late")

    def allow(self, more: Mapping[str, Any]) -> bool:
        """A person lets it use more; False: it is refused."""
        if self.ending or self.is_over or not self.budget.allow(more):
            return False
        self._lift("budget")
        return True

    def _hold(self, why: str) -> None:
        self.holds.add(why)
        self._rest()

    def _lift(self, why: str) -> None:
        if why not in self.holds:
            return
        self.holds.discard(why)
        if not self.has_begun and not self.ending:
            self.status = "pending"
        if self.holds or self.ending or not self.has_begun:
            self._rest()
            return
        self.status = "running"
        while not self.ending:
            before = self._what_stands()
            self._look_at_all()
            if self._what_stands() == before:
                break
        self._rest()

    def _look_at_all(self) -> None:
        """Follow up what came to rest while the task was held."""
        for step in self._in_order():
            for parent in self.steps[step]["after"]:
                self._edge(parent, step)
        for step in self._in_order():
            if not self.steps[step]["after"]:
                self._look(step)
        self._hand_out()
        self._take_kept_events()
        for name in [name for name, one in self.instances.items() if one.is_to_begin]:
            self.instances[name].is_to_begin = False
            self._begin_again(name)
        for step in self._in_order():
            one = self._at(step)
            is_out = step in self.not_run or self._is(step, "cancelled") or self.node(step) in self.accepted
            if is_out or self._is(step, "done"):
                self._after(step)
            elif one is not None and one.items is not None:
                self._next_items(self.node(step))
        for name in [name for name, one in self.instances.items() if one.status == "failed"]:
            if "[" in name or name == self.node(name_of(name)):
                self._look_at_failure(name)

    def _what_stands(self) -> tuple[object, ...]:
        return (len(self.inbox), frozenset(self.not_run), *((name, one.status) for name, one in self.instances.items()))
