"""What went straight to workers and has not begun, as far as a node knows: what is missed with a worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tasker.service.actors.dispatch.lines import Offered, Worker

FORGET_S: Final = 60.0
"""What has not begun so long after it was to be sent is no longer missed here: its obligation has offered it again."""


class Unbegun(dict[tuple[str, str, int], tuple[Worker, Offered]]):
    """Who has what, by task, step and attempt; what was sent first comes first."""

    __slots__ = ()

    def sent(self, worker: Worker, items: Iterable[Offered]) -> None:
        """Take note of what goes to a worker."""
        for offered in items:
            self[offered.actor.task_id, offered.step, offered.attempt] = (worker, offered)

    def missed(self, items: Iterable[Offered]) -> list[Offered]:
        """Return, once, those of `items` that have not begun: they may never have arrived."""
        keys = ((one.actor.task_id, one.step, one.attempt) for one in items)
        return [found[1] for key in keys if (found := self.pop(key, None)) is not None]

    def of(self, workers: set[Worker]) -> list[Offered]:
        """Return what workers have, with their parts."""
        return [offered for holder, offered in self.values() if holder.whole in workers]

    def forget_old(self, now_s: float) -> None:
        """Forget what was sent long ago."""
        old = []
        for key, (_, offered) in self.items():
            if offered.until_s > now_s - FORGET_S:
                break
            old.append(key)
        for key in old:
            del self[key]
