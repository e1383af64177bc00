"""A view built anew beside itself: filled from the log, then switched in one transaction.

Readers see the old rows until the switch, and the new ones from there on, never older than what they saw. The
runner goes on meanwhile; after the switch it finds its checkpoints gone and goes on with the new version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from tasker.errors import ParameterInvalid
from tasker.projections.checkpoints import Positions
from tasker.projections.folding import Folding
from tasker.projections.projection import Projection
from tasker.projections.store import LogTail, RebuildStore

BATCH_EVENTS_MAX: Final = 8000


class Progress(msgspec.Struct, frozen=True):
    """How far a rebuild is, in events; `of` grows while the log does."""

    events: int
    of: int


class Rebuilt(msgspec.Struct, frozen=True):
    """What a rebuild did."""

    name: str
    version: int
    events: int


class Rebuilder:
    """Rebuilds views one at a time."""

    def __init__(
        self, tail: LogTail, store: RebuildStore, projections: Sequence[Projection[Any]], *, shards: int
    ) -> None:
        self._tail = tail
        self._store = store
        self._projections = {one.name: one for one in projections}
        self._shards = shards

    async def rebuild(self, name: str, on_progress: Callable[[Progress], None] = lambda _: None) -> Rebuilt:
        """Build view `name` anew and switch to it; what was there before is dropped.

        Raises:
            ParameterInvalid: there is no such view.
            CheckpointMoved: another rebuild of the view took over; the view is as it was.
        """
        projection = self._projections.get(name)
        if projection is None:
            raise ParameterInvalid(
                f"there is no projection {name[:80]!r}; there are {', '.join(self._projections)}",
                remedy="name one of them",
            )
        version = await self._store.begin(name, self._shards)
        folding = Folding(self._store)
        await folding.open([(projection, version)], shards=self._shards)
        limit = max(1, BATCH_EVENTS_MAX // self._shards)
        wanted: Positions = {}
        while True:
            events = await self._tail.read_shards(folding.positions, limit=limit)
            if events:
                await folding.take(events)
            done = sum(folding.positions.values())
            on_progress(Progress(events=done, of=max(done, sum(wanted.values()))))
            if any(folding.positions[shard] < position for shard, position in wanted.items()):
                continue
            behind = await self._store.switch(name, version)
            if behind is None:
                break
            wanted = behind
        await self._store.drop_unread(name)
        return Rebuilt(name=name, version=version, events=sum(folding.positions.values()))
