"""A parent that is cancelled while its child starts, or ends: it is decided once, and no child outlives its parent."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from tasker.ids import task_id_of
from tasker.replay.verify import verify
from tests.acceptance.conftest import Service
from tests.acceptance.test_races import Caller, calling

pytestmark = [pytest.mark.faults, pytest.mark.linux]

FAMILIES = 40
ENDS = ("task_completed", "task_cancelled", "task_failed")


async def ends_of(service: Service, task_ids: list[str]) -> dict[str, list[str]]:
    """Return the endings that stand in the log, by task."""
    connection = await asyncpg.connect(service.database_url)
    try:
        rows = await connection.fetch(
            "SELECT stream_id, array_agg(type) AS types FROM event"
            " WHERE stream_id = ANY ($1) AND type = ANY ($2) GROUP BY stream_id",
            task_ids,
            list(ENDS),
        )
    finally:
        await connection.close()
    return {str(row["stream_id"]): row["types"] for row in rows}


async def until_created(caller: Caller, task_id: str) -> None:
    """Ask for a task until it is there, which its owner tells by taking a command."""
    report: dict[str, Any] = {"task_id": task_id, "tags": {"seen": "yes"}}
    async with asyncio.timeout(60):
        while not (await caller.command("task", "update", report))["ok"]:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.02)


async def test_a_cancel_that_meets_the_start_or_the_end_of_a_child_is_decided_once(service: Service) -> None:
    async with calling(service) as caller:
        steps = [{"name": "kid", "child": "one"}]
        told = await caller.command("template", "register", {"template": {"name": "family", "steps": steps}})
        assert told["ok"], told
        keys = [f"family-{number}" for number in range(FAMILIES)]
        parents = [str(task_id_of("default", "default", "family", key)) for key in keys]
        children = [str(task_id_of("default", "default", "one", f"child:{task_id}:kid:1")) for task_id in parents]

        async def race(number: int) -> None:
            made = await caller.create(1, {"template": "family", "idempotency_key": keys[number]})
            assert made["ok"], made
            if number % 2:  # the other half meets the start of its child
                await until_created(caller, children[number])
            rivals = [caller.command("task", "cancel", {"task_id": parents[number]})]
            if number % 2:
                rivals.insert(0, caller.complete(children[number]))
            await asyncio.gather(*rivals)

        await asyncio.gather(*(race(number) for number in range(FAMILIES)))
        async with asyncio.timeout(60):
            while len(ends := await ends_of(service, parents)) < FAMILIES:  # noqa: ASYNC110 - the log tells nobody
                await asyncio.sleep(0.1)
        born = await ends_of(service, children)
    assert all(len(types) == 1 for types in [*ends.values(), *born.values()]), "each ended once"
    ended = Counter(types[0] for types in ends.values())
    assert ended["task_cancelled"] >= FAMILIES // 2, "a cancel that meets the start wins"
    assert set(ended) <= {"task_completed", "task_cancelled"}
    for parent, child in zip(parents, children, strict=True):
        assert child in born, "no child is forgotten, and none outlives its parent"
        if ends[parent] == ["task_completed"]:
            assert born[child] == ["task_completed"]
    assert not (await verify(service.database_url, workers=1)).findings
