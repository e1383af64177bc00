"""What a failure means: for the list, for the steps behind it, and for the task."""

from __future__ import annotations

from tests.reference.model.moves import Moves
from tests.reference.names import name_of


class Failures(Moves):
    """What failed for good."""

    def _failed(self, name: str) -> None:
        self._clock += 1
        self.instances[name].status, self.instances[name].failed_as = "failed", self._clock
        self._look_at_failure(name)

    def _look_at_failures_ahead(self, step: str) -> None:
        for parent in self.steps[step]["after"]:
            if self._is(parent, "failed"):
                self._look_at_failure(self.node(parent))

    def _look_at_failure(self, name: str) -> None:
        if self.ending or self.holds or name.endswith("~undo"):
            return
        step, fails = name_of(name), self.document.get("on_failure") == "fail" and not self.instances[name].is_left
        if "[" in name:
            if fails and self._policy(step) == "isolate":
                self._stop("failed")
            else:
                self._next_items(name.partition("[")[0])
            return
        children = self._children(step)
        if fails and (not children or any(self._needs(child, step) == "yes" for child in children)):
            self._stop("failed")
        elif not self._holds_up(step) and name not in self.accepted:
            self.accepted.add(name)
            self._after(step)
        else:
            for child in children:
                if self.steps[child].get("join") == "all_settled":
                    self._look(child)
