"""Snapshots of long streams: when one is taken, who writes it, and that nobody misses one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar
from uuid import UUID, uuid4

import msgspec
import pytest

from tasker.errors import TaskerError, Unavailable
from tasker.events.envelope import NewEvent, RecordedEvent
from tasker.events.history import History
from tasker.events.log import Snapshot
from tasker.events.memory_log import Fault, MemoryLog
from tasker.events.state_form import StateForm
from tasker.service.runtime import snapshots as module
from tasker.service.runtime.actor import Kept, Owed, Turn
from tasker.service.runtime.due import DueBook
from tasker.service.runtime.shards import Shards
from tasker.service.runtime.snapshots import SnapshotBook
from tests.contracts.event_logs import Owner
from tests.contracts.event_logs import stream as stream_of
from tests.unit.runtime.committing import Desk, new_event

EVERY = 4


class Sum(msgspec.Struct):
    """What the events of a stream sum up to."""

    seq: int = 0
    total: int = 0


def fold(state: Sum, recorded: RecordedEvent | NewEvent) -> None:
    state.seq = recorded.seq
    state.total += int(recorded.payload)


FORM = StateForm[Sum](
    kind="task", number=1, new=Sum, fold=fold, kept=Sum, keep=lambda state: state, restore=lambda state: state
)


class Add:
    """A message: add these numbers, an event each."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers
        self.ended: asyncio.Future[int | str] = asyncio.get_running_loop().create_future()

    def fail(self, error: TaskerError) -> None:
        self.ended.set_result(error.code)


class Adder(Kept[Sum]):
    form: ClassVar[StateForm[Any]] = FORM

    def __init__(self, stream_id: UUID, state: Sum) -> None:
        self.stream_id = stream_id
        self.correlation_id = None
        self.state = state

    def receive(self, message: Add, now_us: int) -> Turn:
        events = []
        for number in message.numbers:
            events.append(new_event(self.stream_id, self.state.seq + 1, payload=b"%d" % number))
            fold(self.state, events[-1])
        return Turn(events, message.ended.set_result, message.fail, {})

    def owes(self) -> Owed:
        return {}

    def idle(self) -> bool:
        return True


class Floor:
    """Shard 0 of a log, served by one owner after the other."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.desk = Desk(log)
        self.shards = Shards(log, self.desk.committer, self, lambda: 1_790_000_000_000_000)
        self.desk.listener.also = self.shards.note_committed
        self.folded: list[int] = []
        """How many events each revival folded."""
        self._loader: asyncio.Task[None] | None = None

    def new(self, shard: int, stream_id: UUID, kind: str) -> None:
        """Nothing is made without a history."""

    async def revive(self, stream_id: UUID, history: History, kind: str) -> Adder:
        state = await history.folded(FORM)
        self.folded.append(history.seq - (0 if history.snapshot is None else history.snapshot.seq))
        return Adder(stream_id, state)

    async def open(self) -> Floor:
        await self.desk.take(0)
        self.shards.open(0, DueBook(0), 0)
        self.shards.serve(0)
        self.desk.start()
        self._loader = asyncio.create_task(self.shards.run_loader())
        return self

    async def close(self) -> None:
        assert self._loader is not None
        assert not self._loader.done()
        self._loader.cancel()
        await self.desk.committer.stop()

    async def add(self, stream_id: UUID, *numbers: int) -> int | str:
        message = Add(*numbers)
        self.shards.send(0, stream_id, "task", message)
        return await message.ended

    async def write(self) -> None:
        await self.shards.snapshots.write(self.epoch_of)

    def epoch_of(self, shard: int) -> int | None:
        queue = self.desk.committer.queue_of(shard)
        return None if queue is None else queue.epoch

    def total(self, stream_id: UUID) -> int:
        actor = self.shards.actor_of(0, stream_id)
        assert isinstance(actor, Adder)
        return actor.state.total


@pytest.fixture
async def floor(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Floor]:
    monkeypatch.setattr(module, "SNAPSHOT_EVENTS", EVERY)
    floor = await Floor(MemoryLog(shards=1)).open()
    yield floor
    await floor.close()


async def next_owner(floor: Floor) -> Floor:
    """Return who takes the shard: it knows the log and nothing else."""
    return await Floor(floor.log).open()


async def test_a_short_stream_is_not_kept(floor: Floor) -> None:
    stream = uuid4()
    for number in range(1, EVERY):
        await floor.add(stream, number)
    assert not floor.shards.snapshots
    await floor.write()
    assert floor.log.kept == {}


async def test_a_long_stream_is_folded_from_its_last_snapshot(floor: Floor) -> None:
    """However long it gets, the next owner folds fewer events than lie between two snapshots, and the written."""
    stream = uuid4()
    for number in range(1, 12):
        await floor.add(stream, number, number)
        await floor.write()
    snapshot = floor.log.kept[stream]
    assert (snapshot.seq, snapshot.position, snapshot.shard, snapshot.form) == (20, 20, 0, 1)
    other = await next_owner(floor)
    await other.add(stream)
    assert other.folded == [2]
    assert other.total(stream) == floor.total(stream) == 2 * sum(range(1, 12))
    await other.close()


async def test_a_snapshot_is_of_what_is_committed(floor: Floor) -> None:
    """The actor is ahead of the commits; what is noted is its state as of the turn's last event."""
    stream = uuid4()
    await floor.add(stream, 1)
    said = [floor.add(stream, 1, 1, 1), floor.add(stream, 10, 10)]
    await asyncio.gather(*said)
    await floor.write()
    assert msgspec.json.decode(floor.log.kept[stream].state, type=Sum) == Sum(seq=4, total=4)


async def test_what_did_not_commit_is_not_kept(floor: Floor) -> None:
    stream = uuid4()
    await floor.add(stream, 1)
    floor.log.faults.append(Fault.REFUSED)
    assert await floor.add(stream, *range(EVERY)) == Unavailable.code
    assert not floor.shards.snapshots
    assert await floor.add(stream, *range(EVERY)) == EVERY + 1
    assert len(floor.shards.snapshots) == 1


async def test_a_death_between_commit_and_snapshot_costs_a_longer_fold_and_nothing_else(floor: Floor) -> None:
    stream = uuid4()
    await floor.add(stream, *range(EVERY))
    await floor.write()
    await floor.add(stream, *range(2 * EVERY))
    other = await next_owner(floor)
    await other.add(stream)
    assert other.folded == [2 * EVERY]
    assert other.total(stream) == floor.total(stream)
    # Its fold was long, so its state is kept before anything else happens.
    await other.write()
    assert floor.log.kept[stream].seq == 3 * EVERY
    await other.close()


async def test_without_any_snapshot_all_is_as_before(floor: Floor) -> None:
    streams = [uuid4() for _ in range(3)]
    for rank, stream in enumerate(streams):
        await floor.add(stream, *range(rank, rank + 3 * EVERY))
    await floor.write()
    assert len(floor.log.kept) == len(streams)
    floor.log.kept.clear()
    other = await next_owner(floor)
    for stream in streams:
        await other.add(stream)
        assert other.total(stream) == floor.total(stream)
    await other.write()
    assert {one.seq for one in floor.log.kept.values()} == {3 * EVERY}
    await other.close()


async def test_one_that_is_ahead_of_its_stream_is_not_taken_and_is_replaced(floor: Floor) -> None:
    stream = uuid4()
    await floor.add(stream, *range(EVERY))
    await floor.write()
    floor.log.kept[stream] = msgspec.structs.replace(floor.log.kept[stream], seq=99, state=b'{"seq":99,"total":9}')
    other = await next_owner(floor)
    await other.add(stream)
    assert other.total(stream) == floor.total(stream)
    await other.write()
    assert floor.log.kept[stream].seq == EVERY
    await other.close()


async def test_a_former_owner_keeps_nothing(floor: Floor) -> None:
    stream = uuid4()
    await floor.add(stream, *range(EVERY))
    other = await next_owner(floor)
    await floor.write()
    assert floor.log.kept == {}
    await other.close()


async def test_a_state_larger_than_its_events_is_kept_less_often(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no more is written than the events themselves are."""
    large = b'{"seq":%d,"total":0,"filler":"' + b"x" * 100 + b'"}'
    monkeypatch.setattr(StateForm, "encode", lambda _, state: large % state.seq)
    stream, kept = uuid4(), []
    for _ in range(60):
        await floor.add(stream, 1)
        await floor.write()
        kept.append(floor.log.kept[stream].seq if stream in floor.log.kept else 0)
    assert sorted({*kept}) == [0, EVERY, EVERY + len(large % EVERY) // 3 + 1]  # an event has 3 bytes, its meta included


async def test_what_could_not_be_written_is_written_by_the_next_call() -> None:
    log = MemoryLog(shards=2)
    owner = await Owner(log).take(0, 1)
    epochs = owner.epochs
    for shard in epochs:
        await owner.write(shard, stream_of(11))
    book = SnapshotBook(log)
    streams = [uuid4() for _ in range(3)]
    for rank, stream in enumerate(streams):
        book.note(Snapshot(rank % 2, stream, 0, 5, 1, "task", b"{}"), position=7)
    log.unavailable = True
    with pytest.raises(Unavailable):
        await book.write(epochs.get)
    book.note(Snapshot(0, streams[0], 0, 9, 1, "task", b"{}"), position=11)
    log.unavailable = False
    assert len(book) == 3
    await book.write({0: epochs[0]}.get)  # the other shard is not ours any more
    assert {stream: (one.seq, one.position) for stream, one in log.kept.items()} == {
        streams[0]: (9, 11),
        streams[2]: (5, 7),
    }
    assert not book


async def test_large_ones_go_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_BYTES_MAX", 10)
    log = MemoryLog(shards=1)
    owner = await Owner(log).take(0)
    await owner.write(0, stream_of(7))
    epochs = owner.epochs
    sizes, write = [], log.write_snapshots

    async def noted(some: list[Snapshot], held: dict[int, int]) -> set[UUID]:
        sizes.append(len(some))
        return await write(some, held)

    monkeypatch.setattr(log, "write_snapshots", noted)
    book = SnapshotBook(log)
    for size in (3, 3, 50, 1, 1):
        book.note(Snapshot(0, uuid4(), 0, 5, 1, "task", b"x" * size), position=7)
    await book.write(epochs.get)
    assert sizes == [3, 2]
    assert len(log.kept) == 5
