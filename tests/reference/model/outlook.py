"""Whether a task is done, what holds it up, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.reference.model.joins import Joins
from tests.reference.model.seen import Seen
from tests.reference.names import name_of


class Outlook(Joins, Seen):
    """What a task may still come to."""

    def failures(self) -> Iterator[str]:
        """Return what failed and holds the task up, in the order in which it failed; items behind it."""
        if self.to_undo:
            yield from (
                name for name, one in self.instances.items() if name.endswith("~undo") and one.status == "failed"
            )
            return
        failed = [self.node(step) for step in self.steps if self._is(step, "failed") and self._holds_up(step)]
        yield from sorted(failed, key=lambda name: self.instances[name].failed_as)
        for node, one in self.instances.items():
            if one.items is not None and one.status == "open" and self._policy(name_of(node)) == "isolate":
                yield from (i for i in one.items if i in self.instances and self.instances[i].status == "failed")

    def _policy(self, step: str) -> str:
        one = self.steps[step]
        return str(one.get("on_item_failure", one.get("failure_strategy", "fail_fast"))).partition("_on")[0]

    @staticmethod
    def _stands(step: Mapping[str, Any], policy: str, items: int) -> float:
        """Return how many failed items a list stands."""
        if policy == "fail_fast":
            return 0
        if policy != "tolerate":
            return float("inf")
        share = step["tolerate"]
        return int(items * float(share[:-1]) / 100) if isinstance(share, str) else int(share)

    def _is_done(self) -> bool:
        """Return whether nothing is left to begin."""
        turns = any("back_to" in one and self._is(by, "done") for by, one in self.steps.items())
        complete = self._complete_lists()
        return (
            all(
                step in self.not_run
                or self._is(step, "done")
                or self._is(step, "cancelled")
                or self.node(step) in self.accepted
                or self.node(step) in complete
                for step in self.steps
            )
            and not turns
        )

    def _complete_lists(self) -> list[str]:
        """Return the lists all of whose items have ended, of a task without loops."""
        if any("back_to" in one for one in self.steps.values()):
            return []
        return [node for node, one in self.instances.items() if one.items is not None and self._is_complete(node)]

    def _is_complete(self, node: str) -> bool:
        entry, policy = self.instances[node], self._policy(name_of(node))
        items = entry.items or []
        if entry.status != "open" or any(item not in self.instances for item in items):
            return False
        said = [self.instances[item].status for item in items]
        failed = said.count("failed")
        is_over = failed > self._stands(self.steps[name_of(node)], policy, len(items))
        return "open" not in said and not is_over and not (failed and policy == "isolate")

    def _is_settled(self, step: str) -> bool:
        if step in self.not_run or self._is(step, "done") or self._is(step, "cancelled"):
            return True
        return self._is(step, "failed") and not self._holds_up(step)

    def _task_result(self) -> Any:
        last = [step for step in self.steps if not self._children(step) and "back_to" not in self.steps[step]]
        named = self.document.get("result", last[0] if len(last) == 1 else None)
        if named is not None:
            return self.result_of(self.node(named)) if self._is(named, "done") else None
        return {
            step: self.result_of(self.node(step)) if self._is(step, "done") else None
            for step in last
            if step not in self.not_run
        }
