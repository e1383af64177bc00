"""Real processes under load, killed at seeded moments: every task ends and the checkers find nothing."""

from __future__ import annotations

import asyncio
import shutil
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from tasker.client import NewTask
from tasker.embedded.stack import Stack
from tasker.failpoints import OF_VIEWS, OF_WORKERS, OF_WRITES
from tests.acceptance.faults import Load, Rig, until
from tests.acceptance.fires import every_fire_has_one_task, until_fired

pytestmark = [pytest.mark.faults, pytest.mark.linux, pytest.mark.timeout(300), pytest.mark.usefixtures("fault_round")]


async def test_a_killed_service_loses_nothing(rig: Rig) -> None:
    """The write side after some commits, twice; then the whole service at once; then the read side."""
    await rig.start()
    async with rig.load() as load:
        for _ in range(2):
            await load.acked(rig.random.randint(5, 40))
            rig.kill_write()
        await load.acked(rig.random.randint(5, 20))
        rig.side(rig.service.process, "read").kill()
        await load.acked(rig.random.randint(5, 20))
        rig.kill_tree(rig.service.process)
        rig.service.process.start()
        await load.acked(rig.random.randint(5, 20))
    await rig.check(load)


@pytest.mark.timeout(600)
async def test_every_failpoint(rig: Rig) -> None:
    """One after the other, each in a service of its own, under a load that never stops; each must be hit."""
    rig.service.process.arguments = ["serve", "--roles", "projections,http", "--http-port", str(rig.service.port)]
    names = [*OF_WRITES, *OF_VIEWS]
    rig.random.shuffle(names)

    async def serve(name: str) -> None:
        hit = rig.folder / f"hit_{name}"
        count = rig.random.randint(2, 4) if "cursor" in name or name in SELDOM else rig.random.randint(20, 60)
        count = 1 if name in ONCE else count
        armed = {"TASKER_FAILPOINT": f"{name}:{count}", "TASKER_FAILPOINT_HIT": str(hit)}
        writer = rig.serve("--roles", "shards,publisher", **({} if name in OF_VIEWS else armed))
        if name in OF_VIEWS:
            rig.kill_tree(rig.service.process)
        reader = rig.serve("--roles", "projections", **armed) if name in OF_VIEWS else None
        if name == "before_submit_ack":
            await submit(rig, SUBMITTED)
        if name == "before_postpone":
            asking.append(asyncio.create_task(start_again(rig), name="debounced starts"))
        if name in OF_SNAPSHOTS:
            asking.append(asyncio.create_task(set_limits(rig, name), name="a long history"))
        async with asyncio.timeout(60):
            while not hit.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.02)
        # The supervisor starts the process again; both die at a moment that nobody chose.
        await asyncio.sleep(rig.random.random())
        rig.kill_tree(writer)
        if reader is not None:
            rig.kill_tree(reader)
            rig.service.process.start()

    asking: list[asyncio.Task[None]] = []
    first = rig.serve("--roles", "shards,publisher")
    await rig.start()
    # Fewer tasks than elsewhere: it goes on for minutes, all are checked, and what chooses a moment is a count of hits.
    async with rig.load(every_s=0.1) as load:
        await load.acked(5)
        rig.kill_tree(first)
        for name in names:
            await serve(name)
        rig.serve("--roles", "shards,publisher")
        await load.acked(5)
    await asyncio.gather(*asking)
    # What a killed service had taken from the stream comes again when its time to ack is over.
    await rig.until(partial(rig.fetchval, SUBMITTED_IN_LOG), wanted=SUBMITTED)
    await rig.check(load)
    assert await rig.fetchval(LIMITS_IN_LOG) == LIMITS * len(OF_SNAPSHOTS)


async def submit(rig: Rig, count: int) -> None:
    """Leave commands in the stream."""
    async with rig.service.client() as client:
        for number in range(count):
            await client.submit(NewTask("chain", {"n": number}, idempotency_key=f"submitted-{number}"))


async def start_again(rig: Rig) -> None:
    """Start what is debounced."""
    async with rig.service.client(timeout_s=60.0) as client:
        for number in range(12):
            await client.create("burst", {"key": "one", "n": number}, idempotency_key=f"burst-{number}")


async def set_limits(rig: Rig, name: str) -> None:
    """Give the operators' controls so long a history that their state is kept."""
    start = LIMITS * OF_SNAPSHOTS.index(name)
    async with rig.service.client(timeout_s=60.0) as client:

        async def set_limit(number: int) -> None:
            await client.controls.set_limit(
                "handler", "nothing", per_s=1.0 + number, requested_by="tests", reason=name, command_id=f"l{number}"
            )

        for number in range(start, start + LIMITS, 50):
            await asyncio.gather(*map(set_limit, range(number, number + 50)))


SUBMITTED = 60
SUBMITTED_IN_LOG = (
    "SELECT count(DISTINCT stream_id) FROM event WHERE type = 'task_created'"
    " AND convert_from(payload, 'UTF8')::json ->> 'idempotency_key' LIKE 'submitted-%'"
)
LIMITS = 600
"""Events of one stream, of which a snapshot is written after 500."""

LIMITS_IN_LOG = "SELECT count(*) FROM event WHERE type = 'rate_limit_set'"
OF_SNAPSHOTS = ("before_snapshot_write", "after_snapshot_write")
ONCE = {"after_take", *OF_SNAPSHOTS}
SELDOM = {
    *("before_due_write", "after_due_write", "before_renew", "after_renew", "before_postpone"),
    *("before_timer", "after_timer", *OF_VIEWS),
}


async def test_killed_workers_lose_nothing(rig: Rig) -> None:
    """In a handler before, within and right after its effect; then the whole worker at once."""
    await rig.start()
    async with rig.load() as load:
        for where in ("after_claim", "mid_effect", "before_report"):
            await load.acked(rig.random.randint(3, 15))
            rig.sink.die(where)
            await until(partial(rig.sink.died, where))
        await load.acked(rig.random.randint(3, 15))
        rig.kill_tree(rig.worker)
        await load.acked(5)
        rig.worker.start()
    await rig.check(load)


@pytest.mark.whole
async def test_workers_killed_as_they_ack_lose_nothing(rig: Rig) -> None:
    """The owner has recorded what they reported; the message of the work comes again, to be found done with."""
    rig.service.environ["TASKER_DIRECT_ENABLED"] = "false"  # so that all work has a message
    await rig.start()
    async with rig.load() as load:
        for name in OF_WORKERS:
            await load.acked(rig.random.randint(3, 15))
            rig.kill_tree(rig.worker)
            hit = rig.folder / f"hit_{name}"
            failpoint = {
                "TASKER_FAILPOINT": f"{name}:{rig.random.randint(2, 30)}",
                "TASKER_FAILPOINT_HIT": str(hit),
            }
            rig.reach(rig.worker, **failpoint)
            rig.worker.start()
            await until(hit.exists)
        await load.acked(rig.random.randint(3, 15))
    await rig.check(load)


async def test_nats_may_lose_everything(own_rig: Rig, servers: Stack) -> None:
    """Killed and back with its store, and with an empty one; then each stream deleted; all under load."""
    rig, nats_server = own_rig, servers.nats
    await rig.start()
    async with rig.load() as load:
        await load.acked(rig.random.randint(10, 30))
        await asyncio.to_thread(nats_server.kill)
        await asyncio.to_thread(nats_server.start)
        await load.acked(rig.random.randint(10, 30))
        await asyncio.to_thread(nats_server.kill)
        shutil.rmtree(nats_server.data_dir / "jetstream")
        await asyncio.to_thread(nats_server.start)
        await load.acked(rig.random.randint(10, 30))
        for stream in (rig.subjects.work_stream, rig.subjects.event_stream):
            await rig.delete_stream(stream)
            await load.acked(rig.random.randint(10, 30))
    await rig.check(load)


async def test_postgres_may_be_killed(own_rig: Rig, servers: Stack) -> None:
    """A backend, which makes the others end as well; then the postmaster with all of them."""
    rig = own_rig
    await rig.start()
    async with rig.load() as load:
        await load.acked(rig.random.randint(10, 30))
        await rig.kill_backend()
        await load.acked(rig.random.randint(10, 30))
        await asyncio.to_thread(servers.postgres.kill)
        await asyncio.to_thread(servers.postgres.start)
        await load.acked(rig.random.randint(10, 30))
    await rig.check(load)


async def test_a_waiting_task_outlives_a_kill_between_commit_and_due_write(rig: Rig) -> None:
    """Its actor is out of memory and no due row was written: the log alone knows that it waits."""
    rig.pace({"lease_s": 1.5, "renew_s": 0.3, "due_write_s": 600, "idle_s": 0.05, "passivate_s": 0.02})
    await rig.start()
    async with rig.service.client() as client:
        load = Load(client, every_s=1)
        at = datetime.now(UTC) + timedelta(seconds=6)
        for number in range(20):
            await load.ask(number, not_before=at)
        assert await rig.fetchval("SELECT count(*) FROM due") == 0
        assert await rig.fetchval("SELECT max(position) FROM due_checkpoint") == 0
        # The passivation looks every 20 ms for what was idle for 50 ms.
        await asyncio.sleep(0.5)
        rig.kill_write()
    await rig.check(load)


async def test_a_second_service_takes_over_within_ten_seconds(rig: Rig) -> None:
    """After a kill -9 of the first, at the pace of production; the second one stood by.

    A schedule goes on there as well: what fell due meanwhile is made up for, and no fire time starts a second task.
    """
    rig.pace({})
    await rig.start()
    standby = await rig.standby()
    async with standby.client() as client:
        often = {"template": "chain", "every_s": 1, "overlap": "allow", "input": {"n": 1}}
        reply = await client.schedules.create("often", often)
        await client.schedules.get("often", at_least=reply.position)
        async with rig.load() as load:
            await load.acked(20)
            await until_fired(client, "often", 1)
            rig.kill_tree(rig.service.process)
            killed_s = time.monotonic()
            await load.acked(1)
            took_s = time.monotonic() - killed_s
            await until_fired(client, "often", (await client.schedules.get("often")).fires + 3)
        assert took_s < 10, took_s
        await every_fire_has_one_task(client, "often")
    await rig.check(load)
    assert standby.process.ended() is None


async def test_sigterm_drains_and_hands_over_at_once(rig: Rig) -> None:
    """What is under way is answered and recorded, the leases are given up, the worker waits for the next service."""
    rig.pace({"lease_s": 60, "renew_s": 1})
    await rig.start()
    async with rig.load() as load:
        for _ in range(2):
            await load.acked(rig.random.randint(10, 30))
            assert await asyncio.to_thread(rig.service.process.stop) == 0, rig.service.process.said()
            await asyncio.to_thread(rig.service.start)
        await load.acked(5)
    await rig.check(load)
    codes = rig.stop()
    assert set(codes.values()) == {0}, codes
