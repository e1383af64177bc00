"""Real processes under load, killed at seeded moments: every task ends and the checkers find nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tasker.service.runtime.failpoints import NAMES
from tests.acceptance.faults import Rig

pytestmark = [pytest.mark.faults, pytest.mark.linux, pytest.mark.timeout(300)]


@pytest.fixture
async def rig(database: str, nats_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Service and worker on the servers that all tests share."""
    rig = Rig(database_url=database, nats_url=nats_url, folder=tmp_path)
    try:
        yield rig
    finally:
        rig.stop()


async def test_a_killed_service_loses_nothing(rig: Rig) -> None:
    """The write side after some commits, twice; then the whole service at once; then the read side."""
    await rig.start()
    async with rig.load() as load:
        for _ in range(2):
            await load.acked(rig.random.randint(5, 40))
            rig.kill_write()
        await load.acked(rig.random.randint(5, 20))
        rig.side(rig.service.process, "read").kill()
        await load.acked(rig.random.randint(5, 20))
        rig.kill_tree(rig.service.process)
        rig.service.process.start()
        await load.acked(rig.random.randint(5, 20))
    await rig.check(load)


async def test_every_failpoint(rig: Rig) -> None:
    """One after the other, each in a service of its own, under a load that never stops; each must be hit."""
    rig.service.process.arguments = ["serve", "--roles", "projections,http", "--http-port", str(rig.service.port)]
    names = list(NAMES)
    rig.random.shuffle(names)

    async def serve(name: str) -> None:
        hit = rig.folder / f"hit_{name}"
        count = rig.random.randint(2, 4) if "cursor" in name or name in SELDOM else rig.random.randint(20, 60)
        count = 1 if name == "after_take" else count
        writer = rig.serve(
            "--roles",
            "shards,publisher",
            TASKER_FAILPOINT=f"{name}:{count}",
            TASKER_FAILPOINT_HIT=str(hit),
        )
        async with asyncio.timeout(60):
            while not hit.exists():
                assert writer.ended() is None, writer.said()
                await asyncio.sleep(0.02)
        # The supervisor starts the process again; both die at a moment that nobody chose.
        await asyncio.sleep(rig.random.random())
        rig.kill_tree(writer)

    first = rig.serve("--roles", "shards,publisher")
    await rig.start()
    async with rig.load() as load:
        await load.acked(5)
        rig.kill_tree(first)
        for name in names:
            await serve(name)
        rig.serve("--roles", "shards,publisher")
        await load.acked(5)
    await rig.check(load)


SELDOM = {"before_due_write", "after_due_write", "before_renew"}
