"""I11: memory, queues and connections stay under their caps, and a refusal is typed and says when to ask again.

A run is sampled while it goes on: metrics, the process's own numbers, whatever has a cap. Each cap is reported once,
with the highest value that was seen.
"""

from __future__ import annotations

from collections.abc import Mapping

from tasker.errors import Problem, TaskerError, is_passing
from tasker.replay.findings import Finding, Invariant, Report


class BoundedChecker:
    """Holds what is sampled to its caps.

    Args:
        caps: name of a number -> what it may be at most.

    Attributes:
        highest: name -> the highest value that was seen.
        refused: code -> how many refusals were taken.
    """

    def __init__(self, caps: Mapping[str, float], report: Report) -> None:
        self._caps = dict(caps)
        self._report = report
        self.highest: dict[str, float] = {}
        self.refused: dict[str, int] = {}

    def take(self, values: Mapping[str, float]) -> None:
        """Take a sample; what has no cap is not looked at."""
        for name in self._caps.keys() & values.keys():
            self.highest[name] = max(self.highest.get(name, values[name]), values[name])

    def take_refusal(self, problem: Problem) -> None:
        """Take what a caller was answered in place of a verdict, because something was full or away."""
        self.refused[problem.code] = self.refused.get(problem.code, 0) + 1
        leaf = TaskerError.leaves.get(problem.code)
        if leaf is None:
            self._find(f"a refusal has the code {problem.code}, which nobody documents")
        elif not is_passing(leaf()):
            self._find(f"{problem.code} does not say that the same may succeed later: {problem.detail}")
        elif problem.retry_after_s is None:
            self._find(f"{problem.code} does not say when to ask again: {problem.detail}")

    def close(self) -> None:
        """Check the highest values, now that nothing more is sampled; a cap that was never sampled is a finding."""
        for name, cap in self._caps.items():
            highest = self.highest.get(name)
            if highest is None:
                self._find(f"{name} was never sampled")
            elif highest > cap:
                self._find(f"{name} rose to {highest:g}, over its cap of {cap:g}")

    def _find(self, detail: str) -> None:
        self._report(Finding(invariant=Invariant.BOUNDED, detail=detail))
