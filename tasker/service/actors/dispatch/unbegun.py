"""What went straight to workers and has not begun, as far as a node knows: what is missed with a worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tasker.service.actors.dispatch.lines import Offered, Worker

BEGIN_S: Final = 60.0
"""A worker that lives begins what it gets, or gives it back, long before this; what it did not is offered to others."""


class Unbegun(dict[tuple[str, str, int], tuple[Worker, Offered]]):
    """Who has what, by task, step and attempt; what was sent first comes first."""

    __slots__ = ()

    def sent(self, worker: Worker, items: Iterable[Offered]) -> None:
        """Take note of what goes to a worker."""
        for offered in items:
            key = (offered.actor.task_id, offered.step, offered.attempt)
            self.pop(key, None)
            self[key] = (worker, offered)

    def missed(self, items: Iterable[Offered]) -> list[Offered]:
        """Return, once, those of `items` that have not begun: they may never have arrived."""
        keys = ((one.actor.task_id, one.step, one.attempt) for one in items)
        return [found[1] for key in keys if (found := self.pop(key, None)) is not None]

    def of(self, workers: set[Worker]) -> list[Offered]:
        """Return what workers have, with their parts."""
        return [offered for holder, offered in self.values() if holder.whole in workers]

    def overdue(self, now_s: float) -> list[Offered]:
        """Return, once, what was sent long ago."""
        old = []
        for _, offered in self.values():
            if offered.until_s > now_s - BEGIN_S:
                break
            old.append(offered)
        return self.missed(old)
