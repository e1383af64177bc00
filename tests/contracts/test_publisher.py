"""From the log to the event stream, on the real server and on its twin: in order, without a gap, whatever is lost."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec
import pytest
import structlog.testing

from tasker.bus.bus import Bus, Message
from tasker.bus.fast_ingest import Ingest
from tasker.bus.jetstream import api_request
from tasker.bus.memory_bus import MemoryBus
from tasker.bus.publish import AckedPublisher
from tasker.bus.pull import Delivery
from tasker.bus.stream_reader import FromSeq, StreamReader
from tasker.bus.streams import delete_stream, ensure_streams, stream_info
from tasker.errors import ConfigurationError
from tasker.events.codec import decode_message
from tasker.events.envelope import NewEvent
from tasker.events.memory_log import MemoryLog
from tasker.events.messages import DomainEventMessage, LifecycleEvent, Mark
from tasker.events.stored import to_new_event
from tasker.events.subjects import Subjects
from tasker.events.template_events import TemplateRegistered
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.published import PublishedChecker
from tasker.replay.findings import Finding
from tasker.service.actors.publication import publisher as publisher_module
from tasker.service.actors.publication import stream_losses
from tasker.service.actors.publication.publisher import Feed, Publisher
from tasker.service.runtime.committer import Committer, Unit
from tasker.settings import Limits, StreamSettings
from tasker.templates import CompiledTemplate
from tests.runs import T0_US, Run, linear, template

SETTINGS = StreamSettings(work_bytes_max=16 * 1024**2, events_bytes_max=64 * 1024**2)
OWNER = "owner"
SHARDS = 2


class Press:
    """A committer that feeds a publisher."""

    def __init__(self, log: MemoryLog, bus: Bus, subjects: Subjects) -> None:
        self.log = log
        self.bus = bus
        self.subjects = subjects
        self.committer = Committer(log, OWNER, self)
        self.publisher: Publisher
        self._running: list[asyncio.Task[None]] = []
        self.held: list[tuple[int, int, Sequence[NewEvent]]] | None = None
        """What is committed while this is a list is not told yet."""

    async def start(self) -> None:
        """Take the shards and begin to publish, as a process does that has just started."""
        self.epochs = (await self.log.acquire(OWNER, range(SHARDS), 60.0)).epochs
        self.publisher = Publisher(
            self.log,
            await self.log.info(),
            self.bus,
            self.subjects,
            epoch_of=self.epochs.get,
            position_of=self.committer.position_of,
            now_us=lambda: T0_US,
            window_s=SETTINGS.events_age_s_max,
        )
        for head in await self.log.heads(range(SHARDS)):
            self.committer.open_shard(head, self.epochs[head.shard])
            await self.publisher.open_shard(head.shard, self.epochs[head.shard])
        self.committer.start(paused=lambda: False)
        self._running = [
            asyncio.create_task(self.publisher.run()),
            asyncio.create_task(self.publisher.run_cursors()),
        ]

    def on_committed(self, shard: int, first_position: int, events: Sequence[NewEvent]) -> None:
        if self.held is None:
            self.publisher.on_committed(shard, first_position, events)
        else:
            self.held.append((shard, first_position, events))

    def tell(self) -> None:
        """Tell what was held."""
        held, self.held = self.held or [], None
        for told in held:
            self.publisher.on_committed(*told)

    def on_fenced(self, shard: int) -> None:
        self.publisher.on_fenced(shard)

    async def kill(self) -> None:
        """End at once; what memory knew is lost."""
        for task in self._running:
            assert not task.done(), task.exception()
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.committer.stop()
        self.committer = Committer(self.log, OWNER, self)

    async def write(self, count: int, *, shard: int = 0, template: CompiledTemplate | None = None) -> None:
        """Record `count` whole tasks."""
        left = asyncio.Semaphore(0)
        for _ in range(count):
            run = Run(template or linear(2), task_id=uuid.uuid4())
            run.create()
            run.finish()
            events = [event for unit in run.units for event in unit]
            self.committer.submit(shard, Unit(run.task_id, events, lambda *_: left.release()))
        for _ in range(count):
            await left.acquire()

    async def published(self) -> None:
        """Return when the stream has acknowledged everything."""
        async with asyncio.timeout(30):
            while self.publisher.lag_events:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def whole(self) -> None:
        """Return when the stream has all of the first shard: acknowledged is what came before it was filled again."""

        async def is_whole() -> bool:
            info = await stream_info(self.bus, self.subjects.event_stream)
            [head] = await self.log.heads([0])
            return info.state.messages >= head.position and not self.publisher.lag_events

        await settled(is_whole)

    async def stored(self) -> list[Delivery]:
        """Return everything in the stream, in its order, marks included."""
        last = (await stream_info(self.bus, self.subjects.event_stream)).state.last_seq
        reader = StreamReader(self.bus, self.subjects.event_stream, (f"{self.subjects.prefix}.>",), FromSeq(1))
        await reader.open()
        found: list[Delivery] = []
        try:
            while not found or found[-1].stream_seq < last:
                found += [item for item in await reader.read() if isinstance(item, Delivery)]
        finally:
            await reader.close()
        return found

    async def check(self, *, repeated: bool = False) -> list[str]:
        """Check the stream against the log; returns the ids of its events in its order."""
        stored = await self.stored()
        messages = [message for message in stored if ".evt." in message.subject]
        domain = [message.data for message in stored if ".domain." in message.subject]
        findings: list[Finding] = []
        heads = {head.shard: head.position for head in await self.log.heads(range(SHARDS))}
        info = await self.log.info()
        checker = PublishedChecker(
            info.log_id, [one.data for one in messages], findings.append, cursors=heads, domain=domain
        )
        for shard in range(SHARDS):
            feed(await self.log.read(shard, after=0, limit=100_000), [checker])
        checker.close_log()
        assert findings == []
        events = [decode_message(message.data, LifecycleEvent) for message in messages]
        if not repeated:
            for shard in range(SHARDS):
                positions = [int(event.position) for event in events if event.shard == shard]
                assert positions == sorted(set(positions))
        return [event.id for event in events]


@pytest.fixture
async def press(bus: Bus, nats_prefix: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Press]:
    monkeypatch.setattr(publisher_module, "MARK_S", 0.05)
    monkeypatch.setattr(publisher_module, "CURSOR_WRITE_S", 0.02)
    monkeypatch.setattr(publisher_module, "RETRY_S", 0.02)
    subjects = Subjects(nats_prefix)
    await ensure_streams(bus, subjects, SETTINGS)
    press = Press(MemoryLog(shards=SHARDS), bus, subjects)
    await press.start()
    yield press
    await press.kill()
    for name in subjects.streams:
        await delete_stream(bus, name)


async def settled(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110 - the stream tells nobody
            await asyncio.sleep(0.01)


async def test_everything_is_published_in_the_order_of_the_log(press: Press) -> None:
    for shard in (0, 1, 0):
        await press.write(30, shard=shard)
    await press.published()
    ids = await press.check()
    assert len(ids) == len(set(ids)) == sum(head.position for head in await press.log.heads([0, 1]))


async def test_what_the_log_shows_before_its_commit_was_told_keeps_its_position(press: Press) -> None:
    """The append's answer is on its way while the publisher reads: the log is ahead of what we were told."""
    await press.write(3)
    await press.published()
    press.held = []
    await press.write(3)
    press.publisher._feeds[0].rewind(0)
    press.publisher.compare_soon()
    await press.published()
    press.tell()
    await press.write(3)
    await press.published()
    await press.check()


async def is_marked(press: Press) -> bool:
    return await press.publisher._last_mark(0) is not None


@pytest.mark.parametrize("mark_s", [0.05, 60.0])
async def test_a_log_that_ends_before_what_was_published_is_refused(
    press: Press, mark_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was restored to an earlier time, before a start or under a running service: its next events are others."""
    monkeypatch.setattr(publisher_module, "MARK_S", mark_s)
    await press.write(3)
    await press.published()
    if mark_s < 1:
        await settled(lambda: is_marked(press))
    else:
        assert not await is_marked(press), "the events at the end of the stream tell"
    await press.kill()
    info = await press.log.info()
    await press.publisher.check_log(range(SHARDS))
    press.log = MemoryLog(shards=SHARDS)
    assert await press.log.info() == info
    await press.start()
    with pytest.raises(ConfigurationError, match="tasker log renew"):
        await press.publisher.check_log(range(SHARDS))
    publishing = press._running.pop(0)
    with pytest.raises(ConfigurationError, match="the log ends at 0: it was restored to an earlier time"):
        await publishing


async def test_an_owner_that_ends_in_order_marks_what_it_published(
    press: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next one does not find the stream behind, and says so of nothing."""
    monkeypatch.setattr(publisher_module, "MARK_S", 60.0)
    await press.write(3)
    await press.published()
    assert not await is_marked(press)
    await press.publisher.stop(timeout_s=10.0)
    mark = await press.publisher._last_mark(0)
    assert mark is not None
    assert mark.position == press.publisher._feeds[0].committed


async def test_the_cursor_moves_behind_the_acks_and_is_kept(press: Press) -> None:
    await press.write(20)
    await press.published()
    [head] = await press.log.heads([0])

    async def kept() -> bool:
        return (await press.log.publish_cursors([0]))[0] == head.position

    await settled(kept)


async def test_nothing_acknowledged_leaves_the_cursor_where_it_was(press: Press) -> None:
    await press.write(5)
    await press.published()
    await press.publisher.write_cursors()
    before = await press.log.publish_cursors([0])
    assert await delete_stream(press.bus, press.subjects.event_stream)
    await press.write(5)
    await asyncio.sleep(0.2)
    assert press.publisher.lag_events > 0
    assert await press.log.publish_cursors([0]) == before
    await ensure_streams(press.bus, press.subjects, SETTINGS)
    press.publisher.refill()
    # What came first into the new stream stands before the window that is filled in behind it.
    await press.whole()
    await press.check(repeated=True)


async def test_a_deleted_stream_gets_the_whole_window_again(press: Press) -> None:
    await press.write(20)
    await press.published()
    await delete_stream(press.bus, press.subjects.event_stream)
    await ensure_streams(press.bus, press.subjects, SETTINGS)
    press.publisher.refill()
    await press.write(3)
    await press.whole()
    await press.check(repeated=True)


async def test_the_next_process_goes_on_from_the_cursor(press: Press) -> None:
    """What was not published when the first one died comes from the log, once."""
    await press.write(10)
    await press.published()
    await press.publisher.write_cursors()
    await press.kill()
    await press.start()
    await press.write(10)
    await press.published()
    ids = await press.check()
    assert len(ids) == len(set(ids))


async def test_a_cursor_that_was_not_kept_costs_only_repetitions(press: Press) -> None:
    """They carry the same ids, so the stream's window of ids drops them."""
    await press.write(10)
    await press.published()
    await press.log.move_publish_cursors([(0, press.epochs[0], 0)])
    await press.kill()
    await press.start()
    await press.published()
    ids = await press.check()
    assert len(ids) == len(set(ids))


async def test_a_stream_that_lost_its_end_is_filled_from_its_last_mark(press: Press) -> None:
    """The cursor says more than the stream has: the marks tell."""
    await press.write(10)
    await press.published()
    await press.publisher.write_cursors()
    await press.kill()
    await delete_stream(press.bus, press.subjects.event_stream)
    await ensure_streams(press.bus, press.subjects, SETTINGS)
    await press.start()
    await settled(lambda: has(press, press.log))
    await press.check()


TELLING = template(
    {"a": [], "b": ["a"]},
    steps={"a": {"emits": [{"name": "order.paid", "auto": True}, {"name": "order.done", "auto": True}]}},
)


async def test_a_domain_event_is_published_under_its_own_subject_before_the_event_that_tells_of_it(
    press: Press,
) -> None:
    await press.write(1, template=TELLING)
    await press.published()
    prefix = press.subjects.prefix
    subjects = [
        one.subject.removeprefix(f"{prefix}.default.") for one in await press.stored() if "_log" not in one.subject
    ]
    at = subjects.index("domain.order.paid")
    assert subjects[at : at + 4] == [
        "domain.order.paid",
        "evt.default.t.domain_event_raised",
        "domain.order.done",
        "evt.default.t.domain_event_raised",
    ]
    (paid,) = [one for one in await press.stored() if one.subject.endswith("order.paid")]
    event = decode_message(paid.data, DomainEventMessage)
    assert (event.type, event.namespace, event.template, event.step) == ("order.paid", "default", "t", "a")
    assert paid.headers is not None
    assert paid.headers["Nats-Msg-Id"] == event.id
    await press.check()


@pytest.mark.parametrize("room", [None, 1, 2])
async def test_domain_events_survive_a_lost_stream_a_small_window_and_reading_from_the_log(
    press: Press, room: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published twice for one event of the log is neither lost nor taken for two."""
    if room is not None:
        press.publisher._limits = Limits(publisher_events_max=room)
        monkeypatch.setattr(publisher_module, "READ_EVENTS", 3)
    await press.write(20, template=TELLING)
    await press.published()
    await press.check()
    await delete_stream(press.bus, press.subjects.event_stream)
    await ensure_streams(press.bus, press.subjects, SETTINGS)
    press.publisher.refill()
    await press.write(3, template=TELLING)

    async def whole() -> bool:
        info = await stream_info(press.bus, press.subjects.event_stream)
        [head] = await press.log.heads([0])
        return info.state.messages >= head.position + 2 * 23 and not press.publisher.lag_events

    await settled(whole)
    await press.check(repeated=True)


async def has(press: Press, log: MemoryLog) -> bool:
    info = await stream_info(press.bus, press.subjects.event_stream)
    return info.state.messages >= (await log.heads([0]))[0].position


async def test_marks_say_up_to_where_the_stream_is_complete(press: Press) -> None:
    await press.write(3)
    [head] = await press.log.heads([0])

    async def marked() -> bool:
        mark = await press.publisher._last_mark(0)
        return mark is not None and mark.position == head.position

    await settled(marked)
    seen = 0
    for message in await press.stored():
        if ".evt." in message.subject:
            seen = int(decode_message(message.data, LifecycleEvent).position)
        else:
            assert decode_message(message.data, Mark).position <= seen


async def test_far_behind_it_publishes_from_the_log(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    press.publisher._limits = Limits(publisher_events_max=5)
    monkeypatch.setattr(publisher_module, "READ_EVENTS", 7)
    for _ in range(5):
        await press.write(10)
    await press.published()
    ids = await press.check()
    assert len(ids) == len(set(ids))


async def test_a_broken_connection_costs_only_repetitions(press: Press) -> None:
    if not isinstance(press.bus, MemoryBus):
        pytest.skip("the acceptance tests kill the real server")
    await press.write(10)
    press.bus.cut()
    await press.write(10)
    await asyncio.sleep(0.05)
    press.bus.mend()
    await press.published()
    await press.check(repeated=True)


async def test_an_interruption_is_told_when_it_begins_and_when_it_is_over(
    press: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(press.bus, MemoryBus):
        pytest.skip("the acceptance tests kill the real server")
    tries = asyncio.Semaphore(0)
    end_session = Publisher._end_session

    def counted(publisher: Publisher) -> None:
        end_session(publisher)
        tries.release()

    monkeypatch.setattr(Publisher, "_end_session", counted)
    with structlog.testing.capture_logs() as lines:
        press.bus.cut()
        for _ in range(5):
            await tries.acquire()
        assert [line["event"] for line in lines] == ["publishing_interrupted"]
        press.bus.mend()
        await press.write(1)
        await press.published()
        await settled(lambda: asyncio.sleep(0, len(lines) > 1))
    assert [(line["event"], line.get("outage")) for line in lines] == [
        ("publishing_interrupted", None),
        ("outage_over", "publishing_interrupted"),
    ]


async def test_events_of_templates_are_published_under_their_names(press: Press) -> None:
    stream_id = uuid.uuid4()
    registered = TemplateRegistered(namespace="shop", name="orders", version="1.0.0", hash="ab" * 32)
    event = to_new_event(registered, stream_id=stream_id, seq=1, tenant="acme", at_us=T0_US, meta=b"{}")
    live: list[Message] = []
    press.bus.subscribe(f"{press.subjects.prefix}.acme.evt.>", live.append)
    await press.bus.flush()
    ended = asyncio.get_running_loop().create_future()
    press.committer.submit(1, Unit(stream_id, [event], lambda *end: ended.set_result(end)))
    await press.published()
    assert await ended == (None, 1)
    await settled(lambda: asyncio.sleep(0, bool(live)))
    assert live[0].subject == f"{press.subjects.prefix}.acme.evt.shop.orders._.template_registered"
    await press.check()


@pytest.mark.parametrize("fault", ["first", "meta", "large"])
async def test_an_event_that_cannot_be_told_whole_is_told_and_holds_nobody_up(press: Press, fault: str) -> None:
    """A form of a newer build, a damaged one, one that no message holds: the others go on in their order."""
    run = Run(linear(1))
    run.create()
    [first] = run.units[0][:1]
    large = first.payload[:-1] + b', "more": "%b"}' % (b"x" * press.bus.payload_bytes_max)
    changed = {
        "first": msgspec.structs.replace(first, version=9),
        "meta": msgspec.structs.replace(first, meta=b"{"),
        "large": msgspec.structs.replace(first, payload=large),
    }
    events = [changed[fault], *run.units[0][1:]]
    press.committer.submit(0, Unit(run.task_id, events, lambda *_: None))
    await press.write(3)
    await press.published()
    if fault == "meta":
        stored = [message.data for message in await press.stored() if ".evt." in message.subject]
        positions = [decode_message(data, LifecycleEvent).position for data in stored]
        assert positions == [str(at) for at in range(1, (await press.log.heads([0]))[0].position + 1)]
    else:
        await press.check()


async def test_a_mark_that_is_none_counts_as_none(press: Press) -> None:
    """Whoever wrote it: the window is published again, and dropped by its ids."""
    await press.write(3)
    await press.published()
    await AckedPublisher(press.bus).publish(press.subjects.mark(0), b"no mark")
    press.publisher.compare_soon()
    await press.write(3)
    await press.published()
    assert not any(running.done() for running in press._running)


async def delete_messages(press: Press, *seqs: int) -> None:
    """Take messages out of the stream, as a server does that cannot read them any more."""
    for seq in seqs:
        await api_request(press.bus, f"STREAM.MSG.DELETE.{press.subjects.event_stream}", {"seq": seq}, dict)


async def marked(press: Press) -> bool:
    """Say whether the last mark of shard 0 stands at its end."""
    mark = await press.publisher._last_mark(0)
    return mark is not None and mark.position == (await press.log.heads([0]))[0].position


async def fills(press: Press, *holes: tuple[int, int]) -> bool:
    """Return whether the last mark says that these holes are filled."""
    mark = await press.publisher._last_mark(0)
    return mark is not None and mark.filled == holes


async def test_holes_are_filled_and_nobody_fills_them_again(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream's ends are whole: its count of messages tells. A mark names the holes to whoever comes next."""
    monkeypatch.setattr(stream_losses, "STEP_BACK_SEQS", 8)
    # The server must have forgotten the ids of what is gone, as one has that could not read it.
    await ensure_streams(press.bus, press.subjects, msgspec.structs.replace(SETTINGS, dedupe_s=0.1))
    for _ in range(3):
        await press.write(20)
        await press.write(20, shard=1)
        await settled(lambda: marked(press))
    await delete_messages(press, *range(350, 421), 500)
    await asyncio.sleep(0.15)
    press.publisher.compare_soon()
    await settled(lambda: fills(press, (350, 420), (500, 500)))
    ids = await press.check(repeated=True)
    # What was not lost stands between the marks around a hole: not the whole window comes again.
    assert len(ids) < 2 * len(set(ids)) - 320
    await press.kill()
    await press.start()
    await press.write(20)
    await press.published()
    assert [hole.first_seq for hole in press.publisher._feeds[0].known] == [350, 500]
    again = await press.check(repeated=True)
    assert len(again) - len(ids) == len(set(again)) - len(set(ids))


async def test_what_a_hole_held_of_domain_events_comes_again_as_well(press: Press) -> None:
    await ensure_streams(press.bus, press.subjects, msgspec.structs.replace(SETTINGS, dedupe_s=0.1))
    await press.write(10, template=TELLING)
    await settled(lambda: marked(press))
    await delete_messages(press, *range(20, 60))
    await asyncio.sleep(0.15)
    press.publisher.compare_soon()
    await settled(lambda: fills(press, (20, 59)))
    await press.check(repeated=True)


async def test_what_is_lost_before_any_mark_comes_from_the_start_of_the_window(press: Press) -> None:
    await ensure_streams(press.bus, press.subjects, msgspec.structs.replace(SETTINGS, dedupe_s=0.1))
    await press.write(20)
    await settled(lambda: marked(press))
    await delete_messages(press, *range(2, 40))
    await asyncio.sleep(0.15)
    press.publisher.compare_soon()

    async def whole() -> bool:
        return not press.publisher._feeds[0].lost and bool(press.publisher._feeds[0].known)

    await settled(whole)
    await press.check(repeated=True)


async def test_a_session_that_breaks_while_a_hole_is_filled_leaves_the_rest_to_the_next(
    press: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(press.bus, MemoryBus):
        pytest.skip("the acceptance tests kill the real server")
    monkeypatch.setattr(publisher_module, "READ_EVENTS", 5)
    await ensure_streams(press.bus, press.subjects, msgspec.structs.replace(SETTINGS, dedupe_s=0.001))
    await press.write(20)
    await settled(lambda: marked(press))
    await delete_messages(press, *range(2, 60))
    bus, publish_lost, broken = press.bus, press.publisher._publish_lost, asyncio.Event()

    async def publish_and_break(session: Ingest, feed: Feed) -> bool:
        more = await publish_lost(session, feed)
        if more and not broken.is_set():
            bus.cut()
            broken.set()
        return more

    monkeypatch.setattr(press.publisher, "_publish_lost", publish_and_break)
    press.publisher.compare_soon()
    await broken.wait()
    assert press.publisher._feeds[0].lost
    press.bus.mend()
    await settled(lambda: fills(press, (2, 59)))
    await press.check(repeated=True)


async def test_what_filled_a_hole_and_was_lost_with_the_streams_end_is_filled_once_more(press: Press) -> None:
    """The server comes back without its last messages: the hole is there, what had filled it is not."""
    if not isinstance(press.bus, MemoryBus):
        pytest.skip("the acceptance tests damage the files of the real server")
    await ensure_streams(press.bus, press.subjects, msgspec.structs.replace(SETTINGS, dedupe_s=0.001))
    await press.write(20)
    await settled(lambda: marked(press))
    whole_seq = (await stream_info(press.bus, press.subjects.event_stream)).state.last_seq
    await delete_messages(press, *range(2, 60))
    press.publisher.compare_soon()
    await settled(lambda: fills(press, (2, 59)))
    await press.check(repeated=True)
    press.bus.cut()
    stream = press.bus.broker.jetstream._find(press.subjects.event_stream)
    for seq in [seq for seq in stream.messages if seq > whole_seq]:
        stream.remove(seq)
    stream.last_seq = whole_seq
    press.bus.mend()
    await settled(lambda: fills(press, (2, 59)))
    await press.check(repeated=True)
