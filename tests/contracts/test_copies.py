"""Whether a message that the work stream had is still there, said by the twin and by the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from tasker.bus.bus import Bus
from tasker.bus.publish import AckedPublisher
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import delete_stream, ensure_streams, ensure_work_consumer
from tasker.events.subjects import Subjects
from tasker.service.actors.dispatch import copies
from tasker.service.actors.dispatch.copies import Answer, Copies, Copy
from tests.contracts.pair import STREAMS

QUEUE = ("default", "shop", "charge")


class Work:
    """Messages of one queue, and which of them are gone."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self.bus = bus
        self.subjects = subjects
        self.taken: asyncio.Queue[Delivery] = asyncio.Queue()
        self.credit = 0
        self.copies = Copies(bus, subjects)

    async def publish(self, count: int) -> list[int]:
        """Return the sequences of new messages."""
        publisher, subject = AckedPublisher(self.bus), self.subjects.work(*QUEUE)
        return [(await publisher.publish(subject, b"{}")).seq for _ in range(count)]

    async def take(self, count: int) -> list[Delivery]:
        """Return so many messages in a worker's hands."""
        tenant, namespace, queue = QUEUE
        place = {"tenant": tenant, "namespace": namespace, "queue": queue}
        await ensure_work_consumer(self.bus, self.subjects, STREAMS, **place)
        consumer, self.credit = self.subjects.work_consumer(*QUEUE), count
        self.pull = PullLoop(self.bus, self.subjects.work_stream, consumer, self._take, lambda: self.credit)
        return [await asyncio.wait_for(self.taken.get(), 10) for _ in range(count)]

    def _take(self, delivery: Delivery) -> None:
        self.credit -= 1
        self.taken.put_nowait(delivery)

    async def told(self, seqs: list[int]) -> dict[int, Answer]:
        """Return of each whether it is there."""
        found: dict[int, Answer] = {}
        all_told = asyncio.Event()

        def tell(seq: int, answer: Answer) -> None:
            found[seq] = answer
            if len(found) == len(seqs):
                all_told.set()

        for seq in seqs:
            self.copies.look(QUEUE, seq, partial(tell, seq))
        async with asyncio.timeout(10):
            await all_told.wait()
        return found

    async def gone(self, seqs: list[int]) -> list[int]:
        """Return those that are not there any more, in their order: answers come in any."""
        return sorted(seq for seq, answer in (await self.told(seqs)).items() if answer == "gone")


@pytest.fixture
async def work(bus: Bus, nats_prefix: str) -> AsyncIterator[Work]:
    subjects = Subjects(nats_prefix)
    await ensure_streams(bus, subjects, STREAMS)
    yield Work(bus, subjects)
    for name in subjects.streams:
        await delete_stream(bus, name)


async def test_what_waits_or_is_in_hand_is_there_and_what_is_done_with_is_gone(work: Work) -> None:
    seqs = await work.publish(4)
    assert await work.gone(seqs) == []
    first, second, _third = await work.take(3)
    work.pull.ack(first)
    work.pull.term(second)
    await work.bus.flush()
    assert await work.gone(seqs) == seqs[:2]
    await work.pull.stop()


async def test_without_a_stream_nothing_is_there(work: Work) -> None:
    seqs = await work.publish(2)
    await delete_stream(work.bus, work.subjects.work_stream)
    assert await work.gone(seqs) == seqs


async def test_without_a_connection_nobody_can_say(bus: Bus, nats_prefix: str) -> None:
    work = Work(bus, Subjects(nats_prefix))
    await bus.close()
    assert await work.told([1, 2]) == {1: "untold", 2: "untold"}


async def test_more_than_may_be_asked_at_once_is_asked_in_turn(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has made the queue's consumer, so each message is asked for by itself."""
    monkeypatch.setattr(copies, "IN_FLIGHT_MAX", 3)
    seqs = await work.publish(20)
    assert await work.told([*seqs, seqs[-1] + 1]) == dict.fromkeys(seqs, "there") | {seqs[-1] + 1: "gone"}


async def test_what_is_deleted_is_gone_and_nobody_gets_it(work: Work) -> None:
    first, second, third = await work.publish(3)
    work.copies.delete(Copy(first, 0))
    work.copies.delete(Copy(first, 0))
    work.copies.delete(Copy(third, 0))
    assert await work.gone([first, second, third]) == [first, third]
    (taken,) = await work.take(1)
    assert taken.stream_seq == second
    await work.pull.stop()
