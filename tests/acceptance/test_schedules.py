"""A schedule on the real service, whose processes are killed around its fires."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import psutil
import pytest

from tasker.client import TaskerClient
from tasker.client.subscription import EventFilter
from tasker.events.reads import TaskView
from tests.acceptance.conftest import ROOT, Service
from tests.acceptance.faults import family

pytestmark = [pytest.mark.faults, pytest.mark.linux, pytest.mark.timeout(180)]

APP = ROOT / "examples" / "nightly_report.py"
EVERY_US = 1_000_000
KILLS = 3
FIRES = 6


async def events_of(client: TaskerClient, kind: str) -> list[dict[str, Any]]:
    """Return the data of all events of a type."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = await client.log_page(after=after, wanted=EventFilter(types=(kind,)))
        found += [msgspec.json.decode(bytes(one.data)) for one in page.items]
        if page.next is None or page.next == after:
            return found
        after = page.next


async def until_fired(client: TaskerClient, count: int) -> None:
    async with asyncio.timeout(60):
        while (await client.schedules.get("often")).fires < count:  # noqa: ASYNC110 - the view tells nobody
            await asyncio.sleep(0.05)


async def tasks_of(client: TaskerClient, count: int) -> list[TaskView]:
    """Return the schedule's tasks, once the views show so many: the last fire's own is created after it."""
    async with asyncio.timeout(60):
        while True:
            found = [task async for task in client.list(tags={"schedule": "often"})]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_every_fire_time_has_one_task_though_the_service_is_killed_around_it(own_service: Service) -> None:
    draw = random.Random(7)
    with own_service.worker(APP):
        first = {"city": "Bern", "at": "2026-01-01"}
        await asyncio.to_thread(own_service.create_when_registered, "nightly_report", first)
        async with own_service.client() as client:
            document = {
                "template": "nightly_report",
                "every_s": 1,
                "overlap": "allow",
                "input": {"city": "Bern"},
                "time_key": "at",
            }
            reply = await client.schedules.create("often", document)
            await client.schedules.get("often", at_least=reply.position)
            for _ in range(KILLS):
                await until_fired(client, 1)
                await asyncio.sleep(draw.random())
                everyone = family(own_service.process.pid)
                for one in everyone:
                    one.kill()
                psutil.wait_procs(everyone)
                own_service.process._process.wait()  # type: ignore[union-attr]
                await asyncio.to_thread(own_service.start)
                seen = (await client.schedules.get("often")).fires
                await until_fired(client, seen + FIRES)
            await client.schedules.pause("often")
            fired = await events_of(client, "schedule_fired")
            skipped = await events_of(client, "schedule_fires_skipped")
            tasks = await tasks_of(client, len(fired))
            for task in tasks:
                ended = await client.wait(task, timeout_s=30)
                assert ended.state == "completed"
    times = [one["fire_us"] for one in fired]
    assert sorted(times) == list(range(min(times), max(times) + EVERY_US, EVERY_US)), "a fire time has no fire"
    assert skipped == []
    assert len(times) == len(set(times)) == len(tasks)
    assert {one["task_id"] for one in fired} == {task.task_id for task in tasks}
