"""The service's own queue of bulks, on the real bus and on its twin: its slots are shared among tenants, by weight."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from tasker.bus.bus import Bus
from tasker.events.subjects import EVERY_TENANT
from tasker.handlers.context import StepContext
from tasker.handlers.returned import Again
from tasker.handlers.runner import Invocable, Runner
from tasker.handlers.worker import Worker
from tasker.ids import RESERVED_NAMESPACE
from tasker.service.actors.dispatch import own_queues
from tasker.service.actors.dispatch.waiting_set import Waiting
from tasker.service.actors.task_actor import TaskActor
from tasker.settings import DirectSettings, Limits
from tasker.templates.built_in import BULK
from tests.contracts.pair import STREAMS, Pair

Connect = Callable[[], Awaitable[Bus]]
ORDER = {"verb": "task.cancel", "everything": True, "requested_by": "ada", "reason": "the season is over"}


class Parts:
    """A handler of bulks of so many parts each, which notes whose part it was."""

    is_async = True

    def __init__(self, parts: int = 1) -> None:
        self.parts = parts
        self.begun: list[str] = []
        self.changed = asyncio.Event()

    def queues(self) -> Iterable[tuple[str, str]]:
        return [(RESERVED_NAMESPACE, BULK)]

    def lookup(self, _namespace: str, _queue: str, _handler: str) -> Invocable | None:
        return self

    def bind(self, context: StepContext, _input: bytes, _results: Mapping[str, bytes]) -> Callable[[], Any]:
        return partial(self.run, context)

    async def run(self, context: StepContext) -> Any:
        self.begun.append(context.tenant)
        self.changed.set()
        part = (context.checkpoint(int) or 0) + 1
        return Again(checkpoint=part) if part < self.parts else {}

    async def until(self, count: int) -> Counter[str]:
        """Return whose the first parts were, once there have been so many."""
        async with asyncio.timeout(60):
            while len(self.begun) < count:
                self.changed.clear()
                await self.changed.wait()
        return Counter(self.begun[:count])


@asynccontextmanager
async def serving(pair: Pair, bus: Bus, parts: Parts) -> AsyncIterator[None]:
    """One worker of the service's queue, with one slot."""
    worker = Worker(
        bus,
        parts,
        subjects=pair.subjects,
        tenant=EVERY_TENANT,
        slots=1,
        streams=STREAMS,
        direct=DirectSettings(enabled=False),
        runner=partial(Runner, loop=asyncio.get_running_loop()),
    )
    await worker.start()
    try:
        yield
    finally:
        await worker.stop()


async def ask_bulks(pair: Pair, tenant: str, count: int) -> list[str]:
    told = [await pair.ask("bulk.create", ORDER, tenant=tenant) for _ in range(count)]
    assert all(one["ok"] for one in told), told
    return [one["task_id"] for one in told]


async def ended(pair: Pair) -> Counter[str]:
    """Return how many bulks of each tenant have ended; each once."""
    found = [event for event in await pair.all_recorded() if event.type == "task_completed"]
    assert len({event.stream_id for event in found}) == len(found)
    return Counter(event.tenant for event in found)


async def until_ended(pair: Pair, wanted: dict[str, int]) -> None:
    async with asyncio.timeout(60):
        while await ended(pair) != wanted:  # noqa: ASYNC110 - the log tells nobody
            await asyncio.sleep(0.02)


async def test_a_hundred_bulks_of_one_tenant_do_not_hold_up_anothers(pair: Pair, connect: Connect) -> None:
    await ask_bulks(pair, "acme", 40)
    await ask_bulks(pair, "bolt", 2)
    parts = Parts()
    async with serving(pair, await connect(), parts):
        assert (await parts.until(own_queues.OUT_MAX + 2 * 2 + 1))["bolt"] == 2, parts.begun
        await until_ended(pair, {"acme": 40, "bolt": 2})
    assert Counter(parts.begun) == {"acme": 40, "bolt": 2}


async def test_it_is_parts_that_are_shared_and_weights_say_how(pair: Pair, connect: Connect) -> None:
    await pair.stop()
    await pair.start(await connect(), Limits(tenant_weights=("acme=3",)))
    await ask_bulks(pair, "acme", 12)
    await ask_bulks(pair, "bolt", 6)
    parts = Parts(parts=5)
    async with serving(pair, await connect(), parts):
        shares = await parts.until(own_queues.OUT_MAX + 40)
        assert shares["acme"] == pytest.approx(own_queues.OUT_MAX + 30, abs=3), parts.begun
        await until_ended(pair, {"acme": 12, "bolt": 6})
    assert Counter(parts.begun) == {"acme": 60, "bolt": 30}


async def test_what_waited_at_a_node_that_stops_is_done_by_the_next_owner(pair: Pair, connect: Connect) -> None:
    """Nothing of the line is kept: the next owner finds what the tasks offer."""
    await ask_bulks(pair, "acme", 15)
    await ask_bulks(pair, "bolt", 3)
    parts = Parts(parts=2)
    async with serving(pair, await connect(), parts):
        await parts.until(6)
        await pair.stop(0)
        await until_ended(pair, {"acme": 15, "bolt": 3})


async def test_a_bulk_that_is_cancelled_while_it_waits_has_no_turn(pair: Pair, connect: Connect) -> None:
    bulks = await ask_bulks(pair, "acme", 12)
    for bulk in bulks[6:]:
        assert (await pair.ask("task.cancel", {"task_id": bulk}, tenant="acme"))["ok"]
    assert sum(side._own_queues.waiting for side in pair.sides) == 6 - own_queues.OUT_MAX
    await ask_bulks(pair, "bolt", 1)
    parts = Parts()
    async with serving(pair, await connect(), parts):
        await until_ended(pair, {"acme": 6, "bolt": 1})
    assert Counter(parts.begun) == {"acme": 6, "bolt": 1}


async def test_actors_that_left_memory_while_they_waited_are_woken_at_their_turn(
    pair: Pair, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They begin when they are loaded, which takes as long as it takes."""
    of = dict.fromkeys(await ask_bulks(pair, "acme", 12), "acme")
    of |= dict.fromkeys(await ask_bulks(pair, "bolt", 2), "bolt")
    turns: list[str] = []
    owner = pair.sides[0]._own_queues
    wake = owner._wake

    def noted(one: Waiting) -> TaskActor | None:
        turns.append(of[str(one.stream_id)])
        return wake(one)

    monkeypatch.setattr(owner, "_wake", noted)
    for side in pair.sides:
        await side._node.write_due()
        side._shards.passivate(0)
        for one in side._own_queues._waiting.values():
            assert side._shards.actor_of(one.shard, one.stream_id) is None
    parts = Parts()
    async with serving(pair, await connect(), parts):
        await until_ended(pair, {"acme": 12, "bolt": 2})
    assert Counter(parts.begun) == {"acme": 12, "bolt": 2}
    assert Counter(turns[:4]) == {"acme": 2, "bolt": 2}, turns


async def test_messages_that_nats_lost_leave_room_for_others(pair: Pair, connect: Connect) -> None:
    await ask_bulks(pair, "acme", 10)
    side = max(pair.sides, key=lambda one: one._own_queues.waiting)
    own = side._own_queues
    waiting = own.waiting
    assert waiting == 10 - own_queues.OUT_MAX
    own.sweep(side._clock.monotonic_s() + own_queues.OUT_S - 1.0)
    assert own.waiting == waiting
    own.sweep(side._clock.monotonic_s() + own_queues.OUT_S + 1.0)
    assert own.waiting == waiting - own_queues.OUT_MAX
    parts = Parts()
    async with serving(pair, await connect(), parts):
        await until_ended(pair, {"acme": 10})
