"""What every process of the service tells of itself: build, processor, event loop, connections."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from tasker.metrics.histogram import Histogram
from tasker.metrics.sample import Samples
from tasker.version import __version__

LOOK_S: Final = 0.25

_STARTED_S: Final = time.time()


class Pool(msgspec.Struct, frozen=True):
    """A pool of connections at one moment: how many are open, how many of those are busy, how many may be."""

    open: int
    busy: int
    max: int


class ProcessMetrics:
    """Of one process.

    Args:
        pools: name -> how the pool is now.
        connected: whether there is a connection to NATS.
    """

    def __init__(self, pools: Mapping[str, Callable[[], Pool]], connected: Callable[[], bool]) -> None:
        self._pools = pools
        self._connected = connected
        self._lag = Histogram("tasker_event_loop_lag_seconds")
        self._reconnects = 0

    def on_reconnect(self) -> None:
        """Count a connection to NATS that was made anew."""
        self._reconnects += 1

    async def run(self) -> None:
        """Watch the event loop, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self._lag.add(max(0.0, loop.time() - due_s))

    def tell(self, samples: Samples) -> None:
        """Add what is so now."""
        samples.add("tasker_build_info", 1, __version__, platform.python_version())
        samples.add("tasker_process_up", 1)
        samples.add("tasker_process_start_time_seconds", _STARTED_S)
        samples.add("tasker_process_cpu_seconds_total", time.process_time())
        samples.add_histogram("tasker_event_loop_lag_seconds", self._lag)
        for name, state in self._pools.items():
            pool = state()
            samples.add("tasker_database_connections", pool.busy, name, "busy")
            samples.add("tasker_database_connections", pool.open - pool.busy, name, "idle")
            samples.add("tasker_database_connections_max", pool.max, name)
        samples.add("tasker_nats_connected", self._connected())
        samples.add("tasker_nats_reconnects_total", self._reconnects)
