"""What is said when nothing moves by itself."""

from __future__ import annotations

from tests.reference.model.loops import Loops
from tests.reference.model.undoing import Undoing


class AtRest(Loops, Undoing):
    """A task at rest: it waits, is blocked, or has ended."""

    def _rest(self) -> None:
        """Say what is to be said when nothing moves by itself: a loop turns, or the task ends, undoes or is blocked."""
        if self.status in ("completed", "failed", "cancelled"):
            return
        if self.ending:
            if not any(one.status == "open" for one in self.instances.values()):
                self._end()
            return
        if self.status != "running" and not self.holds:
            return
        if "paused" in self.holds:
            self.status = "paused"
            return
        if not self.has_begun:
            self.status = "blocked" if "late" in self.holds else "pending"
            return
        if self.holds:
            self.status = "blocked"
            if self._is_done():
                for node in self._complete_lists():
                    self._done(node, None)
                self.status, self.result = "completed", self._task_result()
            return
        for by, one in self.steps.items():
            if "back_to" in one and self._is(by, "done") and self._turn(one["back_to"]):
                self._rest()
                return
        waiting = list(self.failures())
        is_open = any(one.status == "open" and one.items is None for one in self.instances.values())
        if is_open:
            return
        if all(self._is_settled(step) for step in self.steps):
            self.status, self.result = "completed", self._task_result()
        elif waiting:
            self.status = "blocked"
        else:
            raise AssertionError("by the documentation this task can neither go on nor end")
