"""Leases of a process that gives them up."""

import asyncio
from collections.abc import Sequence

import structlog

from tasker.clock import SystemClock
from tasker.events.envelope import US_PER_S
from tasker.events.log import Lease
from tasker.events.memory_log import MemoryLog
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.placement import Placement
from tasker.settings import Pace


class SlowLog(MemoryLog):
    """Takes shards only once it is let."""

    def __init__(self) -> None:
        super().__init__(clock=SystemClock(), shards=2)
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def acquire(self, owner: str, shards: Sequence[int], lease_s: float) -> Lease:
        self.asked.set()
        await self.let.wait()
        return await super().acquire(owner, shards, lease_s)


async def test_what_is_taken_while_all_is_given_up_is_given_up_as_well() -> None:
    """Another node would have to wait until the lease has run out, and this one would begin to serve."""
    log, taken = SlowLog(), list[dict[int, int]]()
    placement = Placement(log, NodeClock(), "a", range(2), pace=Pace(), taken=taken.append, lost=lambda _: None)
    under_way = asyncio.create_task(placement._round())
    await log.asked.wait()
    await placement.release()
    log.let.set()
    await under_way
    assert taken == []
    assert (await log.acquire("b", range(2), 10.0)).epochs.keys() == {0, 1}


class JumpingLog(MemoryLog):
    """Its clock is off by `off_s`."""

    off_s = 0.0

    async def renew(self, owner: str, lease_s: float) -> Lease:
        lease = await super().renew(owner, lease_s)
        return Lease(epochs=lease.epochs, now_us=lease.now_us + round(self.off_s * US_PER_S))


async def test_a_clock_of_the_log_that_jumps_is_told_once_and_time_never_goes_back() -> None:
    """Running attempts were lost by it (their heartbeats were ten minutes old), and nothing said why."""
    log, clock = JumpingLog(clock=SystemClock(), shards=2), NodeClock()
    placement = Placement(log, clock, "a", range(2), pace=Pace(), taken=lambda _: None, lost=lambda _: None)
    told: list[list[float]] = []
    for off_s in (0.0, 3.0, 600.0, -600.0, 0.0, 0.0):
        log.off_s, before_us = off_s, clock.now_us()
        with structlog.testing.capture_logs() as lines:
            await placement._round()
            await placement._round()
        told.append([one["by_s"] for one in lines if one["event"] == "log_clock_jumped"])
        assert clock.now_us() >= before_us
    assert [[round(by_s) for by_s in one] for one in told] == [[], [], [597], [-1200], [600], []]
