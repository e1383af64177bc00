"""How a wait ends without what it waited for."""

from __future__ import annotations

from typing import Any

from tests.reference.model.approvals import Approvals
from tests.reference.names import name_of


class WaitEnds(Approvals):
    """Deadlines of waits."""

    def wait_is_over(self, name: str) -> None:
        """A wait has come to its deadline."""
        match self.steps[name_of(name)].get("on_wait_deadline", "fail"):
            case "fail":
                self._failed(name)
            case "escalate":
                self.escalate(name)
            case _:
                self._done(name, self._what_it_has(name, "expired"))
        self._rest()

    def _what_it_has(self, name: str, decision: str) -> Any:
        step, wait = self.steps[name_of(name)], self.instances[name].wait
        if "approval" in step:
            return {"decision": decision, "by": None}
        return list(wait.came) if wait is not None and step.get("signal_take") == "all" else None
