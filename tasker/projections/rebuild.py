"""A view built anew beside itself: filled from the log, then switched in one transaction.

Readers see the old rows until the switch, and the new ones from there on, never older than what they saw. The
runner goes on meanwhile; after the switch it finds its checkpoints gone and goes on with the new version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import structlog

from tasker.errors import ParameterInvalid
from tasker.projections.checkpoints import Positions
from tasker.projections.folding import Folding
from tasker.projections.projection import Projection
from tasker.projections.store import SHARD_BYTES_MAX, LogTail, RebuildStore, ViewInUse

BATCH_EVENTS_MAX: Final = 8000
SWITCH_TRIES_MAX: Final = 600
"""A view that somebody reads for long is not switched meanwhile."""

SWITCH_PAUSE_S: Final = 1.0
"""Between two tries: each holds up whoever else reads the view."""

_log: Final = structlog.get_logger(__name__)


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
            ViewInUse: somebody reads the view and does not let go of it; the view is as it was.
        """
        projection = self._projections.get(name)
        if projection is None:
            raise ParameterInvalid(
                f"there is no projection {name[:80]!r}; there are {', '.join(self._projections)}",
                remedy="name one of them",
            )
        version = await self._store.begin(name, self._shards)
        folding = Folding(self._store)
        await self._fill(folding, projection, version, on_progress)
        try:
            await self._store.drop_unread(name)
        except ViewInUse as error:
            _log.warning("view_not_dropped", view=name, error=error.detail)  # the next rebuild drops it
        return Rebuilt(name=name, version=version, events=sum(folding.positions.values()))

    async def _fill(
        self, folding: Folding, projection: Projection[Any], version: int, on_progress: Callable[[Progress], None]
    ) -> None:
        """Fold the log into a version until it is nowhere behind, and switch to it."""
        await folding.open([(projection, version)], shards=self._shards)
        limit = max(1, BATCH_EVENTS_MAX // self._shards)
        wanted: Positions = {}
        held = 0
        while True:
            events = await self._tail.read_shards(folding.positions, limit=limit, bytes_max=SHARD_BYTES_MAX)
            if events:
                await folding.take(events)
            done = sum(folding.positions.values())
            on_progress(Progress(events=done, of=max(done, sum(wanted.values()))))
            if any(folding.positions[shard] < position for shard, position in wanted.items()):
                continue
            try:
                behind = await self._store.switch(projection.name, version)
            except ViewInUse:
                held += 1
                if held == SWITCH_TRIES_MAX:
                    raise
                await asyncio.sleep(SWITCH_PAUSE_S)
                continue
            if behind is None:
                return
            wanted = behind
