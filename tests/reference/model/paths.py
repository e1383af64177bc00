"""What a step that is settled means for its children."""

from __future__ import annotations

from tests.reference.model.moves import Moves


class Paths(Moves):
    """The ways on from a step."""

    def _after(self, step: str) -> None:
        """Look at the children of a step that is done, cancelled or does not run."""
        if self.ending or self.holds:
            return
        closed = []
        for child in self._children(step):
            self._edge(step, child)
            if self._is_past(child):
                if self._is_to_begin_anew(child):
                    self._look_at_failures_ahead(child)
                continue
            says = self._join(child)
            if says == "does not run":
                closed.append(child)
            self._look(child)
            if says == "waits":
                self._look_at_failures_ahead(child)
        if not self.ending:
            self._does_not_run(closed)

    def _edge(self, parent: str, child: str) -> None:
        condition = self.edges.get((parent, child))
        if condition is None or not self._is(parent, "done") or self._is_past(child) or self.ending:
            return
        try:
            if not self._value(condition, state=self.left_by(parent)):
                self.not_chosen.add((parent, child))
        except LookupError:
            self._enter(self.node(child))
            self._failed(self.node(child))
