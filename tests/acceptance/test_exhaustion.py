"""Too much of everything: commands, connections, descriptors. What is full says so and when to ask again, and heals."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from uuid import UUID

import aiohttp
import asyncpg
import msgspec
import nats
import psutil
import pytest

from tasker.embedded.stack import Stack
from tasker.errors import Problem
from tasker.replay.checkers.acknowledged import Acknowledgement
from tasker.replay.findings import Findings
from tasker.settings import DatabaseSettings
from tests.acceptance.faults import HEALED_S_MAX, Lines, Load, Rig, family, stopped, until
from tests.bounded import BoundedChecker

pytestmark = [pytest.mark.faults, pytest.mark.linux, pytest.mark.timeout(300), pytest.mark.usefixtures("fault_round")]

COMMANDS_MAX, BACKLOG_MAX, MAILBOX_MAX = 100, 50, 20
BURST = 2_000
OVER_HTTP = 200
MIB = 1024**2
CAPS = {
    "tasker_mailbox_messages": COMMANDS_MAX,
    "tasker_append_backlog_units": BACKLOG_MAX + COMMANDS_MAX + 200,
    "connections to PostgreSQL": DatabaseSettings().connections(),
    "memory of the write side": 300 * MIB,
    "memory of the read side": 300 * MIB,
    "descriptors of the write side": 100,
    "descriptors of the read side": 100 + OVER_HTTP,
}
"""Reports of workers are not refused: some of the backlog is theirs."""


async def test_a_flood_is_refused_in_good_order_and_bounded(rig: Rig) -> None:
    """Far more commands at once than the node takes: each has an answer, and nothing grows beyond its cap."""
    rig.service.environ["TASKER_LIMITS_COMMANDS_PENDING_MAX"] = str(COMMANDS_MAX)
    rig.service.environ["TASKER_LIMITS_BACKLOG_UNITS_MAX"] = str(BACKLOG_MAX)
    rig.service.environ["TASKER_LIMITS_MAILBOX_MESSAGES_MAX"] = str(MAILBOX_MAX)
    await rig.start()
    findings = Findings()
    checker = BoundedChecker(CAPS, findings.add)
    async with rig.load() as load, sampled(rig, checker), asyncio.timeout(HEALED_S_MAX):
        await load.acked(5)
        for answers in await asyncio.gather(flood(rig), flood_over_http(rig)):
            for key, answer in answers:
                if answer["ok"]:
                    load.record.append(
                        Acknowledgement(idempotency_key=key, task_id=UUID(answer["task_id"])),
                    )
                    load.asked += 1
                else:
                    checker.take_refusal(msgspec.convert(answer["error"], Problem))
        await load.acked(20)
    checker.close()
    assert not findings.kept, findings.kept
    assert checker.refused.get("busy", 0) > 0, checker.refused
    await rig.check(load)


async def flood(rig: Rig) -> list[tuple[str, dict]]:
    """Send many commands at once over one connection; returns each one's key with its answer."""
    connection = await nats.connect(rig.service.nats_url, pending_size=64 * MIB)
    subject = rig.subjects.command("default", "task", "create")

    async def ask(number: int) -> tuple[str, dict]:
        key = f"flood-{number}"
        body = json.dumps({"template": "chain", "input": {"n": number}, "idempotency_key": key}).encode()
        return key, json.loads((await connection.request(subject, body, timeout=60)).data)

    try:
        return await asyncio.gather(*map(ask, range(BURST)))
    finally:
        await connection.close()


async def flood_over_http(rig: Rig) -> list[tuple[str, dict]]:
    """The same over HTTP, each on a connection of its own."""

    async def ask(session: aiohttp.ClientSession, number: int) -> tuple[str, dict]:
        key = f"http-{number}"
        body = {"template": "chain", "input": {"n": number}, "idempotency_key": key}
        async with session.post(f"{rig.service.http_url}/v1/tasks", json=body) as answer:
            told = await answer.json(content_type=None)
            if answer.status < 400:
                return key, told
            if answer.status in {429, 503}:
                assert int(answer.headers["Retry-After"]) >= 1
            return key, {"ok": False, "error": told}

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=OVER_HTTP)) as session:
        return await asyncio.gather(*(ask(session, number) for number in range(OVER_HTTP)))


@asynccontextmanager
async def sampled(rig: Rig, checker: BoundedChecker) -> AsyncIterator[None]:
    """Take samples of everything with a cap while the block runs."""
    sides = {name: rig.side(rig.service.process, name) for name in ("write", "read")}
    connections = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'tasker%'"
    )

    async def sample() -> None:
        while True:
            checker.take(await asyncio.to_thread(rig.service.metrics))
            checker.take({"connections to PostgreSQL": await rig.fetchval(connections)})
            for name, process in sides.items():
                checker.take({f"memory of the {name} side": process.memory_info().rss})
                checker.take({f"descriptors of the {name} side": process.num_fds()})

    sampling = asyncio.create_task(sample())
    try:
        yield
    finally:
        sampling.cancel()
        with suppress(asyncio.CancelledError):
            await sampling


async def test_no_descriptor_is_left_for_new_connections(rig: Rig, lines: Lines) -> None:
    """Neither for those that were cut nor for those that come; all is well once there are some again."""
    await rig.start()
    processes = [*family(rig.service.process.pid), *family(rig.worker.pid)]
    async with rig.load() as load:
        await load.acked(10)
        with few_descriptors(processes):
            for line in lines.all:
                line.cut()
            callers = await asyncio.gather(*(knock(rig) for _ in range(50)), return_exceptions=True)
            await until(lambda: "Too many open files" in rig.service.process.said())
            await asyncio.sleep(rig.random.uniform(0.5, 2.0))
        assert rig.service.process.ended() is None
        await load.acked(10)
    assert any(isinstance(found, Exception) for found in callers)
    # Not in this loop: the proxies, through which the service asks its servers, run in it.
    await rig.until(partial(asyncio.to_thread, rig.service.is_ready), wanted=True)
    assert {process.pid for process in family(rig.service.process.pid)} <= {process.pid for process in processes}
    await rig.check(load)


@contextmanager
def few_descriptors(processes: Iterable[psutil.Process]) -> Iterator[None]:
    """Let processes open nothing more while the block runs."""
    before = {process.pid: resource.prlimit(process.pid, resource.RLIMIT_NOFILE) for process in processes}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


async def knock(rig: Rig) -> int:
    """Ask for a page over a connection of its own."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session,
        session.get(f"{rig.service.http_url}/health/live") as answer,
    ):
        return answer.status


async def test_others_take_every_connection_of_postgres(own_rig: Rig, servers: Stack) -> None:
    rig = own_rig
    await rig.start()
    others: list[asyncpg.Connection] = []
    async with rig.load() as load:
        await load.acked(10)
        with stopped(family(rig.service.process.pid)):
            await rig.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'tasker%'"
            )
            await take_all(servers.postgres.dsn, others)
        await until(lambda: "too many clients" in rig.service.process.said())
        await asyncio.sleep(rig.random.uniform(0.0, 2.0))
        for connection in others:
            connection.terminate()
        await load.acked(10)
    await rig.check(load)


async def take_all(dsn: str, others: list[asyncpg.Connection]) -> None:
    """Open connections until there are no more."""
    with suppress(asyncpg.TooManyConnectionsError):
        while True:
            others.append(await asyncpg.connect(dsn))


HERD = 150


@pytest.mark.whole
async def test_a_herd_comes_back_at_once(own_rig: Rig, servers: Stack) -> None:
    """When nats-server, then PostgreSQL is back, everybody reconnects and asks in the same moment."""
    rig = own_rig
    await rig.start()
    async with rig.load() as load:
        await load.acked(5)
        clients = [rig.service.client(timeout_s=HEALED_S_MAX) for _ in range(HERD)]
        loads = [Load(client, every_s=1) for client in clients]
        await asyncio.gather(*(client.__aenter__() for client in clients))
        for number, (kill, start) in enumerate(
            ((servers.nats.kill, servers.nats.start), (servers.postgres.kill, servers.postgres.start))
        ):
            await asyncio.to_thread(kill)
            asking = asyncio.gather(*(one.ask(10_000 * (number + 1) + n) for n, one in enumerate(loads)))
            await asyncio.to_thread(start)
            await asking
        for one, client in zip(loads, clients, strict=True):
            load.record += one.record
            load.asked += one.asked
            await client.__aexit__(None, None, None)
    await rig.check(load)
