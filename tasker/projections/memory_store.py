"""Rows and checkpoints in memory: the twin of the PostgreSQL store, with the same promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec

from tasker.errors import ConfigurationError, Unavailable
from tasker.events.envelope import RecordedEvent
from tasker.projections.checkpoints import CheckpointMove, CheckpointMoved, Positions
from tasker.projections.projection import Key, Projection
from tasker.projections.store import RowRefused, RowWrites, ViewSnapshot

_Version = tuple[str, int]


class MemoryTail:
    """The tail of a log that is a list: `events`, to which its owner appends."""

    def __init__(self, events: Sequence[RecordedEvent]) -> None:
        self.events = events

    async def read_shards(self, after: Positions, *, limit: int, bytes_max: int | None = None) -> list[RecordedEvent]:
        """Return up to `limit` events of each shard of `after` behind its position; each shard's in order."""
        found: dict[int, list[RecordedEvent]] = {shard: [] for shard in after}
        for event in self.events:
            if event.shard in after and after[event.shard] < event.position <= after[event.shard] + limit:
                found[event.shard].append(event)
        return [event for events in found.values() for event in first_of(events, bytes_max=bytes_max)]


def first_of(events: Iterable[RecordedEvent], *, bytes_max: int | None) -> Iterator[RecordedEvent]:
    """Yield the first events, whose payloads have `bytes_max` bytes together, or one that has more; None: all."""
    size = 0
    for event in events:
        if bytes_max is not None and size and size + len(event.payload) > bytes_max:
            return
        size += len(event.payload)
        yield event


class MemoryViewStore:
    """Rows by view, version and key."""

    def __init__(self, projections: Sequence[Projection[Any]]) -> None:
        self._active = {one.name: 1 for one in projections}
        self._tables: dict[_Version, dict[Key, Any]] = {(one.name, 1): {} for one in projections}
        self._checkpoints: dict[_Version, dict[int, int]] = {}

    async def active(self, names: Sequence[str]) -> dict[str, int]:
        """Return name -> the version that is read."""
        unknown = set(names) - set(self._active)
        if unknown:
            raise ConfigurationError(f"the store has no views {sorted(unknown)}")
        return {name: self._active[name] for name in names}

    async def checkpoints(self, name: str, version: int, shards: int) -> dict[int, int]:
        """Return the positions of one version over all `shards`, entering what is not there yet as 0."""
        if version != self._active[name] and (name, version) not in self._checkpoints:
            raise CheckpointMoved(f"version {version} of view {name} is gone: a rebuild has made another one")
        positions = self._checkpoints.setdefault((name, version), {})
        for shard in range(shards):
            positions.setdefault(shard, 0)
        return dict(positions)

    async def positions(self) -> dict[int, int]:
        """Return shard -> the position that every view that is read has reached."""
        read = [self._checkpoints.get(version, {}) for version in self._active.items()]
        shards = {shard for positions in read for shard in positions}
        return {shard: min(positions.get(shard, 0) for positions in read) for shard in shards}

    async def fetch(self, projection: Projection[Any], version: int, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return the rows of `keys` that exist."""
        table = self._table(projection, version)
        return {key: msgspec.structs.replace(table[key]) for key in keys if key in table}

    async def rows_of(self, projection: Projection[Any], version: int, stream_ids: Sequence[UUID]) -> Sequence[Any]:
        """Return all rows of some streams, in any order."""
        wanted = set(stream_ids)
        table = self._table(projection, version)
        return [msgspec.structs.replace(row) for key, row in table.items() if key[0] in wanted]

    async def write(self, moves: Sequence[CheckpointMove], writes: Sequence[RowWrites]) -> None:
        """Move checkpoints and write rows, all or nothing."""
        for move in moves:
            if self._checkpoints.get((move.projection, move.version), {}).get(move.shard) != move.old:
                raise CheckpointMoved(f"the checkpoint of {move.projection} in shard {move.shard} is elsewhere")
        for write in writes:
            table, key_of = self._tables[write.projection.name, write.version], write.projection.key_of
            if any(key_of(row) in table for row in write.born):
                raise RowRefused("a row is born that is there already")
        for move in moves:
            self._checkpoints[move.projection, move.version][move.shard] = move.new
        for write in writes:
            table, key_of = self._tables[write.projection.name, write.version], write.projection.key_of
            table.update((key_of(row), msgspec.structs.replace(row)) for row in write.born)
            fixed = write.projection.row_type.__struct_fields__[: write.projection.facts]
            for row in write.moved:
                # As in PostgreSQL: facts of a row's birth are not written again, and what is not there is not moved.
                born = table.get(key_of(row))
                if born is not None:
                    facts = {name: getattr(born, name) for name in fixed}
                    table[key_of(row)] = msgspec.structs.replace(row, **facts)

    def _table(self, projection: Projection[Any], version: int) -> dict[Key, Any]:
        """Return the rows of a version.

        Raises:
            Unavailable: a rebuild has dropped it.
        """
        try:
            return self._tables[projection.name, version]
        except KeyError as error:
            raise Unavailable(f"there is no table of {projection.name} version {version}") from error

    def snapshot(self) -> AbstractAsyncContextManager[ViewSnapshot]:
        """Return the views as they are at one moment."""
        return self._snapshot()

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[ViewSnapshot]:
        yield _MemorySnapshot(
            {name: dict(self._checkpoints.get((name, version), {})) for name, version in self._active.items()},
            {
                name: [msgspec.structs.replace(row) for _, row in sorted(self._tables[name, version].items())]
                for name, version in self._active.items()
            },
        )

    async def begin(self, name: str, shards: int) -> int:
        """Return the version to fill, with an empty table; what an abandoned rebuild left is dropped."""
        version = self._active[name] + 1
        self._tables[name, version] = {}
        self._checkpoints[name, version] = dict.fromkeys(range(shards), 0)
        return version

    async def switch(self, name: str, version: int) -> Mapping[int, int] | None:
        """Make `version` the one that is read, if it is nowhere behind the present one."""
        active = self._active[name]
        if active != version - 1:
            raise CheckpointMoved(f"another rebuild of {name} made version {active} the one that is read")
        present = self._checkpoints.get((name, active), {})
        built = self._checkpoints[name, version]
        if any(built.get(shard, 0) < position for shard, position in present.items()):
            return dict(present)
        self._active[name] = version
        self._checkpoints.pop((name, active), None)
        return None

    async def drop_unread(self, name: str) -> None:
        """Drop the tables of versions that nobody reads."""
        kept = (name, self._active[name])
        for held in (self._tables, self._checkpoints):
            for version in [one for one in held if one[0] == name and one != kept]:
                del held[version]


class _MemorySnapshot:
    """A copy."""

    def __init__(self, checkpoints: dict[str, dict[int, int]], tables: dict[str, list[Any]]) -> None:
        self._checkpoints = checkpoints
        self._tables = tables

    async def positions(self, projection: Projection[Any]) -> dict[int, int]:
        """Return how far the view is, by shard."""
        return self._checkpoints[projection.name]

    async def counts(self, projection: Projection[Any]) -> dict[int, int]:
        """Return how many rows the view has, by shard; a shard without any is left out."""
        return dict(Counter(row.shard for row in self._tables[projection.name]))

    async def rows_of(self, projection: Projection[Any], stream_ids: Sequence[UUID]) -> Sequence[Any]:
        """Return all rows of some streams."""
        wanted = set(stream_ids)
        return [row for row in self._tables[projection.name] if projection.key_of(row)[0] in wanted]

    async def rows(self, projection: Projection[Any]) -> AsyncIterator[Sequence[Any]]:
        """Yield all rows of the view, by key."""
        if self._tables[projection.name]:
            yield self._tables[projection.name]
