"""The client of the benchmarks counts every end once and finds out when work is lost."""

import asyncio
import itertools

import pytest

from benchmarks import driving
from benchmarks.driving import Driver, Ended, System, WorkLost, rate_between
from benchmarks.processes import Find
from benchmarks.workloads import Workload

WORKLOAD = Workload("linear4", "linear4", 100, 0.0, 0.0)


class Echo(System):
    """Ends each task as it is created; `early` before the creation is answered, `twice` two times."""

    name = "echo"

    def __init__(self, *, early: bool = False, twice: bool = False, loses: int | None = None) -> None:
        self._numbers = itertools.count()
        self._early = early
        self._twice = twice
        self._loses = loses
        self._ended: Ended | None = None
        self.created = 0

    def parts(self) -> dict[str, Find]:
        return {}

    async def open(self, ended: Ended) -> None:
        self._ended = ended

    async def close(self) -> None:
        self._ended = None

    async def create(self, shape: str, count: int) -> list[str]:
        self.created += count
        numbers = [next(self._numbers) for _ in range(count)]
        ended = [str(number) for number in numbers if number != self._loses]
        if self._early:
            self._tell(ended)
        else:
            asyncio.get_running_loop().call_later(0.001, self._tell, ended)
        return [str(number) for number in numbers]

    def _tell(self, ended: list[str]) -> None:
        assert self._ended is not None
        for _ in range(1 + self._twice):
            self._ended(ended)


@pytest.mark.parametrize("system", [Echo(), Echo(early=True), Echo(twice=True)], ids=["late", "early", "twice"])
async def test_every_task_is_counted_once(system: Echo) -> None:
    async with Driver(system, {}) as driver:
        figures = await driver.run(WORKLOAD, 0.05)
    assert figures.tasks == system.created >= 100
    assert figures.steps_per_s == pytest.approx(4 * figures.tasks_per_s, abs=0.5)


async def test_a_lost_task_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "STUCK_S", 0.05)
    async with Driver(Echo(loses=7), {}) as driver:
        with pytest.raises(WorkLost, match="echo"):
            await driver.run(WORKLOAD, 0.02)


def test_the_rate_leaves_out_start_and_drain() -> None:
    burst = [1.0] * 10
    steady = [2.0 + number / 10 for number in range(10)]
    drain = [3.0 + number / 100 for number in range(10)]
    assert rate_between([*burst, *steady, *drain], 10, 0.0, 3.0) == pytest.approx(5.0)


def test_the_rate_of_a_run_that_was_too_short_is_that_of_all_of_it() -> None:
    assert rate_between([1.0, 2.0], 10, 0.0, 0.5) == pytest.approx(1.0)
