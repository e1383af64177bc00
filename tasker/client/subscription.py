"""Following lifecycle events: every one that matches, once, from a position on.

Three sources, one sequence. The *log*, read through `/v1/events`, is complete and knows positions. The
*stream* on NATS is fed from it in log order, is cheap to follow, and remembers some days. *Live* core
subjects promise order and nothing else.

A subscription opens the stream first, so that nothing can fall between; then it reads the log from where
the caller stopped up to its head; then it goes on with the stream, and leaves out what it has shown. When
the stream says that something is missing (it dropped it, or was made anew), the log fills the hole.
Without HTTP the stream has to go back as far as the caller's position; if it does not, that is an error.

An event is known by shard and position, which its id is made of. The position up to which a shard was
seen comes from events, from the log's pages and from the marks that the publisher writes between events,
so that a filtered subscription moves on even when nothing matches.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Protocol, Self

import msgspec

from tasker.bus.bus import Bus, Message
from tasker.bus.listening import listen
from tasker.bus.pull import Delivery
from tasker.bus.stream_reader import FromNew, FromSeq, FromTime, Gap, StreamReader
from tasker.client.live_buffer import LiveBuffer
from tasker.errors import ConfigurationError, PositionInvalid, Unavailable, Undecodable
from tasker.events.codec import decode_message
from tasker.events.envelope import Meta, event_id, log_of_event
from tasker.events.messages import LifecycleEvent, Mark
from tasker.events.position import format_position, log_of_position, parse_position
from tasker.events.reads import EventPage, EventView
from tasker.events.subjects import Subjects

START = "start"
"""In place of a position: from the beginning of the log."""

RECENT_PER_SHARD = 4096
"""Positions of a shard that are remembered one by one; older ones count as seen."""

POLL_S = 0.5

POLL_S_MAX = 10.0

EVENT_TYPE_PREFIX = "tasker."
_SHARDS_MAX = 100_000

_log = logging.getLogger(__name__)


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are wanted: those that match all that is given.

    Attributes:
        types: stored types, such as `task_completed`; none: all.
    """

    namespace: str | None = None
    template: str | None = None
    task_id: str | None = None
    types: tuple[str, ...] = ()

    def stored(self, subjects: Subjects, tenant: str) -> tuple[str, ...]:
        """Return the subjects in the stream that may hold them."""
        namespace, template = self.namespace or "*", self.template or "*"
        return tuple(subjects.stored_events(tenant, namespace, template, event) for event in self.types or ("*",))

    def live(self, subjects: Subjects, tenant: str) -> tuple[str, ...]:
        """Return the live subjects that hold them."""
        namespace, template, task = self.namespace or "*", self.template or "*", self.task_id or "*"
        return tuple(subjects.event(tenant, namespace, template, task, event) for event in self.types or ("*",))

    def takes(self, event: LifecycleEvent) -> bool:
        """Say whether `event`, of the right subject, is wanted."""
        return self.task_id in (None, event.subject) and (not self.types or type_of(event) in self.types)

    def parameters(self) -> dict[str, str | int | float | list[str] | None]:
        """Return them as the query of `/v1/events`."""
        return {
            "namespace": self.namespace,
            "template": self.template,
            "task_id": self.task_id,
            "type": list(self.types) or None,
        }


class EventLogReader(Protocol):
    """The log as a client reads it."""

    async def page(self, *, after: str | None, wanted: EventFilter) -> EventPage:
        """Return the events behind `after`; `next` goes on behind them, also when none matched."""
        ...

    async def head(self) -> str:
        """Return the token of the head of the log."""
        ...


class Seen:
    """Which events were shown, and up to where each shard was read.

    Attributes:
        log_id: whose positions these are; empty while nobody has said.
    """

    def __init__(self) -> None:
        self.log_id = ""
        self._upto: dict[int, int] = {}
        self._floor: dict[int, int] = {}
        self._recent: dict[int, tuple[deque[int], set[int]]] = {}

    @property
    def token(self) -> str | None:
        """The position to resume from; None while nothing is known."""
        return format_position(self._upto, self.log_id) if self._upto else None

    def is_of(self, log_id: str) -> None:
        """Note whose events come.

        Raises:
            PositionInvalid: of another log than those before, whose positions say nothing of these.
        """
        if self.log_id not in ("", log_id):
            raise PositionInvalid(
                f"the positions are of log {self.log_id}, the events of log {log_id}: "
                "it was restored to an earlier time, or is another; start again without a position"
            )
        self.log_id = log_id

    def start_at(self, token: str) -> None:
        """Take everything up to `token` as seen."""
        if named := log_of_position(token):
            self.is_of(named)
        for shard, position in positions_in(token).items():
            self._upto[shard] = max(position, self._upto.get(shard, 0))
            self._floor[shard] = max(position, self._floor.get(shard, 0))

    def begin_at_start(self, token: str) -> None:
        """Know of the shards that `token` names: of those of which nothing was seen the position is their start."""
        for shard in positions_in(token):
            self._upto.setdefault(shard, 0)

    def mark(self, mark: Mark) -> None:
        """Note that everything of a shard up to the mark stood before it."""
        self.is_of(mark.log_id)
        self._upto[mark.shard] = max(mark.position, self._upto.get(mark.shard, 0))

    def add(self, shard: int, position: int) -> bool:
        """Return whether the event is new, and remember it."""
        if position <= self._floor.get(shard, 0):
            return False
        order, known = self._recent.setdefault(shard, (deque(), set()))
        if position in known:
            return False
        known.add(position)
        order.append(position)
        if len(order) > RECENT_PER_SHARD:
            oldest = order.popleft()
            known.discard(oldest)
            self._floor[shard] = max(self._floor.get(shard, 0), oldest)
        self._upto[shard] = max(position, self._upto.get(shard, 0))
        return True


class _Source(Protocol):
    """Where events come from when nothing of the log is due."""

    items: deque[Delivery | Gap | Message]
    polls: bool
    """Whether the log is to be read whenever `more` returned."""

    async def more(self) -> None:
        """Wait until there is more."""
        ...


class _Stream:
    polls = False

    def __init__(self, reader: StreamReader) -> None:
        self.items: deque[Delivery | Gap | Message] = deque()
        self._reader = reader

    async def more(self) -> None:
        self.items.extend(await self._reader.read())


class _Polling:
    polls = True

    def __init__(self) -> None:
        self.items: deque[Delivery | Gap | Message] = deque()

    async def more(self) -> None:
        await asyncio.sleep(POLL_S)


class _Live(LiveBuffer["Delivery | Gap | Message"]):
    polls = False


class Subscription:
    """Lifecycle events as they are asked for; `async with` it, then `async for event in it`.

    Made by `TaskerClient.subscribe`.
    """

    def __init__(
        self,
        *,
        wanted: EventFilter,
        start: str | None,
        live: bool,
        subjects: Subjects,
        tenant: str,
        bus: Callable[[], Awaitable[Bus]] | None,
        log: EventLogReader | None,
        from_kept: bool = False,
    ) -> None:
        """`from_kept`: without a log, begin with whatever the stream still has."""
        self._wanted = wanted
        self._start = start
        self._from_kept = from_kept
        self._live = live
        self._subjects = subjects
        self._tenant = tenant
        self._bus = bus
        self._log = log
        self._seen = Seen()
        self._source: _Source | None = None
        self._page: deque[EventView | str] = deque()
        """What was read from the log: events, and behind them the token of how far that was."""

        self._log_due = False
        self._goal: str | None = None
        self._failures = 0
        self._held = AsyncExitStack()
        self.pending = 0
        """How many messages of the stream are still to come, those included that may not match."""

    @property
    def position(self) -> str | None:
        """The token to resume from: everything up to it was shown, or did not match. None: nothing is known yet."""
        return self._seen.token

    async def __aenter__(self) -> Self:
        """Return it open: what is recorded from now on will be shown.

        Raises:
            Unavailable: the service cannot be reached. PositionInvalid: the token is none of this log.
            NotPermitted: NATS does not let this user hear them.
        """
        try:
            if self._live:
                self._source = await self._open_live(await self._bus_of())
            elif self._bus is None:
                self._source = await self._open_polling(self._log_of())
            else:
                self._source = await self._open_stream(await self._bus())
        except BaseException:
            await self._held.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._source = None
        await self._held.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LifecycleEvent:
        """Return the next event. It may be cancelled (by a timeout) and asked again: nothing is lost by that.

        Raises:
            PositionInvalid: the stream has a hole, and there is no way to the log; or the log is another by now.
            Unavailable: (live) events came faster than they were read.
        """
        while self._source is not None:
            event = self._next_of_page() or (None if self._log_due else self._next_of_source(self._source))
            if event is not None:
                return event
            if self._log_due:
                await self._read_page(self._log_of())
            elif not self._source.items:
                await self._source.more()
                self._log_due = self._source.polls
        raise StopAsyncIteration

    # ---- the three sources

    async def _open_live(self, bus: Bus) -> _Source:
        source = _Live()
        for held in await listen(bus, self._wanted.live(self._subjects, self._tenant), source.put):
            self._held.callback(held.unsubscribe)
        return source

    async def _open_polling(self, log: EventLogReader) -> _Source:
        await self._begin(log)
        self._log_due = True
        return _Polling()

    async def _open_stream(self, bus: Bus) -> _Source:
        patterns = (*self._wanted.stored(self._subjects, self._tenant), self._subjects.marks_all)
        begin: FromSeq | FromTime | FromNew = FromNew()
        if self._log is None and self._start is not None:
            begin = FromTime(0) if self._from_kept else FromSeq(1)
        reader = StreamReader(bus, self._subjects.event_stream, patterns, begin)
        await reader.open()
        self._held.push_async_callback(reader.close)
        if self._log is not None:
            await self._begin(self._log)
            self._log_due = self._start is not None
        elif self._start not in (None, START):
            self._seen.start_at(self._start or "")
        return _Stream(reader)

    async def _begin(self, log: EventLogReader) -> None:
        """Take the caller's position, or without one the present head."""
        if self._start != START:
            self._seen.start_at(self._start or await log.head())

    # ---- what they give

    def _next_of_page(self) -> LifecycleEvent | None:
        while self._page:
            item = self._page.popleft()
            if isinstance(item, str):
                self._seen.start_at(item)
                continue
            event = lifecycle_of(item, self._seen.log_id)
            if self._wanted.takes(event) and self._seen.add(event.shard, int(event.position)):
                return event
        return None

    def _next_of_source(self, source: _Source) -> LifecycleEvent | None:
        while source.items and not self._log_due:
            item = source.items.popleft()
            if isinstance(item, Gap):
                self._fill(item)
            elif isinstance(item, Delivery):
                event = self._of_stream(item)
                if event is not None:
                    return event
            else:
                event = self._new(item.data)
                if event is not None:
                    return event
        return None

    async def _read_page(self, log: EventLogReader) -> None:
        """Read the log's next page; when it reached the head that the log had at the first page, the log is done."""
        after = self._seen.token
        try:
            page = await log.page(after=after, wanted=self._wanted)
        except Unavailable as error:
            self._failures += 1
            _log.info("the log cannot be read: %s", error)
            await asyncio.sleep(min(POLL_S * 2.0 ** min(self._failures, 16), POLL_S_MAX))
            return
        self._failures = 0
        self._goal = self._goal or page.position
        self._seen.begin_at_start(page.position)
        if page.log_id:
            self._seen.is_of(page.log_id)
        self._page.extend(page.items)
        if page.next is not None:
            self._page.append(page.next)
        if page.next is None or (page.next == after and not page.items) or covers(page.next, self._goal):
            self._log_due, self._goal = False, None

    def _fill(self, gap: Gap) -> None:
        """Let the log give what the stream does not have any more.

        Raises:
            PositionInvalid: there is no way to the log.
        """
        if self._log is None:
            missing = "was made anew" if gap.recreated else f"begins at {gap.first_seq}, behind {gap.wanted_seq}"
            raise PositionInvalid(
                f"the event stream {missing}: what is missing is in the log; give http_url (TASKER_HTTP_URL)",
                position=self.position,
            )
        self._log_due = True

    def _of_stream(self, delivery: Delivery) -> LifecycleEvent | None:
        self.pending = delivery.pending
        if not _is_mark(delivery.subject, self._subjects):
            return self._new(delivery.data)
        try:
            self._seen.mark(decode_message(delivery.data, Mark))
        except Undecodable as error:
            _log.warning("a mark cannot be read: %s", error)
        return None

    def _new(self, data: bytes) -> LifecycleEvent | None:
        """Return the event that `data` is, when it is wanted and was not shown."""
        try:
            event = decode_message(data, LifecycleEvent)
        except Undecodable as error:
            _log.warning("an event cannot be read: %s", error)
            return None
        self._seen.is_of(log_of_event(event.id))
        new = self._seen.add(event.shard, int(event.position))
        return event if new and self._wanted.takes(event) else None

    async def _bus_of(self) -> Bus:
        if self._bus is None:
            raise ConfigurationError("live events come over NATS: set TASKER_NATS_URL or give nats_url")
        return await self._bus()

    def _log_of(self) -> EventLogReader:
        if self._log is None:
            raise ConfigurationError("no address is known: set TASKER_NATS_URL or TASKER_HTTP_URL")
        return self._log


def type_of(event: LifecycleEvent) -> str:
    """Return the stored type of an event: `tasker.step_completed.v1` is `step_completed`."""
    return event.type.removeprefix(EVENT_TYPE_PREFIX).rpartition(".")[0]


def lifecycle_of(view: EventView, log_id: str) -> LifecycleEvent:
    """Return an event that was read from the log as it was published."""
    meta = msgspec.json.decode(bytes(view.meta), type=Meta)
    position = view.position.rpartition(":")[2]
    return LifecycleEvent(
        id=event_id(log_id, view.shard, int(position)),
        source=f"/tasker/{log_id}",
        type=f"{EVENT_TYPE_PREFIX}{view.type}.v{view.version}",
        subject=view.task_id,
        time=view.at,
        tenant=view.tenant,
        shard=view.shard,
        position=position,
        seq=view.seq,
        data=view.data,
        correlationid=meta.correlation_id,
        causationid=meta.causation_id,
        traceparent=meta.traceparent,
    )


def positions_in(token: str) -> dict[int, int]:
    """Return shard -> position of a token, whatever log it names: the service says whether that is the right one.

    Raises:
        PositionInvalid: it is no token.
    """
    return parse_position(token, log_id=log_of_position(token), shards=_SHARDS_MAX)


def covers(token: str, goal: str) -> bool:
    """Say whether `token` is at or behind `goal` in each shard that `goal` names."""
    reached = positions_in(token)
    return all(reached.get(shard, 0) >= position for shard, position in positions_in(goal).items())


def _is_mark(subject: str, subjects: Subjects) -> bool:
    return subject.startswith(subjects.marks_all.removesuffix("*"))
