"""What a runner and a rebuild need of a log and of a store of rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from tasker.errors import Unavailable
from tasker.events.envelope import RecordedEvent
from tasker.projections.checkpoints import CheckpointMove, Positions
from tasker.projections.projection import Key, Projection

SHARD_BYTES_MAX: Final = 4 * 1024 * 1024
"""Payloads of one shard that are read at once. Events may be large, and there are several shards."""


class RowRefused(Unavailable):
    """The store cannot hold a row (a text or number outside what its columns take). Nothing was written."""


class ViewInUse(Unavailable):
    """Somebody who reads a view would not let go of it in time. Nothing was changed."""


class RowWrites(msgspec.Struct, frozen=True):
    """Rows of one view's version to write: those that are new, and those that are there."""

    projection: Projection[Any]
    version: int
    born: Sequence[msgspec.Struct]
    moved: Sequence[msgspec.Struct]


class LogTail(Protocol):
    """Reads the log over many shards at once."""

    async def read_shards(self, after: Positions, *, limit: int, bytes_max: int | None = None) -> list[RecordedEvent]:
        """Return up to `limit` events of each shard of `after` behind its position; each shard's in order.

        `bytes_max`: of the payloads of one shard, where there may be many; an event that has more comes alone.

        Raises:
            Unavailable: the log cannot be read now.
        """
        ...


class ViewSnapshot(Protocol):
    """The views at one moment."""

    async def positions(self, projection: Projection[Any]) -> dict[int, int]:
        """Return how far the view is, by shard."""
        ...

    async def counts(self, projection: Projection[Any]) -> dict[int, int]:
        """Return how many rows the view has, by shard; a shard without any is left out."""
        ...

    async def rows_of(self, projection: Projection[Any], stream_ids: Sequence[UUID]) -> Sequence[Any]:
        """Return all rows of some streams, in any order."""
        ...

    def rows(self, projection: Projection[Any]) -> AsyncIterator[Sequence[Any]]:
        """Yield all rows of the view, by key, in pages."""
        ...


class ViewStore(Protocol):
    """Holds rows and checkpoints. Every method may raise `Unavailable`."""

    async def active(self, names: Sequence[str]) -> dict[str, int]:
        """Return name -> the version that is read."""
        ...

    async def checkpoints(self, name: str, version: int, shards: int) -> dict[int, int]:
        """Return the positions of one version over all `shards`, entering what is not there yet as 0.

        Raises:
            CheckpointMoved: a rebuild has made another version, and this one is gone.
        """
        ...

    async def positions(self) -> dict[int, int]:
        """Return shard -> the position that every view that is read has reached."""
        ...

    async def fetch(self, projection: Projection[Any], version: int, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return the rows of `keys` that exist."""
        ...

    async def rows_of(self, projection: Projection[Any], version: int, stream_ids: Sequence[UUID]) -> Sequence[Any]:
        """Return all rows of some streams, in any order."""
        ...

    async def write(self, moves: Sequence[CheckpointMove], writes: Sequence[RowWrites]) -> None:
        """Move checkpoints and write rows, in one transaction.

        Raises:
            CheckpointMoved: a checkpoint is not where `moves` believes; nothing was written.
            RowRefused: a row cannot be stored; nothing was written.
        """
        ...

    def snapshot(self) -> AbstractAsyncContextManager[ViewSnapshot]:
        """Return the views as they are at one moment, for comparing them with the log."""
        ...


class RebuildStore(ViewStore, Protocol):
    """A store whose views can be built beside themselves."""

    async def begin(self, name: str, shards: int) -> int:
        """Return the version to fill, with an empty table; what an abandoned rebuild left is dropped."""
        ...

    async def switch(self, name: str, version: int) -> Mapping[int, int] | None:
        """Make `version` the one that is read, if it is nowhere behind the present one.

        Returns None when it was done, else the positions it has to reach.

        Raises:
            ViewInUse: a reader holds the view.
        """
        ...

    async def drop_unread(self, name: str) -> None:
        """Drop the tables of versions that nobody reads.

        Raises:
            ViewInUse: somebody who began before still reads one.
        """
        ...
