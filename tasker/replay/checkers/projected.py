"""I5: the rows of a view equal the fold of the log at the view's checkpoint.

The views' own pure functions fold the shard again; each view only up to its checkpoint, so that views may be at
different places and the log ahead of all. A stream that ended is compared soon after and forgotten; what is left
is compared at the end. Rows that belong to no stream of the log show in the counts.

    take_page ...    `due` streams gather
    compare(...)     with the rows that the view holds of them
    close()          the rest is due
    compare(...)
    check_whole(...)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from tasker.errors import Undecodable
from tasker.events.envelope import RecordedEvent, StreamKind
from tasker.events.stored import DomainEvent
from tasker.events.task_events import ENDING_TYPES
from tasker.projections.projection import Projection, differences, moved_on
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report

Expected = Mapping[UUID, Mapping[str, msgspec.Struct]]
"""Stream -> part -> row."""


class ViewChecker:
    """Checks one shard of one view.

    Args:
        checkpoint: the position up to which the view has folded this shard.
    """

    def __init__(self, projection: Projection[Any], shard: int, checkpoint: int, report: Report) -> None:
        self.projection = projection
        self.rows_compared = 0
        self._shard = shard
        self._checkpoint = checkpoint
        self._report = report
        self._kinds = frozenset(projection.kinds)
        self._types = projection.types
        self._ends = self._kinds == {StreamKind.TASK}
        """Whether nothing touches a task's rows behind its end."""
        self._open: dict[UUID, dict[str, msgspec.Struct]] = {}
        self._due: dict[UUID, dict[str, msgspec.Struct]] = {}
        self._due_rows = 0

    def take_page(self, page: Sequence[RecordedEvent], events: Sequence[Decoded]) -> None:
        """Fold the next events of the shard, as far as the view has them."""
        projection, kinds, checkpoint, types = self.projection, self._kinds, self._checkpoint, self._types
        closing, ends, key_at, opened = projection.closing, self._ends, projection.key_at, self._open
        for recorded, event in zip(page, events, strict=True):
            if recorded.position > checkpoint or recorded.kind not in kinds:
                continue
            kind = recorded.type
            if type(event) is Undecodable:
                rows = self._rows_of(recorded.stream_id)
                self._keep(rows, "", projection.poisoned(rows.get(""), recorded, event.detail))
            elif types is not None and kind not in types:
                pass
            elif kind in closing:
                self._fold_closing(recorded, event)
            elif (key := key_at(recorded, event)) is not None:
                stream_id, part = key
                rows = opened.get(stream_id) or self._rows_of(stream_id)
                row = moved_on(projection, rows.get(part), recorded, event)
                if row is not None:
                    rows[part] = row
            if ends and kind in ENDING_TYPES:
                rows = self._open.pop(recorded.stream_id, {})
                if rows or not closing:  # of such a view most streams have no row, and its count finds strays
                    self._is_due(recorded.stream_id, rows)

    def _fold_closing(self, recorded: RecordedEvent, event: DomainEvent) -> None:
        """Move every row of a stream on by an event that closes it."""
        has_rows = recorded.stream_id in self._open or recorded.stream_id in self._due
        rows = self._rows_of(recorded.stream_id) if has_rows else {}
        for part, row in rows.items():
            self._keep(rows, part, moved_on(self.projection, row, recorded, event))

    def _rows_of(self, stream_id: UUID) -> dict[str, msgspec.Struct]:
        rows = self._open.get(stream_id)
        if rows is None:
            rows = self._due.pop(stream_id, None)
            if rows is None:
                rows = {}
            else:
                self._due_rows -= max(1, len(rows))
            self._open[stream_id] = rows
        return rows

    def _is_due(self, stream_id: UUID, rows: dict[str, msgspec.Struct]) -> None:
        self._due[stream_id] = rows
        self._due_rows += max(1, len(rows))

    def _keep(self, rows: dict[str, msgspec.Struct], part: str, row: msgspec.Struct | None) -> None:
        if row is not None:
            rows[part] = row

    @property
    def checkpoint(self) -> int:
        """Return the position up to which the view has folded the shard."""
        return self._checkpoint

    def close(self) -> None:
        """Take note that the shard ends here: everything is due."""
        for stream_id, rows in self._open.items():
            self._is_due(stream_id, rows)
        self._open = {}

    def row_of(self, stream_id: UUID, part: str) -> msgspec.Struct | None:
        """Return a row as it is folded by now; None when there is none, or it was compared already."""
        rows = self._due.get(stream_id) or self._open.get(stream_id)
        return None if rows is None else rows.get(part)

    @property
    def due(self) -> int:
        """Return how many rows wait to be compared; a stream without any counts as one."""
        return self._due_rows

    def take_due(self, limit: int) -> Iterator[Expected]:
        """Yield the rows to compare, streams of about `limit` rows at a time, and forget them."""
        due, self._due, self._due_rows = self._due, {}, 0
        some: dict[UUID, dict[str, msgspec.Struct]] = {}
        count = 0
        for stream_id, rows in due.items():
            some[stream_id] = rows
            count += max(1, len(rows))
            if count >= limit:
                yield some
                some, count = {}, 0
        if some:
            yield some

    def compare(self, expected: Expected, found: Sequence[msgspec.Struct]) -> None:
        """Compare the rows expected of some streams with all rows that the view holds of these streams."""
        key_of = self.projection.key_of
        seen = 0
        for row in found:
            stream_id, part = key_of(row)
            wanted = expected[stream_id].get(part)
            if wanted is None:
                self._find(stream_id, part, "has a row that no event made")
                continue
            seen += 1
            if wanted != row:
                self._find(stream_id, part, f"differs from the log in {', '.join(differences(wanted, row))}")
        self.rows_compared += len(found)
        if seen != sum(len(rows) for rows in expected.values()):
            self._find_missing(expected, found)

    def check_whole(self, *, rows: int, head: int) -> None:
        """Check the view as a whole, after everything was compared.

        Args:
            rows: how many it has of the shard.
            head: the position of the shard's last event.
        """
        view = f"view {self.projection.name} at {self._checkpoint} of shard {self._shard}"
        strays = rows - self.rows_compared
        if strays > 0:
            detail = f"{view}: {strays} rows are of streams that the shard does not have"
            self._report(Finding(invariant=Invariant.PROJECTED, shard=self._shard, detail=detail))
        if self._checkpoint > head:
            detail = f"{view}: the log ends at {head}"
            self._report(
                Finding(invariant=Invariant.PROJECTED, shard=self._shard, position=self._checkpoint, detail=detail)
            )

    def _find_missing(self, expected: Expected, found: Sequence[msgspec.Struct]) -> None:
        there = {self.projection.key_of(row) for row in found}
        for stream_id, rows in expected.items():
            for part in rows:
                if (stream_id, part) not in there:
                    self._find(stream_id, part, "has no row")

    def _find(self, stream_id: UUID, part: str, detail: str) -> None:
        what = f"view {self.projection.name} at {self._checkpoint} of shard {self._shard}"
        where = f"{part}: " if part else ""
        self._report(
            Finding(
                invariant=Invariant.PROJECTED,
                shard=self._shard,
                position=self._checkpoint,
                task_id=str(stream_id),
                detail=f"{what}: {where}{detail}",
            )
        )
