"""The log of all shards as one filtered sequence, page by page.

Events of several shards are merged by time; each shard's stay in order. A page ends when it is full, in events or in
bytes, or when a bounded number of events was looked at, so that a filter that matches nothing costs no request more
than another; its token says how far the filter was evaluated.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from tasker.errors import Undecodable
from tasker.events.concurrency_events import ConcurrencyKeyOpened
from tasker.events.envelope import RecordedEvent, StreamKind
from tasker.events.log import EventLog
from tasker.events.schedule_events import ScheduleCreated
from tasker.events.stored import from_recorded
from tasker.events.task_events import TaskCreated
from tasker.events.template_events import TemplateRegistered, TemplateUsed
from tasker.projections.queries import PAGE_BYTES_MAX, Queries, TaskPlace, count_within
from tasker.projections.store import LogTail

SCAN_EVENTS_MAX: Final = 8000
READ_EVENTS: Final = 1600
READ_EVENTS_FIRST: Final = 64
READ_BYTES: Final = 16 * 1024 * 1024
"""A scan reads a few events first, then more and more of them at once, as long as they are not so large together."""

SCANS_AT_ONCE: Final = 4
"""Scans that have in memory what they just read; others wait."""

PLACES_MAX: Final = 50_000

_GROWTH: Final = 4
_UNREADABLE: Final = ("", "")


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events; all that is given must match.

    Attributes:
        types: stored types, any of them; empty: all.
        namespace, template: of the task's template, or of the template that the event is of.
    """

    tenant: str
    types: frozenset[str] = frozenset()
    namespace: str | None = None
    template: str | None = None
    task_id: UUID | None = None


class Scanned(NamedTuple):
    """What a scan found: `after` is how far the filter was evaluated, `more` whether it stopped short of the head."""

    events: list[RecordedEvent]
    after: dict[int, int]
    more: bool


class _Looked(NamedTuple):
    """The next events of the log, by time: those that match, shard and position of all, and the bytes of those read."""

    hits: list[RecordedEvent]
    places: list[tuple[int, int]]
    bytes: int


class EventScan:
    """Scans the log with filters."""

    def __init__(self, tail: LogTail, log: EventLog, queries: Queries) -> None:
        self._tail = tail
        self._log = log
        self._queries = queries
        self._places: OrderedDict[UUID, tuple[str, str]] = OrderedDict()
        self._reading = asyncio.Semaphore(SCANS_AT_ONCE)

    async def page(
        self, wanted: EventFilter, after: dict[int, int], *, limit: int, bytes_max: int = PAGE_BYTES_MAX
    ) -> Scanned:
        """Return up to `limit` matching events of up to `bytes_max` behind `after` (shard -> position), by time."""
        at = dict(after)
        reading = list(at)
        if wanted.task_id is not None:
            reading = await self._shard_of(wanted.task_id, at)
            if not reading:
                return Scanned([], at, more=False)
        matching: list[RecordedEvent] = []
        looked_at = 0
        most = max(1, READ_EVENTS // len(reading))
        per_shard = min(most, max(1, READ_EVENTS_FIRST // len(reading)))
        while looked_at < SCAN_EVENTS_MAX:
            looked = await self._look(wanted, {shard: at[shard] for shard in reading}, per_shard)
            if not looked.places:
                return Scanned(matching, at, more=False)
            looked_at += len(looked.places)
            found = fitting([*matching, *looked.hits], limit, bytes_max)
            new = len(found) - len(matching)
            if new < len(looked.hits) or len(found) == limit:
                if new:
                    at.update(looked.places[: looked.places.index((found[-1].shard, found[-1].position)) + 1])
                return Scanned(found, at, more=True)
            matching = found
            at.update(looked.places)
            if _GROWTH * looked.bytes <= READ_BYTES:
                per_shard = min(most, _GROWTH * per_shard)
        return Scanned(matching, at, more=True)

    async def _look(self, wanted: EventFilter, after: dict[int, int], per_shard: int) -> _Looked:
        async with self._reading:
            events = await self._tail.read_shards(after, limit=per_shard)
            merged = merge(events, per_shard)
            hits = await self._matching(wanted, merged)
            return _Looked(hits, [(event.shard, event.position) for event in merged], sum(map(_bytes_of, events)))

    async def _shard_of(self, task_id: UUID, at: dict[int, int]) -> list[int]:
        """Return the shard that alone can hold events of the task, none when there is no such task.

        The other shards need no look: they are moved to their heads as they were before we asked.
        """
        heads = await self._log.heads(list(at))
        place = (await self._log.streams([task_id])).get(task_id)
        shard = None if place is None else place[0]
        for head in heads:
            if head.shard != shard:
                at[head.shard] = max(at[head.shard], head.position)
        return [] if shard is None else [shard]

    async def _matching(self, wanted: EventFilter, events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
        found = [
            event
            for event in events
            if event.tenant == wanted.tenant
            and (not wanted.types or event.type in wanted.types)
            and (wanted.task_id is None or event.stream_id == wanted.task_id)
        ]
        if wanted.namespace is None and wanted.template is None:
            return found
        places = await self._places_of(found)
        return [event for event in found if _is_of(wanted, places[event.stream_id])]

    async def _places_of(self, events: Sequence[RecordedEvent]) -> dict[UUID, tuple[str, str]]:
        """Return of which template the streams of `events` are: from births among them, the view, the log.

        What is kept from one call to the next is bounded, and shared by scans that make each other forget.
        """
        places: dict[UUID, tuple[str, str]] = {}
        for event in events:
            if event.stream_id in self._places:
                places[event.stream_id] = self._places[event.stream_id]
            elif event.seq == 1 or event.kind == StreamKind.TEMPLATE:
                places[event.stream_id] = place_of(event)
        missing = list({event.stream_id: None for event in events if event.stream_id not in places})
        known: dict[UUID, TaskPlace] = await self._queries.places(missing) if missing else {}
        for stream_id in missing:
            if stream_id in known:
                places[stream_id] = (known[stream_id].namespace, known[stream_id].template)
            else:
                first = await self._log.load_stream(stream_id, after_seq=0, limit=1)
                places[stream_id] = place_of(first[0]) if first else _UNREADABLE
        self._places |= places
        while len(self._places) > PLACES_MAX:
            self._places.popitem(last=False)
        return places


def _is_of(wanted: EventFilter, place: tuple[str, str]) -> bool:
    namespace, template = place
    return wanted.namespace in (None, namespace) and wanted.template in (None, template)


def fitting(events: list[RecordedEvent], limit: int, bytes_max: int) -> list[RecordedEvent]:
    """Return the first of `events`: up to `limit`, of up to `bytes_max` together; the first is always among them."""
    return events[: count_within(map(_bytes_of, events[:limit]), bytes_max)]


def _bytes_of(event: RecordedEvent) -> int:
    return len(event.payload) + len(event.meta)


def merge(events: Sequence[RecordedEvent], per_shard: int) -> list[RecordedEvent]:
    """Return `events` by time, each shard's in order.

    A shard that gave as many as it may has more behind them: what is later than its last one waits for those.
    """
    counts: dict[int, int] = {}
    last_us: dict[int, int] = {}
    for event in events:
        counts[event.shard] = counts.get(event.shard, 0) + 1
        last_us[event.shard] = event.at_us
    full = [last_us[shard] for shard, count in counts.items() if count >= per_shard]
    until_us = min(full, default=None)
    merged = sorted(events, key=lambda event: (event.at_us, event.shard, event.position))
    if until_us is None:
        return merged
    return [event for event in merged if event.at_us <= until_us]


def place_of(event: RecordedEvent) -> tuple[str, str]:
    """Return namespace and template of a stream by one of the events that say so; empty when it cannot be read."""
    try:
        match from_recorded(event):
            case TaskCreated(template=template):
                return template.namespace, template.name
            case TemplateRegistered(namespace=namespace, name=name) | TemplateUsed(namespace=namespace, name=name):
                return namespace, name
            case (
                ScheduleCreated(namespace=namespace, name=name)
                | ConcurrencyKeyOpened(namespace=namespace, template=name)
            ):
                return namespace, name
            case _:
                return _UNREADABLE
    except Undecodable:
        return _UNREADABLE
