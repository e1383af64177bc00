"""The client of a long run starts what the rate asks for, and finds out when work is lost."""

import asyncio

import pytest

from benchmarks import pacing
from benchmarks.driving import WorkLost
from benchmarks.pacing import Pacer
from tests.unit.benchmarks.systems import Echo

RATE = 2000.0


async def paced(system: Echo, seconds: float = 0.3, stop: asyncio.Event | None = None) -> Pacer:
    pacer = Pacer(system, "linear4", RATE)
    await system.open(pacer.on_ended)
    await pacer.run(seconds, stop or asyncio.Event())
    return pacer


@pytest.mark.parametrize("system", [Echo(), Echo(early=True)], ids=["late", "early"])
async def test_the_rate_is_kept_and_every_end_is_measured(system: Echo) -> None:
    pacer = await paced(system)
    await pacer.finish()
    assert pacer.asked == pacer.started == pacer.ended == system.created
    assert 0.2 * RATE < pacer.started <= 0.3 * RATE + 1
    window = pacer.window()
    assert window.p50_ms is not None
    assert window.p99_ms is not None
    assert window.p50_ms <= window.p99_ms
    assert pacer.window() == (None, None)


async def test_a_stop_ends_the_load_early() -> None:
    stop = asyncio.Event()
    stop.set()
    pacer = await paced(Echo(), 60.0, stop)
    assert pacer.started == 0


async def test_a_lost_task_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "END_S_MAX", 0.1)
    pacer = await paced(Echo(loses=7), 0.1)
    with pytest.raises(WorkLost, match="1 of"):
        await pacer.finish()


async def test_a_rate_above_what_ends_is_not_kept_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "OPEN_S_MAX", 0.05)

    class Still(Echo):
        def _tell(self, ended: list[str]) -> None:
            """Nothing ends."""

    pacer = await paced(Still())
    assert pacer.started == 100
    assert pacer.asked > 400
