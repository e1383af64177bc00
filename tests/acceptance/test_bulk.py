"""Bulks on the real service: previews, refusals, other tenants, and a service that is killed in the middle."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any, Final

import pytest

from tasker.client import EVERY_TASK, BulkOutcome, NewTask, TaskerClient, TaskFilter, TaskHandle
from tasker.errors import DeadlineExceeded, NameInvalid, StateForbids
from tasker.events.reads import TASK_ENDED
from tasker.replay.verify import verify
from tests.acceptance.conftest import Service
from tests.acceptance.faults import Rig

WHO: Final[dict[str, Any]] = {"requested_by": "ada", "reason": "the season is over"}
TASKS: Final = 30
RATE_PER_S: Final = 10.0
GARDEN: Final = {"name": "garden", "steps": [{"name": "grow", "signal": "rain"}]}

pytestmark = [pytest.mark.linux, pytest.mark.timeout(120)]


async def planted(client: TaskerClient, count: int, **more: Any) -> list[TaskHandle]:
    """Tasks that wait for rain."""
    made = await client.create_many(NewTask("garden", number, **more) for number in range(count))
    handles = [one for one in made if isinstance(one, TaskHandle)]
    assert len(handles) == count
    for handle in handles:
        await client.get(handle)  # the views have them
    return handles


def client_of(service: Service, tenant: str) -> TaskerClient:
    return TaskerClient(service.nats_url, service.http_url, tenant, service.nats_prefix, environ={}, timeout_s=30.0)


async def what_bulks_do(service: Service) -> None:
    async with client_of(service, "gardener") as client, client_of(service, "other") as stranger:
        for one in (client, stranger):
            await one.register(GARDEN)
        beds = await planted(client, 5, tags={"bed": "1"})
        (weed,) = await planted(client, 1, tags={"bed": "2"})
        theirs = await planted(stranger, 2, tags={"bed": "1"})
        wanted = TaskFilter(template="garden", tags={"bed": "1"})

        found = await client.bulk.preview("task.cancel", wanted, **WHO)
        assert (found.matched, found.would_refuse) == (len(beds), 0)
        assert {one.task_id for one in found.sample} == {bed.task_id for bed in beds}
        told: list[tuple[int, int]] = []
        outcome = await client.bulk.run(
            "task.update", wanted, **WHO, arguments={"tags": {"dug": "yes"}}, on_progress=lambda *at: told.append(at)
        )
        assert (outcome.matched, outcome.done, outcome.refused, told[-1]) == (5, 5, 0, (5, 5))
        dug = [one async for one in client.list(tags={"dug": "yes"}, at_least=outcome.position)]
        assert {one.task_id for one in dug} == {bed.task_id for bed in beds}

        # What does not take the command is told, and the others have it.
        ended = await client.cancel(beds[0])
        await client.get(beds[0], at_least=ended.position)
        everywhere = TaskFilter(states=("running", "cancelled"), tags={"bed": "1"})
        foreseen = await client.bulk.preview("task.pause", everywhere, **WHO)
        assert (foreseen.matched, foreseen.would_refuse) == (5, 1)
        anew = await client.bulk.preview("task.restart", everywhere, **WHO)
        assert (anew.matched, anew.would_refuse) == (5, 4)
        frost: dict[str, Any] = {**WHO, "arguments": {"message": "frost"}, "command_id": "winter"}
        bulk = await client.bulk.start("task.fail", everywhere, **frost)
        outcome = await client.bulk.outcome(bulk)
        assert (outcome.done, outcome.refused_by_code) == (4, {"task_ended": 1})
        assert [(one.task_id, one.code) for one in outcome.refusals] == [(beds[0].task_id, "task_ended")]
        again = await client.bulk.start("task.fail", everywhere, **frost)
        assert (again.task_id, again.duplicate) == (bulk.task_id, True)
        (last,) = [one async for one in client.events(beds[1]) if one.type == "task_failed"]
        meta = json.loads(bytes(last.meta))
        assert (meta["requested_by"], meta["reason"]) == ("ada", WHO["reason"])
        assert meta["command_id"] == f"bulk:{bulk.task_id}:{beds[1].task_id}"

        # Neither the other bed, nor the other tenant, nor the bulks themselves.
        assert (await client.get(weed, at_least=outcome.position)).state == "running"
        for task in theirs:
            assert (await stranger.get(task)).state == "running"
        with pytest.raises(NameInvalid, match=r"bulk\.create"):
            await client.create("bulk", {}, namespace="tasker")
        everything = await client.bulk.run("task.cancel", EVERY_TASK, requested_by="ada", reason="the end")
        assert everything.done == 1
        assert (await client.get(weed, at_least=everything.position)).state == "cancelled"

        # One that is cancelled stops.
        await planted(client, 20)
        slow = await client.bulk.start("task.cancel", TaskFilter(template="garden"), **WHO, rate_per_s=1)
        await client.cancel(slow, grace_s=0)
        with pytest.raises(StateForbids, match="cancelled"):
            await client.bulk.outcome(slow)
        left = [one async for one in client.list(template="garden", states="running")]
        assert left


def test_bulks_do_what_they_say_and_nothing_else(service: Service) -> None:
    asyncio.run(what_bulks_do(service))


async def restart_of_many(service: Service) -> tuple[TaskHandle, list[TaskHandle]]:
    """A slow bulk under way: it restarts tasks that were cancelled."""
    async with client_of(service, "florist") as client:
        await client.register(GARDEN)
        plants = await planted(client, TASKS, tags={"kind": "rose"})
        for plant in plants:
            await client.cancel(plant)
        for plant in plants:
            assert (await client.wait(plant, timeout_s=30)).state in TASK_ENDED
        roses = TaskFilter(tags={"kind": "rose"})
        bulk = await client.bulk.start("task.restart", roses, **WHO, rate_per_s=RATE_PER_S)
        async with asyncio.timeout(60):
            while (so_far := await restarted(client)) < TASKS // 4:  # noqa: ASYNC110 - asks the service
                await asyncio.sleep(0.02)
        assert so_far < TASKS
    return bulk, plants


async def restarted(client: TaskerClient) -> int:
    return len([one async for one in client.list(tags={"kind": "rose"}, states="running")])


async def outcome_of(service: Service, bulk: TaskHandle, plants: list[TaskHandle]) -> BulkOutcome:
    async with client_of(service, "florist") as client:
        while True:
            try:
                view = await client.wait(bulk, timeout_s=1)
            except DeadlineExceeded:
                continue
            break
        outcome = await client.bulk.outcome(view)
        new = [one async for one in client.list(states="running", at_least=outcome.position)]
        assert Counter(one.restarted_from for one in new) == Counter(plant.task_id for plant in plants)
        return outcome


def test_a_bulk_goes_on_after_its_service_was_killed_and_does_each_once(service: Service) -> None:
    """SIGKILL to all of its processes while a part is under way: what was done and not yet counted is done once."""
    bulk, plants = asyncio.run(restart_of_many(service))
    Rig.kill_tree(service.process)
    service.start()
    outcome = asyncio.run(outcome_of(service, bulk, plants))
    assert (outcome.matched, outcome.done, outcome.refused) == (TASKS, TASKS, 0)
    report = asyncio.run(verify(service.database_url, workers=1))
    assert report.findings == []
