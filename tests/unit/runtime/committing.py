"""What the tests of the committer and of the shards share: a log in memory, an owner, units that say how they ended."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

from tasker.errors import TaskerError
from tasker.events.envelope import NewEvent
from tasker.events.log import ShardAppend
from tasker.events.memory_log import MemoryLog
from tasker.service.runtime.committer import Committer, Unit

OWNER = "owner"
LEASE_S = 60.0

_times_us = itertools.count(1_790_000_000_000_000)


def new_event(stream_id: UUID, seq: int, *, payload: bytes = b"{}") -> NewEvent:
    return NewEvent(
        stream_id=stream_id,
        kind="task",
        seq=seq,
        type="task_created" if seq == 1 else "step_completed",
        version=1,
        tenant="default",
        at_us=next(_times_us),
        meta=b"{}",
        payload=payload,
    )


class Listener:
    """Hears what the committer tells; `heard` is shared with the units, so that the order can be seen."""

    def __init__(self, heard: list[tuple]) -> None:
        self._heard = heard
        self.also: Callable[[int, int, Sequence[NewEvent]], None] = lambda *_: None

    def on_committed(self, shard: int, first_position: int, events: Sequence[NewEvent]) -> None:
        self._heard.append(("committed", shard, first_position, len(events)))
        self.also(shard, first_position, events)

    def on_fenced(self, shard: int) -> None:
        self._heard.append(("fenced", shard))


class Held:
    """Lets each append wait for `let`; `arrived` counts those that came."""

    def __init__(self) -> None:
        self.batches: list[Sequence[ShardAppend]] = []
        self._came = asyncio.Event()
        self._gate = asyncio.Semaphore(0)

    async def __call__(self, parts: Sequence[ShardAppend]) -> None:
        self.batches.append(parts)
        self._came.set()
        await self._gate.acquire()

    async def arrived(self, count: int = 1) -> None:
        while len(self.batches) < count:
            self._came.clear()
            await self._came.wait()

    def let(self, count: int = 1) -> None:
        for _ in range(count):
            self._gate.release()


class Desk:
    """A committer on a log, with what its units and its listener were told, in order."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.heard: list[tuple] = []
        self.listener = Listener(self.heard)
        self.committer = Committer(log, OWNER, self.listener)
        self.paused = False
        self._told = asyncio.Event()
        self._seqs: dict[UUID, int] = {}

    async def take(self, *shards: int) -> None:
        """Take shards, as a node does."""
        lease = await self.log.acquire(OWNER, shards, LEASE_S)
        for head in await self.log.heads(shards):
            self.committer.open_shard(head, lease.epochs[head.shard])

    def start(self) -> None:
        self.committer.start(paused=lambda: self.paused)

    def note(self, name: str) -> Callable[[TaskerError | None, int], None]:
        def done(error: TaskerError | None, position: int) -> None:
            self.heard.append((name, position) if error is None else (name, error.code))
            self._told.set()

        return done

    def unit(self, name: str, stream_id: UUID | None = None, count: int = 1, *, payload: bytes = b"{}") -> Unit:
        """Return the next `count` events of a stream (0: only an answer) as a unit that notes its end."""
        stream_id = stream_id or uuid4()
        first = self._seqs.get(stream_id, 0) + 1
        self._seqs[stream_id] = first + count - 1
        events = [new_event(stream_id, seq, payload=payload) for seq in range(first, first + count)]
        return Unit(stream_id, events, self.note(name))

    def submit(self, shard: int, name: str, stream_id: UUID | None = None, count: int = 1) -> None:
        self.committer.submit(shard, self.unit(name, stream_id, count))

    async def until(self, *names: str) -> None:
        """Wait until each of the named units was told how it ended."""
        async with asyncio.timeout(10):
            while not set(names) <= {entry[0] for entry in self.heard}:
                self._told.clear()
                await self._told.wait()

    def ends(self) -> dict[str, int | str]:
        """Return how the units ended: their position, or the code of their error."""
        return {entry[0]: entry[1] for entry in self.heard if entry[0] not in {"committed", "fenced"}}
