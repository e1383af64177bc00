"""How a step joins its parents, and whether what failed is needed."""

from __future__ import annotations

from typing import Literal

from tests.reference.model.standing import Standing


class Joins(Standing):
    """What the parents of a step say to it, and what it needs of them."""

    def _says(self, parent: str, child: str) -> Literal["done", "out", "failed", "coming"]:
        if parent in self.not_run or (parent, child) in self.not_chosen or self._is(parent, "cancelled"):
            return "out"
        if self._is(parent, "done"):
            return "done"
        return "failed" if self._is(parent, "failed") else "coming"

    def _join(self, step: str) -> Literal["begins", "does not run", "waits"]:
        parents = self.steps[step]["after"]
        said = [self._says(parent, step) for parent in parents]
        done, out, failed, coming = (said.count(word) for word in ("done", "out", "failed", "coming"))
        match self.steps[step].get("join", "all"):
            case "all" if out:
                return "does not run"
            case "all":
                return "begins" if done == len(parents) else "waits"
            case "deferred" if out == len(parents):
                return "does not run"
            case "deferred":
                return "begins" if not coming and not failed else "waits"
            case "all_settled" if out == len(parents):
                return "does not run"
            case "all_settled":
                return "waits" if coming else "begins"
            case _ if done >= self._wanted(step):
                return "begins"
            case _:
                return "does not run" if done + coming + failed < self._wanted(step) else "waits"

    def _wanted(self, step: str) -> int:
        return int(self.steps[step].get("join_count", 1))

    def _needs(self, child: str, parent: str) -> Literal["yes", "no", "perhaps"]:
        if (parent, child) in self.not_chosen or (self._is_past(child) and not self._is_to_begin_anew(child)):
            return "no"
        match self.steps[child].get("join", "all"):
            case "all_settled":
                return "no"
            case "any" | "n_of":
                said = [self._says(one, child) for one in self.steps[child]["after"]]
                if said.count("done") >= self._wanted(child):
                    return "no"
                return "perhaps" if said.count("done") + said.count("coming") >= self._wanted(child) else "yes"
            case _:
                return "yes"

    def _is_to_begin_anew(self, step: str) -> bool:
        """Return whether a step failed before it began, at an expression say: a retry looks at its parents again."""
        one = self._at(step)
        is_so = one is not None and one.status == "failed" and one.items is None and not one.was_offered
        return is_so and self.node(step) not in self.accepted

    def _holds_up(self, step: str) -> bool:
        """Return whether a failed step may yet be needed: a last step always is."""
        children = self._children(step)
        return not children or any(self._needs(child, step) != "no" for child in children)
