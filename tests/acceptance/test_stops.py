"""Processes that are stopped in their tracks for a while (SIGSTOP) and go on as if nothing had happened."""

from __future__ import annotations

import asyncio
from functools import partial

import psutil
import pytest

from tasker.embedded.stack import Stack
from tests.acceptance.faults import LEASE_S, ROUNDS, Rig, family, stopped

pytestmark = [pytest.mark.faults, pytest.mark.linux, pytest.mark.timeout(300), pytest.mark.usefixtures("fault_round")]

LEASES_MAX = 1.5 if ROUNDS == 1 else 5.0


async def test_a_stop_of_any_process_only_takes_its_time(own_rig: Rig, servers: Stack) -> None:
    """Of the owner of all shards, of the read side, of the worker, of PostgreSQL, of nats-server."""
    rig = own_rig
    await rig.start()
    victims = {
        "write": lambda: [rig.side(rig.service.process, "write")],
        "read": lambda: [rig.side(rig.service.process, "read")],
        "worker": lambda: family(rig.worker.pid),
        "worker's child": lambda: psutil.Process(rig.worker.pid).children(),
        "postgres": lambda: family(servers.postgres.pid),
        "nats": lambda: family(servers.nats.pid),
    }
    async with rig.load() as load:
        for name in rig.random.sample(list(victims), len(victims)):
            await load.acked(rig.random.randint(3, 15))
            with stopped(victims[name]()):
                await asyncio.sleep(rig.random.uniform(0.5, LEASES_MAX) * LEASE_S)
        await load.acked(5)
    await rig.check(load)


async def test_a_stopped_owner_is_replaced_and_writes_nothing_when_it_wakes(rig: Rig) -> None:
    """Its lease runs out, another takes over; what it had decided before it was stopped is fenced."""
    await rig.start()
    standby = await rig.standby()
    owner, other = rig.service, standby
    async with rig.load(every_s=0.02) as load:
        for _ in range(2 if ROUNDS == 1 else 4):
            await load.acked(rig.random.randint(10, 40))
            with stopped([rig.side(owner.process, "write")]):
                await rig.until(partial(still_of, rig, await owners(rig)), wanted=set())
                # The other one serves.
                await load.acked(rig.random.randint(10, 40))
            owner, other = other, owner
        await load.acked(5)
    await rig.check(load)
    for service in (rig.service, standby):
        assert service.process.ended() is None
        assert service.metrics()["tasker_lease_expirations_total"] > 0


async def owners(rig: Rig) -> set[str]:
    """Return who has a lease."""
    return set(await rig.fetchval("SELECT array_agg(DISTINCT owner) FROM shard_head WHERE owner IS NOT NULL") or ())


async def still_of(rig: Rig, before: set[str]) -> set[str]:
    """Return who of those before has a lease still."""
    return before & await owners(rig)
