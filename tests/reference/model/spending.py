"""What a task uses of its budget, and what follows when that is too much."""

from __future__ import annotations

from tests.reference.model.budget import Used
from tests.reference.model.moves import Moves


class Spending(Moves):
    """Tokens, money, and the time in which steps run."""

    def _use(self, used: Used | None) -> bool:
        """Add to what the task has used; return whether that is too much by now, and was not before."""
        if used is None:
            return False
        self.budget.told.append(used)
        if not self.budget.is_over() or self.ending or "budget" in self.holds:
            return False
        self.holds.add("budget")
        return True

    def _rest_within_budget(self, *, is_too_much: bool) -> None:
        if is_too_much and self.budget.fails and not self._is_done():
            self._stop("failed")
        self._rest()

    def pass_time(self, us: int) -> None:
        """Let time pass; while steps run, it is used up."""
        if not us or not any(one.is_running and one.status == "open" for one in self.instances.values()):
            return
        self.budget.ran_us += us
        if self.budget.has_run_out() and not self.ending and "budget" not in self.holds:
            self.holds.add("budget")
            self._rest_within_budget(is_too_much=True)
