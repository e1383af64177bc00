"""What the tests of the log share: events, an owner that numbers them, logs on a small schema."""

from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg

from tasker.events.chain import GENESIS, digest_of_batch, leaf_of
from tasker.events.envelope import NewEvent
from tasker.events.log import AppendOutcome, EventLog, ShardAppend
from tasker.events.postgres_log import migrate

SHARDS = 4
PARTITION_SIZE = 50
LEASE_S = 60.0
ENDED_S = -1.0
"""A lease that has run out when it is given."""


def new_event(stream_id: UUID, seq: int, **fields: object) -> NewEvent:
    known = {
        "stream_id": stream_id,
        "kind": "task",
        "seq": seq,
        "type": "task_created" if seq == 1 else "step_completed",
        "version": 1,
        "tenant": "default",
        "at_us": 1_790_000_000_000_000 + seq // 4,  # the first three are of one turn
        "meta": b"{}",
        "payload": b'{"seq":%d}' % seq,
    }
    return NewEvent(**{**known, **fields})  # type: ignore[arg-type]


def stream(count: int, **fields: object) -> list[NewEvent]:
    """Return the first `count` events of a new stream."""
    stream_id = uuid4()
    return [new_event(stream_id, seq, **fields) for seq in range(1, count + 1)]


def part_of(
    events: list[NewEvent],
    *,
    shard: int,
    epoch: int,
    position: int = 0,
    digest: bytes = GENESIS,
    before_border: int | None = None,
) -> ShardAppend:
    """Return an append of `events` behind `position`, where the chain stands at `digest`.

    With `before_border` so many of them are a batch of the chain, and the others another.
    """
    leaves = [
        leaf_of(event, shard=shard, position=position + index, epoch=epoch) for index, event in enumerate(events, 1)
    ]
    known, border = digest, None
    if before_border is not None:
        digest = digest_of_batch(digest, leaves[:before_border])
        border = (before_border, digest)
    return ShardAppend(
        shard=shard,
        epoch=epoch,
        position=position,
        known=known,
        digest=digest_of_batch(digest, leaves[before_border or 0 :]),
        events=events,
        border=border,
    )


class Owner:
    """An owner of shards as a committer is one: it numbers positions and carries the chain on."""

    def __init__(self, log: EventLog, name: str = "owner") -> None:
        self.log = log
        self.name = name
        self.epochs: dict[int, int] = {}
        self.heads: dict[int, tuple[int, bytes]] = {}

    @property
    def ends(self) -> dict[int, tuple[int, int]]:
        """Return shard -> its epoch and its last position."""
        return {shard: (epoch, self.heads[shard][0]) for shard, epoch in self.epochs.items()}

    async def take(self, *shards: int, lease_s: float = LEASE_S) -> "Owner":
        lease = await self.log.acquire(self.name, shards, lease_s)
        self.epochs.update(lease.epochs)
        for head in await self.log.heads(list(lease.epochs)):
            assert head.digest is not None
            self.heads[head.shard] = (head.position, head.digest)
        return self

    def part(self, shard: int, events: list[NewEvent], *, before_border: int | None = None) -> ShardAppend:
        position, digest = self.heads[shard]
        return part_of(
            events,
            shard=shard,
            epoch=self.epochs[shard],
            position=position,
            digest=digest,
            before_border=before_border,
        )

    async def append(self, *parts: ShardAppend) -> dict[int, AppendOutcome]:
        outcomes = await self.log.append(parts)
        for part in parts:
            if outcomes[part.shard] is AppendOutcome.APPENDED:
                self.heads[part.shard] = (part.position + len(part.events), part.digest)
        return outcomes

    async def write(self, shard: int, events: list[NewEvent]) -> AppendOutcome:
        return (await self.append(self.part(shard, events)))[shard]


async def small_schema(dsn: str, *, shards: int = SHARDS, partition_size: int = PARTITION_SIZE) -> str:
    """Make a log of small partitions in a schema of its own; returns the DSN whose search_path names it."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE SCHEMA small")
    finally:
        await connection.close()
    parts = urlsplit(dsn)
    small = parts._replace(query=f"{parts.query}&search_path=small").geturl()
    await migrate(small, shards=shards, partition_size=partition_size)
    return small
