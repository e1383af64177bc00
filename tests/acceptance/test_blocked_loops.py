"""A handler that blocks its event loop, or its whole process: another does the step, and nothing is completed twice."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from tests.acceptance.faults import APP, HEALED_S_MAX, Rig, until

pytestmark = [pytest.mark.faults, pytest.mark.linux, pytest.mark.timeout(300), pytest.mark.usefixtures("fault_round")]


@pytest.mark.parametrize("blocked_s", [4, pytest.param(30, marks=pytest.mark.whole)])
async def test_a_blocked_loop_loses_its_attempts_and_nothing_else(rig: Rig, blocked_s: int) -> None:
    """A loop that outlasts its attempt's time, and a process that outlasts its heartbeats, under load."""
    await rig.start()
    async with rig.load() as load, rig.service.client() as client, asyncio.timeout(HEALED_S_MAX):
        handle = await client.create("blocking", blocked_s)
        _, pid = await rig.sink.begun("blocks")
        other = rig.service.command("worker", str(APP))
        other.start()
        rig.started.append(other)
        # A loop that does not come back costs its process, which is replaced.
        await until(lambda: not psutil.pid_exists(pid))
        _, pid = await rig.sink.begun("locks")

        async def running() -> list[str]:
            return [step.step for step in await client.steps(handle) if step.state == "running"]

        await rig.until(running, wanted=["locks"])
        rig.sink.go()
        assert bytes((await client.wait(handle)).result or b"") == b"4", "each was done by its second attempt"
        await until(lambda: blocked_s < STALL_S or not psutil.pid_exists(pid))
        await load.acked(20)
    await rig.check(load)
    for step in ("blocks", "locks"):
        assert {attempt for key, attempt, *_ in rig.sink.executions() if key == f"{handle.task_id}:{step}"} == {1, 2}


STALL_S = 15
"""A process that was silent for so long is ended by its parent."""
