"""The publisher: every committed event to the event stream, in log order, with nothing left out.

A shard's *cursor* is the position up to which the stream has acknowledged; it moves only after the ack
and is kept in the log under the shard's epoch. Events come from memory while the publisher keeps up, and
from the log when it does not (or when the shard was just taken, or a session broke).

NATS may lose everything. So *marks* go into the same stream: "everything of shard n up to position p
stands before this". On taking a shard, on reconnect and each minute the stream's last mark is compared
with the cursor; when the stream is behind, publishing goes back to the mark, and to the start of the
stream's window when there is none. Repetitions carry the same `Nats-Msg-Id`. A stream that is ahead of the log says
that the log was restored to an earlier time: nothing is published then, as new events would have the ids of lost ones.

A server that comes back with damaged files may also have holes in the middle of the stream. The same comparison sees
them by the count of messages; what they may have held is published once more, and marks say from then on which holes
are filled, so that nobody fills them again (`stream_losses.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import structlog

from tasker.bus.bus import Bus
from tasker.bus.fast_ingest import Ingest, open_ingest
from tasker.bus.holes import Hole, find_holes, not_in
from tasker.bus.streams import StreamState, stream_info
from tasker.errors import BodyTooLarge, ConfigurationError, TaskerError, Unavailable, Undecodable
from tasker.events.codec import encode_message
from tasker.events.concurrency_events import ConcurrencyKeyOpened
from tasker.events.envelope import US_PER_S, NewEvent, RecordedEvent, StreamKind, domain_event_id, event_id
from tasker.events.log import EventLog, LogInfo
from tasker.events.messages import HEADER_MESSAGE_ID, Mark
from tasker.events.schedule_events import ScheduleCreated
from tasker.events.stored import TYPE_OF, from_recorded
from tasker.events.subjects import Subjects
from tasker.events.task_events import ENDING_TYPES, NULL, DomainEventRaised, TaskCreated
from tasker.events.template_events import TemplateRegistered, TemplateUsed
from tasker.failpoints import failpoint
from tasker.outages import Outage
from tasker.service.actors.publication.cloud_events import cloud_event, domain_cloud_event
from tasker.service.actors.publication.stream_end import published_upto
from tasker.service.actors.publication.stream_losses import last_mark, loss_in
from tasker.settings import Limits

READ_EVENTS: Final = 2_000
MARK_EVENTS: Final = 1_000
MARK_S: Final = 1.0
CURSOR_WRITE_S: Final = 0.5
COMPARE_S: Final = 60.0
ROUTES_MAX: Final = 200_000
RETRY_S: Final = 0.5

GATHER_S: Final = 0.02
"""How long an event that ends no task waits for others, while there are few: each publication is a round trip."""

GATHER_EVENTS_MAX: Final = 100

HOLES_TOLD_MAX: Final = 64
"""So many filled holes does a mark name, the newest; another owner fills older ones once more."""

DOMAIN_EVENT_TYPE: Final = TYPE_OF[DomainEventRaised]
WITHOUT_DATA: Final = b"null"
"""The data of an event that is larger than the server takes messages: it is in the log."""

_log = structlog.get_logger(__name__)


class Feed:
    """One shard's way from the log to the stream.

    Attributes:
        committed: the last position in the log.
        sent: the last position published in the present session.
        cursor: the last position acknowledged; `written`: as kept in the log.
        marked: the last position a mark was sent for.
        from_log: the events behind `sent` are read from the log, not from `memory`.
        lost: positions to publish again, behind the first and up to the second of each pair.
        known: holes of the stream whose events are in `lost`, or were published again.
    """

    __slots__ = (
        "committed",
        "cursor",
        "epoch",
        "from_log",
        "known",
        "lost",
        "marked",
        "memory",
        "sent",
        "shard",
        "written",
    )

    def __init__(self, shard: int, epoch: int, cursor: int, committed: int) -> None:
        self.shard = shard
        self.epoch = epoch
        self.cursor = self.written = self.sent = self.marked = cursor
        self.committed = committed
        self.memory: deque[NewEvent] = deque()
        self.from_log = True
        self.lost: deque[tuple[int, int]] = deque()
        self.known: tuple[Hole, ...] = ()

    def rewind(self, position: int) -> None:
        """Publish again from behind `position`."""
        self.sent = self.cursor = self.marked = min(position, self.cursor)
        self.memory.clear()
        self.from_log = True


class _Route(NamedTuple):
    """Where a stream's events go.

    Attributes:
        prefix: what their subjects begin with.
        subject: the stream's id, as text.
    """

    prefix: str
    subject: str
    namespace: str
    template: str


class Publisher:
    """Publishes the shards that this node owns."""

    def __init__(
        self,
        log: EventLog,
        info: LogInfo,
        bus: Bus,
        subjects: Subjects,
        *,
        epoch_of: Callable[[int], int | None],
        position_of: Callable[[int], int],
        now_us: Callable[[], int],
        window_s: float,
        limits: Limits | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits or Limits()
        self._log = log
        self._log_id = info.log_id
        self._source = f"/tasker/{info.log_id}"
        self._bus = bus
        self._subjects = subjects
        self._epoch_of = epoch_of
        self._position_of = position_of
        self._now_us = now_us
        self._window_s = window_s
        self._monotonic_s = monotonic_s
        self._feeds: dict[int, Feed] = {}
        self._wake = asyncio.Event()
        self._session: Ingest | None = None
        self._outstanding: deque[tuple[Feed, int]] = deque()
        self._acked = 0
        self._routes: OrderedDict[UUID, _Route] = OrderedDict()
        self._compare_due_s = 0.0
        self._refill = False
        self._reconnected = False
        self._mark_due = False
        self._gathered = 0
        self._gathering: asyncio.TimerHandle | None = None
        self._interruption = Outage(_log, "publishing_interrupted", monotonic_s)
        self._unwritten = Outage(_log, "cursor_write_failed", monotonic_s)
        bus.on_reconnect(self._on_reconnect)

    # ---------------------------------------------------------------- shards

    async def open_shard(self, shard: int, epoch: int) -> None:
        """Begin with a shard: from its cursor, or from where the stream's last mark stands."""
        cursors = await self._log.publish_cursors([shard])
        self._feeds[shard] = Feed(shard, epoch, cursors.get(shard, 0), self._position_of(shard))
        self.compare_soon()
        self._wake.set()

    def close_shard(self, shard: int) -> None:
        """Stop with a shard; what is in flight no longer moves its cursor."""
        self._feeds.pop(shard, None)

    def on_committed(self, shard: int, first_position: int, events: Sequence[NewEvent]) -> None:
        """Take events that are durable now."""
        feed = self._feeds.get(shard)
        if feed is None:
            return
        feed.committed = first_position + len(events) - 1
        if not feed.from_log:
            feed.memory.extend(events)
            if len(feed.memory) > self._limits.publisher_events_max:
                feed.memory.clear()
                feed.from_log = True
        self._gathered += len(events)
        if self._gathered > GATHER_EVENTS_MAX or not ENDING_TYPES.isdisjoint([event.type for event in events]):
            self._wake.set()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._wake.set)

    def on_fenced(self, shard: int) -> None:
        """Stop with a shard that is another's."""
        self.close_shard(shard)

    @property
    def lag_events(self) -> int:
        """Return how many committed events the stream has not acknowledged."""
        return sum(feed.committed - feed.cursor for feed in self._feeds.values())

    @property
    def _owes(self) -> bool:
        """Return whether the stream has not acknowledged all events, or marks behind them."""
        marked = all(feed.marked >= feed.sent for feed in self._feeds.values())
        return bool(self.lag_events or self._outstanding or not marked)

    def compare_soon(self) -> None:
        """Compare marks and cursors at the next opportunity."""
        self._compare_due_s = 0.0
        self._wake.set()

    def _on_reconnect(self) -> None:
        self._reconnected = True
        self.compare_soon()

    def refill(self) -> None:
        """Publish the whole window again: the stream was made anew, whatever has been put into it since."""
        self._refill = True
        self.compare_soon()

    # ---------------------------------------------------------------- publishing

    async def run(self) -> None:
        """Publish, for ever.

        Raises:
            ConfigurationError: the stream has events that the log does not have.
        """
        while True:
            try:
                await self._work()
            except TaskerError as error:
                if not isinstance(error, Unavailable):
                    raise
                self._interruption.goes_on(error.detail)
                self._end_session()
                await asyncio.sleep(RETRY_S)

    async def stop(self, *, timeout_s: float) -> None:
        """Return when everything committed is acknowledged, the time is over, or nobody is there to acknowledge.

        Marks as well: else the next owner would find the stream behind, and publish the last second again.
        """
        deadline_s = self._monotonic_s() + timeout_s
        while self._owes and self._bus.connected and self._monotonic_s() < deadline_s:
            self._mark_due = True
            self._wake.set()
            await asyncio.sleep(0.02)
        await self.write_cursors()

    async def _work(self) -> None:
        while True:
            self._gathered = 0
            if self._gathering is not None:
                self._gathering.cancel()
                self._gathering = None
            now_s = self._monotonic_s()
            if now_s >= self._compare_due_s:
                self._compare_due_s = now_s + COMPARE_S
                try:
                    await self._compare_marks()
                except Unavailable:
                    self._compare_due_s = 0.0
                    raise
            session = self._open_session()
            busy = False
            for feed in list(self._feeds.values()):
                busy |= await self._advance(session, feed)
                busy |= await self._publish_lost(session, feed)
            if busy:
                continue
            session.flush()
            self._wake.clear()
            if session.broken is not None:
                raise session.broken
            if self._interruption.lasts and self._bus.connected and (self._acked or not self.lag_events):
                self._interruption.is_over()
            await self._wake.wait()
            if self._mark_due:
                self._mark_due = False
                self._mark_quiet(session)

    async def _advance(self, session: Ingest, feed: Feed) -> bool:
        """Publish some of a shard; returns whether there may be more at hand."""
        if feed.sent >= feed.committed:
            feed.from_log = False
            return False
        if feed.from_log:
            # No further than we were told: what the log shows before that would come once more, through memory.
            limit = min(READ_EVENTS, feed.committed - feed.sent)
            page = await self._log.read(feed.shard, after=feed.sent, limit=limit)
            if not page:
                return False
            await self._publish_page(session, feed, page, self._publish)
            if feed.sent == feed.committed:
                feed.from_log = False
            return True
        while feed.memory and not feed.from_log:
            next_event = feed.memory.popleft()
            if next_event.stream_id not in self._routes:
                await self._find_route(next_event)
            if next_event.type == DOMAIN_EVENT_TYPE:
                await self._publish_domain(session, feed, feed.sent + 1, next_event)
            if session.room <= 0:
                await session.wait_room()
            last = not feed.memory and self._nothing_else(feed)
            self._publish(session, feed, feed.sent + 1, next_event, last=last)
        return feed.sent < feed.committed

    async def _publish_page(
        self,
        session: Ingest,
        feed: Feed,
        page: Sequence[RecordedEvent],
        publish: Callable[[Ingest, Feed, int, RecordedEvent], None],
    ) -> None:
        """Publish events that were read from the log, each behind what is published with it."""
        for event in page:
            if event.stream_id not in self._routes:
                await self._find_route(event)
            if event.type == DOMAIN_EVENT_TYPE:
                await self._publish_domain(session, feed, event.position, event)
            if session.room <= 0:
                await session.wait_room()
            publish(session, feed, event.position, event)

    def _nothing_else(self, feed: Feed) -> bool:
        """Return whether the other shards have nothing to publish: then an event can ask for the ack of all."""
        return all(other is feed or other.sent >= other.committed for other in self._feeds.values())

    def _publish(
        self, session: Ingest, feed: Feed, position: int, event: NewEvent | RecordedEvent, *, last: bool = False
    ) -> None:
        """Publish the next event of a shard; as `_put`."""
        self._put(session, feed, position, event, last=last)
        feed.sent = position
        if event.type in ENDING_TYPES:
            self._routes.pop(event.stream_id, None)
        if position - feed.marked >= MARK_EVENTS and session.room > 0:
            self._mark_now(session, feed)

    def _put(
        self, session: Ingest, feed: Feed, position: int, event: NewEvent | RecordedEvent, *, last: bool = False
    ) -> None:
        """Publish one event, whose route is known, in a session that has room; `last`: have all acked soon."""
        failpoint("before_publish")
        route = self._routes[event.stream_id]
        prefix, subject = route.prefix, route.subject
        identity = event_id(self._log_id, feed.shard, position)
        document = cloud_event(identity, self._source, feed.shard, position, event, subject)
        headers = {HEADER_MESSAGE_ID: identity}
        try:
            session.publish(prefix + event.type, document, headers=headers, last=last)
        except BodyTooLarge:
            _log.warning("event_published_without_data", shard=feed.shard, position=position, bytes=len(document))
            bare = msgspec.structs.replace(event, payload=WITHOUT_DATA)
            document = cloud_event(identity, self._source, feed.shard, position, bare, subject)
            session.publish(prefix + event.type, document, headers=headers, last=last)
        failpoint("after_publish")
        self._outstanding.append((feed, position))

    async def _publish_lost(self, session: Ingest, feed: Feed) -> bool:
        """Publish again some of what the stream has lost; returns whether there is more of it."""
        if not feed.lost:
            return False
        after, upto = feed.lost[0]
        page = await self._log.read(feed.shard, after=after, limit=min(READ_EVENTS, upto - after))
        await self._publish_page(session, feed, page, self._put)
        # Only what is acknowledged is done: a session that breaks leaves it to the next one.
        await session.wait_acked()
        feed.lost.popleft()
        if page and page[-1].position < upto:
            feed.lost.appendleft((page[-1].position, upto))
        if not feed.lost:
            # Have the next mark say which holes are filled.
            feed.marked = min(feed.marked, feed.sent - 1)
        return bool(feed.lost)

    async def _publish_domain(
        self, session: Ingest, feed: Feed, position: int, event: NewEvent | RecordedEvent
    ) -> None:
        """Publish a domain event under its own subject, before the event of the log that tells of it.

        The cursor moves with the latter, so that both are in the stream when it has moved.
        """
        try:
            raised = from_recorded(event)
        except Undecodable:
            return  # the event of the log is published as far as it can be told
        if not isinstance(raised, DomainEventRaised):
            return
        route = self._routes[event.stream_id]
        identity = domain_event_id(self._log_id, feed.shard, position)
        document = domain_cloud_event(
            identity, self._source, feed.shard, position, event, raised, (route.namespace, route.template)
        )
        subject = self._subjects.domain_event(event.tenant, raised.name)
        headers = {HEADER_MESSAGE_ID: identity}
        if session.room <= 0:
            await session.wait_room()
        try:
            session.publish(subject, encode_message(document), headers=headers)
        except BodyTooLarge:
            document.data = NULL
            session.publish(subject, encode_message(document), headers=headers)
        self._outstanding.append((feed, position - 1))

    def _mark_now(self, session: Ingest, feed: Feed) -> None:
        filled = () if feed.lost else tuple((hole.first_seq, hole.last_seq) for hole in feed.known[-HOLES_TOLD_MAX:])
        mark = Mark(log_id=self._log_id, shard=feed.shard, position=feed.sent, filled=filled)
        session.publish(self._subjects.mark(feed.shard), encode_message(mark))
        self._outstanding.append((feed, feed.sent))
        feed.marked = feed.sent

    def _mark_quiet(self, session: Ingest) -> None:
        """Mark the shards that have gone quiet since their last mark."""
        for feed in self._feeds.values():
            if feed.marked < feed.sent and session.room > 0:
                self._mark_now(session, feed)

    # ---------------------------------------------------------------- sessions

    def _open_session(self) -> Ingest:
        session = self._session
        if session is not None:
            if session.broken is not None:
                # Not at once in another session: what broke this one needs a moment to heal.
                raise session.broken
            return session
        if not self._bus.connected:
            raise Unavailable("there is no connection to NATS")
        self._session = open_ingest(self._bus, end_subject=self._subjects.mark_end, on_progress=self._on_progress)
        self._acked = 0
        return self._session

    def _end_session(self) -> None:
        """Close the session; what it did not acknowledge is published again, from the log."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._outstanding.clear()
        for feed in self._feeds.values():
            feed.rewind(feed.cursor)

    def _on_progress(self) -> None:
        session = self._session
        if session is None:
            return
        acked = session.acked_count
        while self._acked < acked:
            feed, position = self._outstanding.popleft()
            feed.cursor = max(feed.cursor, position)
            self._acked += 1
        self._wake.set()

    # ---------------------------------------------------------------- the cursor and the marks

    async def run_cursors(self) -> None:
        """Write the cursors behind and have quiet shards marked, for ever."""
        marked_s = self._monotonic_s()
        while True:
            await asyncio.sleep(CURSOR_WRITE_S)
            if self._monotonic_s() - marked_s >= MARK_S:
                marked_s = self._monotonic_s()
                self._mark_due = True
                self._wake.set()
            try:
                await self.write_cursors()
                self._unwritten.is_over()
            except Unavailable as error:
                self._unwritten.goes_on(error.detail)

    async def write_cursors(self) -> None:
        """Keep the cursors that moved in the log.

        Raises:
            Unavailable: they could not be written; the next call writes them.
        """
        moved = [
            (feed, epoch, feed.cursor)
            for feed in self._feeds.values()
            if feed.cursor != feed.written and (epoch := self._epoch_of(feed.shard)) is not None
        ]
        if not moved:
            return
        failpoint("before_cursor")
        ours = await self._log.move_publish_cursors([(feed.shard, epoch, cursor) for feed, epoch, cursor in moved])
        failpoint("after_cursor")
        for feed, _, cursor in moved:
            if feed.shard in ours:
                feed.written = cursor

    async def _compare_marks(self) -> None:
        """Go back where the stream has less than the cursor says, and have filled what it lost in its middle."""
        refill, reconnected = self._refill, self._reconnected
        await self.check_log(list(self._feeds))
        behind: dict[int, int] = {}
        for feed in list(self._feeds.values()):
            mark = None if refill else await self._last_mark(feed.shard)
            if mark is None:
                # The whole window is published again: whatever was known of the stream is of no use.
                start, feed.known = await self._window_start(feed), ()
                feed.lost.clear()
            else:
                start = mark.position
                if reconnected:
                    # The stream may have lost its end, and there what filled a hole: its last mark knows.
                    feed.lost.clear()
                if reconnected or not feed.known:
                    feed.known = tuple(Hole(*seqs) for seqs in mark.filled)
                if start >= feed.marked or start >= feed.cursor:
                    continue
            if start < feed.cursor:
                behind[feed.shard] = feed.cursor - start
                self._end_session()
                feed.rewind(start)
        if behind:
            # Without a mark since: what an owner that was killed published in its last second, or what NATS has lost.
            _log.warning("event_stream_behind", shards=sorted(behind), events=sum(behind.values()))
        await self._look_for_holes()
        self._refill &= not refill
        self._reconnected &= not reconnected

    async def check_log(self, shards: Collection[int]) -> None:
        """Return when the log has all that the stream says was published.

        Raises:
            ConfigurationError: it was restored to an earlier time.
            Unavailable: a server does not answer.
        """
        upto = await published_upto(self._bus, self._subjects, self._log_id, shards)
        # Read after the stream: whoever published so far had committed it.
        for head in await self._log.heads(list(shards)):
            if upto[head.shard] > head.position:
                raise ConfigurationError(
                    f"the stream {self._subjects.event_stream} has events of shard {head.shard} up to "
                    f"{upto[head.shard]}, and the log ends at {head.position}: it was restored to an earlier time. "
                    "`tasker log renew` gives it a new id, so that no new event is taken for a lost one; "
                    "then start again"
                )

    async def _look_for_holes(self) -> None:
        """Note what the stream may have lost in its middle, for `_publish_lost`."""
        if not self._feeds:
            return
        state = (await stream_info(self._bus, self._subjects.event_stream)).state
        feeds = []
        for feed in self._feeds.values():
            feed.known = tuple(hole for hole in feed.known if hole.within(state))
            if state.missing > sum(hole.within(state) for hole in feed.known):
                feeds.append(feed)
        if not feeds:
            return
        holes = await find_holes(self._bus, self._subjects.event_stream)
        for feed in feeds:
            new = not_in(holes, feed.known)
            lost = [span for hole in new if (span := await self._lost_in(feed, hole, state)) is not None]
            if lost:
                _log.warning("event_stream_has_holes", shard=feed.shard, holes=len(new), lost=lost[:3])
            feed.lost.extend(lost)
            feed.known = (*feed.known, *new)

    async def _lost_in(self, feed: Feed, hole: Hole, state: StreamState) -> tuple[int, int] | None:
        """Return the positions that a hole may have held; what is behind the cursor will be published anyway."""
        loss = await loss_in(self._bus, self._subjects, self._log_id, feed.shard, hole, first_seq=state.first_seq)
        after = await self._window_start(feed) if loss.after is None else loss.after
        upto = feed.cursor if loss.upto is None else min(loss.upto, feed.cursor)
        return (after, upto) if after < upto else None

    async def _last_mark(self, shard: int) -> Mark | None:
        """Return the stream's last mark of a shard; None when it has none of this log."""
        return await last_mark(self._bus, self._subjects, self._log_id, shard)

    async def _window_start(self, feed: Feed) -> int:
        """Return the last position that is older than the stream's window (0: none is)."""
        since_us = self._now_us() - round(self._window_s * US_PER_S)
        low, high = 0, feed.cursor
        while low < high:
            middle = (low + high) // 2
            page = await self._log.read(feed.shard, after=middle, limit=1)
            if page and page[0].at_us < since_us:
                low = page[0].position
            else:
                high = middle
        return low

    # ---------------------------------------------------------------- subjects

    async def _find_route(self, event: NewEvent | RecordedEvent) -> None:
        """Note what the subjects of the stream's events begin with, and the stream's id as text."""
        first: NewEvent | RecordedEvent = event
        if event.seq != 1:
            first = (await self._log.load_stream(event.stream_id, after_seq=0, limit=1))[0]
        namespace, name = _route_of(first)
        subject = str(event.stream_id)
        task = subject if event.kind == StreamKind.TASK else "_"
        prefix = self._subjects.event(event.tenant, namespace, name, task, "")
        self._routes[event.stream_id] = _Route(prefix, subject, namespace, name)
        if len(self._routes) > ROUTES_MAX:
            self._routes.popitem(last=False)


def _route_of(first: NewEvent | RecordedEvent) -> tuple[str, str]:
    """Return namespace and name of the template; `_` for both where this build cannot tell."""
    try:
        event = from_recorded(first)
    except Undecodable:
        return "_", "_"
    match event:
        case TaskCreated(template=template):
            return template.namespace, template.name
        case TemplateRegistered(namespace=namespace, name=name) | TemplateUsed(namespace=namespace, name=name):
            return namespace, name
        case ScheduleCreated(namespace=namespace, name=name) | ConcurrencyKeyOpened(namespace=namespace, template=name):
            return namespace, name
        case _:
            return "_", "_"
