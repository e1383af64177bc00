"""Units to the log: each outcome of an append, its effect on callbacks and on their order."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import msgspec
import pytest

from tasker.errors import Fenced, Undecodable
from tasker.events.chain import digest_of_batch, leaf_of
from tasker.events.envelope import NewEvent
from tasker.events.log import AppendOutcome, ShardAppend
from tasker.events.memory_log import Fault, MemoryLog
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.complete import CompleteChecker
from tasker.replay.checkers.epochs import EpochsChecker
from tasker.replay.findings import Finding
from tasker.service.runtime import committer as committer_module
from tasker.settings import Limits
from tests.unit.runtime.committing import OWNER, Desk, Held, new_event

PARTITION_SIZE = 10


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(shards=4, partition_size=PARTITION_SIZE)


@pytest.fixture
async def desk(log: MemoryLog) -> AsyncIterator[Desk]:
    """A running committer that owns the shards 0 to 3; at the end what it wrote must hold."""
    desk = Desk(log)
    await desk.take(0, 1, 2, 3)
    desk.start()
    yield desk
    desk.paused = False
    log.unavailable = False
    if isinstance(log.delay, Held):
        log.delay.let(1000)
    await desk.committer.stop()
    findings: list[Finding] = []
    for shard in range(4):
        events = await log.read(shard, after=0, limit=10_000)
        feed(events, [CompleteChecker(shard, findings.append), EpochsChecker(shard, findings.append)])
    assert findings == []


class TestAppended:
    async def test_units_are_answered_in_order_with_their_own_positions(self, desk: Desk) -> None:
        """The listener hears of the whole batch before the first unit does."""
        desk.submit(0, "a", count=2)
        desk.submit(0, "b")
        desk.submit(0, "c", count=3)
        await desk.until("c")
        assert desk.heard == [("committed", 0, 1, 6), ("a", 2), ("b", 3), ("c", 6)]

    async def test_one_batch_of_a_shard_is_in_flight_and_the_next_one_gathers(self, log: MemoryLog, desk: Desk) -> None:
        log.delay = held = Held()
        desk.submit(0, "a")
        await held.arrived()
        for number in range(7):
            desk.submit(0, f"b{number}")
        await asyncio.sleep(0)
        assert len(held.batches) == 1
        assert desk.committer.backlog == 8
        held.let(2)
        await desk.until("b6")
        assert [len(batch[0].events) for batch in held.batches] == [1, 7]
        assert desk.committer.backlog == 0

    async def test_shards_of_one_connection_share_a_statement(self, log: MemoryLog, desk: Desk) -> None:
        log.delay = held = Held()
        for shard in range(4):
            desk.submit(shard, f"s{shard}")
        await held.arrived(2)
        assert sorted(sorted(part.shard for part in batch) for batch in held.batches) == [[0, 2], [1, 3]]
        held.let(2)
        await desk.until("s0", "s1", "s2", "s3")

    async def test_a_batch_is_bounded(self, desk: Desk, log: MemoryLog) -> None:
        desk.committer._limits = Limits(batch_events_max=3)
        log.delay = held = Held()
        desk.submit(0, "first")
        await held.arrived()
        for number in range(4):
            desk.submit(0, f"u{number}", count=2)
        held.let(10)
        await desk.until("u3")
        assert [len(batch[0].events) for batch in held.batches] == [1, 2, 2, 2, 2]

    async def test_a_batch_is_bounded_in_bytes(self, desk: Desk, log: MemoryLog) -> None:
        """A unit above the bound goes alone."""
        desk.committer._limits = Limits(batch_bytes_max=100)
        log.delay = held = Held()
        desk.submit(0, "first")
        await held.arrived()
        for number, size in enumerate((40, 40, 40, 400, 10)):
            desk.committer.submit(0, desk.unit(f"u{number}", payload=b"x" * size))
        held.let(10)
        await desk.until("u4")
        assert [len(batch[0].events) for batch in held.batches] == [1, 2, 1, 1, 1]

    async def test_nothing_is_written_while_paused(self, desk: Desk, log: MemoryLog) -> None:
        desk.paused = True
        desk.submit(0, "a")
        await asyncio.sleep(0.1)
        assert await log.read(0, after=0, limit=10) == []
        desk.paused = False
        await desk.until("a")

    async def test_what_a_pause_left_in_the_queue_is_written_when_it_is_over(self, desk: Desk, log: MemoryLog) -> None:
        """Without another unit that would wake the writer: the caller has waited long enough."""
        desk.committer._limits = Limits(batch_events_max=1)
        log.delay = held = Held()
        desk.submit(0, "a")
        desk.submit(0, "b")
        await held.arrived()
        desk.paused = True
        held.let(10)
        await desk.until("a")
        desk.paused = False
        await desk.until("b")


class TestBorders:
    async def test_a_batch_ends_at_the_border(self, desk: Desk, log: MemoryLog) -> None:
        log.delay = held = Held()
        desk.submit(0, "first", count=PARTITION_SIZE - 3)
        await held.arrived()
        desk.submit(0, "in", count=2)
        desk.submit(0, "across", count=2)
        desk.submit(0, "behind")
        held.let(10)
        await desk.until("behind")
        assert [len(batch[0].events) for batch in held.batches] == [7, 2, 2, 1]

    @pytest.mark.parametrize("fault", [None, Fault.LOST_BEFORE, Fault.LOST_AFTER])
    async def test_a_unit_across_it_is_one_append_and_two_batches_of_the_chain(
        self, desk: Desk, log: MemoryLog, fault: Fault | None
    ) -> None:
        desk.submit(0, "first", count=PARTITION_SIZE - 2)
        await desk.until("first")
        log.faults.append(fault)
        desk.submit(0, "across", count=5)
        desk.submit(0, "behind")
        await desk.until("behind")
        assert desk.ends() == {"first": 8, "across": 13, "behind": 14}
        ends = [event.position for event in await log.read(0, after=0, limit=100) if event.chain is not None]
        assert ends[:3] == [8, 10, 13]


class TestFenced:
    async def test_the_whole_queue_fails_and_the_shard_is_given_up(self, desk: Desk, log: MemoryLog) -> None:
        log.delay = held = Held()
        log.faults.append(Fault.FENCED)
        desk.submit(0, "a")
        await held.arrived()
        desk.submit(0, "b")
        desk.submit(0, "answer", count=0)
        desk.submit(1, "other")
        held.let(2)
        await desk.until("answer", "other")
        assert desk.ends() == {"a": "fenced", "b": "fenced", "answer": "fenced", "other": 1}
        assert desk.heard.count(("fenced", 0)) == 1
        assert desk.heard.index(("fenced", 0)) < desk.heard.index(("a", "fenced"))
        assert await log.read(0, after=0, limit=10) == []
        with pytest.raises(Fenced):
            desk.submit(0, "late")

    async def test_an_answer_is_given_only_while_the_shard_is_ours(self, desk: Desk, log: MemoryLog) -> None:
        """A unit without events is confirmed by one read of the heads, after everything before it."""
        desk.submit(0, "a")
        desk.submit(0, "idle", count=0)
        await desk.until("idle")
        assert desk.ends() == {"a": 1, "idle": 1}
        desk.submit(0, "again", count=0)
        await desk.until("again")
        log.take_over(0)
        desk.submit(0, "late", count=0)
        desk.submit(1, "other", count=0)
        await desk.until("late", "other")
        assert desk.ends() == {"a": 1, "idle": 1, "again": 1, "late": "fenced", "other": 0}
        assert ("fenced", 0) in desk.heard

    async def test_an_answer_waits_for_what_it_was_decided_on(self, desk: Desk, log: MemoryLog) -> None:
        log.delay = held = Held()
        stream = uuid4()
        desk.submit(0, "a", stream)
        desk.submit(0, "duplicate", stream, count=0)
        await held.arrived()
        assert desk.ends() == {}
        log.faults.append(Fault.FENCED)
        held.let()
        await desk.until("a", "duplicate")

    async def test_an_answer_that_cannot_be_confirmed_is_not_given(self, desk: Desk, log: MemoryLog) -> None:
        log.unavailable = True
        desk.submit(0, "idle", count=0)
        await desk.until("idle")
        assert desk.ends() == {"idle": "unavailable"}
        log.unavailable = False
        desk.submit(0, "next")
        await desk.until("next")
        assert desk.ends()["next"] == 1


class TestRefused:
    async def test_a_unit_at_fault_stands_alone_and_the_others_are_recorded(self, desk: Desk, log: MemoryLog) -> None:
        """With it goes what is queued behind it of its stream; order is kept among the rest."""
        log.delay = held = Held()
        desk.submit(0, "first")
        await held.arrived()
        born = (await log_of_one(log)).stream_id
        good, bad = uuid4(), born
        desk.submit(0, "g1", good)
        desk.submit(0, "g2")
        desk.submit(0, "bad", bad)
        desk.submit(0, "g3", good)
        desk.submit(0, "behind", bad)
        desk.submit(0, "answer", bad, count=0)
        desk.submit(0, "g4")
        held.let(50)
        await desk.until("first", "g1", "g2", "g3", "g4", "bad", "behind", "answer")
        ends = desk.ends()
        assert {ends.pop(name) for name in ("bad", "behind", "answer")} == {"unavailable"}
        assert ends == {"first": 1, "g1": 2, "g2": 3, "g3": 4, "g4": 5}
        assert ("fenced", 0) not in desk.heard
        desk.submit(0, "after")
        await desk.until("after")

    async def test_a_fault_of_one_shard_is_no_fault_of_another(self, desk: Desk, log: MemoryLog) -> None:
        log.delay = held = Held()
        desk.submit(0, "first")
        await held.arrived()
        born = (await log_of_one(log)).stream_id
        desk.submit(0, "bad", born)
        desk.submit(2, "good")
        held.let(10)
        await desk.until("bad", "good")
        assert desk.ends() == {"first": 1, "bad": "unavailable", "good": 1}

    async def test_a_log_that_refuses_once_loses_nothing(self, desk: Desk, log: MemoryLog) -> None:
        log.delay = held = Held()
        desk.submit(0, "first")
        await held.arrived()
        log.faults.append(Fault.REFUSED)
        for number in range(5):
            desk.submit(0, f"u{number}")
        held.let(50)
        await desk.until("u4")
        assert desk.ends() == {"first": 1, "u0": 2, "u1": 3, "u2": 4, "u3": 5, "u4": 6}

    async def test_a_unit_that_does_not_continue_its_stream_is_refused_at_once(self, desk: Desk) -> None:
        desk.paused = True
        stream = uuid4()
        desk.submit(0, "a", stream, count=2)
        gap = desk.unit("gap", stream)
        gap.events = [new_event(stream, 5)]
        with pytest.raises(AssertionError, match="continues 4, not 2"):
            desk.committer.submit(0, gap)
        desk.paused = False
        await desk.until("a")
        queue = desk.committer.queue_of(0)
        assert queue is not None
        assert not queue.holds(stream)


class TestTrouble:
    async def test_a_shard_that_cannot_be_written_says_so_until_it_can(
        self, desk: Desk, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a full disk the database answered, the shard's owner did too, and nothing said what was wrong."""
        monkeypatch.setattr(committer_module, "TROUBLE_S", 0.0)
        monkeypatch.setattr(committer_module, "SETTLE_PAUSE_S", 0.001)
        assert desk.committer.trouble(0) is None
        log.faults.extend([Fault.LOST_BEFORE] * 1000)
        desk.submit(0, "a")
        async with asyncio.timeout(10):
            while desk.committer.trouble(0) is None:  # noqa: ASYNC110 - nothing tells when it begins
                await asyncio.sleep(0.001)
        assert desk.committer.trouble(0) == "nothing can be written for 0 s: no answer came"
        assert desk.committer.trouble(1) is None
        log.faults.clear()
        await desk.until("a")
        assert desk.committer.trouble(0) is None
        assert desk.ends() == {"a": 1}

    async def test_a_moment_is_no_trouble(self, desk: Desk, log: MemoryLog) -> None:
        log.faults.extend([Fault.LOST_BEFORE] * 1000)
        desk.submit(0, "a")
        await asyncio.sleep(0.01)
        assert desk.committer.trouble(0) is None
        log.faults.clear()
        await desk.until("a")


class TestUnknown:
    async def test_what_was_committed_is_answered_so(self, desk: Desk, log: MemoryLog) -> None:
        log.faults.append(Fault.LOST_AFTER)
        desk.submit(0, "a")
        await desk.until("a")
        desk.submit(0, "b")
        await desk.until("b")
        assert desk.ends() == {"a": 1, "b": 2}

    @pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.STRAY])
    async def test_what_is_absent_is_written_again_under_a_higher_epoch(
        self, desk: Desk, log: MemoryLog, fault: Fault
    ) -> None:
        """A stray copy that arrives later changes nothing."""
        queue = desk.committer.queue_of(0)
        assert queue is not None
        before = queue.epoch
        log.faults.append(fault)
        desk.submit(0, "a", count=2)
        await desk.until("a")
        assert desk.ends() == {"a": 2}
        assert queue.epoch == before + 1
        assert all(outcome == {0: AppendOutcome.FENCED} for outcome in log.deliver_strays())
        desk.submit(0, "b")
        await desk.until("b")
        assert {event.epoch for event in await log.read(0, after=0, limit=10)} == {before + 1}

    async def test_the_log_is_asked_until_it_answers(
        self, desk: Desk, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(committer_module, "SETTLE_PAUSE_S", 0.001)
        asked = asyncio.Event()
        settle = log.settle

        async def watched(owner: str, part: ShardAppend) -> tuple[AppendOutcome, int]:
            asked.set()
            return await settle(owner, part)

        monkeypatch.setattr(log, "settle", watched)
        log.unavailable = True
        desk.submit(0, "a")
        await asked.wait()
        assert desk.ends() == {}
        log.unavailable = False
        await desk.until("a")
        assert desk.ends() == {"a": 1}

    async def test_a_shard_of_another_is_fenced(self, desk: Desk, log: MemoryLog) -> None:
        log.faults.append(Fault.LOST_BEFORE)
        log.take_over(0)
        desk.submit(0, "a")
        await desk.until("a")
        assert desk.ends() == {"a": "fenced"}

    async def test_what_cannot_be_told_is_outcome_unknown_and_never_a_refusal(
        self, desk: Desk, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def unknown(owner: str, part: ShardAppend) -> tuple[AppendOutcome, int]:
            return AppendOutcome.UNKNOWN, part.epoch

        monkeypatch.setattr(log, "settle", unknown)
        log.delay = held = Held()
        log.faults.append(Fault.LOST_AFTER)
        desk.submit(0, "a")
        await held.arrived()
        desk.submit(0, "behind")
        held.let()
        await desk.until("behind")
        assert desk.ends() == {"a": "outcome_unknown", "behind": "fenced"}
        assert ("fenced", 0) in desk.heard


async def test_nobody_goes_on_where_the_log_ends_within_a_batch(desk: Desk, log: MemoryLog) -> None:
    desk.submit(0, "a")
    await desk.until("a")
    [head] = await log.heads([0])
    with pytest.raises(Undecodable, match=r"event 1 of shard 0 ends the log but no batch.*log verify"):
        desk.committer.open_shard(msgspec.structs.replace(head, digest=None), head.epoch)


class TestClosedMeanwhile:
    """A shard is closed, and perhaps taken again, while a batch of it is in flight."""

    async def test_a_late_commit_is_not_told_to_who_serves_the_shard_now(self, desk: Desk, log: MemoryLog) -> None:
        log.delay = held = Held()
        desk.submit(0, "a")
        await held.arrived()
        desk.submit(0, "queued")
        desk.committer.close_shard(0, Fenced("given up"))
        assert desk.ends() == {"queued": "fenced"}
        [head] = await log.heads([0])
        desk.committer.open_shard(head, head.epoch)
        held.let(10)
        await desk.until("a")
        assert desk.ends()["a"] == "outcome_unknown"
        assert not [entry for entry in desk.heard if entry[0] == "committed"]
        assert desk.committer.queue_of(0) is not None
        desk.committer.close_shard(0, Fenced("given up"))
        await desk.take(0)
        desk.submit(0, "b")
        await desk.until("b")
        assert desk.ends()["b"] == 2

    async def test_a_late_fence_does_not_close_the_shard_that_was_taken_again(self, desk: Desk, log: MemoryLog) -> None:
        log.delay = held = Held()
        desk.submit(0, "a")
        await held.arrived()
        desk.committer.close_shard(0, Fenced("given up"))
        await desk.take(0)
        held.let(10)
        await desk.until("a")
        assert desk.ends() == {"a": "fenced"}
        assert ("fenced", 0) not in desk.heard
        desk.submit(0, "b")
        await desk.until("b")
        assert desk.ends()["b"] == 1

    async def test_a_late_refusal_is_told_to_everyone_in_the_batch(self, desk: Desk, log: MemoryLog) -> None:
        """Nobody is left to look for the unit at fault."""
        log.delay = held = Held()
        log.faults.append(Fault.REFUSED)
        desk.submit(0, "a")
        desk.submit(0, "b")
        await held.arrived()
        desk.committer.close_shard(0, Fenced("given up"))
        held.let(10)
        await desk.until("a", "b")
        assert desk.ends() == {"a": "fenced", "b": "fenced"}


async def test_stopping_writes_what_is_queued(log: MemoryLog) -> None:
    desk = Desk(log)
    await desk.take(0)
    desk.paused = True
    desk.start()
    desk.submit(0, "a")
    desk.submit(0, "b")
    await desk.committer.stop()
    assert desk.ends() == {"a": 1, "b": 2}
    assert (await log.renew(OWNER, 60.0)).epochs.keys() == {0}


class Full:
    """A log without room: it answers, and takes nothing until there is some."""

    def __init__(self, log: MemoryLog) -> None:
        self.asked = 0
        self._came = asyncio.Event()
        self._log = log
        self._append = log.append
        log.append = self.refuse  # type: ignore[method-assign]

    async def refuse(self, parts: Sequence[ShardAppend]) -> dict[int, AppendOutcome]:
        self.asked += 1
        self._came.set()
        return dict.fromkeys((part.shard for part in parts), AppendOutcome.UNKNOWN)

    async def was_asked(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.asked < count:
                self._came.clear()
                await self._came.wait()

    def make_room(self) -> None:
        self._log.append = self._append  # type: ignore[method-assign]


async def test_a_log_without_room_is_asked_now_and_then_until_it_has_some(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "SETTLE_PAUSE_S", 0.02)
    full, desk = Full(log), Desk(log)
    await desk.take(0)
    desk.start()
    started_s = time.monotonic()
    desk.submit(0, "a")
    await full.was_asked(4)
    assert time.monotonic() - started_s >= 2 * 0.02
    full.make_room()
    await desk.until("a")
    assert desk.ends() == {"a": 1}
    await desk.committer.stop()


async def test_a_log_without_room_holds_no_stop_up(log: MemoryLog) -> None:
    full, desk = Full(log), Desk(log)
    await desk.take(0)
    desk.start()
    desk.submit(0, "a")
    await full.was_asked(2)
    async with asyncio.timeout(10):
        await desk.committer.stop()
    assert desk.ends() == {"a": "outcome_unknown"}


async def log_of_one(log: MemoryLog) -> NewEvent:
    """Write the first event of a stream into shard 3 behind everyone's back; returns it."""
    event = new_event(uuid4(), 1)
    [head] = await log.heads([3])
    assert head.digest is not None
    leaf = leaf_of(event, shard=3, position=head.position + 1, epoch=head.epoch)
    digest = digest_of_batch(head.digest, [leaf])
    part = ShardAppend(
        shard=3, epoch=head.epoch, position=head.position, known=head.digest, digest=digest, events=[event]
    )
    delay, log.delay = log.delay, None
    assert await log.append([part]) == {3: AppendOutcome.APPENDED}
    log.delay = delay
    return event
