"""What is undone when a task fails or is cancelled."""

from __future__ import annotations

from tests.reference.model.moves import Moves
from tests.reference.names import name_of


class Undoing(Moves):
    """Compensations, one after the other, the last that was done first."""

    def _end(self) -> None:
        on = {"failed": "failure", "cancelled": "cancel", "completed": "nothing"}[self.ending]
        if self.ending == "completed":
            self.status, self.result = "completed", self.forced
            return
        if not self.to_undo and self.document.get("compensate_on", "both") in ("both", on):
            done = [
                (one.done_as, name)
                for name, one in self.instances.items()
                if one.status == "done"
                and not one.is_by_hand
                and one.items is None
                and "compensate" in self.steps[name_of(name)]
            ]
            self.to_undo = [f"{name}~undo" for _, name in sorted(done, reverse=True)]
            if self.to_undo:
                self.status = "compensating"
                self._undo_next()
                return
        left = [name for name in self.to_undo if name not in self.instances or self.instances[name].status != "done"]
        self.status = "blocked" if left else self.ending

    def _undo_next(self) -> None:
        for name in self.to_undo:
            if name not in self.instances:
                self._enter(name).was_offered = True
            if self.instances[name].status != "done":
                return
