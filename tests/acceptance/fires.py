"""What must hold of a schedule whatever happened to the service: each fire time has one fire, and that one task."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from tasker.client import TaskerClient
from tasker.client.subscription import EventFilter
from tasker.events.reads import TaskView

EVERY_US = 1_000_000
"""Schedules of these tests fire every second."""


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


async def until_fired(client: TaskerClient, name: str, count: int) -> None:
    """Return when the view of a schedule shows so many fires."""
    async with asyncio.timeout(60):
        while (await client.schedules.get(name)).fires < count:  # noqa: ASYNC110 - the view tells nobody
            await asyncio.sleep(0.05)


async def every_fire_has_one_task(client: TaskerClient, name: str) -> None:
    """Pause the schedule, the only one there is, and hold what it did to its promise; its tasks complete."""
    await client.schedules.pause(name)
    fired = await events_of(client, "schedule_fired")
    tasks = await _tasks_of(client, name, len(fired))
    for task in tasks:
        ended = await client.wait(task, timeout_s=30)
        assert ended.state == "completed"
    times = [one["fire_us"] for one in fired]
    assert sorted(times) == list(range(min(times), max(times) + EVERY_US, EVERY_US)), "a fire time has no fire"
    assert await events_of(client, "schedule_fires_skipped") == []
    assert len(times) == len(set(times)) == len(tasks)
    assert {one["task_id"] for one in fired} == {task.task_id for task in tasks}


async def _tasks_of(client: TaskerClient, name: str, count: int) -> list[TaskView]:
    """Return the schedule's tasks, once the views show so many: the last fire's own is created after it."""
    async with asyncio.timeout(60):
        while True:
            found = [task async for task in client.list(tags={"schedule": name})]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)
