"""Messages to actors: mailboxes, activation, supervision, rebuilding, passivation, restoring."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import pytest

from tasker.errors import Busy, Fenced, TaskerError, Unavailable
from tasker.events.history import History
from tasker.events.log import Loaded
from tasker.events.memory_log import Fault, MemoryLog
from tasker.service.runtime import shards as shards_module
from tasker.service.runtime.actor import Owed, Turn
from tasker.service.runtime.committer import Unit
from tasker.service.runtime.due import DueBook
from tasker.service.runtime.shards import Shards
from tasker.settings import Limits
from tests.unit.runtime.committing import Desk, Held, new_event

T0_US = 1_790_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.us = T0_US

    def now_us(self) -> int:
        return self.us


class Say:
    """A message: `events` to record, or a fault of the actor."""

    def __init__(self, events: int = 1, *, crash: Exception | None = None, gap: bool = False) -> None:
        self.events = events
        self.crash = crash
        self.gap = gap
        self.ended: asyncio.Future[int | str] = asyncio.get_running_loop().create_future()

    def fail(self, error: TaskerError) -> None:
        self.ended.set_result(error.code)


class Counter:
    """An actor: it counts its events, and owes one thing while it has an odd number of them."""

    def __init__(self, stream_id: UUID, seq: int) -> None:
        self.stream_id = stream_id
        self.correlation_id = "order-17"
        self.seq = seq
        self.busy = False

    def receive(self, message: Say, now_us: int) -> Turn | None:
        if message.crash is not None:
            self.seq += 100
            raise message.crash
        if message.gap:
            self.seq += 1
        events = [new_event(self.stream_id, seq) for seq in range(self.seq + 1, self.seq + 1 + message.events)]
        self.seq += message.events
        return Turn(events, message.ended.set_result, message.fail, self.owes() if events else {})

    def owes(self) -> Owed:
        return {"": {"odd": T0_US + 10**9} if self.seq % 2 else {}}

    def idle(self) -> bool:
        return not self.busy


class Factory:
    def __init__(self) -> None:
        self.revived: list[tuple[UUID, int]] = []
        self.actors: dict[UUID, Counter] = {}
        self.failing: Unavailable | None = None

    def new(self, shard: int, stream_id: UUID, kind: str) -> None:
        """Nothing is made without being counted."""

    async def revive(self, stream_id: UUID, history: History, kind: str) -> Counter:
        if self.failing is not None:
            raise self.failing
        events = await history.events()
        self.revived.append((stream_id, len(events)))
        actor = self.actors[stream_id] = Counter(stream_id, len(events))
        return actor


class Floor:
    """Shard 0 (and 1) served over a log in memory."""

    def __init__(self) -> None:
        self.log = MemoryLog(shards=2)
        self.desk = Desk(self.log)
        self.factory = Factory()
        self.clock = Clock()
        self.shards = Shards(self.log, self.desk.committer, self.factory, self.clock.now_us)
        self.desk.listener.also = self.shards.note_committed
        self.books: dict[int, DueBook] = {}
        self.loads: list[list[UUID]] = []

    async def open(self) -> None:
        await self.desk.take(0, 1)
        for shard in (0, 1):
            self.books[shard] = DueBook(shard)
            self.shards.open(shard, self.books[shard], 0)
            self.shards.serve(shard)
        load = self.log.load_histories

        async def noted(stream_ids: Sequence[UUID]) -> dict[UUID, Loaded]:
            self.loads.append(list(stream_ids))
            return await load(stream_ids)

        self.log.load_histories = noted  # type: ignore[method-assign]
        self.desk.start()

    def say(self, stream_id: UUID, events: int = 1, *, shard: int = 0, **how: object) -> Say:
        message = Say(events, **how)  # type: ignore[arg-type]
        self.shards.send(shard, stream_id, "task", message)
        return message


@pytest.fixture
async def floor() -> AsyncIterator[Floor]:
    floor = Floor()
    await floor.open()
    loader = asyncio.create_task(floor.shards.run_loader())
    yield floor
    if isinstance(floor.log.delay, Held):
        floor.log.delay.let(1000)
    assert not loader.done()
    loader.cancel()
    await floor.desk.committer.stop()


async def test_streams_that_wait_together_are_loaded_in_one_query(floor: Floor) -> None:
    streams = [uuid4() for _ in range(5)]
    said = [floor.say(stream) for stream in streams]
    assert sorted(await asyncio.gather(*(message.ended for message in said))) == [1, 2, 3, 4, 5]
    assert [set(load) for load in floor.loads] == [set(streams)]
    assert [count for _, count in floor.factory.revived] == [0] * 5


class TestMessagesThatCanWait:
    @pytest.fixture(autouse=True)
    def _few_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shards_module, "LOAD_STREAMS_MAX", 4)
        monkeypatch.setattr(shards_module, "LOAD_PATIENT_MIN", 1)

    def look(self, floor: Floor, stream_id: UUID) -> Say:
        message = Say()
        floor.shards.send_patiently(0, stream_id, "task", message)
        return message

    async def test_a_command_is_loaded_before_a_backlog_that_came_first(self, floor: Floor) -> None:
        looks = [self.look(floor, uuid4()) for _ in range(20)]
        stream = uuid4()
        await floor.say(stream).ended
        assert stream in floor.loads[0]
        await asyncio.gather(*(one.ended for one in looks))
        assert [len(load) for load in floor.loads] == [2, 4, 4, 4, 4, 3]

    async def test_they_have_room_while_more_commands_wait_than_one_load_takes(self, floor: Floor) -> None:
        backlog = [uuid4() for _ in range(2)]
        looks = [self.look(floor, stream) for stream in backlog]
        said = [floor.say(uuid4()) for _ in range(20)]
        await asyncio.gather(*(one.ended for one in looks))
        assert [backlog[0] in floor.loads[0], backlog[1] in floor.loads[1]] == [True, True]
        await asyncio.gather(*(one.ended for one in said))

    async def test_a_stream_for_which_somebody_waits_now_as_well_moves_up(self, floor: Floor) -> None:
        backlog = [uuid4() for _ in range(20)]
        looks = [self.look(floor, stream) for stream in backlog]
        await floor.say(backlog[-1]).ended
        assert floor.loads[0] == [backlog[-1], backlog[0]]
        await asyncio.gather(*(one.ended for one in looks))
        assert sorted(stream for load in floor.loads for stream in load) == sorted(backlog)

    async def test_closing_their_shard_fails_them(self, floor: Floor) -> None:
        look = self.look(floor, uuid4())
        floor.shards.close(0)
        assert await look.ended == "fenced"
        assert await floor.say(uuid4(), shard=1).ended == 1
        assert len(floor.loads) == 1


async def test_messages_of_one_stream_take_their_turns_in_order(floor: Floor) -> None:
    """Those behind the first do not wait for its commit: they decide on what is pending."""
    stream = uuid4()
    floor.log.delay = held = Held()
    first = floor.say(stream)
    await held.arrived()
    behind = [floor.say(stream) for _ in range(3)]
    assert floor.factory.actors[stream].seq == 4
    assert not first.ended.done()
    held.let(10)
    assert await asyncio.gather(first.ended, *(message.ended for message in behind)) == [1, 2, 3, 4]


async def test_a_full_mailbox_is_busy(floor: Floor) -> None:
    floor.shards._limits = Limits(mailbox_messages_max=3)
    stream = uuid4()
    said = [floor.say(stream) for _ in range(5)]
    assert [message.ended.done() for message in said] == [False, False, False, True, True]
    assert await said[4].ended == Busy.code
    assert await asyncio.gather(*(message.ended for message in said[:3])) == [1, 2, 3]


async def test_a_backlog_of_units_is_busy_for_streams_not_in_memory(floor: Floor) -> None:
    floor.shards._limits = Limits(backlog_units_max=2)
    stream = uuid4()
    floor.log.delay = held = Held()
    said = [floor.say(stream) for _ in range(3)]
    await held.arrived()
    assert await floor.say(uuid4()).ended == Busy.code
    said.append(floor.say(stream))
    held.let(10)
    assert await asyncio.gather(*(message.ended for message in said)) == [1, 2, 3, 4]


async def test_a_shard_that_is_not_ours_is_fenced(floor: Floor) -> None:
    assert await floor.say(uuid4(), shard=7).ended == "fenced"
    floor.shards.pause(1)
    assert await floor.say(uuid4(), shard=1).ended == "fenced"


async def test_closing_a_shard_fails_what_waits_to_be_loaded(floor: Floor) -> None:
    message = floor.say(uuid4())
    floor.shards.close(0)
    assert await message.ended == "fenced"
    assert not floor.shards.owns(0)
    assert await floor.say(uuid4(), shard=1).ended == 1


class TestSupervision:
    async def test_an_actor_that_fails_is_rebuilt_from_the_log(self, floor: Floor) -> None:
        """What it had done before is recorded; what the failing turn did to it is gone."""
        stream = uuid4()
        assert await floor.say(stream, 2).ended == 2
        assert await floor.say(stream, crash=ValueError("a bug")).ended == Unavailable.code
        assert await floor.say(stream).ended == 3
        assert floor.factory.revived == [(stream, 0), (stream, 2)]

    async def test_it_is_left_alone_after_three_failures_until_the_window_is_over(self, floor: Floor) -> None:
        stream = uuid4()
        for _ in range(3):
            assert await floor.say(stream, crash=ValueError("a bug")).ended == Unavailable.code
        revived = len(floor.factory.revived)
        assert await floor.say(stream).ended == Unavailable.code
        assert len(floor.factory.revived) == revived
        assert await floor.say(uuid4()).ended == 1
        floor.clock.us += shards_module.RESTART_WINDOW_US + 1
        assert await floor.say(stream).ended == 2

    async def test_failures_are_forgotten_after_the_window_also_of_what_nobody_asks_for_again(
        self, floor: Floor
    ) -> None:
        old, new = uuid4(), uuid4()
        await floor.say(old, crash=ValueError("a bug")).ended
        floor.clock.us += shards_module.RESTART_WINDOW_US
        await floor.say(new, crash=ValueError("a bug")).ended
        floor.shards.passivate(5_000_000)
        assert list(floor.shards._failures) == [new]

    async def test_an_actor_that_leaves_a_gap_is_rebuilt(self, floor: Floor) -> None:
        """The committer refuses what does not continue the last unit; nothing of it is recorded."""
        stream = uuid4()
        floor.log.delay = held = Held()
        first = floor.say(stream)
        await held.arrived()
        assert await floor.say(stream, gap=True).ended == Unavailable.code
        held.let(10)
        assert await first.ended == 1
        assert await floor.say(stream).ended == 2


class TestRebuilding:
    async def test_a_stream_is_read_only_when_nothing_of_it_is_under_way(self, floor: Floor) -> None:
        stream = uuid4()
        floor.log.delay = held = Held()
        first = floor.say(stream)
        await held.arrived()
        floor.shards.drop(0, stream)
        second = floor.say(stream)
        await asyncio.sleep(0.05)
        assert len(floor.loads) == 1
        held.let(10)
        assert [await first.ended, await second.ended] == [1, 2]
        assert floor.factory.revived[1:] == [(stream, 1)]

    async def test_a_failed_unit_drops_the_actor_and_all_it_decided_behind(self, floor: Floor) -> None:
        stream = uuid4()
        assert await floor.say(stream).ended == 1
        floor.log.delay = held = Held()
        floor.log.faults.extend([Fault.REFUSED])
        bad = floor.say(stream)
        await held.arrived()
        behind = [floor.say(stream), floor.say(stream, 0)]
        held.let(10)
        ends = await asyncio.gather(bad.ended, *(message.ended for message in behind))
        assert ends == [Unavailable.code] * 3
        assert await floor.say(stream).ended == 2
        assert floor.factory.revived[-1] == (stream, 1)

    async def test_a_log_that_cannot_be_read_fails_those_who_wait(self, floor: Floor) -> None:
        stream = uuid4()
        assert await floor.say(stream).ended == 1
        floor.shards.drop(0, stream)
        floor.log.unavailable = True
        assert await floor.say(stream).ended == Unavailable.code
        floor.log.unavailable = False
        assert await floor.say(stream).ended == 2

    async def test_an_actor_that_cannot_be_made_now_is_made_later(self, floor: Floor) -> None:
        """A template's content that cannot be read at the moment fails its own stream, and nobody else's."""
        stream = uuid4()
        floor.factory.failing = Unavailable("no blob")
        assert await floor.say(stream).ended == Unavailable.code
        floor.factory.failing = None
        assert await floor.say(stream).ended == 1

    async def test_what_was_read_before_the_shard_was_lost_makes_no_actor(self, floor: Floor) -> None:
        """Another node wrote meanwhile, and the shard came back before the answer did."""
        stream = uuid4()
        assert await floor.say(stream).ended == 1
        floor.shards.drop(0, stream)
        reading, load = asyncio.Event(), floor.log.load_histories

        async def slow(stream_ids: Sequence[UUID]) -> dict[UUID, Loaded]:
            found = await load(stream_ids)
            if not reading.is_set():
                reading.set()
                await answered.wait()
            return found

        answered = asyncio.Event()
        floor.log.load_histories = slow  # type: ignore[method-assign]
        before = floor.say(stream)
        await reading.wait()
        floor.desk.committer.close_shard(0, Fenced("lost"))
        floor.shards.close(0)
        assert await before.ended == "fenced"
        await floor.desk.take(0)
        written = floor.desk.note("theirs")
        floor.desk.committer.submit(0, Unit(stream, [new_event(stream, 2)], written))
        await floor.desk.until("theirs")
        floor.shards.open(0, DueBook(0), 0)
        floor.shards.serve(0)
        after = floor.say(stream)
        answered.set()
        assert await after.ended == 3
        assert floor.factory.actors[stream].seq == 3


class TestPassivation:
    async def test_idle_actors_leave_memory_and_come_back(self, floor: Floor) -> None:
        idle, busy, waiting = uuid4(), uuid4(), uuid4()
        await asyncio.gather(floor.say(idle, 2).ended, floor.say(busy).ended, floor.say(waiting).ended)
        floor.factory.actors[busy].busy = True
        floor.clock.us += 10_000_000
        assert await floor.say(waiting).ended == 5
        assert floor.shards.passivate(5_000_000) == 1
        assert floor.shards.actors() == 2
        assert await floor.say(idle).ended == 6
        assert floor.factory.revived[-1] == (idle, 2)

    async def test_an_actor_with_something_under_way_stays(self, floor: Floor) -> None:
        stream = uuid4()
        floor.log.delay = held = Held()
        message = floor.say(stream)
        await held.arrived()
        floor.clock.us += 10_000_000
        assert floor.shards.passivate(5_000_000) == 0
        held.let()
        await message.ended
        assert floor.shards.passivate(5_000_000) == 1

    async def test_what_a_passive_stream_owes_stays_in_the_book_until_it_is_written(self, floor: Floor) -> None:
        stream = uuid4()
        await floor.say(stream).ended
        book = floor.books[0]
        floor.clock.us += 10_000_000
        floor.shards.passivate(5_000_000)
        assert (floor.shards.actors(), len(book)) == (0, 1)
        change = book.begin_write(1)
        assert change is not None
        assert list(change.upserts) == [(stream, "odd", T0_US + 10**9)]
        assert change.position == 1
        floor.shards.passivate(5_000_000)
        assert len(book) == 1
        book.written(change)
        floor.shards.passivate(5_000_000)
        assert len(book) == 0


async def test_restoring_notes_what_streams_owe(floor: Floor) -> None:
    """The rows do not hold it yet: it is in the next write, with the position it is complete to."""
    odd, even = uuid4(), uuid4()
    await asyncio.gather(floor.say(odd, 3).ended, floor.say(even, 2).ended)
    floor.shards.close(0)
    book = DueBook(0)
    floor.shards.open(0, book, 0)
    await floor.shards.restore(0, [odd, even], "task")
    book.position = 5
    change = book.changes(epoch=2)
    assert change is not None
    assert (change.position, list(change.upserts)) == (5, [(odd, "odd", T0_US + 10**9)])
