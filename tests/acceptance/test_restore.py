"""The database is restored to an earlier time: what it has goes on, and nothing of the lost time is mixed in."""

from __future__ import annotations

import json
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tasker.client import NewTask, TaskerClient, TaskHandle
from tasker.client.subscription import START
from tasker.errors import PositionInvalid, TaskUnknown
from tests.acceptance.faults import Rig, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

CANNOT_START = 2
DUE_WRITTEN = """
SELECT bool_and(c.position = coalesce((SELECT max(e.position) FROM event AS e WHERE e.shard = c.shard), 0))
FROM due_checkpoint AS c
"""
LEASED = "SELECT max(lease_until) > clock_timestamp() FROM shard_head"
"""What is restored says so as well, for some seconds, whoever the owner was."""

BESIDE_THE_LOG = """
SELECT count(*)
FROM (SELECT shard, position FROM due_checkpoint UNION ALL SELECT shard, position FROM publish_cursor) AS c
WHERE c.position > coalesce((SELECT max(e.position) FROM event AS e WHERE e.shard = c.shard), 0)
"""


async def test_a_log_restored_to_an_earlier_time_goes_on_under_a_new_id(own_rig: Rig) -> None:
    """Refused at first: the stream knows of events that the log lost. Renewed, all of it is of one time again."""
    rig = own_rig
    await rig.start()
    async with rig.service.client() as client:
        kept, open_task = await what_is_kept(rig, client)
    stop(rig)
    await copy(rig, "_backup")

    rig.service.process.start()
    rig.worker.start()
    await rig.registered()
    async with rig.service.client() as client:
        lost = await create(client, "lost", 20)
        for task in lost:
            await client.wait(task)
        async with client.subscribe(types=["task_completed"], start=START) as events:
            shown = {(await anext(events)).subject for _ in range(len(kept) + len(lost))}
            position = events.position
        assert shown == {task.task_id for task in kept + lost}
    owned = rig.service.run("log", "renew")
    assert owned.returncode == CANNOT_START
    assert "a service owns this log until" in owned.stderr
    stop(rig)
    await restore(rig, "_backup")

    rig.service.process.start()
    await until(lambda: rig.service.process.ended() is not None)
    assert rig.service.process.ended() == CANNOT_START
    assert "it was restored to an earlier time. `tasker log renew`" in rig.service.process.said()

    assert "log_restored: the stream" in rig.service.run("doctor").stdout

    renewed = rig.service.run("log", "renew", "-o", "json")
    assert renewed.returncode == 0, renewed.stderr
    assert "log_restored" not in rig.service.run("doctor").stdout
    ids = json.loads(renewed.stdout)
    assert ids["before"] != ids["log_id"]
    rig.sink.go()
    rig.service.process.start()
    rig.worker.start()
    await rig.registered()
    async with rig.service.client() as client:
        assert (await client.wait(open_task.task_id)).state == "completed"
        for task in lost:
            with pytest.raises(TaskUnknown):
                await client.get(task.task_id)
        with pytest.raises(PositionInvalid, match="restored to an earlier time"):
            async with client.subscribe(types=["task_completed"], start=position) as events:
                await anext(events)
    async with rig.load() as load:
        await load.acked(20)
    await rig.check(load)
    assert all(f"{ids['log_id']}:" in json.loads(body)["id"] for body in await rig.published())


async def test_a_log_restored_under_its_running_service_takes_nothing_from_it(own_rig: Rig) -> None:
    """It still has its leases and epochs. What it knows of the lost time is kept out, and it ends and says why."""
    rig = own_rig
    await rig.start()
    async with rig.service.client() as client:
        _, open_task = await what_is_kept(rig, client)
        await rig.until(lambda: rig.fetchval(DUE_WRITTEN), wanted=True)
        await copy(rig, "_backup")
        # What it owes with the restored log is gone in the time that is lost.
        await client.cancel(open_task)
        lost = await create(client, "lost", 20)
        rig.kill_tree(rig.worker)
        await restore(rig, "_backup")
        await until(lambda: rig.service.process.ended() is not None)
    assert rig.service.process.ended() == CANNOT_START
    assert "it was restored to an earlier time. `tasker log renew`" in rig.service.process.said()
    assert "unit_refused" not in rig.service.process.said()
    assert await rig.fetchval(BESIDE_THE_LOG) == 0

    await rig.until(lambda: rig.fetchval(LEASED), wanted=False)
    renewed = rig.service.run("log", "renew")
    assert renewed.returncode == 0, renewed.stderr
    rig.sink.go()
    rig.service.process.start()
    rig.worker.start()
    await rig.registered()
    async with rig.service.client() as client:
        assert (await client.wait(open_task.task_id)).state == "completed"
        for task in lost:
            with pytest.raises(TaskUnknown):
                await client.get(task.task_id)
    async with rig.load() as load:
        await load.acked(20)
    await rig.check(load)


async def what_is_kept(rig: Rig, client: TaskerClient) -> tuple[list[TaskHandle], TaskHandle]:
    """Return tasks that have ended, and one whose handler waits: all of the time before the copy."""
    ended = await create(client, "kept", 20)
    open_task = await client.create("slow", idempotency_key="open")
    await rig.sink.begun("waits")
    for task in ended:
        await client.wait(task)
    return ended, open_task


async def create(client: TaskerClient, name: str, count: int) -> list[TaskHandle]:
    made = await client.create_many(
        [NewTask("chain", {"n": 1}, idempotency_key=f"{name}-{number}") for number in range(count)]
    )
    assert all(isinstance(one, TaskHandle) for one in made), made
    return [one for one in made if isinstance(one, TaskHandle)]


def stop(rig: Rig) -> None:
    """End the worker at once, and let the service drain."""
    rig.kill_tree(rig.worker)
    assert rig.service.process.stop() == 0


async def copy(rig: Rig, suffix: str) -> None:
    """Keep the database as it is now, under another name; who is connected has to come again."""
    await over(
        rig,
        f'ALTER DATABASE "{name_of(rig)}" ALLOW_CONNECTIONS false',
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name_of(rig)}'",  # noqa: S608
        f'CREATE DATABASE "{name_of(rig)}{suffix}" TEMPLATE "{name_of(rig)}"',
        f'ALTER DATABASE "{name_of(rig)}" ALLOW_CONNECTIONS true',
    )


async def restore(rig: Rig, suffix: str) -> None:
    """Bring the database back to what was kept."""
    await over(
        rig,
        f'DROP DATABASE "{name_of(rig)}" WITH (FORCE)',
        f'ALTER DATABASE "{name_of(rig)}{suffix}" RENAME TO "{name_of(rig)}"',
    )


def name_of(rig: Rig) -> str:
    return urlsplit(rig.service.database_url).path.removeprefix("/")


async def over(rig: Rig, *statements: str) -> None:
    """Run statements of databases, from another one."""
    connection = await asyncpg.connect(urlunsplit(urlsplit(rig.service.database_url)._replace(path="/postgres")))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
