"""One client that keeps a number of tasks open, the same for both systems, and what it saw."""

from __future__ import annotations

import abc
import asyncio
import time
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Self

import msgspec

from benchmarks.processes import Find, Meter
from benchmarks.workloads import ARRAY, SHAPES, Workload

Ended = Callable[[Sequence[str]], None]
"""Takes the ids of tasks that have ended, when they are seen to."""

STUCK_S: Final = 30.0
"""No end for so long: work was lost."""


class WorkLost(Exception):
    """The harness asked for work that was not done, or not done right."""


class System(abc.ABC):
    """What is driven."""

    name: ClassVar[str]

    @abc.abstractmethod
    def parts(self) -> dict[str, Find]:
        """Return its own processes by part."""

    @abc.abstractmethod
    async def open(self, ended: Ended) -> None:
        """Connect as a client; tell `ended` of every end from now on."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Disconnect. Twice is fine."""

    @abc.abstractmethod
    async def create(self, shape: str, count: int) -> list[str]:
        """Create tasks and return their ids; their ends may be told earlier."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a workload came to.

    Attributes:
        tasks: created and ended, also outside the time in which the rate was taken (`rate_between`).
        p50_ms, p99_ms: from the creation to the end as the client sees them.
        cpu_us_per_step: by part, from the first creation to the last end.
        others_cores: cores that other programs kept busy meanwhile.
    """

    tasks: int
    seconds: float
    tasks_per_s: float
    steps_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_step: dict[str, float]
    others_cores: float


class Driver:
    """Runs workloads on one system, one after the other."""

    def __init__(self, system: System, servers: dict[str, Find]) -> None:
        self._system = system
        self._servers = servers
        self._began: dict[str, float] = {}
        self._early: dict[str, float] = {}
        """Ends that were seen before their creation was answered."""

        self._seen: set[str] = set()
        self._ends: list[float] = []
        self._latencies: list[float] = []
        self._credit = 0
        self._wake = asyncio.Event()
        self._failed: BaseException | None = None

    async def __aenter__(self) -> Self:
        await self._system.open(self._on_ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._system.close()

    async def run(self, workload: Workload, seconds: float) -> Figures:
        """Start tasks for `seconds`, wait for all of them, and return the figures.

        Raises:
            WorkLost: the ends stop coming before all are there.
        """
        self._ends, self._latencies = [], []
        self._credit = workload.in_flight
        meter = Meter({**self._system.parts(), **self._servers})
        started_s = time.perf_counter()
        until_s = started_s + seconds
        sent = await self._send(workload, until_s)
        while len(self._latencies) < sent:
            await self._turn(sent)
        return self._figures(workload, started_s, until_s, meter)

    async def _send(self, workload: Workload, until_s: float) -> int:
        """Start a task for each that ends, some at a time; returns how many."""
        sent = 0
        least = min(ARRAY // 2, workload.in_flight)
        creations: set[asyncio.Task[None]] = set()
        while time.perf_counter() < until_s:
            if self._credit < least:
                await self._turn(sent)
                continue
            while self._credit > 0:
                count = min(self._credit, ARRAY)
                self._credit -= count
                sent += count
                creation = asyncio.create_task(self._create(workload.shape, count))
                creations.add(creation)
                creation.add_done_callback(creations.discard)
            await asyncio.sleep(0)
        return sent

    async def _create(self, shape: str, count: int) -> None:
        began_s = time.perf_counter()
        try:
            for task_id in await self._system.create(shape, count):
                ended_s = self._early.pop(task_id, None)
                if ended_s is None:
                    self._began[task_id] = began_s
                else:
                    self._latencies.append(ended_s - began_s)
        except Exception as error:  # noqa: BLE001 - it is raised where the workload runs
            self._failed = error
        self._wake.set()

    def _on_ended(self, task_ids: Sequence[str]) -> None:
        now_s = time.perf_counter()
        for task_id in task_ids:
            if task_id in self._seen:
                continue  # published again after a broken session
            self._seen.add(task_id)
            self._credit += 1
            began_s = self._began.pop(task_id, None)
            if began_s is None:
                self._early[task_id] = now_s
            else:
                self._latencies.append(now_s - began_s)
            self._ends.append(now_s)
        self._wake.set()

    async def _turn(self, sent: int) -> None:
        """Wait for news."""
        if self._failed is not None:
            raise self._failed
        try:
            async with asyncio.timeout(STUCK_S):
                await self._wake.wait()
        except TimeoutError:
            done = len(self._latencies)
            raise WorkLost(f"{self._system.name}: {done} of {sent} tasks ended, then none in {STUCK_S:g} s") from None
        self._wake.clear()

    def _figures(self, workload: Workload, started_s: float, until_s: float, meter: Meter) -> Figures:
        rate = rate_between(self._ends, workload.in_flight, started_s, until_s)
        steps = SHAPES[workload.shape].steps
        done = len(self._latencies)
        latencies = sorted(self._latencies)
        return Figures(
            tasks=done,
            seconds=round(max(self._ends) - started_s, 3),
            tasks_per_s=round(rate, 1),
            steps_per_s=round(rate * steps, 1),
            p50_ms=percentile_ms(latencies, 0.5),
            p99_ms=percentile_ms(latencies, 0.99),
            cpu_us_per_step={part: round(used * 1e6 / (done * steps), 1) for part, used in meter.stop().items()},
            others_cores=meter.others_cores(),
        )


def percentile_ms(sorted_s: Sequence[float], share: float) -> float:
    """Return the value of ascending seconds below which that share of them lies, in milliseconds."""
    return round(sorted_s[int(len(sorted_s) * share)] * 1e3, 3)


def rate_between(ends: Sequence[float], skip: int, started_s: float, until_s: float) -> float:
    """Return how many tasks ended a second, from the end of the first `skip` to the moment when no more are started.

    The first ones go all in step, the last ones have the machine to themselves: neither is a steady state. When
    there is too little between them, the rate is that of the whole run.
    """
    steady = [end_s for end_s in ends if end_s < until_s]
    if len(steady) >= 2 * skip:
        return (len(steady) - skip) / (until_s - steady[skip - 1])
    return len(ends) / (ends[-1] - started_s)
