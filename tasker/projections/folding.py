"""One batch of the log folded into rows, and written with its checkpoints.

The rows that will change again are kept, so that most batches need no read. What is kept is thrown away
whenever a write fails: the store is right, and the next batch reads from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import structlog

from tasker.errors import Undecodable
from tasker.events.envelope import RecordedEvent
from tasker.events.stored import DomainEvent, from_recorded
from tasker.projections.checkpoints import CheckpointMove
from tasker.projections.projection import Key, Projection, broken, moved_on
from tasker.projections.store import RowRefused, RowWrites, ViewStore

CACHED_ROWS_MAX: Final = 20_000

_log = structlog.get_logger(__name__)


class _Share:
    """One view's share of the folding: its positions, the rows it holds and those not written yet."""

    def __init__(self, projection: Projection[Any], version: int, positions: dict[int, int]) -> None:
        self.projection = projection
        self.version = version
        self.positions = positions
        self.rows: dict[Key, Any] = {}
        self.touched: dict[Key, None] = {}
        self.born: set[Key] = set()
        self.types = projection.types
        self.closing = projection.closing
        self.key_at = projection.key_at
        self.is_birth = projection.is_birth
        self.folds: list[tuple[Key, RecordedEvent, DomainEvent | Undecodable]] = []
        self.missing: list[Key] = []
        self.closed: dict[UUID, list[Key]] = {}
        self.is_ahead = False
        """Whether it has folded some of what another view of the same pass has not."""

    def ask(self, recorded: RecordedEvent, event: DomainEvent, *, trusting: bool) -> None:
        """Take `event` into the batch, and note whether its row has to be read; `trusting`: not where it begins one."""
        if self.is_ahead and recorded.position <= self.positions[recorded.shard]:
            return
        if recorded.type in self.closing:
            self.closed[recorded.stream_id] = []
            self.folds.append(((recorded.stream_id, ""), recorded, event))
            return
        key = self.key_at(recorded, event)
        if key is None:
            return
        if key not in self.rows:
            self.rows[key] = None
            if not trusting or not self.is_birth(recorded, event):
                self.missing.append(key)
        self.folds.append((key, recorded, event))

    def ask_poisoned(self, recorded: RecordedEvent, error: Undecodable) -> None:
        """Take an event that cannot be read into the batch."""
        if self.is_ahead and recorded.position <= self.positions[recorded.shard]:
            return
        key = (recorded.stream_id, "")
        if key not in self.rows:
            self.rows[key] = None
            self.missing.append(key)
        self.folds.append((key, recorded, error))

    def know_closed(self, found: Iterable[Any]) -> None:
        """Take note of every row of the streams that the batch closes; `found` are those that the store has."""
        key_of = self.projection.key_of
        for row in found:
            key = key_of(row)
            if self.rows.get(key) is None:
                self.rows[key] = row
        for key in self.rows:
            if key[0] in self.closed:
                self.closed[key[0]].append(key)

    def fold(self) -> None:
        """Move the rows on by the batch's events."""
        rows, touched, born, projection, closing = self.rows, self.touched, self.born, self.projection, self.closing
        apply = projection.apply
        for key, recorded, event in self.folds:
            row = rows.get(key)
            if type(event) is Undecodable:
                moved = projection.poisoned(row, recorded, event.detail)
                _log.error("event_undecodable", view=projection.name, task_id=str(key[0]), error=event.detail)
            elif closing and recorded.type in closing:
                self._close(key[0], recorded, event)
                continue
            else:
                try:
                    moved = apply(row, recorded, event)
                except Exception as error:  # noqa: BLE001 - as `moved_on`, without a call for each event
                    moved = broken(projection, row, recorded, error)
            if moved is None:
                continue
            if row is None:
                born.add(key)
            rows[key] = moved
            touched[key] = None
        self.folds.clear()

    def _close(self, stream_id: UUID, recorded: RecordedEvent, event: DomainEvent) -> None:
        """Move every row of a stream on by an event that closes it."""
        for key in self.closed[stream_id]:
            row = self.rows[key]
            moved = None if row is None else moved_on(self.projection, row, recorded, event)
            if moved is not None:
                self.rows[key] = moved
                self.touched[key] = None

    def writes(self) -> RowWrites:
        """Return the rows to write."""
        rows, born = self.rows, self.born
        return RowWrites(
            projection=self.projection,
            version=self.version,
            born=[rows[key] for key in self.touched if key in born],
            moved=[rows[key] for key in self.touched if key not in born],
        )

    def settle(self, *, rows_max: int) -> None:
        """Forget what need not be kept after a write."""
        rows, is_worth_caching = self.rows, self.projection.is_worth_caching
        for key in self.touched:
            row = rows.pop(key)
            if is_worth_caching(row):
                rows[key] = row
        if len(rows) > rows_max:
            for key in list(rows)[: len(rows) - rows_max]:
                del rows[key]
        for key in self.missing:
            if rows.get(key, self) is None:
                del rows[key]
        self.touched.clear()
        self.born.clear()
        self.missing.clear()
        self.closed.clear()

    def forget(self) -> None:
        """Forget every row and what is not written."""
        for held in (self.rows, self.touched, self.born, self.folds, self.missing, self.closed):
            held.clear()


class Folding:
    """Folds batches into the versions of views that it was opened with."""

    def __init__(self, store: ViewStore, *, rows_max: int = CACHED_ROWS_MAX) -> None:
        self._store = store
        self._rows_max = rows_max
        self._shares: list[_Share] = []
        self._by_kind: dict[str, list[_Share]] = {}
        self.positions: dict[int, int] = {}

    async def open(self, versions: Iterable[tuple[Projection[Any], int]], *, shards: int) -> None:
        """Go on where the store says that these versions are; forget everything else."""
        self._shares = []
        self._by_kind = {}
        for projection, version in versions:
            positions = await self._store.checkpoints(projection.name, version, shards)
            share = _Share(projection, version, positions)
            self._shares.append(share)
            for kind in projection.kinds:
                self._by_kind.setdefault(kind, []).append(share)
        self.positions = {shard: min(share.positions[shard] for share in self._shares) for shard in range(shards)}

    async def take(self, events: Sequence[RecordedEvent]) -> None:
        """Fold `events` (each shard's in order, continuing `positions`) and write what they change.

        Raises:
            CheckpointMoved, Unavailable: nothing was written; `open` again.
        """
        try:
            await self._take(events, trusting=True)
        except RowRefused:
            self._forget()
            await self._take_warily(events)

    async def _take(
        self, events: Sequence[RecordedEvent], *, trusting: bool = False, refused: RowRefused | None = None
    ) -> None:
        """Fold and write.

        Args:
            events: the batch.
            trusting: an event that mostly begins its row is taken to do so, which saves a read; a row that is there
                already is refused by the store.
            refused: each event counts as one that cannot be read.
        """
        positions = dict(self.positions)
        for share in self._shares:
            share.is_ahead = share.positions != positions
        for recorded in events:
            positions[recorded.shard] = recorded.position
            shares = self._by_kind.get(recorded.kind)
            if shares is not None:
                self._deal(recorded, shares, refused, trusting=trusting)
        for share in self._shares:
            missing = [key for key in share.missing if share.rows[key] is None]
            if missing:
                share.rows.update(await self._store.fetch(share.projection, share.version, missing))
            if share.closed:
                share.know_closed(await self._store.rows_of(share.projection, share.version, list(share.closed)))
            share.fold()
        moves = [
            CheckpointMove(share.projection.name, share.version, shard, share.positions[shard], position)
            for share in self._shares
            for shard, position in positions.items()
            if position > share.positions[shard]
        ]
        await self._store.write(moves, [share.writes() for share in self._shares])
        for move_share in self._shares:
            for shard, position in positions.items():
                move_share.positions[shard] = max(position, move_share.positions[shard])
            move_share.settle(rows_max=self._rows_max)
        self.positions = positions

    def _deal(
        self, recorded: RecordedEvent, shares: list[_Share], refused: RowRefused | None, *, trusting: bool
    ) -> None:
        try:
            event = from_recorded(recorded)
        except Undecodable as error:
            for share in shares:
                share.ask_poisoned(recorded, error)
            return
        if refused is not None:
            for share in shares:
                share.ask_poisoned(recorded, Undecodable(refused.detail))
            return
        kind = recorded.type
        for share in shares:
            if share.types is None or kind in share.types:
                share.ask(recorded, event, trusting=trusting)

    async def _take_warily(self, events: Sequence[RecordedEvent]) -> None:
        """Read every row; find the events whose rows are still refused, by halves: those poison their task."""
        try:
            await self._take(events)
        except RowRefused as error:
            self._forget()
            if len(events) == 1:
                await self._take(events, refused=error)
                return
            middle = len(events) // 2
            for part in (events[:middle], events[middle:]):
                await self._take_warily(part)

    def _forget(self) -> None:
        for share in self._shares:
            share.forget()
