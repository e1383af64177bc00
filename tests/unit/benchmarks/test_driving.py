"""The client of the benchmarks counts every end once and finds out when work is lost."""

import pytest

from benchmarks import driving
from benchmarks.driving import Driver, WorkLost, rate_between
from benchmarks.workloads import Workload
from tests.unit.benchmarks.systems import Echo

WORKLOAD = Workload("linear4", "linear4", 100, 0.0, 0.0)


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
