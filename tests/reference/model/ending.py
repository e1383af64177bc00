"""How a task, or a step that nobody needs, is stopped."""

from __future__ import annotations

from typing import Any, Literal

from tests.reference.model.moves import Moves
from tests.reference.names import name_of


class Ending(Moves):
    """What is told to stop, and when it has."""

    def cancel(self, *, graceful: bool = False) -> None:
        """A person cancels the task, with or without a grace for what runs."""
        self._stop("cancelled", graceful=graceful)
        self._rest()

    def force(self, ending: Literal["completed", "failed"], result: Any = None) -> None:
        """A person ends the task as they say, without a grace."""
        self.forced = result
        self._stop(ending, graceful=False)
        self._rest()

    def _stop(self, ending: str, *, graceful: bool = True) -> None:
        self.ending, self.status = ending, "running"
        self.holds.clear()
        for name in [name for name, one in self.instances.items() if one.status == "open"]:
            self._cancel_one(name, graceful=graceful)

    def _cancel_one(self, name: str, *, graceful: bool) -> None:
        one = self.instances[name]
        if graceful and one.is_running:
            one.is_stopping = True
        elif self._has_child_to_stop(name):
            one.stops_with_child = True
        else:
            self._cancelled(name)

    def _cancel(self, name: str) -> None:
        one = self.instances[name]
        for item in one.items or ():
            if item in self.instances and self.instances[item].status == "open":
                self._cancel(item)
        if self._has_child_to_stop(name):
            one.stops_with_child = True
        else:
            self._cancelled(name)

    def _has_child_to_stop(self, name: str) -> bool:
        """Return whether an instance ends with its child; what is retried and has not begun again has none."""
        one, step = self.instances[name], self.steps[name_of(name)]
        entry = self.instances.get(name.partition("[")[0])
        is_to_come = one.is_to_begin or (entry is not None and name in entry.again)
        return "child" in step and one.items is None and not is_to_come and step.get("on_parent_close") != "abandon"
