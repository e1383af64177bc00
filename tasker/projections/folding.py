"""One batch of the log folded into rows, and written with its checkpoints.

The rows that will change again are kept, so that most batches need no read. What is kept is thrown away
whenever a write fails: the store is right, and the next batch reads from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import structlog

from tasker.errors import Undecodable
from tasker.events.envelope import RecordedEvent
from tasker.events.stored import DomainEvent, from_recorded
from tasker.failpoints import failpoint
from tasker.projections.checkpoints import CheckpointMove
from tasker.projections.projection import Key, Projection, broken, moved_on
from tasker.projections.store import RowRefused, RowWrites, ViewStore

CACHED_ROWS_MAX: Final = 20_000
_AT_ONCE: Final = 1000
"""Events that are decoded before they are folded: few enough to be in the processor's caches still."""

_log = structlog.get_logger(__name__)


class _Share:
    """One view's share of the folding: its positions, the rows it holds and those not written yet.

    What the batch brings moves the rows at hand at once (`fold`). The rest waits until rows have been read
    (`fold_waiting`): what needs another row, what cannot be read, and all that comes to a view whose streams close.
    """

    def __init__(self, projection: Projection[Any], version: int, positions: dict[int, int]) -> None:
        self.projection = projection
        self.version = version
        self.positions = positions
        self.brought: list[tuple[RecordedEvent, DomainEvent | Undecodable]] = []
        self.known: dict[Key, Any] = {}
        """Rows as the store has them, kept for what comes."""
        self.born: dict[Key, Any] = {}
        """Rows that the batch has begun."""
        self.moved: dict[Key, Any] = {}
        """Other rows that it has moved on."""
        self.waiting: list[tuple[Key, RecordedEvent, DomainEvent | Undecodable]] = []
        self.held: dict[Key, None] = {}
        """The rows for which something waits: nothing else moves them on before."""
        self.closed: dict[UUID, list[Key]] = {}
        self.is_ahead = False
        """Whether it has folded some of what another view of the same pass has not."""

    def takes(self, kind: str) -> bool:
        """Return whether the view folds events of a stored type, of the kinds of its streams."""
        return self.projection.types is None or kind in self.projection.types

    def fold(self, *, trusting: bool) -> None:
        """Move on the rows at hand; `trusting`: an event that mostly begins its row is taken to do so."""
        projection, known, moved, held, born = self.projection, self.known, self.moved, self.held, self.born
        apply, key_at, everything_waits = projection.apply, projection.key_at, bool(projection.closing)
        brought, self.brought = self.brought, []
        if self.is_ahead:
            brought = [pair for pair in brought if pair[0].position > self.positions[pair[0].shard]]
        for recorded, event in brought:
            if type(event) is Undecodable:
                self._wait((recorded.stream_id, ""), recorded, event)
                continue
            if everything_waits and recorded.type in projection.closing:
                self.closed[recorded.stream_id] = []
                self.waiting.append(((recorded.stream_id, ""), recorded, event))
                continue
            key = key_at(recorded, event)
            if key is None:
                continue
            row, into = born.get(key), born
            if row is None:
                row = moved.get(key) or known.get(key)
                if row is not None:
                    into = moved
            if (
                everything_waits
                or key in held
                or (row is None and not (trusting and projection.is_birth(recorded, event)))
            ):
                self._wait(key, recorded, event)
                continue
            try:
                after = apply(row, recorded, event)
            except Exception as error:  # noqa: BLE001 - as `moved_on`, without a call for each event
                after = broken(projection, row, recorded, error)
            if after is not None and (after is not row or into is moved):
                into[key] = after

    def _wait(self, key: Key, recorded: RecordedEvent, event: DomainEvent | Undecodable) -> None:
        self.held[key] = None
        self.waiting.append((key, recorded, event))

    def unread(self) -> list[Key]:
        """Return the keys of the rows to read for what waits."""
        return [key for key in self.held if self._row(key) is None]

    def fold_waiting(self, found: Mapping[Key, Any], of_closed: Iterable[Any]) -> None:
        """Move on the rows for which something waits.

        Args:
            found: those of `unread` that the store has.
            of_closed: all that it has of the streams that the batch closes.
        """
        projection = self.projection
        self.known.update(found)
        for row in of_closed:
            self.known.setdefault(projection.key_of(row), row)
        if self.closed:
            for key in self.known | self.born | self.held:
                if key[0] in self.closed:
                    self.closed[key[0]].append(key)
        for key, recorded, event in self.waiting:
            if type(event) is Undecodable:
                self._move(key, projection.poisoned(self._row(key), recorded, event.detail))
                _log.error("event_undecodable", view=projection.name, task_id=str(key[0]), error=event.detail)
            elif recorded.type in projection.closing:
                for one in self.closed[recorded.stream_id]:
                    row = self._row(one)
                    if row is not None:
                        self._move(one, moved_on(projection, row, recorded, event))
            else:
                self._move(key, moved_on(projection, self._row(key), recorded, event))

    def _row(self, key: Key) -> Any:
        return self.born.get(key) or self.moved.get(key) or self.known.get(key)

    def _move(self, key: Key, after: Any) -> None:
        """Take note of a row that an event moved on, if it did."""
        if after is not None:
            (self.moved if key in self.known else self.born)[key] = after

    def writes(self) -> RowWrites:
        """Return the rows to write."""
        return RowWrites(
            projection=self.projection,
            version=self.version,
            born=list(self.born.values()),
            moved=list(self.moved.values()),
        )

    def settle(self, *, rows_max: int) -> None:
        """Forget what need not be kept after a write."""
        known, is_worth_caching = self.known, self.projection.is_worth_caching
        for key in self.moved:
            del known[key]  # what moved last goes last
        for rows in (self.moved, self.born):
            known.update((key, row) for key, row in rows.items() if is_worth_caching(row))
        for key in list(known)[: max(0, len(known) - rows_max)]:
            del known[key]
        self._drop_batch()

    def forget(self) -> None:
        """Forget every row and what is not written."""
        self.known.clear()
        self._drop_batch()

    def _drop_batch(self) -> None:
        for held in (self.brought, self.born, self.moved, self.waiting, self.held, self.closed):
            held.clear()


class Folding:
    """Folds batches into the versions of views that it was opened with."""

    def __init__(self, store: ViewStore, *, rows_max: int = CACHED_ROWS_MAX) -> None:
        self._store = store
        self._rows_max = rows_max
        self._shares: list[_Share] = []
        self._by_kind: dict[str, list[_Share]] = {}
        self._by_type: dict[str, dict[str, list[_Share]]] = {}
        """Kind -> stored type -> who folds it, for those that were met."""
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
        self._by_type = {kind: {} for kind in self._by_kind}
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
        positions = self.positions | {recorded.shard: recorded.position for recorded in events}
        for share in self._shares:
            share.is_ahead = share.positions != self.positions
        for at in range(0, len(events), _AT_ONCE):
            self._deal(events[at : at + _AT_ONCE], refused)
            for share in self._shares:
                share.fold(trusting=trusting)
        for share in self._shares:
            if share.waiting:
                unread, closed = share.unread(), list(share.closed)
                share.fold_waiting(
                    await self._store.fetch(share.projection, share.version, unread) if unread else {},
                    await self._store.rows_of(share.projection, share.version, closed) if closed else (),
                )
        moves = [
            CheckpointMove(share.projection.name, share.version, shard, share.positions[shard], position)
            for share in self._shares
            for shard, position in positions.items()
            if position > share.positions[shard]
        ]
        failpoint("before_view_write")
        await self._store.write(moves, [share.writes() for share in self._shares])
        failpoint("after_view_write")
        for move_share in self._shares:
            for shard, position in positions.items():
                move_share.positions[shard] = max(position, move_share.positions[shard])
            move_share.settle(rows_max=self._rows_max)
        self.positions = positions

    def _deal(self, events: Sequence[RecordedEvent], refused: RowRefused | None) -> None:
        """Bring each event to the views that fold it, or, if it cannot be read, to all of its kind."""
        by_kind = self._by_kind
        event: DomainEvent | Undecodable
        for recorded in events:
            by_type = self._by_type.get(recorded.kind)
            if by_type is None:
                continue
            try:
                event = from_recorded(recorded) if refused is None else Undecodable(refused.detail)
            except Undecodable as error:
                event = error
            shares = by_kind[recorded.kind] if type(event) is Undecodable else by_type.get(recorded.type)
            if shares is None:
                of_kind = by_kind[recorded.kind]
                shares = by_type[recorded.type] = [share for share in of_kind if share.takes(recorded.type)]
            pair = (recorded, event)
            for share in shares:
                share.brought.append(pair)

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
