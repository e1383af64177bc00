"""The queues that tenants share, full, on a service that is killed: nothing in them is lost, nothing done twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

import pytest

from tasker.bus.bus import Message
from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import stream_info
from tasker.client import NewTask, TaskerClient, TaskFilter, TaskHandle
from tasker.events.subjects import Subjects
from tasker.replay.verify import verify
from tests.acceptance.conftest import Service
from tests.acceptance.faults import Rig

GARDEN: Final = {"name": "garden", "steps": [{"name": "grow", "signal": "rain"}]}
LEFT: Final = {"hoarder": 1_500, "guest": 5}
BULKS: Final = {"hoarder": 8, "guest": 1}
BEDS: Final = 12
WHO: Final[dict[str, Any]] = {"requested_by": "ada", "reason": "spring"}

pytestmark = [pytest.mark.linux, pytest.mark.timeout(180)]


def client_of(service: Service, tenant: str) -> TaskerClient:
    return TaskerClient(service.nats_url, service.http_url, tenant, service.nats_prefix, environ={}, timeout_s=60.0)


async def bulks_of(service: Service, tenant: str) -> list[TaskHandle]:
    """Bulks under way that tag the same beds, each with a tag of its own."""
    async with client_of(service, tenant) as client:
        await client.register(GARDEN)
        made = await client.create_many(NewTask("garden", bed, tags={"kind": "bed"}) for bed in range(BEDS))
        for one in made:
            assert isinstance(one, TaskHandle)
            await client.get(one)
        beds = TaskFilter(tags={"kind": "bed"})
        return [
            await client.bulk.start("task.update", beds, **WHO, rate_per_s=6, arguments={"tags": {f"b{number}": "1"}})
            for number in range(BULKS[tenant])
        ]


async def leave(service: Service, tenant: str) -> None:
    """Submit, with nobody there to take it."""
    async with client_of(service, tenant) as client:
        for start in range(0, LEFT[tenant], 100):
            numbers = range(start, min(start + 100, LEFT[tenant]))
            tasks = [
                NewTask("garden", number, tags={"left": "yes"}, idempotency_key=f"left-{number}") for number in numbers
            ]
            await asyncio.gather(*(client.submit(task, reply_to="verdicts") for task in tasks))


async def first_verdict(service: Service) -> int:
    """Start the service; return how many commands lie in the stream after it was killed at the first verdict."""
    bus = await NatsBus.connect(service.nats_url, name="test")
    heard: asyncio.Queue[Message] = asyncio.Queue()
    bus.subscribe("verdicts", heard.put_nowait)
    await bus.flush()
    starting = asyncio.create_task(asyncio.to_thread(service.start))
    try:
        async with asyncio.timeout(60):
            await heard.get()
        await starting
        Rig.kill_tree(service.process)
        return (await stream_info(bus, Subjects(service.nats_prefix).command_stream)).state.messages
    finally:
        await bus.close()


async def check(service: Service, tenant: str, bulks: list[TaskHandle]) -> None:
    async with client_of(service, tenant) as client:
        for bulk in bulks:
            await client.wait(bulk, timeout_s=90)
            outcome = await client.bulk.outcome(bulk)
            assert (outcome.matched, outcome.done, outcome.refused) == (BEDS, BEDS, 0)
        async with asyncio.timeout(60):
            while True:
                keys = Counter([bytes(one.input) async for one in client.list(tags={"left": "yes"})])
                if len(keys) == LEFT[tenant]:
                    break
                await asyncio.sleep(0.2)
        assert set(keys.values()) == {1}
        beds = [await client.get(one.task_id) async for one in client.list(tags={"kind": "bed"})]
        assert all(bed.tags == {"kind": "bed"} | {f"b{number}": "1" for number in range(len(bulks))} for bed in beds)


def test_a_service_that_is_killed_with_both_queues_full_loses_nothing(service: Service) -> None:
    bulks = {tenant: asyncio.run(bulks_of(service, tenant)) for tenant in BULKS}
    Rig.kill_tree(service.process)
    for tenant in LEFT:
        asyncio.run(leave(service, tenant))
    left = asyncio.run(first_verdict(service))
    assert 0 < left <= sum(LEFT.values())
    service.start()
    for tenant, given in bulks.items():
        asyncio.run(check(service, tenant, given))
    report = asyncio.run(verify(service.database_url, workers=1))
    assert report.findings == []
