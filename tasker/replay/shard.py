"""One shard of the log, read from its first event to its head, and held to every promise that the log can show.

The views are read at one moment and the head is taken after it, so that a view can only be behind. The next page
is read while the last one is folded. In memory are the tasks that have not ended, and a bounded number of others; of
a long stream its state, never its events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from operator import length_hint
from typing import Any, Final
from uuid import UUID

import msgspec

from tasker.events.envelope import RecordedEvent, StreamKind
from tasker.events.log import EventLog
from tasker.events.task_events import ENDING_TYPES
from tasker.events.template_events import TemplateRegistered
from tasker.projections.projection import Projection
from tasker.projections.store import ViewSnapshot
from tasker.projections.views.task import TaskRow
from tasker.projections.views.usage import UsageRow
from tasker.replay.checkers.beside import check_beside, read_beside
from tasker.replay.checkers.checker import Decoded, LogChecker, decoded
from tasker.replay.checkers.circuits import CircuitsChecker
from tasker.replay.checkers.complete import CompleteChecker
from tasker.replay.checkers.epochs import EpochsChecker
from tasker.replay.checkers.folded import FoldedChecker
from tasker.replay.checkers.indexed import IndexedChecker
from tasker.replay.checkers.kept import KeptChecker
from tasker.replay.checkers.metered import MeteredChecker
from tasker.replay.checkers.once import OnceChecker
from tasker.replay.checkers.order import OrderChecker
from tasker.replay.checkers.placed import PlacedChecker
from tasker.replay.checkers.projected import ViewChecker
from tasker.replay.checkers.sticky import StickyChecker
from tasker.replay.checkers.timely import TimelyChecker
from tasker.replay.checkers.tried import Openings, TriedChecker
from tasker.replay.content import Contents
from tasker.replay.findings import Finding, Invariant, Report
from tasker.service.domain.state import TaskState

PAGE_EVENTS: Final = 1_000
SNAPSHOTS_AT_ONCE: Final = 100
CONTENT_REMEDY: Final = "delete its row of the table `blob`, where it has one, and register the version again"

COMPARED_AT_ONCE: Final = 500
"""Streams that are looked up in one statement."""

COMPARED_ROWS: Final = 1_000
"""Rows of a view that are read and compared in one statement: a stream may have very many."""


class ShardResult(msgspec.Struct, frozen=True):
    """What was read of a shard.

    Attributes:
        position: of the last event; everything up to it was checked.
        rows: of views, compared.
        failures, is_blind: as of `TriedChecker`.
    """

    shard: int
    events: int
    tasks: int
    position: int
    rows: int
    failures: dict[int, int] = {}
    is_blind: bool = False


class ViewsAt(msgspec.Struct, frozen=True):
    """The views at one moment: `positions` and `counts` of rows are by shard."""

    snapshot: ViewSnapshot
    views: tuple[tuple[Projection[Any], dict[int, int], dict[int, int]], ...]


async def views_at(snapshot: ViewSnapshot, projections: Sequence[Projection[Any]]) -> ViewsAt:
    """Return the views of `snapshot` with what a comparison needs to know of them."""
    found = [(one, await snapshot.positions(one), await snapshot.counts(one)) for one in projections]
    return ViewsAt(snapshot=snapshot, views=tuple(found))


class ShardVerifier:
    """Verifies one shard, once."""

    def __init__(
        self,
        log: EventLog,
        shard: int,
        report: Report,
        *,
        contents: Contents,
        views: ViewsAt | None = None,
        openings: Openings | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
        page_events: int = PAGE_EVENTS,
    ) -> None:
        self._log = log
        self._shard = shard
        self._report = report
        self._contents = contents
        self._snapshot = None if views is None else views.snapshot
        self._on_progress = on_progress
        self._page_events = page_events
        self._events = 0
        self._last: RecordedEvent | None = None
        self._views = [
            (ViewChecker(projection, shard, positions.get(shard, 0), report), counts.get(shard, 0))
            for projection, positions, counts in (() if views is None else views.views)
        ]
        self._task_view = next((view for view, _ in self._views if view.projection.row_type is TaskRow), None)
        self._folded = FoldedChecker(shard, report, on_ended=self._compare_end)
        self._indexed = IndexedChecker(shard, report)
        usage = next((view for view, _ in self._views if view.projection.row_type is UsageRow), None)
        self._metered = MeteredChecker(shard, report, checkpoint=None if usage is None else usage.checkpoint)
        self._placed = PlacedChecker(shard, report)
        self._kept = KeptChecker(shard, report)
        self._checkers: tuple[LogChecker, ...] = (
            CompleteChecker(shard, report),
            EpochsChecker(shard, report),
            OnceChecker(shard, report),
            OrderChecker(shard, report, contents.of),
            TimelyChecker(shard, report),
            self._metered,
            self._indexed,
            self._placed,
            CircuitsChecker(shard, report),
            StickyChecker(shard, report, contents.of),
        )
        self._tried: TriedChecker | None = None
        if openings:
            self._tried = TriedChecker(shard, report, contents.of, openings)
            self._checkers = (*self._checkers, self._tried)

    async def verify(self) -> ShardResult:
        """Read the shard up to its head and report what is wrong.

        Raises:
            Unavailable: the log or the views cannot be read.
        """
        # The snapshots come before the head, so that the events they are of are among those that are read.
        await self._expect_snapshots()
        beside = await read_beside(self._log, self._shard)
        head = None if beside.head is None else beside.head.position
        after = 0
        reading: asyncio.Task[list[RecordedEvent]] | None = self._read(after)
        try:
            while reading is not None:
                page = await reading
                after += self._page_events
                goes_on = after < head if head is not None else bool(page)
                reading = self._read(after) if goes_on else None
                # What came behind the head meanwhile may end within a batch.
                await self._take(page if goes_on or head is None else [one for one in page if one.position <= head])
        finally:
            if reading is not None:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reading
        await self._end()
        check_beside(beside, self._last, self._report)
        return ShardResult(
            shard=self._shard,
            events=self._events,
            tasks=self._folded.tasks_seen,
            position=self._position,
            rows=sum(view.rows_compared for view, _ in self._views),
            failures={} if self._tried is None else self._tried.failures,
            is_blind=self._tried is not None and self._tried.is_blind,
        )

    async def _expect_snapshots(self) -> None:
        after: UUID | None = None
        while page := await self._log.snapshots(self._shard, after=after, limit=SNAPSHOTS_AT_ONCE):
            for snapshot in page:
                self._kept.expect(snapshot)
            after = page[-1].stream_id
        if self._kept:
            self._checkers = (*self._checkers, self._kept)

    def _read(self, after: int) -> asyncio.Task[list[RecordedEvent]]:
        return asyncio.create_task(
            self._log.read(self._shard, after=after, limit=self._page_events), name=f"read {self._shard}:{after}"
        )

    async def _take(self, page: Sequence[RecordedEvent]) -> None:
        events = [decoded(recorded) for recorded in page]
        await self._contents.load(events)
        kinds = {recorded.kind for recorded in page}
        if StreamKind.TEMPLATE in kinds:
            self._check_registered(page, events)
        # One checker over the page, then the next: a loop in C over code and data that stay at hand.
        for checker in self._checkers:
            self._feed(checker, page, events)
        for view, _ in self._views:
            if not kinds.isdisjoint(view.projection.kinds):
                view.take_page(page, events)
        # The views come before the fold, which compares its last word with theirs.
        self._feed(self._folded, page, events)
        if page:
            self._events += len(page)
            self._last = page[-1]
            self._on_progress(len(page))
        await self._compare(births_min=COMPARED_AT_ONCE, rows_min=COMPARED_ROWS)

    def _feed(self, checker: LogChecker, page: Sequence[RecordedEvent], events: Sequence[Decoded]) -> None:
        """Have a checker take a page. An event on which it breaks is a finding, and it goes on behind that."""
        left, left_decoded = iter(page), iter(events)
        while True:
            try:
                deque(map(checker.take, left, left_decoded), maxlen=0)
            except Exception as error:  # noqa: BLE001 - whatever damage does to a checker must not end the verification
                recorded = page[len(page) - length_hint(left) - 1]
                broken = f"{type(checker).__name__} breaks on {recorded.type}"
                self._find(Invariant.FOLD, recorded, f"{broken}: {type(error).__name__}: {error}")
            else:
                return

    def _check_registered(self, page: Sequence[RecordedEvent], events: Sequence[Decoded]) -> None:
        """Find the versions that no task can be created of, since their content is not there."""
        for recorded, event in zip(page, events, strict=True):
            if type(event) is TemplateRegistered and self._contents.of(event.hash) is None:
                self._report(
                    Finding(
                        invariant=Invariant.FOLD,
                        shard=self._shard,
                        position=recorded.position,
                        detail=f"the content {event.hash[:16]} of version {event.version} of template "
                        f"{event.namespace}/{event.name} cannot be read; {CONTENT_REMEDY}",
                    )
                )

    @property
    def _position(self) -> int:
        return 0 if self._last is None else self._last.position

    async def _end(self) -> None:
        await self._compare_births()
        await self._compare_places()
        for checker in self._checkers:
            checker.close()
        for view, _ in self._views:
            view.close()
        await self._compare(births_min=1, rows_min=1)
        for view, count in self._views:
            view.check_whole(rows=count, head=self._position)

    async def _compare(self, *, births_min: int, rows_min: int) -> None:
        if len(self._indexed.due) >= births_min:
            await self._compare_births()
        if self._snapshot is None:
            return
        for view, _ in self._views:
            if view.due < rows_min:
                continue
            for expected in view.take_due(COMPARED_ROWS):
                rows = await self._snapshot.rows_of(view.projection, list(expected))
                view.compare(expected, rows)
                if view.projection.row_type is UsageRow:
                    self._metered.compare(expected, rows)

    async def _compare_births(self) -> None:
        self._indexed.compare(await self._log.streams(list(self._indexed.due)))

    async def _compare_places(self) -> None:
        """Ask whether who holds a place under a concurrency key has ended; the tasks may lie in any shard."""
        held = self._placed.held()
        requests = list(held)
        for start in range(0, len(requests), COMPARED_AT_ONCE):
            page = {request: held[request] for request in requests[start : start + COMPARED_AT_ONCE]}
            found = await self._log.last_events(list(set(page.values())))
            for request, task_id in page.items():
                last = found.get(task_id)
                if last is not None and last.type in ENDING_TYPES:
                    self._placed.check_ended(request, last.at_us)

    def _compare_end(self, recorded: RecordedEvent, state: TaskState) -> None:
        """Compare two folds of a task that has ended: the domain's and the task view's."""
        row = None if self._task_view is None else self._task_view.row_of(recorded.stream_id, "")
        if not isinstance(row, TaskRow) or row.position != recorded.position or row.poisoned:
            return
        result = None if state.result is None else bytes(state.result)
        if row.state != state.status or row.result != result:
            detail = f"the fold ends as {state.status}, the task view as {row.state}, or with another result"
            self._find(Invariant.PROJECTED, recorded, detail)

    def _find(self, invariant: Invariant, recorded: RecordedEvent, detail: str) -> None:
        self._report(
            Finding(
                invariant=invariant,
                shard=self._shard,
                position=recorded.position,
                task_id=str(recorded.stream_id),
                detail=detail,
            )
        )
