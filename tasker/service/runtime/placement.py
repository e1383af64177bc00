"""Placement: which shards this node owns, by leases that the log judges.

A lease is renewed long before it ends; a free shard (its owner gave it up, or stopped renewing) is
taken, which raises its epoch and so fences whoever still believes to own it. Spreading shards over
nodes is a later matter: a node takes every shard that is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from tasker.errors import Unavailable
from tasker.events.log import EventLog, Lease
from tasker.failpoints import failpoint
from tasker.outages import Outage
from tasker.service.runtime.node_clock import NodeClock
from tasker.settings import Pace

JUMP_S: Final = 5.0
"""So far the log's clock may go beside the machine's between two readings: an answer may take as long."""

_log = structlog.get_logger(__name__)

Taken = Callable[[dict[int, int]], None]
"""Told of shards that were just taken, with their epochs; it must not hold up the next renewal."""

Lost = Callable[[int], None]


class Placement:
    """Keeps this process's leases."""

    def __init__(
        self,
        log: EventLog,
        clock: NodeClock,
        owner: str,
        shards: Sequence[int],
        *,
        pace: Pace,
        taken: Taken,
        lost: Lost,
    ) -> None:
        self._log = log
        self._clock = clock
        self._owner = owner
        self._shards = frozenset(shards)
        self._pace = pace
        self._taken = taken
        self._lost = lost
        self._outage = Outage(_log, "lease_renewal_failed", clock.monotonic_s)
        self._held: set[int] = set()
        self._closed: set[int] = set()
        """Of those held: given up by their writer since the last renewal."""
        self._leaving = False
        self.expired = 0
        """Shards whose lease was lost without having been given up."""

    async def run(self) -> None:
        """Renew and take, for ever."""
        while True:
            try:
                await self._round()
                self._outage.is_over()
            except Unavailable as error:
                self._outage.goes_on(error.detail)
            await asyncio.sleep(self._pace.renew_s)

    def gave_up(self, shard: int) -> None:
        """Take note that a shard was given up by its writer; it is taken again when its lease allows."""
        if shard in self._held:
            self._closed.add(shard)

    async def release(self) -> None:
        """Give every lease up, for a quick handover."""
        self._leaving = True
        self._held.clear()
        self._closed.clear()
        await self._log.release(self._owner)

    async def _round(self) -> None:
        asked_s = self._clock.monotonic_s()
        failpoint("before_renew")
        lease = await self._log.renew(self._owner, self._pace.lease_s)
        failpoint("after_renew")
        self._set_clock(lease)
        self._clock.lease(self._pace.lease_s, asked_s=asked_s)
        closed, self._closed = self._closed, set()
        lost = self._held - lease.epochs.keys()
        self._held -= lost | closed
        self.expired += len(lost)
        if lost:
            _log.warning("shards_lost", shards=sorted(lost))
        for shard in lost:
            if shard not in closed:
                self._lost(shard)
        wanted = sorted(self._shards - self._held)
        if wanted and not self._leaving:
            await self._acquire(wanted)

    async def _acquire(self, wanted: Sequence[int]) -> None:
        lease = await self._log.acquire(self._owner, wanted, self._pace.lease_s)
        self._set_clock(lease)
        failpoint("after_take")
        if self._leaving:
            # All was given up while these were asked for: they are nobody's, too.
            await self._log.release(self._owner)
            return
        epochs = {shard: epoch for shard, epoch in lease.epochs.items() if shard in wanted}
        if epochs:
            # The clock keeps the end that the renewal gave it: leases taken now end later than those renewed.
            _log.info("shards_taken", shards=sorted(epochs))
            self._held |= epochs.keys()
        self._taken(epochs)

    def _set_clock(self, lease: Lease) -> None:
        jumped_s = self._clock.set(lease.now_us)
        if abs(jumped_s) >= JUMP_S:
            _log.warning("log_clock_jumped", by_s=round(jumped_s, 1))
