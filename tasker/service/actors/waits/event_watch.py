"""Watches the log for events that steps of this node's tasks wait for.

A step's wait is an obligation of its task, so whoever takes the shard hears of it from the task's actor and watches
from the time at which the wait began: an event is found however long nobody looked. Nothing is kept here that the log
does not tell again. Each event of a name is held against each wait for it; one that fits is told to the task's actor,
which decides. Told twice it is one: the step waits no more.

The tail reads all shards to their heads when something was committed here, and now and then for what other nodes
commit. It rests while nothing is waited for. A wait that begins behind the tail turns it back to before that time: to a
remembered place of the tail, or to one that is found in the log by its times, which never decrease in a shard.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import msgspec
import structlog

from tasker.errors import ExpressionFailed, TaskerError, Unavailable, Undecodable
from tasker.events.codec import canonical, decode_value
from tasker.events.envelope import US_PER_S, NewEvent, RecordedEvent, StreamKind
from tasker.events.log import EventLog
from tasker.events.stored import TYPE_OF, from_recorded
from tasker.events.task_events import DomainEventRaised
from tasker.outages import Outage
from tasker.service.actors.waits.event_news import EventNews, Watched
from tasker.service.domain.commands import NoteEvent
from tasker.service.domain.waits.event_waits import EVENT_BYTES_MAX
from tasker.service.runtime.shards import Shards
from tasker.times import to_rfc3339

POLL_S: Final = 0.5
GATHER_S: Final = 0.01
RETRY_S: Final = 1.0
READ_EVENTS: Final = 2_000
SKEW_US: Final = US_PER_S
"""Clocks of nodes differ by less: they are the log's own."""

PLACES_MAX: Final = 240
OFFERS_AT_A_TIME: Final = 200

DOMAIN_EVENT_TYPE: Final = TYPE_OF[DomainEventRaised]
LIFECYCLE_TYPES: Final = frozenset(TYPE_OF.values())

_log = structlog.get_logger(__name__)


class EventWatch:
    """Implements `EventPorts`; one a node."""

    def __init__(
        self,
        log: EventLog,
        shards: Shards,
        shard_numbers: Sequence[int],
        now_us: Callable[[], int],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._shards = shards
        self._numbers = tuple(shard_numbers)
        self._now_us = now_us
        self._watched: dict[tuple[str, str], dict[tuple[UUID, str], Watched]] = {}
        self._count = 0
        self._positions: dict[int, int] | None = None
        self._places: deque[tuple[int, dict[int, int]]] = deque(maxlen=PLACES_MAX)
        self._turn_back_us: int | None = None
        self._news = asyncio.Event()
        self._offered = 0
        self._outage = Outage(_log, "event_watch_unavailable", monotonic_s)

    # ---------------------------------------------------------------- what is waited for

    def watch(self, one: Watched) -> None:
        """Look for the event of a step, from the time on at which its wait began. Twice is fine.

        Where its expression sees something else by now, what was looked at is looked at again.
        """
        steps = self._watched.setdefault((one.tenant, one.event), {})
        key = (one.stream_id, one.step)
        before = steps.get(key)
        if before is not None and before.attempt == one.attempt and before.fits.seen == one.fits.seen:
            return
        self._count += before is None
        steps[key] = one
        self._turn_back_us = one.since_us if self._turn_back_us is None else min(self._turn_back_us, one.since_us)
        self._news.set()

    def _forget(self, one: Watched) -> None:
        steps = self._watched.get((one.tenant, one.event), {})
        if steps.pop((one.stream_id, one.step), None) is not None:
            self._count -= 1
        if not steps:
            self._watched.pop((one.tenant, one.event), None)

    async def open_shard(self, shard: int, epoch: int) -> None:
        """Do nothing: the tasks of the shard say for themselves what they wait for."""

    def close_shard(self, shard: int) -> None:
        """Forget what tasks of a shard wait for: another node does by now."""
        lost = [one for steps in self._watched.values() for one in steps.values() if one.shard == shard]
        for one in lost:
            self._forget(one)

    def on_committed(self, shard: int, first_position: int, events: Sequence[NewEvent]) -> None:  # noqa: ARG002 - the protocol's
        """Look at what was committed here."""
        if self._count:
            self._news.set()

    def on_fenced(self, shard: int) -> None:
        """Do nothing: `close_shard` follows."""

    # ---------------------------------------------------------------- the tail

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._wait()
            try:
                await self._read_on()
                self._outage.is_over()
            except Unavailable as error:
                self._outage.goes_on(error.detail)
                await asyncio.sleep(RETRY_S)
                self._news.set()

    async def _wait(self) -> None:
        if not self._count:
            self._positions = None
            self._places.clear()
            self._turn_back_us = None
            await self._news.wait()
        else:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._news.wait()
            except TimeoutError:
                pass
        await asyncio.sleep(GATHER_S)
        self._news.clear()

    async def _read_on(self) -> None:
        """Read every shard to its head and offer what is found."""
        heads = {head.shard: head.position for head in await self._log.heads(self._numbers)}
        at_us = self._now_us()  # what stands behind these heads is not older
        if self._turn_back_us is not None:
            await self._turn_back(self._turn_back_us - SKEW_US, heads)
        positions = self._positions
        if positions is None:
            return
        for shard, head in heads.items():
            while positions[shard] < head and self._count:
                events = await self._log.read(shard, after=positions[shard], limit=READ_EVENTS)
                if not events:
                    break
                for event in events:
                    await self._offer(event)
                positions[shard] = events[-1].position
        if self._turn_back_us is None:
            self._places.append((at_us, heads))

    async def _turn_back(self, since_us: int, heads: dict[int, int]) -> None:
        """Let the tail stand before every event from `since_us` on."""
        place = next((places for at_us, places in reversed(self._places) if at_us <= since_us), None)
        if place is None:
            place = {shard: await self._position_before(shard, head, since_us) for shard, head in heads.items()}
        if self._positions is None:
            self._positions = dict(place)
        else:
            for shard, position in place.items():
                self._positions[shard] = min(self._positions[shard], position)
        # A wait that came meanwhile may begin earlier; then this is done again before its tail is complete.
        if self._turn_back_us is not None and self._turn_back_us - SKEW_US >= since_us:
            self._turn_back_us = None

    async def _position_before(self, shard: int, head: int, since_us: int) -> int:
        """Return a position behind which every event of a shard from `since_us` on stands."""
        low, high = 0, head
        while low < high:
            middle = (low + high) // 2
            events = await self._log.read(shard, after=middle, limit=1)
            if events and events[0].at_us < since_us:
                low = events[0].position
            else:
                high = middle
        return low

    # ---------------------------------------------------------------- what fits

    async def _offer(self, event: RecordedEvent) -> None:
        if event.kind != StreamKind.TASK:
            return
        waiting = list(self._watched.get((event.tenant, event.type), {}).values())
        told: DomainEventRaised | None = None
        if event.type == DOMAIN_EVENT_TYPE:
            try:
                raised = from_recorded(event)
            except Undecodable:
                return  # its own task is marked for it
            assert isinstance(raised, DomainEventRaised)  # noqa: S101 - as its type says
            told = raised
            if raised.name not in LIFECYCLE_TYPES:  # such a name means the lifecycle's
                waiting += self._watched.get((event.tenant, raised.name), {}).values()
        if not waiting:
            return
        document = event_document(event, told)
        for one in waiting:
            if one.stream_id == event.stream_id or event.at_us < one.since_us:
                continue
            self._offered += 1
            if self._offered % OFFERS_AT_A_TIME == 0:
                await asyncio.sleep(0)
            if _may_fit(one, document):
                self._tell(one, event, document)

    def _tell(self, one: Watched, event: RecordedEvent, document: msgspec.Raw) -> None:
        """Tell the task of an event that fits; when it cannot be told it is looked for again."""
        self._forget(one)

        def command(at_us: int) -> NoteEvent:
            return NoteEvent(
                at_us=at_us,
                step=one.step,
                attempt=one.attempt,
                task_id=str(event.stream_id),
                seq=event.seq,
                event_at_us=event.at_us,
                event=document,
            )

        def failed(_: TaskerError) -> None:
            if self._shards.owns(one.shard):
                self.watch(one)

        self._shards.send(one.shard, one.stream_id, StreamKind.TASK, EventNews(one.step, one.attempt, command, failed))


def _may_fit(one: Watched, document: msgspec.Raw) -> bool:
    try:
        return one.fits(document)
    except ExpressionFailed:
        return True  # that it has no value fails the step, which its task says


def event_document(event: RecordedEvent, raised: DomainEventRaised | None) -> msgspec.Raw:
    """Return an event as an expression and the step behind see it; what is too large or too deep has no data."""
    document = {
        "type": event.type if raised is None else raised.name,
        "task_id": str(event.stream_id),
        "seq": event.seq,
        "at": to_rfc3339(event.at_us),
        "data": None,
    }
    if raised is not None:
        document["step"] = raised.step
    data = event.payload if raised is None else bytes(raised.data)
    if len(data) <= EVENT_BYTES_MAX:
        try:
            found = canonical({**document, "data": decode_value(data)})
            decode_value(found)
        except TaskerError:
            pass  # it nests as deep as a value may, and would be deeper here
        else:
            return msgspec.Raw(found)
    return msgspec.Raw(canonical(document))
