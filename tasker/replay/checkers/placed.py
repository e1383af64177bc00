"""A part of I8: under a concurrency key never more hold a place than may, each in its turn, and every place comes back.

The key's own stream is held to its limit by the events alone. That a holder which has ended gave its place back is told
by two streams in two shards, so it is asked once the shard is read (`held`, `check_ended`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, cast
from uuid import UUID

from tasker.events.concurrency_events import (
    CONCURRENCY_EVENT_TYPES,
    ConcurrencyEvent,
    ConcurrencyKeyOpened,
    PlacesAsked,
    PlacesEvicted,
    PlacesGranted,
    PlacesReturned,
    StartsMet,
)
from tasker.events.envelope import US_PER_S, RecordedEvent
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report

_EVENTS: Final = frozenset[type](CONCURRENCY_EVENT_TYPES)

RETURNED_WITHIN_S: Final = 600.0
"""A place that its ended holder still has so much later, while its shard went on, is lost."""


class _Key:
    """What is known of a key."""

    __slots__ = ("evicted", "holders", "limit", "position", "waiting")

    def __init__(self) -> None:
        self.limit = 0
        self.position = 0
        self.holders: dict[str, None] = {}
        self.waiting: OrderedDict[str, None] = OrderedDict()
        self.evicted: set[str] = set()


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
        for detail in _take(key, event):
            self._find(recorded.stream_id, recorded.position, detail)

    def close(self) -> None:
        """Do nothing; `check_ended` asks more than the shard can tell."""

    def held(self) -> dict[str, UUID]:
        """Return the requests that hold a place at the end of the shard -> the stream of their key."""
        return {request: stream_id for stream_id, key in self._keys.items() for request in key.holders}

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


def _take(key: _Key, event: ConcurrencyEvent) -> list[str]:
    """Move a key on, and return what is wrong with it."""
    found: list[str] = []
    match event:
        case PlacesAsked(requests=requests, limit=limit):
            key.limit = limit
            for request in requests:
                if request in key.holders or request in key.waiting:
                    found.append(f"{request} asks twice")
                key.waiting[request] = None
        case PlacesGranted(requests=requests, beyond=beyond):
            for request in requests:
                if request not in key.waiting:
                    found.append(f"{request} gets a place and did not wait for one")
                elif next(iter(key.waiting)) != request:
                    found.append(f"{request} gets a place before {next(iter(key.waiting))}, which waits longer")
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
