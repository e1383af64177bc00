"""What a person tries again."""

from __future__ import annotations

from collections.abc import Sequence

from tests.reference.model.lists import Lists
from tests.reference.model.paths import Paths
from tests.reference.names import name_of


class Retries(Lists, Paths):
    """Failed instances that get fresh attempts."""

    def retry(self) -> bool:
        """A person retries what failed and holds the task up; False: it is refused, there is nothing of that kind."""
        again = list(self.failures())
        if not again or (self.ending and not self.to_undo) or any(map(self._is_being_stopped, again)):
            return False
        self._try_again(again)
        return True

    def retry_one(self, name: str) -> bool:
        """A person retries one failed instance; False: refused, as another visit has begun, or it is stopping."""
        if self.ending or name.partition("[")[0] != self.node(name_of(name)) or self._is_being_stopped(name):
            return False
        self._try_again([name])
        return True

    def _is_being_stopped(self, name: str) -> bool:
        """Return whether items of a list wait for the end of their children, which were cancelled with it."""
        items = (self.instances.get(item) for item in self.instances[name].items or ())
        return any(item is not None and item.status == "open" and item.stops_with_child for item in items)

    def _try_again(self, names: Sequence[str]) -> None:
        self._goes_on()
        for name in names:
            self._reopen(name)
        for name in names:
            if self.ending and not self.to_undo:
                break
            if not self.holds:
                self._begin_again(name)
            elif name in self.instances:
                self.instances[name].is_to_begin = True
        self._rest()

    def _reopen(self, name: str) -> None:
        """Give an instance fresh attempts; one that failed before it began is as if it never had."""
        one = self.instances[name]
        self.accepted.discard(name)
        if one.items is None and not one.was_offered and "[" not in name:
            del self.instances[name]
            return
        one.status, one.is_left, one.attempt, one.first_attempt = "open", False, one.attempt + 1, one.attempt + 1
        one.wait, one.stops_with_child = None, False
        if "[" in name and not name.endswith("~undo"):
            self.instances[name.partition("[")[0]].again.append(name)
        for item in one.items or ():
            if item in self.instances and self.instances[item].status in ("failed", "cancelled"):
                self._reopen(item)

    def _begin_again(self, name: str) -> None:
        step = name_of(name)
        if name not in self.instances:
            for parent in self.steps[step]["after"]:
                self._edge(parent, step)
            self._look(step)
            if not self._is_past(step) and self._join(step) == "does not run":
                self._does_not_run([step])
        elif self.instances[name].items is not None:
            self._next_items(name)
        elif "[" in name and not name.endswith("~undo") and self._is_open(name.partition("[")[0]):
            self._next_items(name.partition("[")[0])
        elif self.instances[name].status == "open" and not name.endswith("~undo"):
            self._takes_its_turn(name)
            self._begin_item(name)
