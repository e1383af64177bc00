"""How much waits in a queue, and who is let in by that: over the work stream in memory and a hand of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tasker.bus.memory_bus import MemoryBroker, MemoryBus
from tasker.bus.streams import ensure_streams
from tasker.events.subjects import Subjects
from tasker.service.actors.dispatch.backlogs import GIVEN_S, LOOK_S, Backlogs, Given
from tasker.service.actors.dispatch.hands import Counted, Queue
from tasker.settings import StreamSettings

QUEUE = ("default", "default", "post")


class Line:
    """A queue of one node; its time is the test's."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.subjects = Subjects()
        self.now_s = 0.0
        self.hand = 0
        self.backlogs = Backlogs(bus, self.subjects, lambda: self.now_s, self._in_hand)

    def _in_hand(self, queue: Queue, counted: Counted) -> None:
        assert queue == QUEUE
        counted(self.hand)

    def to_stream(self) -> None:
        self.bus.publish(self.subjects.work(*QUEUE), b"{}")

    def ask(self, most: int, adds: int = 1) -> asyncio.Future[Given | bool | None]:
        answer: asyncio.Future[Given | bool | None] = asyncio.get_running_loop().create_future()
        self.backlogs.ask(QUEUE, most, adds, answer.set_result)
        return answer

    async def fits(self, most: int) -> bool:
        """Return whether there is room for one more, by a new count."""
        self.now_s += LOOK_S
        return bool(await self.ask(most, 0))


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    broker = MemoryBroker()
    bus = broker.connect()
    await ensure_streams(bus, Subjects(), StreamSettings())
    yield Line(bus)
    await bus.close()


async def test_the_stream_and_the_hands_count_together(line: Line) -> None:
    line.to_stream()
    line.hand = 2
    assert not await line.fits(3)
    assert await line.fits(4)


async def test_what_goes_from_a_hand_to_the_stream_meanwhile_counts(line: Line) -> None:
    """Planted bug: the stream is counted first, and what arrives there then is in neither count."""
    line.hand = 1
    answer = line.ask(1)
    line.hand = 0
    line.to_stream()
    assert await answer is False


async def test_no_more_is_let_in_than_a_count_left_room_for(line: Line) -> None:
    answers = [await line.ask(3) for _ in range(5)]
    assert [bool(one) for one in answers] == [True, True, True, False, False]


async def test_what_is_let_in_and_not_in_the_log_yet_is_reckoned_with_at_the_next_count(line: Line) -> None:
    """Planted bug: each count forgets it, and a slow log lets in `max_ready` at every look."""
    given = await line.ask(2)
    assert isinstance(given, Given)
    assert not await line.fits(1)
    assert await line.fits(2)
    given.is_settled = True
    assert await line.fits(1), "and it is counted where it waits, from the next count on"


async def test_what_nobody_settles_is_forgotten_in_the_end(line: Line) -> None:
    assert isinstance(await line.ask(2), Given)
    line.now_s += GIVEN_S - 2 * LOOK_S
    assert not await line.fits(1)
    line.now_s += 2 * LOOK_S
    assert await line.fits(1)


async def test_a_start_that_adds_nothing_needs_room_and_takes_none(line: Line) -> None:
    assert await line.ask(1, 0) is True
    assert isinstance(await line.ask(1), Given)
    assert await line.ask(1, 0) is False
