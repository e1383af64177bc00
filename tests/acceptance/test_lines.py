"""Lines that lose answers, tear frames, are slow and thin, and shuffle what they carry.

Proxies stand between the service and PostgreSQL, between the service and nats-server, and between the worker and
nats-server; they know the frames of both protocols.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.acceptance.faults import HEALED_S_MAX, LEASE_S, ROUNDS, Lines, Rig
from tests.proxies.proxy import Shuffle

pytestmark = [pytest.mark.faults, pytest.mark.linux, pytest.mark.timeout(300), pytest.mark.usefixtures("fault_round")]

DEDUPE_S = 0.5


async def test_lost_answers_and_torn_frames_lose_and_double_nothing(rig: Rig, lines: Lines) -> None:
    """Nobody knows what became of the request: it is found out, or repeated under the same key."""
    await rig.start()
    async with rig.load() as load:
        faults = [fault for line in lines.all for fault in (line.lose_answer, line.tear)] * 3
        rig.random.shuffle(faults)
        for fault in faults:
            await load.acked(rig.random.randint(1, 8))
            happened = fault()
            async with asyncio.timeout(HEALED_S_MAX):
                await happened.wait()
        await load.acked(5)
    assert [(line.counts.answers_lost, line.counts.torn) for line in lines.all] == [(3, 3)] * 3
    await rig.check(load)


async def test_slow_and_thin_lines_only_take_longer(rig: Rig, lines: Lines) -> None:
    """A third of a second each way still works; at 1 kB/s next to nothing does, and everything goes on afterwards."""
    await rig.start()
    async with rig.load() as load:
        for line in rig.random.sample(lines.all, 1 if ROUNDS == 1 else 3):
            line.latency_s = 0.3
            await load.acked(rig.random.randint(3, 10))
            line.calm()
            line.bytes_s = 1_000
            await asyncio.sleep(rig.random.uniform(0.5, 3) * LEASE_S)
            line.calm()
            await load.acked(5)
    await rig.check(load)


async def test_messages_lost_doubled_overtaken_and_repeated_late(rig: Rig, lines: Lines) -> None:
    """Whatever happens to single messages on NATS: reports, work, answers, acks, events."""
    rig.dedupe(DEDUPE_S)
    await rig.start()
    async with rig.load(attempt_s=3.0) as load:
        for line in (lines.service, lines.worker):
            line.shuffle = Shuffle(
                loss=0.02, duplication=0.1, overtaking=0.1, repetition=0.1, repeat_after_s=2 * DEDUPE_S
            )
        await load.acked(rig.random.randint(60, 100))
        lines.calm()
        await load.acked(5)
    for name in ("lost", "doubled", "overtaken", "repeated"):
        assert sum(getattr(line.counts, name) for line in lines.all), name
    await rig.check(load)
