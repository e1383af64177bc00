"""Work and events over JetStream, and over its twin: streams, publishers, pull loop, reader."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from tasker.bus.bus import MSG_ID, Bus, Message
from tasker.bus.fast_ingest import Ingest, open_ingest
from tasker.bus.holes import Hole, find_holes
from tasker.bus.jetstream import PubAck, StreamMissing, api_request
from tasker.bus.publish import AckedPublisher
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.stored import stored_at
from tasker.bus.stream_reader import FromNew, FromSeq, FromTime, Gap, StreamReader
from tasker.bus.streams import (
    Streams,
    create_consumer,
    delete_consumer,
    delete_stream,
    ensure_streams,
    ensure_work_consumer,
    stream_created,
    stream_info,
    update_work_consumers,
    work_consumers,
)
from tasker.bus.subject_counts import ask_count
from tasker.clock import SystemClock
from tasker.errors import Busy, TaskerError, Unavailable
from tasker.events.subjects import Subjects
from tasker.settings import StreamSettings
from tasker.times import from_rfc3339

Connect = Callable[[], Awaitable[Bus]]

SMALL = StreamSettings(
    work_messages_per_queue_max=5, work_bytes_max=16 * 1024**2, events_bytes_max=64 * 1024**2, ack_wait_s=0.3
)
QUEUE = {"tenant": "default", "namespace": "shop", "queue": "charge"}


@pytest.fixture
def subjects(nats_prefix: str) -> Subjects:
    return Subjects(nats_prefix)


@pytest.fixture
async def streams(bus: Bus, subjects: Subjects):
    yield await ensure_streams(bus, subjects, SMALL)
    for name in subjects.streams:
        if bus.connected:
            await delete_stream(bus, name)


class Taker:
    """A caller of the pull loop with a number of slots."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.held: list[Delivery] = []
        self.all: list[Delivery] = []
        self.most_held = 0
        self._grown = asyncio.Event()

    def take(self, delivery: Delivery) -> None:
        self.held.append(delivery)
        self.all.append(delivery)
        self.most_held = max(self.most_held, len(self.held))
        self._grown.set()

    def credit(self) -> int:
        return self.slots - len(self.held)

    async def wait(self, count: int) -> list[Delivery]:
        async with asyncio.timeout(25):
            while len(self.all) < count:
                self._grown.clear()
                await self._grown.wait()
        return self.all


def work(subjects: Subjects) -> str:
    return subjects.work("default", "shop", "charge")


def first_seq(streams: Streams) -> int:
    """Return where the work stream begins to count."""
    seq: int = streams.work.config["first_seq"]
    return seq


def event(subjects: Subjects, task: str = "t1") -> str:
    return subjects.event("default", "shop", "orders", task, "step_completed")


async def put_work(bus: Bus, subjects: Subjects, count: int) -> None:
    publisher = AckedPublisher(bus)
    for number in range(count):
        await publisher.publish(work(subjects), b"%d" % number, msg_id=f"t:{number}:1")


async def emptied(bus: Bus, subjects: Subjects) -> None:
    """Return when the work stream holds nothing: the server takes acks in its own time."""
    async with asyncio.timeout(25):
        while (await stream_info(bus, subjects.work_stream)).state.messages:
            await bus.flush()


# Streams


@pytest.mark.usefixtures("streams")
@pytest.mark.usefixtures("streams")
async def test_an_ack_for_a_stream_that_is_gone_takes_nothing_from_the_next_one(bus: Bus, subjects: Subjects) -> None:
    got: list[Delivery] = []
    for number in range(2):
        consumer = await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
        await put_work(bus, subjects, 1)
        taker = Taker(1)
        loop = PullLoop(bus, subjects.work_stream, consumer, taker.take, taker.credit)
        got += await taker.wait(1)
        loop.ack(got[0])
        await bus.flush()
        left = (await stream_info(bus, subjects.work_stream)).state.messages
        assert left == number, "the first ack is of the first stream"
        await loop.stop()
        await delete_stream(bus, subjects.work_stream)
        await ensure_streams(bus, subjects, SMALL)
    assert got[0].consumer_seq == got[1].consumer_seq


@pytest.mark.usefixtures("streams")
async def test_what_cannot_be_told_of_a_message_is_no_error_and_it_is_delivered_again(
    connect: Connect, bus: Bus, subjects: Subjects
) -> None:
    consumer = await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
    await put_work(bus, subjects, 1)
    other, first, second = await connect(), Taker(1), Taker(1)
    loop = PullLoop(other, subjects.work_stream, consumer, first.take, first.credit)
    (delivery,) = await first.wait(1)
    await other.close()
    for tell in (loop.ack, loop.nak, loop.in_progress, loop.term):
        tell(delivery)
    again = PullLoop(bus, subjects.work_stream, consumer, second.take, second.credit)
    assert [one.stream_seq for one in await second.wait(1)] == [delivery.stream_seq]
    await again.stop()
    await loop.stop()


async def test_an_answer_that_is_none_of_jetstreams_is_no_answer(bus: Bus) -> None:
    """Whoever makes streams goes on trying then; a worker's queue was never served."""
    bus.subscribe("$JS.API.NOTHING", lambda message: bus.publish(message.reply, b"<html>"))
    await bus.flush()
    with pytest.raises(Unavailable, match=r"the answer to NOTHING cannot be read"):
        await api_request(bus, "NOTHING", None, dict)


async def test_a_stream_tells_how_old_it_is(bus: Bus, subjects: Subjects, streams: Streams) -> None:
    for told in (streams.work, await stream_info(bus, subjects.work_stream)):
        assert 0.0 < told.age_s < 60.0
    assert msgspec.structs.replace(streams.work, ts="").age_s == 0.0


async def test_streams_are_ensured_again_and_again(connect: Connect, subjects: Subjects) -> None:
    buses = [await connect() for _ in range(3)]
    found = await asyncio.gather(*(ensure_streams(bus, subjects, SMALL) for bus in buses))
    assert len({each.work.created for each in found}) == 1
    assert len({each.events.created for each in found}) == 1


@pytest.mark.usefixtures("streams")
async def test_a_stream_is_brought_to_new_settings_and_keeps_what_it_has(bus: Bus, subjects: Subjects) -> None:
    await put_work(bus, subjects, 3)
    before = await stream_info(bus, subjects.work_stream)
    wider = StreamSettings(work_messages_per_queue_max=50, work_bytes_max=16 * 1024**2, events_bytes_max=64 * 1024**2)
    after = (await ensure_streams(bus, subjects, wider)).work
    assert after.created == before.created
    assert after.config["max_msgs_per_subject"] == 50
    assert (await stream_info(bus, subjects.work_stream)).state.messages == 3


@pytest.mark.usefixtures("streams")
async def test_a_stream_made_anew_shows_by_its_time(bus: Bus, subjects: Subjects) -> None:
    before = await stream_created(bus, subjects.work_stream)
    assert await delete_stream(bus, subjects.work_stream)
    assert await stream_created(bus, subjects.work_stream) is None
    assert not await delete_stream(bus, subjects.work_stream)
    made = await ensure_streams(bus, subjects, SMALL)
    assert made.work.created not in {None, before}
    assert await stream_created(bus, subjects.work_stream) == made.work.created


@pytest.mark.usefixtures("streams")
async def test_a_consumer_needs_its_stream(bus: Bus, subjects: Subjects) -> None:
    name = await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
    assert await ensure_work_consumer(bus, subjects, SMALL, **QUEUE) == name
    await delete_stream(bus, subjects.work_stream)
    with pytest.raises(StreamMissing):
        await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)


@pytest.mark.usefixtures("streams")
async def test_a_consumer_can_be_asked_for(bus: Bus, subjects: Subjects) -> None:
    asked = f"CONSUMER.INFO.{subjects.work_stream}.{subjects.work_consumer(**QUEUE)}"
    with pytest.raises(StreamMissing):
        await api_request(bus, asked, None, dict)
    name = await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
    assert (await api_request(bus, asked, None, dict))["name"] == name


@pytest.mark.usefixtures("streams")
async def test_the_server_tells_its_time(bus: Bus, subjects: Subjects) -> None:
    told = await api_request(bus, f"STREAM.INFO.{subjects.work_stream}", None, dict)
    assert abs(from_rfc3339(told["ts"]) - SystemClock().now_us()) < 60_000_000


@pytest.mark.usefixtures("streams")
async def test_messages_of_one_subject_are_counted(bus: Bus, subjects: Subjects) -> None:
    async def count(subject: str) -> int | None:
        found: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        ask_count(bus, subjects.work_stream, subject, found.set_result, timeout_s=5)
        return await found

    assert await count(work(subjects)) == 0
    await put_work(bus, subjects, 3)
    assert await count(work(subjects)) == 3
    assert await count(f"{work(subjects)}x") == 0
    await delete_stream(bus, subjects.work_stream)
    assert await count(work(subjects)) == 0


# Acked publishing


async def test_a_repetition_is_stored_once(bus: Bus, subjects: Subjects, streams: Streams) -> None:
    publisher = AckedPublisher(bus)
    first = await publisher.publish(work(subjects), b"x", msg_id="a")
    again = await publisher.publish(work(subjects), b"x", msg_id="a")
    assert first == PubAck(subjects.work_stream, first_seq(streams))
    assert again == PubAck(subjects.work_stream, first_seq(streams), duplicate=True)


@pytest.mark.usefixtures("streams")
async def test_a_full_queue_is_busy_and_others_are_not(bus: Bus, subjects: Subjects) -> None:
    publisher = AckedPublisher(bus)
    await put_work(bus, subjects, 5)
    with pytest.raises(Busy):
        await publisher.publish(work(subjects), b"6")
    await publisher.publish(subjects.work("default", "shop", "other"), b"1")


async def test_no_stream_takes_the_subject(bus: Bus, subjects: Subjects) -> None:
    with pytest.raises(StreamMissing):
        await AckedPublisher(bus).publish(work(subjects), b"")


async def test_what_is_in_flight_is_bounded(bus: Bus, subjects: Subjects, streams: Streams) -> None:
    publisher = AckedPublisher(bus, in_flight_max=3)
    answers: list[PubAck | TaskerError] = []
    for _ in range(3):
        publisher.publish_acked(work(subjects), b"", answers.append)
    assert publisher.room == 0
    with pytest.raises(Busy):
        publisher.publish_acked(work(subjects), b"", answers.append)
    await publisher.wait_room()
    assert publisher.room > 0
    async with asyncio.timeout(25):
        while publisher.in_flight:
            await bus.flush()
    first = first_seq(streams)
    assert [each.seq for each in answers if isinstance(each, PubAck)] == [first, first + 1, first + 2]


# Feeding the event stream


def ingest_of(bus: Bus, subjects: Subjects, carrier: str, *, stall_s: float = 5.0) -> Ingest:
    fast = None if carrier == "best" else False
    return open_ingest(bus, end_subject=subjects.mark(0), fast=fast, stall_s=stall_s)


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("carrier", ["best", "window"])
async def test_a_stream_is_fed_in_order(bus: Bus, subjects: Subjects, carrier: str) -> None:
    ingest = ingest_of(bus, subjects, carrier)
    seen = [0]
    for number in range(3000):
        if ingest.room <= 0:
            await ingest.wait_room()
        ingest.publish(event(subjects, f"t{number}"), b"%d" % number, headers={MSG_ID: f"l:3:{number}"})
        seen.append(ingest.acked_count)
        if number % 700 == 0:
            ingest.flush()
    await ingest.wait_acked()
    assert ingest.acked_count == ingest.published_count == 3000
    assert seen == sorted(seen)
    ingest.close()
    ingest.close()
    info = await stream_info(bus, subjects.event_stream)
    assert info.state.messages == 3000
    reader = StreamReader(bus, subjects.event_stream, (subjects.evt_all,), FromSeq(1))
    await reader.open()
    got = await read(reader, 3000)
    assert [int(each.data) for each in got] == list(range(3000))
    # The task is in no stored subject: a distinct one costs the server memory.
    assert {each.subject for each in got} == {f"{subjects.prefix}.default.evt.shop.orders.step_completed"}
    await reader.close()


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("carrier", ["best", "window"])
async def test_a_later_session_repeats_without_harm(bus: Bus, subjects: Subjects, carrier: str) -> None:
    for first, last in ((0, 60), (30, 90)):
        ingest = ingest_of(bus, subjects, carrier)
        for number in range(first, last):
            await ingest.wait_room()
            ingest.publish(event(subjects), b"%d" % number, headers={MSG_ID: f"l:3:{number}"}, last=number % 7 == 0)
        await ingest.wait_acked()
        assert ingest.acked_count == last - first
        ingest.close()
    assert (await stream_info(bus, subjects.event_stream)).state.messages == 90


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("carrier", ["best", "window"])
async def test_several_feed_one_stream(connect: Connect, subjects: Subjects, carrier: str) -> None:
    """Each node publishes its shards, at the same time as the others."""
    ingests = [ingest_of(await connect(), subjects, carrier) for _ in range(3)]
    for number in range(1000):
        for feeder, ingest in enumerate(ingests):
            await ingest.wait_room()
            ingest.publish(event(subjects), b"%d" % number, headers={MSG_ID: f"l:{feeder}:{number}"})
            if number % 100 == 0:
                await ingest.wait_acked()
    for ingest in ingests:
        await ingest.wait_acked()
        ingest.close()
    assert [ingest.acked_count for ingest in ingests] == [1000] * 3
    assert (await stream_info(await connect(), subjects.event_stream)).state.messages == 3000


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("carrier", ["best", "window"])
async def test_a_session_follows_one_that_was_never_ended(connect: Connect, subjects: Subjects, carrier: str) -> None:
    """A node was killed; the server knows its open batch for ten seconds more."""
    killed = await connect()
    ingest = ingest_of(killed, subjects, carrier)
    ingest.publish(event(subjects), b"1", headers={MSG_ID: "l:3:1"})
    await killed.flush()
    await killed.close()
    heir = ingest_of(await connect(), subjects, carrier)
    heir.publish(event(subjects), b"1", headers={MSG_ID: "l:3:1"})
    heir.publish(event(subjects), b"2", headers={MSG_ID: "l:3:2"})
    await heir.wait_acked()
    heir.close()
    assert (await stream_info(await connect(), subjects.event_stream)).state.messages == 2


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("carrier", ["best", "window"])
async def test_a_deleted_stream_breaks_the_session(bus: Bus, subjects: Subjects, carrier: str) -> None:
    ingest = ingest_of(bus, subjects, carrier, stall_s=0.5)
    ingest.publish(event(subjects), b"1")
    await ingest.wait_acked()
    await delete_stream(bus, subjects.event_stream)
    ingest.publish(event(subjects), b"2")
    with pytest.raises(Unavailable):
        await ingest.wait_acked()
    assert ingest.acked_count == 1
    assert ingest.broken is not None
    assert ingest.room == 0
    with pytest.raises(Unavailable):
        ingest.publish(event(subjects), b"3")
    with pytest.raises(Unavailable):
        await ingest.wait_room()


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("carrier", ["best", "window"])
async def test_a_stream_made_anew_does_not_pass_for_the_old_one(bus: Bus, subjects: Subjects, carrier: str) -> None:
    """What was acked by the old stream is never counted as the new one's, and the session's tail is not lost."""
    ingest = ingest_of(bus, subjects, carrier, stall_s=0.5)
    for _ in range(100):
        await ingest.wait_room()
        ingest.publish(event(subjects), b"")
    await ingest.wait_acked()
    ingest.publish(event(subjects), b"open")
    await bus.flush()
    await delete_stream(bus, subjects.event_stream)
    await ensure_streams(bus, subjects, SMALL)
    try:
        ingest.publish(event(subjects), b"next")
        await ingest.wait_acked()
    except Unavailable:
        assert ingest.broken is not None
    stored = (await stream_info(bus, subjects.event_stream)).state.messages
    assert ingest.acked_count <= 101 + stored


# The pull loop


async def test_work_is_delivered_acked_and_gone(bus: Bus, subjects: Subjects, streams: Streams) -> None:
    consumer = await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
    await put_work(bus, subjects, 5)
    taker = Taker(10)
    loop = PullLoop(bus, subjects.work_stream, consumer, taker.take, taker.credit)
    got = await taker.wait(5)
    assert [(each.data, each.num_delivered, each.stream_seq) for each in got] == [
        (b"%d" % number, 1, first_seq(streams) + number) for number in range(5)
    ]
    assert got[0].subject == work(subjects)
    assert got[0].at_us > 0
    for each in got:
        loop.ack(each)
    await emptied(bus, subjects)
    assert await loop.stop() == 0
    assert await loop.stop() == 0


@pytest.mark.usefixtures("streams")
async def test_never_more_than_the_credit(bus: Bus, subjects: Subjects) -> None:
    wide = StreamSettings(work_bytes_max=16 * 1024**2, events_bytes_max=64 * 1024**2)
    await ensure_streams(bus, subjects, wide)
    consumer = await ensure_work_consumer(bus, subjects, wide, **QUEUE)
    await put_work(bus, subjects, 300)
    taker = Taker(7)
    loop = PullLoop(bus, subjects.work_stream, consumer, taker.take, taker.credit)
    for count in range(7, 301):
        await taker.wait(count)
        assert loop.outstanding <= taker.credit()
        loop.ack(taker.held.pop())
        loop.wake()
    assert taker.most_held == 7
    assert len({each.stream_seq for each in taker.all}) == 300
    await loop.stop()


@pytest.mark.usefixtures("streams")
async def test_no_credit_no_delivery(bus: Bus, subjects: Subjects) -> None:
    consumer = await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
    await put_work(bus, subjects, 2)
    taker = Taker(0)
    loop = PullLoop(bus, subjects.work_stream, consumer, taker.take, taker.credit)
    await bus.flush()
    await bus.flush()
    assert taker.all == []
    taker.slots = 1
    loop.wake()
    await taker.wait(1)
    assert loop.outstanding == 0
    await loop.stop()


@pytest.mark.usefixtures("streams")
async def test_unacked_work_comes_again(bus: Bus, subjects: Subjects) -> None:
    consumer = await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
    await put_work(bus, subjects, 1)
    taker = Taker(10)
    loop = PullLoop(bus, subjects.work_stream, consumer, taker.take, taker.credit)
    first, second = await taker.wait(2)
    assert (first.num_delivered, second.num_delivered) == (1, 2)
    assert first.stream_seq == second.stream_seq
    loop.nak(second)
    third = (await taker.wait(3))[2]
    assert third.num_delivered == 3
    loop.term(third)
    await emptied(bus, subjects)
    await loop.stop()


@pytest.mark.usefixtures("streams")
async def test_work_in_progress_is_not_given_to_others(bus: Bus, subjects: Subjects) -> None:
    consumer = await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
    await put_work(bus, subjects, 1)
    taker = Taker(10)
    loop = PullLoop(bus, subjects.work_stream, consumer, taker.take, taker.credit)
    [delivery] = await taker.wait(1)
    for _ in range(8):
        # Time itself is what is tested: 0.8 s in progress against an ack wait of 0.3 s.
        await asyncio.sleep(0.1)
        loop.in_progress(delivery)
    assert len(taker.all) == 1
    loop.ack(delivery)
    await loop.stop()


@pytest.mark.usefixtures("streams")
async def test_what_comes_after_the_stop_goes_back(connect: Connect, subjects: Subjects) -> None:
    bus, other = await connect(), await connect()
    settings = StreamSettings(work_bytes_max=16 * 1024**2, events_bytes_max=64 * 1024**2, ack_wait_s=60)
    await ensure_streams(bus, subjects, settings)
    consumer = await ensure_work_consumer(bus, subjects, settings, **QUEUE)
    await put_work(other, subjects, 100)
    taker = Taker(100)
    loop = PullLoop(bus, subjects.work_stream, consumer, taker.take, taker.credit)
    await taker.wait(1)
    kept = len(taker.all)
    returned = await loop.stop()
    assert len(taker.all) == kept
    # An ack wait of a minute: what is there at once was given back, or never delivered.
    rest = Taker(1000)
    second = PullLoop(other, subjects.work_stream, consumer, rest.take, rest.credit)
    await rest.wait(100 - kept)
    assert sum(each.num_delivered > 1 for each in rest.all) == returned
    await second.stop()


@pytest.mark.usefixtures("streams")
async def test_consumers_are_brought_to_the_settings(bus: Bus, subjects: Subjects) -> None:
    """Those of queues alone, and only what differs."""
    for queue in ("one", "two"):
        await ensure_work_consumer(bus, subjects, SMALL, tenant="acme", namespace="shop", queue=queue)
    assert await update_work_consumers(bus, subjects, SMALL) == 0
    other = msgspec.structs.replace(SMALL, ack_wait_s=7.0, ack_pending_max=77)
    assert await update_work_consumers(bus, subjects, other) == 2
    found = await work_consumers(bus, subjects)
    assert {(one.queue, one.config["ack_wait"], one.config["max_ack_pending"]) for one in found} == {
        ("one", 7_000_000_000, 77),
        ("two", 7_000_000_000, 77),
    }
    assert await update_work_consumers(bus, subjects, other) == 0


@pytest.mark.usefixtures("streams")
async def test_a_deleted_consumer_is_missed_and_made_anew(bus: Bus, subjects: Subjects) -> None:
    consumer = await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
    taker, missed = Taker(10), asyncio.Event()
    loop = PullLoop(bus, subjects.work_stream, consumer, taker.take, taker.credit, on_missing=missed.set)
    await put_work(bus, subjects, 1)
    loop.ack((await taker.wait(1))[0])
    await emptied(bus, subjects)
    await delete_consumer(bus, subjects.work_stream, consumer)
    async with asyncio.timeout(25):
        await missed.wait()
    await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
    loop.restart()
    await AckedPublisher(bus).publish(work(subjects), b"again")
    assert (await taker.wait(2))[1].data == b"again"
    await loop.stop()


@pytest.mark.usefixtures("streams")
async def test_a_deleted_stream_is_missed_and_work_flows_again(bus: Bus, subjects: Subjects) -> None:
    consumer = await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
    taker, missed = Taker(10), asyncio.Event()
    loop = PullLoop(bus, subjects.work_stream, consumer, taker.take, taker.credit, on_missing=missed.set)
    await delete_stream(bus, subjects.work_stream)
    async with asyncio.timeout(25):
        await missed.wait()
    await ensure_streams(bus, subjects, SMALL)
    await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
    await put_work(bus, subjects, 1)
    # Without a word from us: the loop goes on trying.
    await taker.wait(1)
    await loop.stop()


@pytest.mark.usefixtures("streams")
async def test_a_pull_that_expires_is_asked_anew(bus: Bus, subjects: Subjects) -> None:
    consumer = await ensure_work_consumer(bus, subjects, SMALL, **QUEUE)
    taker = Taker(3)
    pulls: list[Message] = []
    bus.subscribe(f"$JS.API.CONSUMER.MSG.NEXT.{subjects.work_stream}.>", pulls.append)
    loop = PullLoop(bus, subjects.work_stream, consumer, taker.take, taker.credit, expires_s=0.2)
    async with asyncio.timeout(25):
        while len(pulls) < 3:
            await bus.flush()
            assert loop.outstanding <= 3
    await put_work(bus, subjects, 3)
    await taker.wait(3)
    assert loop.outstanding == 0
    await loop.stop()


# Reading


async def read(reader: StreamReader, count: int) -> list[Delivery]:
    items: list[Delivery | Gap] = []
    async with asyncio.timeout(25):
        while len(items) < count:
            items += await reader.read()
    assert all(isinstance(each, Delivery) for each in items)
    return [each for each in items if isinstance(each, Delivery)]


async def put_events(bus: Bus, subjects: Subjects, first: int, last: int) -> None:
    publisher = AckedPublisher(bus)
    for number in range(first, last):
        await publisher.publish(event(subjects), b"%d" % number)
    await publisher.publish(subjects.mark(3), b"mark")


@pytest.mark.usefixtures("streams")
async def test_a_consumer_of_what_is_new_skips_what_there_is(bus: Bus, subjects: Subjects) -> None:
    """As a durable subscriber to domain events begins that asks for what is raised from now on."""
    got: list[bytes] = []
    stream, subject = subjects.event_stream, subjects.domain_event("default", "paid")
    await bus.request(subject, b"old", timeout_s=5)
    config = {"name": "c", "durable_name": "c", "ack_policy": "explicit", "filter_subjects": [subject]}
    await create_consumer(bus, stream, "c", config | {"deliver_policy": "new"})
    await bus.request(subject, b"new", timeout_s=5)
    loop = PullLoop(bus, stream, "c", lambda delivery: got.append(delivery.data), lambda: 10 - len(got))
    async with asyncio.timeout(20):
        while not got:  # noqa: ASYNC110 - the loop calls back, and that is all
            await asyncio.sleep(0.01)
    await loop.stop()
    assert got == [b"new"]


@pytest.mark.usefixtures("streams")
async def test_a_reader_begins_where_it_is_told(bus: Bus, subjects: Subjects) -> None:
    await put_events(bus, subjects, 1, 21)
    both = (subjects.evt_all, subjects.marks_all)
    from_seq = StreamReader(bus, subjects.event_stream, both, FromSeq(11), buffer_max=4)
    await from_seq.open()
    got = await read(from_seq, 11)
    assert [each.stream_seq for each in got] == list(range(11, 22))
    assert got[-1].subject == subjects.mark(3)
    from_time = StreamReader(bus, subjects.event_stream, (subjects.marks_all,), FromTime(got[3].at_us))
    await from_time.open()
    assert [each.data for each in await read(from_time, 1)] == [b"mark"]
    from_new = StreamReader(bus, subjects.event_stream, both, FromNew())
    await from_new.open()
    await put_events(bus, subjects, 21, 22)
    assert [each.data for each in await read(from_new, 2)] == [b"21", b"mark"]
    for reader in (from_seq, from_time, from_new):
        await reader.close()
        await reader.close()
    assert await from_new.read() == []


async def test_a_reader_needs_a_stream(bus: Bus, subjects: Subjects) -> None:
    reader = StreamReader(bus, subjects.event_stream, (subjects.evt_all,), FromNew())
    with pytest.raises(StreamMissing):
        await reader.open(timeout_s=0.3)


@pytest.mark.usefixtures("streams")
async def test_a_reader_tells_that_the_stream_was_made_anew(bus: Bus, subjects: Subjects) -> None:
    await put_events(bus, subjects, 1, 3)
    reader = StreamReader(bus, subjects.event_stream, (subjects.evt_all,), FromSeq(1))
    await reader.open()
    await read(reader, 2)
    created = reader.created
    await delete_stream(bus, subjects.event_stream)
    await ensure_streams(bus, subjects, SMALL)
    await put_events(bus, subjects, 7, 8)
    items: list[Delivery | Gap] = []
    async with asyncio.timeout(25):
        while len(items) < 2:
            items += await reader.read()
    assert items[0] == Gap(0, 1, recreated=True)
    assert isinstance(items[1], Delivery)
    assert items[1].data == b"7"
    await reader.close()
    late = StreamReader(bus, subjects.event_stream, (subjects.evt_all,), FromSeq(3, created))
    await late.open()
    assert (await late.read())[0] == Gap(0, 1, recreated=True)
    await late.close()


@pytest.mark.usefixtures("streams")
async def test_a_reader_whose_consumer_vanished_goes_on(bus: Bus, subjects: Subjects) -> None:
    await put_events(bus, subjects, 1, 4)
    reader = StreamReader(bus, subjects.event_stream, (subjects.evt_all,), FromSeq(1))
    await reader.open()
    await read(reader, 3)
    await delete_consumer(bus, subjects.event_stream, reader._consumer)
    await put_events(bus, subjects, 4, 6)
    assert [each.data for each in await read(reader, 2)] == [b"4", b"5"]
    await reader.close()


async def lose(bus: Bus, subjects: Subjects, *seqs: int) -> None:
    """Take messages out of the event stream, as a server does that cannot read them any more."""
    for seq in seqs:
        await api_request(bus, f"STREAM.MSG.DELETE.{subjects.event_stream}", {"seq": seq}, dict)


@pytest.mark.usefixtures("streams")
async def test_what_a_stream_lacks_in_its_middle_is_counted_and_found(bus: Bus, subjects: Subjects) -> None:
    await put_events(bus, subjects, 1, 10)
    assert (await stream_info(bus, subjects.event_stream)).state.missing == 0
    assert await find_holes(bus, subjects.event_stream) == ()
    # The first one is dropped, as the oldest are all the time.
    await lose(bus, subjects, 1, 3, 4, 5, 8)
    info = await stream_info(bus, subjects.event_stream)
    assert (info.state.first_seq, info.state.missing) == (2, 4)
    assert await find_holes(bus, subjects.event_stream) == (Hole(3, 5), Hole(8, 8))
    assert await stored_at(bus, subjects.event_stream, 4) is None
    found = await stored_at(bus, subjects.event_stream, 6)
    assert found is not None
    assert found.data == b"6"


LOSSES: dict[str, tuple[tuple[int, ...], list[Gap | int]]] = {
    "ahead": ((6, 7), [Gap(4, 8), 4, 5, 8, 9]),
    "behind": ((2,), [4, 5, 6, 7, 8, 9]),
    # Another message may stand at its place by now: nothing that follows can be told from what was shown.
    "the last one shown": ((3,), [Gap(0, 11, recreated=True)]),
}


@pytest.mark.parametrize("case", LOSSES)
@pytest.mark.usefixtures("streams")
async def test_a_reader_tells_what_a_damaged_stream_has_lost(bus: Bus, subjects: Subjects, case: str) -> None:
    """Three of nine messages are read when the server comes back, without some."""
    lost, wanted = LOSSES[case]
    await put_events(bus, subjects, 1, 10)
    reader = StreamReader(bus, subjects.event_stream, (subjects.evt_all,), FromSeq(1), buffer_max=3)
    await reader.open()
    async with asyncio.timeout(25):
        while len(reader._items) < 3:  # noqa: ASYNC110 - reading would make room for more
            await asyncio.sleep(0.01)
        await lose(bus, subjects, *lost)
        reader._renew.set()
        while len(reader._items) < 4 and case != "behind":  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        items: list[Delivery | Gap] = []
        while len(items) < 3 + len(wanted):
            items += await reader.read()
    await reader.close()
    assert [item if isinstance(item, Gap) else item.stream_seq for item in items] == [1, 2, 3, *wanted]
