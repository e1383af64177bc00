"""SIGTERM when it comes at a bad time: in a long step, and when the servers are gone or frozen."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psutil
import pytest

from tasker.embedded.stack import Stack
from tasker.handlers.options import SETTLE_S
from tests.acceptance.conftest import Process, free_port
from tests.acceptance.faults import HEALED_S_MAX, Rig, family, stopped, until

pytestmark = [pytest.mark.faults, pytest.mark.linux, pytest.mark.timeout(300), pytest.mark.usefixtures("fault_round")]

DRAIN_S = 4.0
SPARE_S = 5.0
"""For the ends of processes on a busy machine."""


async def test_a_long_step_outlives_the_drain_of_the_service_and_ends_before_that_of_its_worker(rig: Rig) -> None:
    port = free_port()
    rig.worker.arguments += ["--health-port", str(port)]
    await rig.start()
    async with rig.service.client() as client, asyncio.timeout(HEALED_S_MAX):
        handle = await client.create("slow")
        await rig.sink.begun("waits")
        await until(lambda: is_ready(port))
        assert await asyncio.to_thread(rig.service.process.stop) == 0, rig.service.process.said()
        await asyncio.to_thread(rig.service.start)
        drained = asyncio.create_task(asyncio.to_thread(rig.worker.stop))
        await until(lambda: not is_ready(port))
        assert rig.worker.ended() is None, "it waits for the step"
        rig.sink.go()
        assert await drained == 0, rig.worker.said()
        assert bytes((await client.wait(handle)).result or b"") == b"1"
    assert rig.sink.executions()[-1][1] == 1


async def test_a_step_that_is_longer_than_the_drain_is_done_by_another_worker(rig: Rig) -> None:
    rig.worker.arguments += ["--drain-s", "0.5"]
    await rig.start()
    async with rig.load() as load, asyncio.timeout(HEALED_S_MAX):
        async with rig.service.client() as client:
            handle = await client.create("slow")
            await rig.sink.begun("waits")
            assert await asyncio.to_thread(rig.worker.stop) == 0, rig.worker.said()
            rig.worker.start()
            await rig.sink.begun("waits", attempt=2)
            rig.sink.go()
            assert bytes((await client.wait(handle)).result or b"") == b"2"
        await load.acked(5)
    await rig.check(load)


@pytest.fixture
def frozen() -> Iterator[Callable[[int], None]]:
    """Return what stops a process and all below it until the test ends."""
    with ExitStack() as thawing:
        yield lambda pid: thawing.enter_context(stopped(family(pid)))


@pytest.mark.parametrize("how", ["gone", pytest.param("frozen", marks=pytest.mark.whole)])
@pytest.mark.parametrize("server", ["postgres", "nats"])
async def test_it_ends_in_time_without_its_servers(
    own_rig: Rig, servers: Stack, frozen: Callable[[int], None], server: str, how: str
) -> None:
    """Within the drain's time, without a traceback, and so do the worker and a service that only tries to start."""
    rig = own_rig
    rig.service.environ["TASKER_SERVICE_DRAIN_S"] = str(DRAIN_S)
    rig.worker.arguments += ["--drain-s", str(DRAIN_S)]
    await rig.start()
    starting = rig.service.command("serve", "--http-port", "0")
    async with rig.load() as load:
        await load.acked(10)
        part = getattr(servers, server)
        if how == "gone":
            await asyncio.to_thread(part.kill)
        else:
            frozen(part.pid)
        starting.start()
        rig.started.append(starting)
        # Both have noticed, and are in the middle of it.
        await until(lambda: len(psutil.Process(starting.pid).children()) == 2)
        await asyncio.sleep(rig.random.uniform(0.0, 2.0))
        started_s = time.monotonic()

        async def took(process: Process) -> tuple[int, float]:
            return await asyncio.to_thread(process.stop), time.monotonic() - started_s

        processes = [rig.service.process, starting, rig.worker]
        found = await asyncio.gather(*map(took, processes))
        load.forget()
    print(server, how, found)  # noqa: T201 - how near the bounds are
    said = "\n".join(process.log.read_text(errors="replace") for process in processes)
    assert [code for code, _ in found] == [0, 0, 0], said
    # asyncpg's pool tells of each connection that it cannot make again, a worker of the steps that the load has fail.
    not_ours = ('"logger":"asyncpg.pool"', '"event":"attempt_failed"')
    ours = "\n".join(line for line in said.splitlines() if not any(mark in line for mark in not_ours))
    assert "Traceback" not in ours, ours
    # What only starts has nothing to drain; a worker gives its last reports, and its farewell, more time.
    bounds_s = (DRAIN_S + SPARE_S, SPARE_S, DRAIN_S + 2 * SETTLE_S + SPARE_S)
    for (_, took_s), bound_s in zip(found, bounds_s, strict=True):
        assert took_s < bound_s, said
    if how == "gone":
        assert "killed_before_drained" not in said, said


def is_ready(port: int) -> bool:
    """Say whether a worker takes work, by its health."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5):
            return True
    except OSError:
        return False
