"""What people make of single steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.reference.model.beginnings import Beginnings
from tests.reference.model.outcomes import Outcomes
from tests.reference.model.wait_ends import WaitEnds
from tests.reference.names import name_of


class ByHand(Outcomes, Beginnings, WaitEnds):
    """Results, edits and releases by hand."""

    def resolve(self, name: str, result: Any, routes: Sequence[str] | None = None, *, is_skipped: bool = False) -> None:
        """A person says what came of an instance, whether or not it has begun; or skips it."""
        self._goes_on()
        self._enter(name).is_by_hand = is_skipped or self._enter(name).items is not None
        for item in self._enter(name).items or ():
            if item in self.instances and self.instances[item].status == "open":
                self._cancelled(item)
        self.instances[name].items = None
        self.accepted.discard(name)
        self.complete(name, result, routes)

    def release(self, name: str) -> None:
        """A person ends a wait, or lets a step begin whatever its parents say."""
        self._goes_on()
        if name not in self.instances:
            self._begin(name_of(name))
        else:
            self._done(name, self._what_it_has(name, "released"))
        self._rest()

    def reset(self, name: str) -> bool:
        """A person lets failures count no more; False: it is refused, there are none."""
        one, step = self.instances[name], self.steps[name_of(name)]
        is_other = one.items is not None or one.wait is not None or not one.has_place
        if self.ending or one.status != "open" or is_other or "child" in step or "delay_s" in step:
            return False
        one.first_attempt = one.attempt
        return True

    def edit(self, name: str, result: Any) -> None:
        """A person gives what is done another result."""
        self.instances[name].result = result
