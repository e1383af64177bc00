"""A part of I8: under a concurrency key never more hold a place than may, each in its turn, and every place comes back.

A turn is of who has the highest priority, and among those of one share of who asked first; or of who has waited longest
of all, if that is long. How the shares of one priority take turns is not checked here.

The key's own stream is held to its limit by the events alone. That a holder which has ended gave its place back is told
by two streams in two shards, so it is asked once the shard is read (`held`, `check_ended`).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Final, NamedTuple, cast
from uuid import UUID

from tasker.events.concurrency_events import (
    CONCURRENCY_EVENT_TYPES,
    ConcurrencyEvent,
    ConcurrencyKeyOpened,
    PlacesAsked,
    PlacesEvicted,
    PlacesGranted,
    PlacesMoved,
    PlacesReturned,
    StartsMet,
)
from tasker.events.envelope import US_PER_S, RecordedEvent
from tasker.events.places import parse_request
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report
from tasker.service.domain.limits.ranks import OLD_S

_EVENTS: Final = frozenset[type](CONCURRENCY_EVENT_TYPES)

RETURNED_WITHIN_S: Final = 600.0
"""A place that its ended holder still has so much later, while its shard went on, is lost."""


class _Asked(NamedTuple):
    """How a request waits."""

    number: int
    at_us: int
    priority: int
    share: str | None


class _Key:
    """What is known of a key."""

    __slots__ = ("_asks", "_flows", "evicted", "holders", "limit", "position", "waiting")

    def __init__(self) -> None:
        self.limit = 0
        self.position = 0
        self.holders: dict[str, None] = {}
        self.waiting: OrderedDict[str, _Asked] = OrderedDict()
        self.evicted: set[str] = set()
        self._asks = 0
        self._flows: dict[tuple[int, str | None], list[tuple[int, str]]] = {}
        """Who waits with a priority and a share: heaps by number; who waits elsewhere, or no more, is passed over."""

    def ask(self, request: str, at_us: int, priority: int, share: str | None) -> None:
        """Let a request wait."""
        self._asks += 1
        self._put(request, _Asked(self._asks, at_us, priority, share))

    def move(self, request: str, priority: int) -> None:
        """Give a request that waits another priority."""
        self._put(request, self.waiting[request]._replace(priority=priority))

    def _put(self, request: str, asked: _Asked) -> None:
        self.waiting[request] = asked
        heapq.heappush(self._flows.setdefault((asked.priority, asked.share), []), (asked.number, request))

    def out_of_turn(self, request: str, at_us: int) -> str | None:
        """Return before whom a request that waits gets a place out of turn, and why; None: it is its turn."""
        mine = self.waiting[request]
        if mine.at_us <= at_us - OLD_S * US_PER_S and next(iter(self.waiting)) == request:
            return None
        first = self._first((mine.priority, mine.share))
        if first != request:
            return f"{first}, which waits longer"
        for flow in [one for one in self._flows if one[0] > mine.priority]:
            if (higher := self._first(flow)) is not None:
                return f"{higher}, which has a higher priority"
        return None

    def _first(self, flow: tuple[int, str | None]) -> str | None:
        heap = self._flows[flow]
        while heap:
            number, request = heap[0]
            asked = self.waiting.get(request)
            if asked is not None and (asked.number, asked.priority, asked.share) == (number, *flow):
                return request
            heapq.heappop(heap)
        del self._flows[flow]
        return None


class PlacedChecker:
    """Checks one shard."""

    def __init__(self, shard: int, report: Report) -> None:
        self._shard = shard
        self._report = report
        self._keys: dict[UUID, _Key] = {}
        self._at_us = 0

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Check the next event of the shard."""
        self._at_us = recorded.at_us
        if type(event) not in _EVENTS:
            return
        event = cast("ConcurrencyEvent", event)
        key = self._keys.get(recorded.stream_id)
        if key is None:
            key = self._keys[recorded.stream_id] = _Key()
            if not isinstance(event, ConcurrencyKeyOpened):
                self._find(recorded.stream_id, recorded.position, f"the key begins with {recorded.type}")
        key.position = recorded.position
        for detail in _take(key, event, recorded.at_us):
            self._find(recorded.stream_id, recorded.position, detail)

    def close(self) -> None:
        """Do nothing; `check_ended` asks more than the shard can tell."""

    def held(self) -> dict[str, UUID]:
        """Return the requests that hold a place at the end of the shard -> their task."""
        held: dict[str, UUID] = {}
        for stream_id, key in self._keys.items():
            for request in key.holders:
                try:
                    held[request] = UUID(parse_request(request)[0])
                except ValueError:
                    self._find(stream_id, key.position, f"{request!r} has a place and names no task")
        return held

    def check_ended(self, request: str, ended_us: int) -> None:
        """Take note that the task of a holder ended at `ended_us`."""
        late_us = self._at_us - ended_us
        if late_us <= RETURNED_WITHIN_S * US_PER_S:
            return
        for stream_id, key in self._keys.items():
            if request in key.holders:
                detail = f"{request} has its place {late_us / US_PER_S:.0f} s after its task ended"
                self._find(stream_id, key.position, detail)

    def _find(self, stream_id: UUID, position: int, detail: str) -> None:
        self._report(
            Finding(
                invariant=Invariant.ORDER,
                shard=self._shard,
                position=position,
                task_id=str(stream_id),
                detail=detail,
            )
        )


def _take(key: _Key, event: ConcurrencyEvent, at_us: int) -> list[str]:
    """Move a key on, and return what is wrong with it."""
    found: list[str] = []
    match event:
        case PlacesAsked(requests=requests, limit=limit, priority=priority, share=share):
            key.limit = limit
            for request in requests:
                if request in key.holders or request in key.waiting:
                    found.append(f"{request} asks twice")
                key.ask(request, at_us, priority, share)
        case PlacesMoved(requests=requests, priority=priority):
            for request in requests:
                if request in key.waiting:
                    key.move(request, priority)
                else:
                    found.append(f"{request} is moved and does not wait")
        case PlacesGranted(requests=requests, beyond=beyond):
            for request in requests:
                if request not in key.waiting:
                    found.append(f"{request} gets a place and did not wait for one")
                elif (before := key.out_of_turn(request, at_us)) is not None:
                    found.append(f"{request} gets a place before {before}")
                key.waiting.pop(request, None)
                key.holders[request] = None
            if len(key.holders) > key.limit and not beyond:
                found.append(f"{len(key.holders)} hold a place of {key.limit}")
        case PlacesEvicted(requests=requests):
            for request in requests:
                if request not in key.holders and request not in key.waiting:
                    found.append(f"{request} is to end and has no place")
                key.waiting.pop(request, None)
                key.evicted.add(request)
        case PlacesReturned(requests=requests):
            for request in requests:
                if request not in key.holders and request not in key.waiting and request not in key.evicted:
                    found.append(f"{request} gives back what it does not have")
                key.holders.pop(request, None)
                key.waiting.pop(request, None)
                key.evicted.discard(request)
        case StartsMet(requests=requests, holder=holder):
            if holder not in key.holders and holder not in key.waiting:
                found.append(f"{requests[0]} goes to {holder}, which has no place")
        case _:
            pass
    return found
