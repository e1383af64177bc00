"""The state that steps share, as a step sees it: what it sees is settled when it begins."""

from __future__ import annotations

from typing import Any

from tests.reference.model.instances import Instance
from tests.reference.model.shared import Write
from tests.reference.model.standing import Standing
from tests.reference.names import name_of


class Seen(Standing):
    """What steps saw when they began, and what they left."""

    def counting(self) -> list[Write]:
        """Return the writes that count: of what is done, of lists when all of the list is."""
        nodes = [one.instance.partition("[")[0] for one in self.shared.writes]
        return [
            one
            for one, node in zip(self.shared.writes, nodes, strict=True)
            if self.instances[one.instance].status == self.instances[node].status == "done"
        ]

    def seen_by(self, instance: str) -> dict[str, Any]:
        """Return the state as an instance that has begun sees it; a compensation as its step left it."""
        name = instance.removesuffix("~undo")
        return self.shared.value([*self.shared.saw[name.partition("[")[0]], *self.shared.of(name)])

    def left_by(self, step: str) -> dict[str, Any]:
        """Return the state as a step that is done left it."""
        node = self.node(step)
        own = [one for one in self.counting() if one.instance.partition("[")[0] == node]
        return self.shared.value([*self.shared.saw[node], *self.shared.in_order(own, [])])

    def last_state(self) -> dict[str, Any]:
        """Return the state as the last steps left it."""
        last = [step for step in self.steps if not self._children(step)]
        steps = [one for step in last for one in (*self.shared.ahead(step), step)]
        return self.shared.value(self.shared.in_order(self.counting(), steps))

    def _look_at_state(self, step: str) -> None:
        """Keep what a step sees that begins now."""
        self.shared.saw[self.node(step)] = self.shared.visible(step, self.counting())

    def _must_agree(self, node: str) -> None:
        """Look whether branches that meet here agree.

        Raises:
            LookupError: they do not.
        """
        if self.shared.clashes(node, self.shared.saw[node]):
            raise LookupError(node)

    def _state_of(self, step: str) -> dict[str, Any]:
        return self.shared.value(self.shared.saw[self.node(step)])

    def _enter(self, name: str) -> Instance:
        if name not in self.instances and name == self.node(name_of(name)):
            self._look_at_state(name_of(name))
        return self.instances.setdefault(name, Instance())
