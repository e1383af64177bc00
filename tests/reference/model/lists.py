"""Steps with items: how many run at a time, and how many failures they stand."""

from __future__ import annotations

from tests.reference.model.ending import Ending
from tests.reference.model.instances import Instance, Status
from tests.reference.model.leaves import Leaves
from tests.reference.names import name_of


class Lists(Leaves, Ending):
    """Items, and the steps that they are of."""

    def _begin_list(self, step: str, node: str) -> None:
        one = self.steps[step]
        if "batches" in one:
            cursors = self.result_of(self.node(one["batches"])) if self._is(one["batches"], "done") else None
            if not isinstance(cursors, list):
                raise LookupError(one["batches"])
        else:
            cursors = self._value(one["each"])
        self._enter(node).items = [f"{node}[{index}]" for index in range(len(cursors))]
        self._next_items(node)

    def _next_items(self, node: str) -> None:
        step, entry = self.steps[name_of(node)], self.instances[node]
        if self.holds or self.ending or entry.items is None or entry.status != "open":
            return
        policy = self._policy(name_of(node))
        if self._items(entry, "failed") > self._stands(step, policy, len(entry.items)):
            for item in entry.items:
                if item in self.instances and self.instances[item].status == "open":
                    self._cancel(item)
            self._failed(node)
            return
        at_a_time = step.get("max_parallel", step.get("parallelism", 100))
        for item in (*entry.again, *entry.items):
            is_next = item in entry.again or item not in self.instances
            if is_next and self._is_open(node) and self._running(entry) < at_a_time:
                if item in entry.again:
                    entry.again.remove(item)
                self._begin_item(item)
        if not self._is_open(node) or self._items(entry, "open"):
            return
        if not (self._items(entry, "failed") and policy == "isolate"):
            self._done(node, None)

    def _items(self, of: Instance, status: Status) -> int:
        return sum(self.instances[item].status == status for item in of.items or () if item in self.instances)

    def _running(self, of: Instance) -> int:
        return self._items(of, "open") - sum(self.instances[item].status == "open" for item in of.again)

    def _is_open(self, name: str) -> bool:
        return self.instances[name].status == "open" and not self.ending

    def _takes_its_turn(self, name: str) -> None:
        """An item that waited for its turn waits for it no more."""
        entry = self.instances.get(name.partition("[")[0])
        if entry is not None and name in entry.again:
            entry.again.remove(name)
