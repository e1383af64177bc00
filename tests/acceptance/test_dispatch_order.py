"""What begins first when workers are short, on the real service: each worker here has one slot, held by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from tasker.bus.nats_bus import NatsBus
from tasker.client import NewTask, TaskerClient, TaskHandle
from tasker.events.subjects import Subjects
from tasker.handlers import handler
from tasker.handlers.equipment import Equipment
from tasker.handlers.handler import plain_handlers_of
from tasker.handlers.registry import Registry
from tasker.handlers.worker import Worker
from tasker.settings import DirectSettings
from tests.acceptance.conftest import Service

WITHIN_S = 30.0


class Desk:
    """A worker with one slot, which the input `hold` keeps; `begun`: the inputs in the order in which they began."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go_on = asyncio.Event()
        self.drain: Callable[[], Coroutine[Any, Any, None]]
        self._changed = asyncio.Event()

    async def serve(self, given: str | dict[str, str]) -> None:
        name = given if isinstance(given, str) else given["key"]
        self.begun.append(name)
        self._changed.set()
        if name == "hold":
            await self.go_on.wait()

    async def until_begun(self, name: str) -> None:
        await self.until(lambda: name in self.begun)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def working(service: Service, queue: str, **options: Any) -> AsyncIterator[Desk]:
    """Serve a queue with a worker in this loop."""
    desk, loop = Desk(), asyncio.get_running_loop()

    @handler("go", queue=queue)
    async def go(input: Any) -> None:
        # Handlers run in a loop of their own.
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(desk.serve(input), loop))

    bus = await NatsBus.connect(service.nats_url, name="worker")
    equipment = Equipment(Registry(handlers=plain_handlers_of(go)))
    subjects = Subjects(service.nats_prefix)
    worker = Worker(bus, equipment, subjects=subjects, slots=1, limits=equipment.limits, life=equipment, **options)
    await worker.start()
    await worker.ready()
    desk.drain = worker.drain
    try:
        yield desk
    finally:
        desk.go_on.set()
        await worker.stop()
        await bus.close()


@asynccontextmanager
async def client_of(service: Service, template: str, **keys: Any) -> AsyncIterator[TaskerClient]:
    """Return a client, once a template with one step, on a queue called like it, is known."""
    document = {"name": template, "version": "1.0.0", "steps": [{"name": "go"}]} | keys
    async with service.client() as client:
        await client.register(document)
        yield client


async def test_work_of_higher_priority_begins_first_and_can_be_moved(service: Service) -> None:
    async with client_of(service, "lane", priority=10) as client, working(service, "lane") as desk:
        await client.create("lane", "hold")
        await desk.until(lambda: desk.begun == ["hold"])
        await client.create("lane", "low", priority=-50)
        await client.create("lane", "usual")
        late = await client.create("lane", "late", priority=0)
        await client.create("lane", "high", priority=50)
        await client.update(late, priority=100)
        desk.go_on.set()
        await desk.until(lambda: len(desk.begun) == 5)
        assert desk.begun == ["hold", "late", "high", "usual", "low"]
        assert (await client.wait(late)).priority == 100


async def test_a_worker_that_knows_the_stream_alone_gets_it_in_order_too(service: Service) -> None:
    """What waits for it stays with the owner, which leaves it to the stream when the worker asks."""
    async with client_of(service, "foreign") as client:
        for name, priority in (("low", -1), ("middle", 1), ("high", 2)):
            await client.create("foreign", name, priority=priority)
        async with working(service, "foreign", direct=DirectSettings(enabled=False)) as desk:
            await desk.until(lambda: len(desk.begun) == 3)
            assert desk.begun == ["high", "middle", "low"]


async def test_urgent_work_overtakes_a_backlog_in_the_stream(service: Service) -> None:
    """The backlog came first, when nobody was there: it went by the stream."""
    async with client_of(service, "behind") as client:
        await client.create("behind", "hold")
        for number in range(5):
            await client.create("behind", f"plain{number}")
        async with working(service, "behind") as desk:
            await desk.until(lambda: desk.begun == ["hold"])
            await client.create("behind", "urgent", priority=1)
            desk.go_on.set()
            await desk.until(lambda: len(desk.begun) == 7)
            assert desk.begun.index("urgent") <= 2, "at most one that was on its way already begins before it"


async def test_a_backlog_of_one_key_does_not_hold_up_anothers_single_task(service: Service) -> None:
    fair = {"key": "input.key"}
    async with client_of(service, "fair", fairness=fair) as client, working(service, "fair") as desk:
        await client.create("fair", {"key": "hold"})
        await desk.until(lambda: desk.begun == ["hold"])
        made = await client.create_many([NewTask("fair", {"key": "many"}) for _ in range(200)])
        assert all(isinstance(one, TaskHandle) for one in made)
        await client.create("fair", {"key": "one"})
        desk.go_on.set()
        await desk.until(lambda: "one" in desk.begun)
        assert desk.begun.index("one") <= 2


async def test_sticky_steps_run_where_the_first_did_and_elsewhere_when_that_worker_goes(service: Service) -> None:
    go = {"handler": "go"}
    steps = [{"name": "a", **go}, *({"name": name, "after": ["a"], "sticky": "a", **go} for name in "bcd")]
    async with (
        client_of(service, "near", steps=steps) as client,
        working(service, "near") as one,
        working(service, "near") as two,
    ):
        for made in await client.create_many([NewTask("near", f"t{number}") for number in range(40)]):
            assert isinstance(made, TaskHandle)
            await client.wait(made)
        assert one.begun
        assert two.begun
        assert not set(one.begun) & set(two.begun)
        held = await client.create("near", "hold")
        holding = [asyncio.create_task(desk.until_begun("hold")) for desk in (one, two)]
        await asyncio.wait(holding, return_when=asyncio.FIRST_COMPLETED)
        goes, stays = (one, two) if "hold" in one.begun else (two, one)
        drained = asyncio.create_task(goes.drain())
        one.go_on.set()
        two.go_on.set()
        assert (await client.wait(held)).state == "completed"
        await asyncio.gather(drained, *holding)
        assert (goes.begun.count("hold"), stays.begun.count("hold")) == (1, 3)
