"""A model of the log: owners come and go, answers are lost, copies arrive late; the log stays what it promises."""

from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from tasker.events.chain import GENESIS, digest_of_batch, leaf_of
from tasker.events.log import AppendOutcome, ShardAppend
from tasker.events.memory_log import Fault, MemoryLog
from tests.contracts.event_logs import ENDED_S, LEASE_S, new_event, part_of
from tests.moves import Moving, move
from tests.properties.examples import examples

SHARDS = 2
owners = st.sampled_from(["a", "b"])
shards = st.integers(0, SHARDS - 1)
streams = st.integers(0, 2)
FAULTS = [None, None, None, Fault.LOST_AFTER, Fault.LOST_BEFORE, Fault.STRAY, Fault.REFUSED]


def now(call: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine of the twin gives: it never waits."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the twin waited")


class Owner:
    """What one owner believes."""

    def __init__(self) -> None:
        self.epochs: dict[int, int] = {}
        self.heads: dict[int, tuple[int, bytes]] = {}
        self.unknown: dict[int, ShardAppend] = {}

    def drop(self, shard: int) -> None:
        for held in (self.epochs, self.heads, self.unknown):
            held.pop(shard, None)


class LogModel(Moving):
    """What was acknowledged is kept beside the log, and the log must hold just that."""

    def __init__(self) -> None:
        super().__init__()
        self.log = MemoryLog(shards=SHARDS, partition_size=10)
        self.owners = {"a": Owner(), "b": Owner()}
        self.acknowledged: list[tuple[int, int, bytes]] = []
        self.seen_epochs: dict[int, int] = dict.fromkeys(range(SHARDS), 0)

    @initialize()
    def begin(self) -> None:
        for shard in range(SHARDS):
            self.take(name="a", shard=shard, ended=True)

    @move(weight=2, name=owners, shard=shards, ended=st.sampled_from([True, True, False]))
    def take(self, *, name: str, shard: int, ended: bool) -> None:
        owner = self.owners[name]
        lease = now(self.log.acquire(name, [shard], ENDED_S if ended else LEASE_S))
        if shard not in lease.epochs:
            return
        assert lease.epochs[shard] > self.seen_epochs[shard]
        owner.drop(shard)
        owner.epochs[shard] = lease.epochs[shard]
        [head] = now(self.log.heads([shard]))
        owner.heads[shard] = (head.position, head.digest)

    @move(name=owners)
    def renew(self, name: str) -> None:
        before = {head.shard: head.epoch for head in now(self.log.heads(range(SHARDS)))}
        for shard, epoch in now(self.log.renew(name, LEASE_S)).epochs.items():
            assert epoch == before[shard]

    @move(name=owners)
    def release(self, name: str) -> None:
        now(self.log.release(name))

    @move(
        weight=6,
        when=lambda self: self.believers(),
        number=streams,
        count=st.integers(1, 4),
        fault=st.sampled_from(FAULTS),
        born_again=st.sampled_from([False, False, False, True]),
    )
    def append(self, *, data: st.DataObject, number: int, count: int, fault: Fault | None, born_again: bool) -> None:
        name, shard = data.draw(st.sampled_from(self.believers()))
        owner = self.owners[name]
        stream = UUID(int=shard * 10 + number)
        stored = now(self.log.load([stream])).get(stream, [])
        first = 1 if born_again else len(stored) + 1
        position, digest = owner.heads[shard]
        count = min(count, self.log.partition_end(position + 1) - position)
        part = part_of(
            [new_event(stream, first + index) for index in range(count)],
            shard=shard,
            epoch=owner.epochs[shard],
            position=position,
            digest=digest,
        )
        self.log.faults.append(fault)
        outcome = now(self.log.append([part]))[shard]
        ours = self.seen_epochs[shard] == owner.epochs[shard]
        if fault in (Fault.LOST_AFTER, Fault.LOST_BEFORE, Fault.STRAY):
            assert outcome is AppendOutcome.UNKNOWN
            owner.unknown[shard] = part
        elif fault is Fault.REFUSED:
            assert outcome is AppendOutcome.REFUSED
        elif not ours:
            assert outcome is AppendOutcome.FENCED
            owner.drop(shard)
        elif stored and born_again:
            assert outcome is AppendOutcome.REFUSED
        else:
            assert outcome is AppendOutcome.APPENDED
            self.acknowledge(owner, part)

    @move(weight=2, when=lambda self: self.waiting())
    def settle(self, data: st.DataObject) -> None:
        name, shard = data.draw(st.sampled_from(self.waiting()))
        owner = self.owners[name]
        part = owner.unknown.pop(shard)
        outcome, epoch = now(self.log.settle(name, part))
        assert outcome is not AppendOutcome.UNKNOWN
        if outcome is AppendOutcome.APPENDED:
            self.acknowledge(owner, part)
        elif outcome is AppendOutcome.REFUSED:
            assert epoch > self.seen_epochs[shard]
        if outcome is AppendOutcome.FENCED:
            owner.drop(shard)
        else:
            owner.epochs[shard] = epoch

    @move(when=lambda self: self.waiting())
    def settle_unheard(self, data: st.DataObject) -> None:
        name, shard = data.draw(st.sampled_from(self.waiting()))
        now(self.log.settle(name, self.owners[name].unknown[shard]))

    @move()
    def strays_arrive(self) -> None:
        before = {shard: len(now(self.log.read(shard, after=0, limit=10_000))) for shard in range(SHARDS)}
        for outcomes in self.log.deliver_strays():
            for shard, outcome in outcomes.items():
                after = len(now(self.log.read(shard, after=0, limit=10_000)))
                assert (after > before[shard]) or outcome is not AppendOutcome.APPENDED

    def believers(self) -> list[tuple[str, int]]:
        """Return who believes to own which shard and knows how its last append ended."""
        return [(name, at) for name, owner in self.owners.items() for at in owner.heads if at not in owner.unknown]

    def waiting(self) -> list[tuple[str, int]]:
        """Return who does not know how its last append to which shard ended."""
        return [(name, shard) for name, owner in self.owners.items() for shard in owner.unknown]

    def acknowledge(self, owner: Owner, part: ShardAppend) -> None:
        last = part.position + len(part.events)
        self.acknowledged.append((part.shard, last, part.digest))
        owner.heads[part.shard] = (last, part.digest)

    @invariant()
    def positions_seqs_epochs_and_chain_hold(self) -> None:
        seqs: dict[UUID, int] = {}
        for shard in range(SHARDS):
            digest, leaves, epoch = GENESIS, [], 0
            events = now(self.log.read(shard, after=0, limit=10_000))
            for position, event in enumerate(events, 1):
                assert event.position == position
                assert event.epoch >= epoch
                epoch = event.epoch
                assert event.seq == seqs.get(event.stream_id, 0) + 1
                seqs[event.stream_id] = event.seq
                leaves.append(leaf_of(event, shard=shard, position=position, epoch=epoch))
                if event.chain is not None:
                    digest, leaves = digest_of_batch(digest, leaves), []
                    assert event.chain == digest
            assert leaves == []

    @invariant()
    def what_was_acknowledged_is_there(self) -> None:
        for shard, position, digest in self.acknowledged:
            [event] = now(self.log.read(shard, after=position - 1, limit=1))
            assert event.chain == digest

    @invariant()
    def no_two_owners_believe_in_one_epoch(self) -> None:
        one, two = (set(owner.epochs.items()) for owner in self.owners.values())
        assert one.isdisjoint(two)

    @invariant()
    def epochs_never_go_back(self) -> None:
        for head in now(self.log.heads(range(SHARDS))):
            assert head.epoch >= self.seen_epochs[head.shard]
            self.seen_epochs[head.shard] = head.epoch


TestLogModel = LogModel.TestCase
TestLogModel.settings = settings(max_examples=examples(0.6), stateful_step_count=40, deadline=None)
