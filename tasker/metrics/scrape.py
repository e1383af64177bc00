"""What one scrape of a node gathers: the numbers of this process, and of the others that run beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from tasker.metrics.local import SUPPORTED, ask_at, socket_of
from tasker.metrics.sample import Sample, Samples

Teller = Callable[[Samples], None]
Asker = Callable[[Samples], Awaitable[None]]


class Scrape:
    """Gathers samples.

    Args:
        process: the name of this one.
        folder: where the others tell theirs; "" when there are none.
        others: their names.
    """

    def __init__(self, process: str, folder: str = "", others: Sequence[str] = ()) -> None:
        self._process = process
        self._folder = folder
        self._others = others
        self.tellers: list[Teller] = []
        """Add what this process knows; they do not wait."""
        self.askers: list[Asker] = []
        """Add what has to be asked for."""

    def own(self) -> list[Sample]:
        """Return what this process knows now."""
        samples = Samples(self._process)
        for tell in self.tellers:
            tell(samples)
        return samples.found

    async def all(self) -> list[Sample]:
        """Return what all processes of the node know now; one that does not answer is told to be down."""
        asked = Samples(self._process)
        others, _ = await asyncio.gather(
            asyncio.gather(*(self._of(other) for other in self._others)),
            asyncio.gather(*(ask(asked) for ask in self.askers)),
        )
        found = [*self.own(), *asked.found]
        for samples in others:
            found += samples
        return found

    async def _of(self, process: str) -> list[Sample]:
        found = await ask_at(socket_of(self._folder, process)) if SUPPORTED and self._folder else None
        if found is None:
            down = Samples(process)
            down.add("tasker_process_up", 0)
            return down.found
        return found
