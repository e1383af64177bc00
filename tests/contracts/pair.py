"""Two nodes over one log in memory; the first owns every shard."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec

from tasker.bus.bus import Bus, Message
from tasker.events.envelope import RecordedEvent
from tasker.events.memory_log import MemoryLog
from tasker.events.messages import HEADER_IDEMPOTENCY_KEY, WorkerSlots
from tasker.events.subjects import Subjects
from tasker.service.write_side import WriteSide
from tasker.settings import Limits, Pace, StreamSettings

_SMALL = 16 * 1024**2
STREAMS = StreamSettings(
    work_bytes_max=_SMALL,
    events_bytes_max=4 * _SMALL,
    commands_bytes_max=_SMALL,
    refusals_bytes_max=_SMALL,
    ack_wait_s=0.5,
)
SHARDS = 4


class Pair:
    """Two nodes and a caller."""

    def __init__(self, log: MemoryLog, bus: Bus, subjects: Subjects) -> None:
        self.log = log
        self.bus = bus
        self.subjects = subjects
        self.sides: list[WriteSide] = []
        self._stops: list[asyncio.Event] = []
        self.running: list[asyncio.Task[None]] = []

    async def start(self, bus: Bus, limits: Limits | None = None, streams: StreamSettings = STREAMS) -> None:
        """Start one more node."""
        side = WriteSide(self.log, await self.log.info(), bus, self.subjects, streams, Pace(), limits)
        stop, ready = asyncio.Event(), asyncio.Event()
        self.running.append(asyncio.create_task(side.run(stop, ready.set)))
        self._stops.append(stop)
        self.sides.append(side)
        async with asyncio.timeout(25):
            await ready.wait()

    async def stop(self, *numbers: int) -> None:
        """Drain the nodes (all). Twice is fine."""
        for stop, running in [(self._stops[one], self.running[one]) for one in numbers or range(len(self.sides))]:
            stop.set()
            await running

    async def ask(self, verb: str, body: Any, *, tenant: str = "default", key: str | None = None) -> Any:
        noun, _, what = verb.partition(".")
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = None if key is None else {HEADER_IDEMPOTENCY_KEY: key}
        reply = await self.bus.request(self.subjects.command(tenant, noun, what), data, timeout_s=10, headers=headers)
        return json.loads(reply.data)

    async def registered(self) -> None:
        told = await self.ask("template.register", {"template": {"name": "t", "steps": [{"name": "only"}]}})
        assert told["ok"], told

    async def heard_of_slots(self, slots: int, *queues: str) -> None:
        """Have a worker `w` tell of so many slots for `queues`; return when every node has heard of them."""
        heard: asyncio.Queue[Message] = asyncio.Queue()
        inbox = self.bus.new_inbox()
        told = WorkerSlots(worker="w", slots=slots, queues=[("default", queue) for queue in queues])
        subscription = self.bus.subscribe(inbox, heard.put_nowait)
        self.bus.publish(self.subjects.slots("default"), msgspec.json.encode(told), reply=inbox)
        for _ in self.sides:
            await heard.get()
        subscription.unsubscribe()

    async def report(self, shard: int, data: bytes) -> Any:
        return json.loads((await self.bus.request(self.subjects.report("default", shard), data, timeout_s=10)).data)

    async def recorded(self, shard: int) -> list[RecordedEvent]:
        return list(await self.log.read(shard, after=0, limit=10_000))

    async def all_recorded(self) -> list[RecordedEvent]:
        return [event for shard in range(SHARDS) for event in await self.recorded(shard)]

    async def hand_over(self, shard: int, giver: WriteSide, taker: WriteSide) -> None:
        """Move a shard from one node to the other, as when a lease runs out."""
        self.log._shards[shard].lease_until_us = 0
        await taker._node.placement._round()
        await giver._node.placement._round()
        async with asyncio.timeout(25):
            while not taker._shards.owns(shard):  # noqa: ASYNC110 - restoring tells nobody
                await asyncio.sleep(0.001)
        assert not giver._shards.owns(shard)

    async def events(self) -> list[tuple[int, int, str]]:
        return [(event.shard, event.position, event.type) for event in await self.all_recorded()]
