"""What a limit that holds nothing back adds to a step: calls of functions are counted, not time."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

import tasker
from tasker.client import NewTask, TaskHandle
from tasker.handlers import RateLimit, Template
from tasker.testing.sources import registry_of
from tasker.testing.virtual_loop import VirtualLoop
from tasker.testing.world import World

PACKAGE = Path(tasker.__file__).parent
COUNTED = tuple(str(PACKAGE / name) for name in ("service", "events", "templates", "controls", "ids.py"))
TASKS = 20


def chain(name: str, *, max_running: int | None = None, rate_limit: RateLimit | None = None) -> Template:
    """Return a template of four steps, one after the other."""
    made = Template(name, max_running=max_running)
    before: list[str] = []
    for number in range(4):

        async def body() -> None:
            return None

        made.step(name=f"s{number}", after=before, rate_limit=rate_limit)(body)
        before = [f"s{number}"]
    return made


async def calls_of(made: Template) -> int:
    """Return how many calls `TASKS` tasks of the template take on the service's side."""
    world = World(registry_of([made]))
    await world.open()

    async def run_all(named: str) -> list[str]:
        tasks = [NewTask(made.name, {}, idempotency_key=f"{named} {number}") for number in range(TASKS)]
        created = [one.task_id for one in await world.client.create_many(tasks) if isinstance(one, TaskHandle)]
        await world.advance(5)
        return created

    try:
        await run_all("what is cached")
        created, calls = await counted(run_all("what is counted"))
        assert len(created) == TASKS
        assert all([await world.until_over(task_id, within_s=1) for task_id in created])
    finally:
        await world.close()
    return calls


async def counted(work: Coroutine[Any, Any, list[str]]) -> tuple[list[str], int]:
    calls = 0

    def called(frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(COUNTED)

    before: Callable[..., Any] | None = sys.getprofile()
    sys.setprofile(called)
    try:
        return await work, calls
    finally:
        sys.setprofile(before)


def test_a_limit_that_holds_nothing_back_adds_little() -> None:
    limits: dict[str, dict[str, Any]] = {
        "plain": {},
        "capped": {"max_running": 10_000},
        "paced": {"rate_limit": RateLimit(per_s=1e6, burst=100_000)},
    }
    calls = {}
    for name, keys in limits.items():
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            calls[name] = runner.run(calls_of(chain(name, **keys))) / TASKS
    assert max(calls.values()) < 1.085 * calls["plain"], calls
