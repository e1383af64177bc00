"""A client that starts tasks at a rate, whatever becomes of them, and what it saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks.driving import System, WorkLost, percentile_ms
from benchmarks.workloads import ARRAY

TICK_S: Final = 0.05
OPEN_S_MAX: Final = 10.0
"""Tasks of so many seconds may be open; above that none is started: the rate is then not kept, and that is told."""

END_S_MAX: Final = 60.0


class Window(NamedTuple):
    """What has happened since the pacer was asked before; None: nothing ended."""

    p50_ms: float | None
    p99_ms: float | None


class Pacer:
    """Starts tasks of one shape on an open system, `rate` a second.

    Attributes:
        asked: how many the rate has asked for. started, ended: how many were.
    """

    def __init__(self, system: System, shape: str, rate: float) -> None:
        self._system = system
        self._shape = shape
        self._rate = rate
        self.asked = 0
        self.started = 0
        self.ended = 0
        self._began_s: dict[str, float] = {}
        self._early_s: dict[str, float] = {}
        """Ends that were seen before their creation was answered."""

        self._latencies_s: list[float] = []
        self._creations: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None

    async def run(self, seconds: float, stop: asyncio.Event) -> float:
        """Start tasks for `seconds`, or until `stop`; returns for how long it did.

        Raises:
            WorkLost: a creation failed.
        """
        begun_s = time.perf_counter()
        before = self.asked
        while (passed_s := time.perf_counter() - begun_s) < seconds and not stop.is_set():
            if self._failed is not None:
                raise self._failed
            due = before + int(passed_s * self._rate) - self.asked
            self.asked += due
            room = int(self._rate * OPEN_S_MAX) - (self.started - self.ended)
            self._start(min(due, room))
            await asyncio.sleep(TICK_S)
        return time.perf_counter() - begun_s

    async def finish(self) -> None:
        """Wait for the ends of all that were started.

        Raises:
            WorkLost: some do not come.
        """
        until_s = time.perf_counter() + END_S_MAX
        while self._creations or self.ended < self.started:
            if self._failed is not None:
                raise self._failed
            if time.perf_counter() > until_s:
                raise WorkLost(f"{self.started - self.ended} of {self.started} tasks did not end in {END_S_MAX:g} s")
            await asyncio.sleep(TICK_S)

    def window(self) -> Window:
        """Return what ended since the call before."""
        latencies_s, self._latencies_s = sorted(self._latencies_s), []
        if not latencies_s:
            return Window(None, None)
        return Window(percentile_ms(latencies_s, 0.5), percentile_ms(latencies_s, 0.99))

    def on_ended(self, task_ids: Sequence[str]) -> None:
        """Take the ends of tasks; each is told once."""
        now_s = time.perf_counter()
        for task_id in task_ids:
            began_s = self._began_s.pop(task_id, None)
            if began_s is None:
                self._early_s[task_id] = now_s
            else:
                self._end(now_s - began_s)

    def _start(self, count: int) -> None:
        while count > 0:
            size = min(count, ARRAY)
            count -= size
            self.started += size
            creation = asyncio.create_task(self._create(size))
            self._creations.add(creation)
            creation.add_done_callback(self._creations.discard)

    async def _create(self, count: int) -> None:
        began_s = time.perf_counter()
        try:
            for task_id in await self._system.create(self._shape, count):
                ended_s = self._early_s.pop(task_id, None)
                if ended_s is None:
                    self._began_s[task_id] = began_s
                else:
                    self._end(ended_s - began_s)
        except Exception as error:  # noqa: BLE001 - it is raised where the load runs
            self._failed = error

    def _end(self, latency_s: float) -> None:
        self.ended += 1
        self._latencies_s.append(latency_s)
