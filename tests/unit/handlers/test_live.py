"""What an attempt says live: gathered, bounded, in order, and never in anybody's way."""

import asyncio
from typing import Any

import msgspec

from tasker.bus.memory_bus import MemoryBroker
from tasker.events.messages import LiveUpdate, Progress, Work
from tasker.events.subjects import Subjects
from tasker.events.task_events import NULL
from tasker.handlers import live as module
from tasker.handlers.live import MESSAGE_BYTES_MAX, WAITING_BYTES_MAX, LiveFeed, LivePublisher

WORK = Work(
    task_id="t-1",
    step="draft",
    attempt=2,
    handler="draft",
    namespace="default",
    template="t",
    input=NULL,
    idempotency_key="k",
    report_to="r",
    start_to_close_s=30.0,
    heartbeat_s=10.0,
)


class Ear:
    """Everything that is said live."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.said: list[LiveUpdate] = []
        self.heard = asyncio.Event()
        subject = Subjects().live("default", "t-1", "*")
        broker.connect().subscribe(subject, lambda message: self.take(message.data))

    def take(self, data: bytes) -> None:
        self.said.append(msgspec.json.decode(data, type=LiveUpdate))
        self.heard.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.said) < count:
                self.heard.clear()
                await self.heard.wait()

    def chunks(self) -> list[Any]:
        return [msgspec.json.decode(chunk) for one in self.said for chunk in one.chunks]


def made() -> tuple[Ear, LivePublisher, LiveFeed, MemoryBroker]:
    broker = MemoryBroker()
    ear = Ear(broker)
    return ear, LivePublisher(broker.connect(), Subjects(), "default", "w1", lambda: 0), LiveFeed(), broker


async def test_what_comes_in_one_moment_leaves_together_and_in_order() -> None:
    ear, publisher, feed, _ = made()
    armed = [feed.put_chunk(b'"%d"' % number) for number in range(50)]
    assert armed == [True] + [False] * 49
    feed.put_progress(Progress(done=1))
    feed.put_progress(Progress(done=2))
    publisher.arm(WORK, feed)
    await ear.until(1)
    (update,) = ear.said
    assert ear.chunks() == [str(number) for number in range(50)]
    assert (update.progress, update.number, update.attempt, update.ended) == (Progress(done=2), 1, 2, False)


async def test_messages_are_no_closer_than_the_interval(monkeypatch) -> None:
    monkeypatch.setattr(module, "LIVE_S", 0.05)
    ear, publisher, feed, _ = made()
    at: list[float] = []
    for number in range(3):
        if feed.put_chunk(b"%d" % number):
            publisher.arm(WORK, feed)
        await ear.until(number + 1)
        at.append(asyncio.get_running_loop().time())
    assert at[1] - at[0] >= 0.045
    assert at[2] - at[1] >= 0.045


async def test_more_than_fits_a_message_comes_in_several() -> None:
    ear, publisher, feed, _ = made()
    chunk = b'"%s"' % (b"x" * 16_000)
    for _ in range(10):
        feed.put_chunk(chunk)
    publisher.arm(WORK, feed)
    await ear.until(3)
    assert [len(one.chunks) for one in ear.said] == [4, 4, 2]
    assert all(sum(map(len, map(bytes, one.chunks))) <= MESSAGE_BYTES_MAX for one in ear.said)


async def test_beyond_the_bound_the_oldest_chunks_are_dropped_and_counted() -> None:
    ear, publisher, feed, _ = made()
    for number in range(10_000):
        feed.put_chunk(b'"%09000d"' % number)
    publisher.end(WORK, feed)
    await ear.until(1)
    await asyncio.sleep(0)
    kept = ear.chunks()
    assert kept[-1].lstrip("0") == "9999"
    assert len(kept) == WAITING_BYTES_MAX // 9_002
    assert ear.said[-1].dropped == 10_000 - len(kept)
    assert [one.ended for one in ear.said] == [False] * (len(ear.said) - 1) + [True]


async def test_the_end_is_told_where_something_was_told_and_only_there() -> None:
    ear, publisher, feed, _ = made()
    publisher.end(WORK, LiveFeed())
    feed.put_chunk(b"1")
    publisher.end(WORK, feed)
    publisher.end(WORK, feed)
    await ear.until(1)
    assert [(one.ended, len(one.chunks)) for one in ear.said] == [(True, 1)]


async def test_without_a_connection_chunks_are_counted_as_dropped() -> None:
    ear, publisher, feed, broker = made()
    broker.stop()
    feed.put_chunk(b"1")
    publisher._flush(WORK, feed)
    broker.start()
    feed.put_chunk(b"2")
    publisher._flush(WORK, feed)
    await ear.until(1)
    assert (ear.chunks(), ear.said[0].dropped, ear.said[0].number) == ([2], 1, 2)
