"""Loops: when they turn, and what then is as if it had not been."""

from __future__ import annotations

from tests.reference.model.failures import Failures


class Loops(Failures):
    """Visits of steps in a loop."""

    def _turn(self, target: str) -> bool:
        body = [step for step in self.steps if step == target or target in self._ahead(step)]
        nodes = {self.node(step) for step in body}
        if any(one.status == "open" and name.partition("[")[0] in nodes for name, one in self.instances.items()):
            return False
        if self.visits[target] > self.steps[target].get("max_visits", 100) and self.node(target) in self.accepted:
            return False
        self.shared.turned[target] += 1
        for step in body:
            if step in self.not_run:
                self.not_run.discard(step)
            elif self._at(step) is not None:
                self.visits[step] += 1
        self.not_chosen = {(parent, child) for parent, child in self.not_chosen if parent not in body}
        needed_again = [
            self.node(parent)
            for child in body
            for parent in self.steps[child]["after"]
            if parent not in body and self._is(parent, "failed") and self._needs(child, parent) != "no"
        ]
        self.accepted -= set(needed_again)
        if self.visits[target] > self.steps[target].get("max_visits", 100):
            self._enter(self.node(target))
            self._failed(self.node(target))
        elif self._join(target) == "does not run":
            self._does_not_run([target])
        else:
            self._look(target)
        for name in needed_again:
            self._look_at_failure(name)
        return True
