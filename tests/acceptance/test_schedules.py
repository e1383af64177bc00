"""A schedule on the real service, whose processes are killed around its fires."""

from __future__ import annotations

import asyncio
import random

import psutil
import pytest

from tests.acceptance.conftest import ROOT, Service
from tests.acceptance.faults import family
from tests.acceptance.fires import every_fire_has_one_task, until_fired

pytestmark = [pytest.mark.faults, pytest.mark.linux, pytest.mark.timeout(180)]

APP = ROOT / "examples" / "nightly_report.py"
KILLS = 3
FIRES = 6


async def test_every_fire_time_has_one_task_though_the_service_is_killed_around_it(own_service: Service) -> None:
    draw = random.Random(7)
    with own_service.worker(APP):
        first = {"city": "Bern", "at": "2026-01-01"}
        await asyncio.to_thread(own_service.create_when_registered, "nightly_report", first)
        async with own_service.client() as client:
            document = {
                "template": "nightly_report",
                "every_s": 1,
                "overlap": "allow",
                "input": {"city": "Bern"},
                "time_key": "at",
            }
            reply = await client.schedules.create("often", document)
            await client.schedules.get("often", at_least=reply.position)
            for _ in range(KILLS):
                await until_fired(client, "often", 1)
                await asyncio.sleep(draw.random())
                everyone = family(own_service.process.pid)
                for one in everyone:
                    one.kill()
                psutil.wait_procs(everyone)
                own_service.process._process.wait()  # type: ignore[union-attr]
                await asyncio.to_thread(own_service.start)
                seen = (await client.schedules.get("often")).fires
                await until_fired(client, "often", seen + FIRES)
            await every_fire_has_one_task(client, "often")
