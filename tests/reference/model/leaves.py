"""How an instance begins that is no list: it is offered, or waits."""

from __future__ import annotations

from tests.reference.model.signals import Signals
from tests.reference.model.waits import Asked, Wait
from tests.reference.names import name_of


class Leaves(Signals):
    """Steps and items that do something themselves."""

    def _begin_leaf(self, name: str) -> None:
        """Offer a step or an item, or let it wait for its place, a signal, people or an event."""
        step = self.steps[name_of(name)]
        is_free = self._key(step, name) is None
        one = self._enter(name)
        one.was_offered, one.has_place, one.is_running = True, is_free, False
        if any(key in step for key in ("signal", "approval", "event")):
            self._clock += 1
            asked = Asked(step["approval"]) if "approval" in step else None
            one.wait = Wait(self._clock, asked=asked, heard=len(self.company.said))
            self._look_into_inbox(name)

    def _begin_item(self, item: str) -> None:
        try:
            self._begin_leaf(item)
        except LookupError:
            self._enter(item)
            self._failed(item)
