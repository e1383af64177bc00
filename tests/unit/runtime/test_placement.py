"""Leases of a process that gives them up."""

import asyncio
from collections.abc import Sequence

from tasker.clock import SystemClock
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
