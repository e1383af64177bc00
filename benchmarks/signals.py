"""How many signals a second the service takes: to one task at a time, and to a thousand of them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import msgspec

from benchmarks.driving import WorkLost, percentile_ms
from benchmarks.workloads import ARRAY, ARRAYS_IN_FLIGHT, HEARD_10, HEARD_1000
from tasker.events.messages import Reply

SIGNAL: Final = "tick"
TASKS: Final = 1000
_replies = msgspec.json.Decoder(list[Reply])


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured.

    Attributes:
        to_one_per_s: to one task, 1,000 of them, then to the next one.
        to_many_per_s: to 1,000 tasks in turns, 10 to each.
        p50_ms, p99_ms: from an array of 100 signals to its answer.
    """

    signals: int
    to_one_per_s: float
    to_many_per_s: float
    p50_ms: float
    p99_ms: float


Create = Callable[[str, int], Awaitable[list[str]]]
Request = Callable[[str, bytes], Awaitable[bytes]]


class Signaller:
    """Creates tasks that wait for signals, and sends them."""

    def __init__(self, create: Create, request: Request) -> None:
        self._create = create
        self._request = request
        self._numbers = itertools.count()
        self._latencies: list[float] = []

    async def measure(self, seconds: float) -> Signals:
        """Send for `seconds`, half of them to one task at a time.

        Raises:
            WorkLost: a signal was refused.
        """
        to_one, one_s = await self._during(seconds / 2, self._one)
        to_many, many_s = await self._during(seconds / 2, self._many)
        latencies = sorted(self._latencies)
        return Signals(
            signals=to_one + to_many,
            to_one_per_s=round(to_one / one_s, 1),
            to_many_per_s=round(to_many / many_s, 1),
            p50_ms=percentile_ms(latencies, 0.5),
            p99_ms=percentile_ms(latencies, 0.99),
        )

    async def _during(self, seconds: float, turn: Callable[[], Awaitable[tuple[int, float]]]) -> tuple[int, float]:
        """Return how many signals whole turns sent, and in how long."""
        sent, spent_s, until_s = 0, 0.0, time.perf_counter() + seconds
        while not sent or time.perf_counter() < until_s:
            count, took_s = await turn()
            sent += count
            spent_s += took_s
        return sent, spent_s

    async def _one(self) -> tuple[int, float]:
        task_ids = await self._create(HEARD_1000, 1)
        return await self._send(task_ids * 1000)

    async def _many(self) -> tuple[int, float]:
        task_ids: list[str] = []
        while len(task_ids) < TASKS:
            task_ids += await self._create(HEARD_10, ARRAY)
        return await self._send(task_ids * 10)

    async def _send(self, task_ids: Sequence[str]) -> tuple[int, float]:
        arrays = iter([task_ids[at : at + ARRAY] for at in range(0, len(task_ids), ARRAY)])
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(ARRAYS_IN_FLIGHT):
                group.create_task(self._send_arrays(arrays))
        return len(task_ids), time.perf_counter() - began_s

    async def _send_arrays(self, arrays: Iterable[Sequence[str]]) -> None:
        for task_ids in arrays:
            signals = [
                {"task_id": task_id, "name": SIGNAL, "value": 1, "command_id": f"tick-{next(self._numbers)}"}
                for task_id in task_ids
            ]
            began_s = time.perf_counter()
            replies = _replies.decode(await self._request("task.signal", msgspec.json.encode(signals)))
            self._latencies.append(time.perf_counter() - began_s)
            refused = next((reply for reply in replies if not reply.ok), None)
            if refused is not None:
                raise WorkLost(f"a signal was refused: {refused.error}")
