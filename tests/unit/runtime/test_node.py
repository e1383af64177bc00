"""Nodes on one log: leases, takeovers, what is restored, what a lost lease closes, what is written behind."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import structlog

from tasker.errors import Unavailable
from tasker.events.log import DueChange
from tasker.events.memory_log import MemoryLog
from tasker.service.actors.poisoned_task import PoisonedActor
from tasker.service.runtime import node as node_module
from tasker.service.runtime.committer import Committer
from tasker.service.runtime.due import UNFOLDED, DueBook
from tasker.service.runtime.node import Node, Wake
from tasker.service.runtime.node_clock import READING_S_MAX, NodeClock
from tasker.service.runtime.shards import Shards
from tasker.settings import Pace
from tests.unit.runtime.committing import Listener
from tests.unit.runtime.test_shards import T0_US, Counter, Factory, Say

SHARDS = 3
LEASE_S = 5.0


class Time:
    """The time of the log and of every node."""

    def __init__(self) -> None:
        self.s = 1000.0

    def now_us(self) -> int:
        return T0_US + round(self.s * 1e6)

    def monotonic_s(self) -> float:
        return self.s


class Service:
    """Serves shards beside the actors."""

    def __init__(self) -> None:
        self.open: dict[int, int] = {}

    async def open_shard(self, shard: int, epoch: int) -> None:
        self.open[shard] = epoch

    def close_shard(self, shard: int) -> None:
        self.open.pop(shard, None)


class WakingCounter(Counter):
    """Notes the obligations that woke it."""

    woken: list[str]

    def receive(self, message: Say | Wake, now_us: int):
        if isinstance(message, Wake):
            self.woken.append(message.obligation)
            message.closed()
            return None
        return super().receive(message, now_us)


class WakingFactory(Factory):
    def __init__(self) -> None:
        super().__init__()
        self.woken: list[str] = []

    async def revive(self, stream_id, history, kind):
        events = await history.events()
        self.revived.append((stream_id, len(events)))
        actor = self.actors[stream_id] = WakingCounter(stream_id, len(events))
        actor.woken = self.woken
        return actor


class OldFactory(Factory):
    """Of a build that understands none of the events."""

    async def revive(self, stream_id, history, kind):
        await history.events()
        return PoisonedActor(stream_id, 0, "an event of a newer build")


async def obligations(log: MemoryLog) -> set[tuple[UUID, str]]:
    """Return the rows of shard 0."""
    return {(row.stream_id, row.obligation) async for page in log.due_between([0], 0, 2**62) for row in page}


class OneNode:
    def __init__(self, log: MemoryLog, time: Time, owner: str) -> None:
        self.heard: list[tuple] = []
        listener = Listener(self.heard)
        self.clock = NodeClock(time.monotonic_s)
        self.committer = Committer(log, owner, listener)
        self.factory = WakingFactory()
        self.shards = Shards(log, self.committer, self.factory, self.clock.now_us)
        self.service = Service()
        self.node = Node(
            log=log,
            clock=self.clock,
            owner=owner,
            shards=self.shards,
            committer=self.committer,
            services=(self.service,),
            shard_numbers=range(SHARDS),
            pace=Pace(lease_s=LEASE_S),
        )
        listener.also = self.node.on_committed
        listener.on_fenced = self.node.on_fenced  # type: ignore[method-assign]
        self._loader: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.committer.start(paused=lambda: not self.clock.trusted())
        self._loader = asyncio.create_task(self.shards.run_loader())

    async def round(self) -> None:
        """Renew and take once, and wait until what was taken is served."""
        await self.node.placement._round()
        while self.node._opening:
            await asyncio.wait(list(self.node._opening.values()))

    def say(self, shard: int, stream_id, events: int = 1) -> Say:
        message = Say(events)
        self.shards.send(shard, stream_id, "task", message)
        return message

    async def stop(self) -> None:
        if self._loader is not None:
            self._loader.cancel()
        await self.committer.stop()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def log(time: Time) -> MemoryLog:
    return MemoryLog(clock=time, shards=SHARDS)


@pytest.fixture
async def nodes(log: MemoryLog, time: Time) -> AsyncIterator[tuple[OneNode, OneNode]]:
    """Two nodes; only the first has taken its shards."""
    pair = OneNode(log, time, "one"), OneNode(log, time, "two")
    for node in pair:
        node.start()
    await pair[0].round()
    yield pair
    for node in pair:
        await node.stop()


@pytest.fixture
def one(nodes: tuple[OneNode, OneNode]) -> OneNode:
    return nodes[0]


@pytest.fixture
def two(nodes: tuple[OneNode, OneNode]) -> OneNode:
    return nodes[1]


class TestLeases:
    async def test_the_first_takes_everything_and_the_second_stands_by(self, one: OneNode, two: OneNode) -> None:
        assert one.service.open == {0: 1, 1: 1, 2: 1}
        assert sorted(one.shards.owned) == [0, 1, 2]
        assert one.node.ready.is_set()
        await two.round()
        assert two.shards.owned == []
        assert two.node.ready.is_set()

    async def test_renewing_keeps_a_lease_and_its_epoch(self, one: OneNode, two: OneNode, time: Time) -> None:
        for _ in range(4):
            time.s += LEASE_S - 1
            await one.round()
            await two.round()
        assert one.service.open == {0: 1, 1: 1, 2: 1}
        assert two.shards.owned == []

    async def test_a_lease_that_ran_out_is_taken_with_a_higher_epoch(
        self, one: OneNode, two: OneNode, time: Time
    ) -> None:
        stream = uuid4()
        assert await one.say(0, stream, 2).ended == 2
        time.s += LEASE_S + 0.1
        await two.round()
        assert two.service.open == {0: 2, 1: 2, 2: 2}
        assert await two.say(0, stream).ended == 3

    async def test_the_former_owner_records_and_answers_nothing(
        self, one: OneNode, two: OneNode, log: MemoryLog, time: Time
    ) -> None:
        """It still believes to own the shard: its append is fenced, and so is an answer without events."""
        stream = uuid4()
        assert await one.say(0, stream).ended == 1
        assert await one.say(1, stream := uuid4()).ended == 1
        time.s += LEASE_S + 0.1
        await two.round()
        assert sorted(one.shards.owned) == [0, 1, 2]
        assert await one.say(0, uuid4()).ended == "fenced"
        assert await one.say(1, stream, 0).ended == "fenced"
        assert one.shards.owned == [2]
        assert one.service.open == {2: 1}
        await one.round()
        assert one.shards.owned == []
        assert one.node.placement.expired == 3, "however a node learns it"
        assert len(await log.read(0, after=0, limit=10)) == 1

    async def test_a_lost_lease_closes_the_shard(self, one: OneNode, two: OneNode, time: Time) -> None:
        waiting = one.say(0, uuid4())
        time.s += LEASE_S + 0.1
        await two.node.placement._round()
        await one.node.placement._round()
        assert await waiting.ended == "fenced"
        assert one.shards.owned == []
        assert one.service.open == {}
        assert await one.say(0, uuid4()).ended == "fenced"

    async def test_a_release_hands_over_at_once_and_takes_nothing_back(self, one: OneNode, two: OneNode) -> None:
        await one.node.placement.release()
        await one.node.placement._round()
        await two.round()
        assert sorted(two.shards.owned) == [0, 1, 2]

    async def test_a_shard_that_was_given_up_is_taken_again_under_another_epoch(self, one: OneNode) -> None:
        one.node.close_shard(1)
        one.node.close_shard(1)
        assert await one.say(1, uuid4()).ended == "fenced"
        await one.round()
        assert one.node.placement.expired == 0
        assert one.service.open == {0: 1, 1: 2, 2: 1}
        assert await one.say(1, uuid4()).ended == 1

    async def test_a_log_that_does_not_answer_keeps_what_is_held(self, one: OneNode, log: MemoryLog) -> None:
        log.unavailable = True
        running = asyncio.create_task(one.node.placement.run())
        await asyncio.sleep(0)
        assert not running.done()
        log.unavailable = False
        running.cancel()
        assert sorted(one.shards.owned) == [0, 1, 2]

    async def test_without_a_reading_of_the_clock_nothing_is_appended(
        self, one: OneNode, log: MemoryLog, time: Time
    ) -> None:
        time.s += READING_S_MAX + 0.1
        message = one.say(0, uuid4())
        await asyncio.sleep(0.05)
        assert not message.ended.done()
        assert await log.read(0, after=0, limit=10) == []
        await one.round()
        assert await message.ended == 1


class TestRestore:
    async def test_a_shard_whose_restore_fails_is_taken_up_anew(
        self, one: OneNode, two: OneNode, log: MemoryLog, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is not served without its obligations."""
        assert await one.say(0, uuid4()).ended == 1
        time.s += LEASE_S + 0.1
        monkeypatch.setattr(log, "read", unavailable)
        await two.round()
        assert sorted(two.shards.owned) == [1, 2]
        monkeypatch.undo()
        await two.round()
        assert sorted(two.shards.owned) == [0, 1, 2]
        assert two.service.open[0] == 3

    async def test_what_is_owed_between_checkpoint_and_head_comes_from_the_log(
        self, one: OneNode, two: OneNode, log: MemoryLog, time: Time
    ) -> None:
        """Half of it was written when the first node died, the other half was not; one was closed since."""
        written, unwritten, closed = uuid4(), uuid4(), uuid4()
        for stream in (written, closed):
            await one.say(0, stream).ended
        await one.node.write_due()
        assert await log.due_checkpoint([0]) == {0: 2}
        await one.say(0, unwritten).ended
        await one.say(0, closed).ended
        time.s += LEASE_S + 0.1
        await two.round()
        assert {stream for stream, _ in two.factory.revived} == {unwritten, closed}
        await two.node.write_due()
        assert await log.due_checkpoint([0]) == {0: 4}
        rows = [row async for page in log.due_between([0], 0, 2**62) for row in page]
        assert {row.stream_id for row in rows} >= {written, unwritten}
        time.s += 1000
        await two.round()
        await wake(two)
        assert sorted(two.factory.woken) == ["odd"] * len(rows)
        assert await two.say(0, written).ended == 5

    async def test_what_an_older_build_could_not_fold_is_owed_again_when_a_newer_one_returns(
        self, one: OneNode, two: OneNode, log: MemoryLog, time: Time
    ) -> None:
        """It was in no row yet, and the older build's checkpoint has passed the events that opened it."""
        stream = uuid4()
        await one.say(0, stream).ended
        two.factory = two.shards._factory = OldFactory()  # type: ignore[assignment]
        time.s += LEASE_S + 0.1
        await two.round()
        await wake(two)
        await two.node.write_due()
        assert await log.due_checkpoint([0]) == {0: 1}
        assert await obligations(log) == {(stream, UNFOLDED)}
        assert await two.say(0, stream).ended == "task_poisoned"
        time.s += LEASE_S + 0.1
        await one.round()
        await wake(one)
        await one.node.write_due()
        # What it owes is due already; its actor closes it.
        assert (one.factory.woken, await obligations(log)) == ([UNFOLDED, "odd"], set())

    async def test_a_build_that_still_cannot_fold_it_leaves_the_row(
        self, one: OneNode, two: OneNode, log: MemoryLog, time: Time
    ) -> None:
        stream = uuid4()
        await one.say(0, stream).ended
        for node in (two, one, two):
            node.shards._factory = OldFactory()
            time.s += LEASE_S + 0.1
            await node.round()
            await wake(node)
            node.shards.passivate(0)
            await node.node.write_due()
            assert await obligations(log) == {(stream, UNFOLDED)}

    async def test_overdue_rows_wake_after_a_takeover_at_a_bounded_rate(
        self, one: OneNode, two: OneNode, log: MemoryLog, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(node_module, "WAKES_PER_TICK_MAX", 3)
        rows = [(uuid4(), "late", time.now_us() - number) for number in range(8)]
        await log.write_due([DueChange(shard=0, epoch=1, position=0, upserts=rows, deletes=[])])
        time.s += LEASE_S + 0.1
        await two.round()
        popped: list[int] = []
        pop_due = DueBook.pop_due

        def counted(book: DueBook, now_us: int, limit: int) -> list[tuple[UUID, str]]:
            found = pop_due(book, now_us, limit)
            popped.append(len(found))
            return found

        monkeypatch.setattr(DueBook, "pop_due", counted)
        while len(two.factory.woken) < 8:
            await wake(two, ticks=1)
        assert [count for count in popped if count] == [3, 3, 2]
        await two.node.write_due()
        assert [page async for page in log.due_between([0], 0, 2**62)] == []

    async def test_epochs_rise_at_every_takeover(self, one: OneNode, two: OneNode, log: MemoryLog, time: Time) -> None:
        stream = uuid4()
        for turn in range(3):
            owner, other = (one, two) if turn % 2 == 0 else (two, one)
            assert await owner.say(0, stream).ended == turn + 1
            time.s += LEASE_S + 0.1
            await other.round()
            await owner.round()
        assert [event.epoch for event in await log.read(0, after=0, limit=10)] == [1, 2, 3]


class TestDueWrites:
    async def test_a_failed_write_is_written_by_the_next(self, one: OneNode, log: MemoryLog) -> None:
        stream = uuid4()
        await one.say(0, stream).ended
        log.unavailable = True
        with pytest.raises(Exception, match="switched off"):
            await one.node.write_due()
        log.unavailable = False
        await one.node.write_due()
        [page] = [page async for page in log.due_between([0], 0, 2**62)]
        assert [row.stream_id for row in page] == [stream]

    async def test_a_look_ahead_that_failed_is_repeated_and_told_of_as_an_outage(
        self, one: OneNode, log: MemoryLog, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Timers of the minute ahead were late by up to 20 s, for the sake of a log that was back."""
        looked = asyncio.Semaphore(0)
        look, fails = log.due_between, True

        def looks(*arguments):
            looked.release()
            if fails:
                raise Unavailable("switched off")
            return look(*arguments)

        monkeypatch.setattr(log, "due_between", looks)
        one.node._pace = Pace(lease_s=LEASE_S, due_write_s=0.001)
        with structlog.testing.capture_logs() as lines:
            writer = asyncio.create_task(one.node.run_due_writer())
            await asyncio.sleep(0)
            time.s += node_module.HORIZON_SCAN_S + 1
            for _ in range(5):
                await looked.acquire()
            fails = False
            for _ in range(SHARDS):
                await looked.acquire()
            await asyncio.sleep(0.05)
            writer.cancel()
        assert [(line["event"], line.get("outage")) for line in lines] == [
            ("due_write_failed", None),
            ("outage_over", "due_write_failed"),
        ]

    async def test_two_writes_never_overlap(
        self, one: OneNode, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second, begun while the first is under way, must not take what the first would give back."""
        gate = asyncio.Event()
        began: list[int] = []
        write = log.write_due

        async def slow(changes):
            began.append(len(changes))
            if len(began) == 1:
                await gate.wait()
                await unavailable()
            return await write(changes)

        monkeypatch.setattr(log, "write_due", slow)
        await one.say(0, uuid4()).ended
        first = asyncio.create_task(one.node.write_due())
        await asyncio.sleep(0)
        await one.say(0, uuid4()).ended
        second = asyncio.create_task(one.node.write_due())
        await asyncio.sleep(0)
        assert began == [1]
        gate.set()
        await asyncio.gather(first, second, return_exceptions=True)
        assert await log.due_checkpoint([0]) == {0: 2}
        [page] = [page async for page in log.due_between([0], 0, 2**62)]
        assert len(page) == 2

    async def test_a_long_backlog_is_written_in_parts_and_what_was_written_stays_so(
        self, one: OneNode, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(node_module, "DUE_ROWS_MAX", 2)
        write = log.write_due
        sizes: list[int] = []

        async def failing_later(changes):
            sizes.append(sum(len(change.upserts) for change in changes))
            if len(sizes) == 2:
                await unavailable()
            return await write(changes)

        monkeypatch.setattr(log, "write_due", failing_later)
        for shard in range(SHARDS):
            for _ in range(shard + 1):
                await one.say(shard, uuid4()).ended
        with pytest.raises(Unavailable):
            await one.node.write_due()
        assert await log.due_checkpoint(range(SHARDS)) == {0: 1, 1: 2, 2: 0}
        await one.node.write_due()
        assert await log.due_checkpoint(range(SHARDS)) == {0: 1, 1: 2, 2: 3}
        assert sizes == [3, 3, 3]

    async def test_a_former_owner_writes_none(self, one: OneNode, two: OneNode, log: MemoryLog, time: Time) -> None:
        await one.say(0, uuid4()).ended
        time.s += LEASE_S + 0.1
        await two.round()
        await one.node.write_due()
        assert await log.due_checkpoint([0]) == {0: 0}


async def unavailable(*_: object, **__: object):
    raise Unavailable("switched off")


async def wake(node: OneNode, ticks: int = 3) -> None:
    """Let the timers look `ticks` times, and the actors they wake take their turns."""
    timers = asyncio.create_task(node.node.run_timers())
    await asyncio.sleep(node_module.TICK_S * (ticks + 0.5))
    timers.cancel()
    await asyncio.gather(timers, return_exceptions=True)
    while any(cell.actor is None for cells in node.shards._cells.values() for cell in cells.values()):  # noqa: ASYNC110
        await asyncio.sleep(0)
