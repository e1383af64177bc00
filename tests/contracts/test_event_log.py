"""What every `EventLog` promises, held to the twin in memory and to PostgreSQL."""

import hashlib
import sys
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import msgspec
import pytest

from tasker.events import postgres_log
from tasker.events.chain import GENESIS, digest_of_batch, leaf_of
from tasker.events.envelope import NewEvent
from tasker.events.log import AppendOutcome, DueChange, EventLog, Snapshot
from tasker.events.memory_log import MemoryLog
from tasker.events.postgres_log import PostgresLog
from tasker.ids import SLOTS
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.complete import CompleteChecker
from tasker.replay.findings import Finding
from tests.contracts.event_logs import (
    ENDED_S,
    LEASE_S,
    PARTITION_SIZE,
    SHARDS,
    Owner,
    new_event,
    part_of,
    small_schema,
    stream,
)

APPENDED, FENCED, REFUSED = AppendOutcome.APPENDED, AppendOutcome.FENCED, AppendOutcome.REFUSED


@pytest.fixture(params=["memory", "postgres", "postgres, never a turn by itself"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The DSN of PostgreSQL, or nothing for memory."""
    if request.param == "memory":
        return ""
    if request.param != "postgres":
        monkeypatch.setattr(postgres_log, "TURN_EVENTS_MAX", 0)
    return str(request.getfixturevalue("postgres_small"))


@pytest.fixture
async def log(where: str) -> AsyncIterator[EventLog]:
    if not where:
        yield MemoryLog(shards=SHARDS, partition_size=PARTITION_SIZE)
        return
    async with await PostgresLog.connect(where) as found:
        yield found


@pytest.fixture
async def postgres_small(database: str) -> str:
    return await small_schema(database)


@pytest.fixture
async def owner(log: EventLog) -> Owner:
    return await Owner(log).take(*range(SHARDS))


@pytest.fixture
async def grown(owner: Owner) -> Owner:
    """The owner of shards that have a dozen events each."""
    for shard in range(SHARDS):
        await owner.write(shard, stream(12))
    return owner


class TestAppend:
    async def test_positions_and_columns_come_back_as_they_went_in(self, log: EventLog, owner: Owner) -> None:
        """Events of several streams and batches stand gapless in the shard; each batch ends with its digest."""
        first = [*stream(2, meta=b'{"command_id":"c"}', tenant="acme"), *stream(1, kind="template", version=7)]
        second = stream(3, encoding="zstd", payload=bytes(range(256)))
        assert await owner.write(1, first) is APPENDED
        assert await owner.write(1, second) is APPENDED

        events = await log.read(1, after=0, limit=100)

        assert [event.position for event in events] == [1, 2, 3, 4, 5, 6]
        assert {event.epoch for event in events} == {owner.epochs[1]}
        assert [bool(event.chain) for event in events] == [False, False, True, False, False, True]
        for new, event in zip([*first, *second], events, strict=True):
            for field in new.__struct_fields__:
                assert getattr(event, field) == getattr(new, field), field

    async def test_the_chain_can_be_computed_from_what_is_read(self, log: EventLog, owner: Owner) -> None:
        for count in (3, 1, 4):
            await owner.write(0, stream(count))
        digest, leaves = GENESIS, []
        for event in await log.read(0, after=0, limit=100):
            leaves.append(leaf_of(event, shard=0, position=event.position, epoch=event.epoch))
            if event.chain is not None:
                digest, leaves = digest_of_batch(digest, leaves), []
                assert event.chain == digest
        assert leaves == []
        [head] = await log.heads([0])
        assert (head.position, head.digest) == (8, digest)

    @pytest.mark.parametrize("written", [0, 2])
    async def test_a_position_that_is_taken_is_refused(self, log: EventLog, owner: Owner, written: int) -> None:
        if written:
            await owner.write(0, stream(written))
        part = owner.part(0, stream(1))
        await owner.write(0, stream(2))
        assert await log.append([part]) == {0: REFUSED}
        assert len(await log.read(0, after=0, limit=10)) == written + 2

    async def test_a_second_birth_is_refused_with_its_whole_part(self, log: EventLog, owner: Owner) -> None:
        """Nothing of the part is written; the next part goes on from the same position."""
        born = stream(1)
        await owner.write(0, born)
        other = stream(1)
        assert await owner.write(0, [*other, new_event(born[0].stream_id, 1)]) is REFUSED
        assert await log.streams([other[0].stream_id]) == {}
        assert await owner.write(0, other) is APPENDED
        assert len(await log.read(0, after=0, limit=10)) == 2

    async def test_a_second_birth_in_another_shard_is_refused(self, owner: Owner) -> None:
        born = stream(1)
        assert await owner.write(0, born) is APPENDED
        assert await owner.write(1, born) is REFUSED

    async def test_a_seq_twice_is_refused(self, owner: Owner) -> None:
        events = stream(2)
        await owner.write(0, events)
        assert await owner.write(0, [new_event(events[0].stream_id, 2)]) is REFUSED

    @pytest.mark.parametrize(
        "fields",
        [{"tenant": "a\0b"}, {"seq": 2**31}, {"at_us": 2**63}],
        ids=["nul", "seq", "time"],
    )
    async def test_what_no_column_takes_is_refused(self, owner: Owner, fields: dict) -> None:
        bad = new_event(uuid4(), **{"seq": 3, **fields})
        assert await owner.write(0, [bad]) is REFUSED
        assert await owner.write(0, stream(1)) is APPENDED

    async def test_each_shard_succeeds_or_fails_alone(self, log: EventLog, owner: Owner) -> None:
        """One call: a good part, one with another's epoch, one at another position, one whose events are at fault."""
        two_committers = [[0, 2], [1, 3]]
        born = stream(1)
        await owner.write(0, born)
        for shards in two_committers:
            good, bad = shards
            for fault, outcome in (
                (part_of(stream(1), shard=bad, epoch=owner.epochs[bad] + 1), FENCED),
                (part_of(stream(1), shard=bad, epoch=owner.epochs[bad] - 1), FENCED),
                (part_of(stream(1), shard=bad, epoch=owner.epochs[bad], position=7), FENCED),
                (part_of(born, shard=bad, epoch=owner.epochs[bad]), REFUSED),
            ):
                events = stream(2)
                assert await owner.append(owner.part(good, events), fault) == {good: APPENDED, bad: outcome}
                assert (await log.load([events[0].stream_id]))[events[0].stream_id][-1].seq == 2
            assert await log.read(bad, after=0, limit=10) == []

    async def test_times_and_ids_of_many_forms_in_one_statement(self, log: EventLog, owner: Owner) -> None:
        events = [new_event(uuid4(), 1, type=f"type_{number % 17}", version=number % 5 + 1) for number in range(40)]
        assert await owner.write(2, events) is APPENDED
        found = await log.read(2, after=0, limit=100)
        assert [(event.type, event.version) for event in found] == [(event.type, event.version) for event in events]


class TestPartitions:
    def test_partition_end_is_the_last_position_of_the_partition(self, log: EventLog) -> None:
        assert log.partition_end(1) == PARTITION_SIZE
        assert log.partition_end(PARTITION_SIZE) == PARTITION_SIZE
        assert log.partition_end(PARTITION_SIZE + 1) == 2 * PARTITION_SIZE

    async def test_a_batch_never_crosses_a_border(self, owner: Owner) -> None:
        assert await owner.write(0, stream(PARTITION_SIZE - 1)) is APPENDED
        assert await owner.write(0, stream(2)) is REFUSED
        assert await owner.write(0, stream(1)) is APPENDED
        assert await owner.write(0, stream(2)) is APPENDED

    async def test_events_across_a_border_are_one_append_and_two_batches(self, log: EventLog, owner: Owner) -> None:
        """All or nothing, and the chain ends a batch at the border and one at the end."""
        await owner.write(0, stream(PARTITION_SIZE - 2))
        events = stream(5)
        part = owner.part(0, events, before_border=2)
        assert await owner.append(part) == {0: APPENDED}
        assert await owner.write(0, stream(1)) is APPENDED
        found = await log.read(0, after=0, limit=2 * PARTITION_SIZE)
        ends = {event.position: event.chain for event in found if event.chain is not None}
        assert list(ends) == [PARTITION_SIZE - 2, PARTITION_SIZE, PARTITION_SIZE + 3, PARTITION_SIZE + 4]
        assert part.border is not None
        assert (ends[PARTITION_SIZE], ends[PARTITION_SIZE + 3]) == (part.border[1], part.digest)
        findings: list[Finding] = []
        feed(found, [CompleteChecker(0, findings.append)])
        assert findings == []
        assert await log.settle(owner.name, part) == (APPENDED, owner.epochs[0])

    @pytest.mark.parametrize(
        ("count", "before"),
        [(5, 1), (5, 3), (5, 5), (2, 2), (PARTITION_SIZE + 3, 2)],
        ids=["early", "late", "nothing behind", "no border", "two borders"],
    )
    async def test_a_border_in_another_place_is_refused(
        self, log: EventLog, owner: Owner, count: int, before: int
    ) -> None:
        await owner.write(0, stream(PARTITION_SIZE - 2))
        part = owner.part(0, stream(count), before_border=before)
        assert await owner.append(part) == {0: REFUSED}
        assert len(await log.read(0, after=0, limit=2 * PARTITION_SIZE)) == PARTITION_SIZE - 2

    async def test_events_across_a_border_that_are_at_fault_leave_nothing(self, log: EventLog, owner: Owner) -> None:
        await owner.write(0, stream(PARTITION_SIZE - 1))
        events = stream(3)
        part = owner.part(0, [*events[:2], new_event(events[0].stream_id, 2)], before_border=1)
        assert await owner.append(part, owner.part(2, stream(1))) == {0: REFUSED, 2: APPENDED}
        assert await log.streams([events[0].stream_id]) == {}
        assert await owner.append(owner.part(0, events, before_border=1)) == {0: APPENDED}

    async def test_a_crossing_part_harms_no_other(self, owner: Owner) -> None:
        crossing = owner.part(0, stream(PARTITION_SIZE + 1))
        assert await owner.append(crossing, owner.part(2, stream(1))) == {0: REFUSED, 2: APPENDED}

    async def test_reading_goes_over_borders(self, log: EventLog, owner: Owner) -> None:
        """A stream that lives in several partitions is read whole, by shard, by load and by page."""
        long = stream(5 * PARTITION_SIZE)
        for start in range(0, len(long), PARTITION_SIZE):
            assert await owner.write(3, long[start : start + PARTITION_SIZE]) is APPENDED
        read: list = []
        while page := await log.read(3, after=len(read), limit=37):
            read += page
        assert [event.seq for event in read] == list(range(1, len(long) + 1))
        stream_id = long[0].stream_id
        assert (await log.load([stream_id]))[stream_id] == read
        assert await log.load_stream(stream_id, after_seq=45, limit=10) == read[45:55]
        [head] = await log.heads([3])
        assert head.position == len(long)


class TestOwnership:
    async def test_taking_raises_the_epoch_each_time_and_renewing_never(self, log: EventLog) -> None:
        epochs = [(await log.acquire("a", [0, 1], LEASE_S)).epochs[0] for _ in range(3)]
        assert epochs == [1, 2, 3]
        assert (await log.renew("a", LEASE_S)).epochs == {0: 3, 1: 3}
        assert (await log.renew("a", LEASE_S)).epochs == {0: 3, 1: 3}

    async def test_a_held_lease_is_not_taken(self, log: EventLog) -> None:
        await log.acquire("a", [0], LEASE_S)
        lease = await log.acquire("b", [0, 1], LEASE_S)
        assert lease.epochs == {1: 1}
        assert lease.now_us > 1_700_000_000_000_000
        assert (await log.renew("b", LEASE_S)).epochs == {1: 1}

    async def test_a_lease_that_ran_out_is_taken(self, log: EventLog) -> None:
        await log.acquire("a", [0], ENDED_S)
        assert (await log.acquire("b", [0], LEASE_S)).epochs == {0: 2}
        assert (await log.renew("a", LEASE_S)).epochs == {}

    async def test_a_lease_that_ran_out_untaken_is_prolonged(self, log: EventLog) -> None:
        await log.acquire("a", [0], ENDED_S)
        assert (await log.renew("a", LEASE_S)).epochs == {0: 1}
        assert (await log.acquire("b", [0], LEASE_S)).epochs == {}

    async def test_a_released_shard_is_free_at_once(self, log: EventLog) -> None:
        await log.acquire("a", [0], LEASE_S)
        await log.acquire("b", [1], LEASE_S)
        await log.release("a")
        assert (await log.acquire("c", [0, 1], LEASE_S)).epochs == {0: 2}

    async def test_a_former_owner_changes_nothing(self, log: EventLog) -> None:
        """Its late append is fenced, at the old position and at the new one, and so are its other writes."""
        old = await Owner(log, "old").take(0, lease_s=ENDED_S)
        await old.write(0, stream(1))
        late = old.part(0, stream(1))
        new = await Owner(log, "new").take(0)
        assert await log.append([late]) == {0: FENCED}
        await new.write(0, stream(2))
        assert await log.append([late]) == {0: FENCED}
        assert await old.write(0, stream(1)) is FENCED
        assert await log.write_due([DueChange(0, old.epochs[0], 1, [(uuid4(), "o", 1)], [])]) == set()
        assert await log.move_publish_cursors([(0, old.epochs[0], 1)]) == set()
        assert len(await log.read(0, after=0, limit=10)) == 3
        assert await log.due_checkpoint([0]) == await log.publish_cursors([0]) == {0: 0}

    async def test_heads_say_where_a_new_owner_goes_on(self, log: EventLog, owner: Owner) -> None:
        events = stream(3)
        part = owner.part(2, events)
        await owner.append(part)
        heads = await log.heads([3, 2])
        assert [head.shard for head in heads] == [2, 3]
        assert heads[0].position == 3
        assert heads[0].digest == part.digest
        assert heads[0].at_us == events[-1].at_us
        assert (heads[1].position, heads[1].digest, heads[1].at_us) == (0, GENESIS, 0)
        assert heads[1].owner == "owner"

    async def test_a_shard_that_ends_within_a_batch_hides_no_other(self, log: EventLog, owner: Owner) -> None:
        """Readers ask for the heads of all shards at once: of one that is damaged they still learn where it ends."""
        await owner.write(0, stream(2))
        await owner.write(1, stream(3))
        await owner.append(msgspec.structs.replace(owner.part(0, stream(2)), digest=None))
        heads = await log.heads([0, 1])
        assert [(head.position, head.digest is None) for head in heads] == [(4, True), (3, False)]

    async def test_confirm_names_the_epochs_that_still_hold(self, log: EventLog, owner: Owner) -> None:
        assert await log.confirm(owner.ends) == set(range(SHARDS))
        await log.acquire(owner.name, [1], LEASE_S)
        assert await log.confirm(owner.ends) == {0, 2, 3}
        assert await log.confirm({}) == set()

    @pytest.mark.parametrize("position", [3, 9])
    async def test_an_owner_whose_log_was_restored_to_an_earlier_time_changes_nothing(
        self, log: EventLog, owner: Owner, position: int
    ) -> None:
        """It still has its lease and its epoch, and knows of events that the log does not have (any more)."""
        epoch = owner.epochs[0]
        await owner.write(0, stream(2))
        task = stream(1)
        assert await log.append([part_of(task, shard=0, epoch=epoch, position=position)]) == {0: FENCED}
        assert await log.append([part_of(task, shard=1, epoch=owner.epochs[1], position=position)]) == {1: FENCED}
        assert await log.confirm({0: (epoch, position), 1: owner.ends[1]}) == {1}
        assert await log.write_due([DueChange(0, epoch, position, [(uuid4(), "o", 1)], [])]) == set()
        assert await log.move_publish_cursors([(0, epoch, position)]) == set()
        snapshot = Snapshot(0, task[0].stream_id, position, 1, 1, "task", b"{}")
        assert await log.write_snapshots([snapshot], {0: epoch}) == set()
        assert len(await log.read(0, after=0, limit=10)) == 2
        assert await log.due_checkpoint([0]) == await log.publish_cursors([0]) == {0: 0}
        assert await log.snapshots(0, after=None, limit=1) == []
        assert await owner.write(0, task) is APPENDED, "what is where the owner believes it is goes on"

    @pytest.mark.parametrize("parts", [1, 2])
    async def test_an_owner_whose_log_was_restored_and_went_on_joins_nothing_to_what_it_does_not_know(
        self, log: EventLog, owner: Owner, parts: int
    ) -> None:
        """Lease, epoch and position are there; what the owner has written before that position is not."""
        await owner.write(0, stream(2))
        lost = digest_of_batch(GENESIS, [b"what was lost"])
        part = part_of(stream(1), shard=0, epoch=owner.epochs[0], position=2, digest=lost)
        others = [owner.part(1, stream(1))][: parts - 1]
        assert (await log.append([part, *others]))[0] is FENCED
        assert len(await log.read(0, after=0, limit=10)) == 2
        assert await owner.write(0, stream(1)) is APPENDED


class TestSettle:
    async def test_what_was_committed_is_appended(self, log: EventLog, owner: Owner) -> None:
        part = owner.part(0, stream(2))
        await log.append([part])
        assert await log.settle(owner.name, part) == (APPENDED, owner.epochs[0])

    async def test_what_was_committed_is_appended_whoever_went_on(self, log: EventLog) -> None:
        """The epoch that comes back is not the new owner's: the old one stays fenced."""
        old = await Owner(log, "old").take(0, lease_s=ENDED_S)
        part = old.part(0, stream(2))
        await log.append([part])
        new = await Owner(log, "new").take(0)
        await new.write(0, stream(1))
        outcome, epoch = await log.settle("old", part)
        assert outcome is APPENDED
        assert epoch == part.epoch
        old.epochs[0] = epoch
        old.heads[0] = new.heads[0]
        assert await old.write(0, stream(1)) is FENCED

    async def test_what_is_absent_can_never_land(self, log: EventLog, owner: Owner) -> None:
        """The epoch is raised: a stray copy is fenced, and the same events go in under the new epoch."""
        events = stream(2)
        stray = owner.part(0, events)
        outcome, epoch = await log.settle(owner.name, stray)
        assert (outcome, epoch) == (REFUSED, stray.epoch + 1)
        assert await log.append([stray]) == {0: FENCED}
        assert await log.append([part_of(events, shard=0, epoch=epoch)]) == {0: APPENDED}
        assert await log.append([stray]) == {0: FENCED}

    async def test_after_settling_unheard_the_shard_is_given_up(self, log: EventLog, owner: Owner) -> None:
        """The answer of the first was lost: the epoch it raised is not handed out again, and taking gives a new one."""
        part = owner.part(0, stream(1))
        await log.settle(owner.name, part)
        assert await log.settle(owner.name, part) == (FENCED, part.epoch)
        await owner.take(0)
        assert await owner.write(0, stream(1)) is APPENDED

    async def test_a_shard_the_same_owner_took_anew_has_one_writer(self, log: EventLog, owner: Owner) -> None:
        """What the process still has to settle from before does not get the epoch of its new queue."""
        absent = owner.part(0, stream(1))
        await owner.take(0)
        assert await log.settle(owner.name, absent) == (FENCED, absent.epoch)
        part = owner.part(0, stream(1))
        await log.append([part])
        await owner.take(0)
        assert await log.settle(owner.name, part) == (APPENDED, part.epoch)

    async def test_a_shard_taken_meanwhile_is_fenced(self, log: EventLog) -> None:
        old = await Owner(log, "old").take(0, lease_s=ENDED_S)
        part = old.part(0, stream(1))
        new = await Owner(log, "new").take(0)
        assert await log.settle("old", part) == (FENCED, part.epoch)
        await new.write(0, stream(1))
        outcome, _ = await log.settle("old", part)
        assert outcome is FENCED
        assert await log.confirm(new.ends) == {0}


class TestStreams:
    async def test_a_probe_tells_presence_and_absence(self, log: EventLog, owner: Owner) -> None:
        first, second = stream(2), stream(1)
        await owner.write(0, first)
        await owner.write(0, second)
        ids = [first[0].stream_id, second[0].stream_id, uuid4()]
        assert await log.streams(ids) == {ids[0]: (0, 1), ids[1]: (0, 3)}
        assert await log.streams([]) == {}

    async def test_many_streams_are_loaded_in_one_question(self, log: EventLog, owner: Owner) -> None:
        streams = [stream(3) for _ in range(12)]
        for rank in range(3):
            for shard in range(SHARDS):
                await owner.write(shard, [events[rank] for events in streams[shard::SHARDS]])
        ids = [events[0].stream_id for events in streams]
        found = await log.load([*ids, uuid4(), ids[0]])
        assert set(found) == set(ids)
        for number, stream_id in enumerate(ids):
            assert [event.seq for event in found[stream_id]] == [1, 2, 3]
            assert {event.shard for event in found[stream_id]} == {number % SHARDS}

    async def test_the_last_event_of_each_stream(self, log: EventLog, owner: Owner) -> None:
        long, short = stream(PARTITION_SIZE + 7), stream(1)
        for start in range(0, len(long), 25):
            assert await owner.write(0, long[start : start + 25]) is APPENDED
        await owner.write(1, short)
        a, b = long[0].stream_id, short[0].stream_id
        found = await log.last_events([b, uuid4(), a, a])
        assert {key: (one.seq, one.payload) for key, one in found.items()} == {
            a: (len(long), long[-1].payload),
            b: (1, short[0].payload),
        }

    async def test_a_stream_is_read_in_pages(self, log: EventLog, owner: Owner) -> None:
        events = stream(7)
        await owner.write(0, events)
        stream_id = events[0].stream_id
        assert [e.seq for e in await log.load_stream(stream_id, after_seq=0, limit=3)] == [1, 2, 3]
        assert [e.seq for e in await log.load_stream(stream_id, after_seq=5, limit=3)] == [6, 7]
        assert await log.load_stream(stream_id, after_seq=7, limit=3) == []
        assert await log.load_stream(uuid4(), after_seq=0, limit=3) == []

    async def test_a_shard_is_read_in_pages(self, log: EventLog, owner: Owner) -> None:
        await owner.write(0, stream(7))
        assert [e.position for e in await log.read(0, after=2, limit=3)] == [3, 4, 5]
        assert await log.read(0, after=7, limit=3) == []
        assert await log.read(1, after=0, limit=3) == []

    async def test_blobs(self, log: EventLog) -> None:
        data = b"\0blob" * 10_000
        digest = hashlib.sha256(data).digest()
        assert await log.get_blob(digest) is None
        await log.put_blob(digest, data)
        await log.put_blob(digest, data)
        assert await log.get_blob(digest) == data

    async def test_info(self, log: EventLog) -> None:
        info = await log.info()
        assert (info.slots, info.shards, len(info.shard_of_slot)) == (SLOTS, SHARDS, SLOTS)
        assert info.shard_of_slot[:6] == (0, 1, 2, 3, 0, 1)
        assert info.log_id


class TestSnapshots:
    """`PARTITION_SIZE` events and more, so that what is folded lies in several partitions."""

    def kept(self, events: list[NewEvent], seq: int, *, position: int, **other: object) -> Snapshot:
        stream_id = events[0].stream_id
        fields = {"shard": 0, "stream_id": stream_id, "position": position, "seq": seq, "form": 3, "kind": "task"}
        return Snapshot(**{**fields, "state": b"{}", **other})  # type: ignore[arg-type]

    async def test_a_history_begins_with_the_event_of_the_snapshot(self, log: EventLog, owner: Owner) -> None:
        events, other = stream(PARTITION_SIZE + 20), stream(2)
        await owner.write(0, other)
        for start in range(0, len(events), 24):
            await owner.write(0, events[start : start + 24])
        a, b = events[0].stream_id, other[0].stream_id
        whole = await log.load_histories([a, b, uuid4(), a])
        assert {key: (loaded.snapshot, [one.seq for one in loaded.events]) for key, loaded in whole.items()} == {
            a: (None, [*range(1, len(events) + 1)]),
            b: (None, [1, 2]),
        }
        for seq in (1, 40, PARTITION_SIZE + 11, len(events)):
            snapshot = self.kept(events, seq, position=seq + 2, state=b"%d" % seq)
            assert await log.write_snapshots([snapshot], {0: owner.epochs[0]}) == {a}
            loaded = (await log.load_histories([b, a]))[a]
            assert loaded.snapshot == snapshot
            assert loaded.events == [one for one in whole[a].events if one.seq >= seq]

    async def test_one_that_is_ahead_has_no_events(self, log: EventLog, owner: Owner) -> None:
        events = stream(3)
        await owner.write(0, events)
        snapshot = self.kept(events, 4, position=3)
        await log.write_snapshots([snapshot], {0: owner.epochs[0]})
        loaded = (await log.load_histories([events[0].stream_id]))[events[0].stream_id]
        assert (loaded.snapshot, loaded.events) == (snapshot, [])

    async def test_a_history_is_read_in_pages(
        self, log: EventLog, owner: Owner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.modules[type(log).__module__], "HISTORY_PAGE_EVENTS", 4)
        events = stream(9)
        await owner.write(0, events)
        stream_id = events[0].stream_id
        assert [one.seq for one in (await log.load_histories([stream_id]))[stream_id].events] == [1, 2, 3, 4]
        await log.write_snapshots([self.kept(events, 3, position=3)], {0: owner.epochs[0]})
        assert [one.seq for one in (await log.load_histories([stream_id]))[stream_id].events] == [3, 4, 5, 6]

    async def test_only_the_owner_keeps_them(self, log: EventLog) -> None:
        old = await Owner(log, "old").take(0, 1, lease_s=ENDED_S)
        a, b = stream(1), stream(1)
        await old.write(0, a)
        await old.write(1, b)
        await Owner(log, "new").take(0)
        snapshots = [self.kept(a, 1, position=1), self.kept(b, 1, position=1, shard=1)]
        assert await log.write_snapshots(snapshots, old.epochs) == {b[0].stream_id}
        assert await log.snapshots(0, after=None, limit=10) == []
        assert await log.snapshots(1, after=None, limit=10) == snapshots[1:]

    async def test_they_are_read_by_shard(self, log: EventLog, owner: Owner) -> None:
        streams = sorted((stream(1) for _ in range(5)), key=lambda events: events[0].stream_id)
        for events in streams:
            await owner.write(0, events)
        kept = [self.kept(events, 1, position=position) for position, events in enumerate(streams, 1)]
        assert len(await log.write_snapshots(kept[::-1], owner.epochs)) == len(kept)
        assert await log.snapshots(0, after=None, limit=3) == kept[:3]
        assert await log.snapshots(0, after=kept[2].stream_id, limit=3) == kept[3:]
        assert await log.snapshots(1, after=None, limit=3) == []


class TestDue:
    async def rows(self, log: EventLog, shards: list[int], after_us: int = 0, until_us: int = 10**15) -> list[tuple]:
        return [
            (row.shard, row.stream_id, row.obligation, row.at_us)
            async for page in log.due_between(shards, after_us, until_us)
            for row in page
        ]

    async def test_changes_come_with_their_checkpoint(self, log: EventLog, grown: Owner) -> None:
        a, b = sorted((uuid4(), uuid4()))
        epoch = grown.epochs[0]
        change = DueChange(0, epoch, 5, [(a, "retry", 30), (b, "retry", 10), (a, "timeout", 20)], [])
        assert await log.write_due([change]) == {0}
        assert await log.due_checkpoint([0, 1]) == {0: 5, 1: 0}
        assert await self.rows(log, [0]) == [(0, b, "retry", 10), (0, a, "timeout", 20), (0, a, "retry", 30)]
        again = DueChange(0, epoch, 9, [(a, "retry", 40)], [(b, "retry"), (b, "unknown")])
        assert await log.write_due([again]) == {0}
        assert await log.due_checkpoint([0]) == {0: 9}
        assert await self.rows(log, [0]) == [(0, a, "timeout", 20), (0, a, "retry", 40)]

    async def test_rows_of_streams_that_were_born_before(self, log: EventLog, owner: Owner) -> None:
        older, younger = stream(1), stream(1)
        for events in (older, younger):
            await owner.write(0, events)
        [old], [young] = [(await log.load([one[0].stream_id]))[one[0].stream_id] for one in (older, younger)]
        rows = [(one.stream_id, "retry", 30) for one in (old, young)] + [(uuid4(), "retry", 30)]
        await log.write_due([DueChange(0, owner.epochs[0], 1, rows, [])])
        for before_us, born in ((old.at_us, []), (young.at_us, [old]), (young.at_us + 1, [old, young])):
            pages = [page async for page in log.due_between([0], 0, 10**15, born_before_us=before_us)]
            found = {row.stream_id for page in pages for row in page}
            assert found == {one.stream_id for one in born if one.at_us < before_us}

    async def test_rows_are_read_by_stream(self, log: EventLog, grown: Owner) -> None:
        a, b, c = uuid4(), uuid4(), uuid4()
        rows = [(a, "retry", 30), (a, "deadline", 90), (b, "retry", 10)]
        await log.write_due([DueChange(0, grown.epochs[0], 1, rows, []), DueChange(1, grown.epochs[1], 1, rows, [])])
        assert await log.due_of(0, [a, c]) == {a: {"retry", "deadline"}}
        assert await log.due_of(2, [a, b]) == {}
        assert await log.due_of(0, []) == {}

    async def test_open_streams_are_those_born_there_without_an_ending(self, log: EventLog, owner: Owner) -> None:
        """Also one that ended several partitions later; of other kinds nothing is said."""
        a, b, other = stream(2), stream(1), stream(1, kind="template")
        await owner.write(0, [*a, *b, *other])
        await owner.write(0, stream(PARTITION_SIZE // 2))
        asked = ("task", ["task_completed", "task_failed"])
        assert await log.open_streams(0, *asked, after=0, limit=4) == [a[0].stream_id, b[0].stream_id]
        assert await log.open_streams(0, *asked, after=2, limit=1) == [b[0].stream_id]
        assert await log.open_streams(0, *asked, after=1, limit=1) == []
        await owner.write(0, [new_event(a[0].stream_id, 3, type="task_failed")])
        assert await log.open_streams(0, *asked, after=0, limit=4) == [b[0].stream_id]
        assert await log.open_streams(1, *asked, after=0, limit=1000) == []

    async def test_another_epoch_changes_nothing(self, log: EventLog, grown: Owner) -> None:
        a, b = uuid4(), uuid4()
        await log.write_due([DueChange(0, grown.epochs[0], 1, [(a, "o", 1)], [])])
        changes = [
            DueChange(0, grown.epochs[0] - 1, 7, [(b, "o", 2)], [(a, "o")]),
            DueChange(1, grown.epochs[1], 3, [(b, "o", 3)], []),
        ]
        assert await log.write_due(changes) == {1}
        assert await self.rows(log, [0, 1]) == [(0, a, "o", 1), (1, b, "o", 3)]
        assert await log.due_checkpoint([0, 1]) == {0: 1, 1: 3}

    async def test_an_upsert_outdoes_a_delete_and_the_last_one_counts(self, log: EventLog, grown: Owner) -> None:
        a = uuid4()
        change = DueChange(0, grown.epochs[0], 1, [(a, "o", 1), (a, "o", 2)], [(a, "o")])
        assert await log.write_due([change]) == {0}
        assert await self.rows(log, [0]) == [(0, a, "o", 2)]

    async def test_a_checkpoint_alone(self, log: EventLog, grown: Owner) -> None:
        assert await log.write_due([DueChange(0, grown.epochs[0], 12, [], [])]) == {0}
        assert await log.due_checkpoint([0]) == {0: 12}
        assert await log.write_due([]) == set()

    async def test_the_range_is_open_below_and_closed_above(self, log: EventLog, grown: Owner) -> None:
        upserts = [(UUID(int=number), "o", number) for number in range(1, 8)]
        await log.write_due([DueChange(0, grown.epochs[0], 1, upserts, [])])
        assert [row[3] for row in await self.rows(log, [0], 2, 5)] == [3, 4, 5]
        assert await self.rows(log, [1], 0, 100) == []

    async def test_pages_cover_all_rows_of_all_shards_in_order(self, log: EventLog, grown: Owner) -> None:
        """Many rows at the same time and one stream with many: pages neither repeat nor lose any."""
        same = [(UUID(int=number), "o", 7) for number in range(1, 1501)]
        one = [(UUID(int=9), f"o{number}", 7) for number in range(600)]
        await log.write_due([DueChange(0, grown.epochs[0], 1, same, []), DueChange(1, grown.epochs[1], 1, one, [])])
        rows = await self.rows(log, [0, 1])
        assert len(rows) == len(set(rows)) == 2_100
        assert rows == sorted(rows, key=lambda row: (row[3], row[1], row[2]))


class TestPublishCursors:
    async def test_cursors_move_with_the_right_epoch(self, log: EventLog, grown: Owner) -> None:
        assert await log.publish_cursors([0, 1]) == {0: 0, 1: 0}
        moves = [(0, grown.epochs[0], 5), (1, grown.epochs[1] + 1, 5)]
        assert await log.move_publish_cursors(moves) == {0}
        assert await log.publish_cursors([0, 1]) == {0: 5, 1: 0}

    async def test_a_cursor_goes_back_when_the_stream_lost_something(self, log: EventLog, grown: Owner) -> None:
        await log.move_publish_cursors([(0, grown.epochs[0], 5)])
        assert await log.move_publish_cursors([(0, grown.epochs[0], 2)]) == {0}
        assert await log.publish_cursors([0]) == {0: 2}
