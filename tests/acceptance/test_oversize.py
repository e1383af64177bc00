"""What is far too large or too deep, at the doors of a running service: a typed refusal, quick, and nothing in the log.

The limits themselves, one by one, are in `test_bad_input.py`; here are the sizes of an attack or an accident.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import nats
import pytest
from nats.aio.client import Client as Nats

from tasker.errors import HistoryLimit
from tasker.events.codec import BODY_BYTES_MAX
from tasker.events.postgres_log import PostgresLog
from tasker.events.subjects import Subjects
from tasker.ids import shard_of
from tasker.replay.verify import verify
from tasker.service.domain.decide import HISTORY_EVENTS_MAX, HISTORY_EVENTS_RESERVED
from tests.acceptance.conftest import Service
from tests.runs import Run, append_all, linear, put_template

pytestmark = [pytest.mark.faults, pytest.mark.linux]

QUICK_S = 5.0
"""Far more than a refusal takes, far less than what it would take to look at everything."""

MILLION = 1_000_000
MESSAGE_BYTES = 1024 * 1024 - 1024
"""The largest that nats-server passes, with its headers."""


def given(value: bytes) -> bytes:
    return b'{"template": "open", "input": ' + value + b"}"


def keys(count: int) -> bytes:
    return b"{" + b",".join(b'"k%d":1' % number for number in range(count)) + b"}"


def dag(count: int) -> bytes:
    """A template whose steps each wait for the one before."""
    steps = [{"name": f"s{n}", "after": [f"s{n - 1}"] if n else []} for n in range(count)]
    return json.dumps({"template": {"name": "dag", "steps": steps}}, separators=(",", ":")).encode()


CREATIONS: list[tuple[str, Callable[[], bytes], set[str]]] = [
    ("a million keys", lambda: given(keys(MILLION)), {"body_too_large"}),
    ("as many keys as a body holds", lambda: given(keys(40_000)), {"value_invalid"}),
    ("a million levels", lambda: given(b"[" * MILLION + b"]" * MILLION), {"body_too_large"}),
    ("as many levels as a body holds", lambda: given(b"[" * 250_000 + b"]" * 250_000), {"value_invalid"}),
    ("levels of objects", lambda: given(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), {"value_invalid"}),
    ("as many digits as a body holds", lambda: given(b"7" * 500_000), {"value_invalid"}),
    ("a million digits", lambda: given(b"7" * MILLION), {"body_too_large"}),
    ("a huge exponent", lambda: given(b"1e" + b"9" * 400_000), {"body_invalid", "value_invalid"}),
    ("bad UTF-8 behind half a megabyte", lambda: given(b'"' + b"x" * 500_000 + b'\xff"'), {"body_invalid"}),
    ("a body of 20 MB", lambda: given(b'"' + b"x" * 20_000_000 + b'"'), {"body_too_large"}),
    ("an array of a million", lambda: b"[" + b"1," * MILLION + b"1]", {"body_too_large"}),
    ("nothing but brackets", lambda: b"[" * 500_000, {"body_invalid", "value_invalid", "body_too_large"}),
]


class Doors:
    """The two ways in."""

    def __init__(self, service: Service, bus: Nats, http: aiohttp.ClientSession) -> None:
        self.service = service
        self.subjects = Subjects(service.nats_prefix)
        self._bus = bus
        self._http = http

    async def ask(self, subject: str, body: bytes) -> Any:
        """Return the answer of a request over NATS."""
        return json.loads((await self._bus.request(subject, body, timeout=20)).data)

    async def command(self, noun: str, verb: str, body: bytes) -> Any:
        """Return the answer to a command over NATS."""
        return await self.ask(self.subjects.command("default", noun, verb), body)

    async def http(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Return status and body of an answer."""
        async with self._http.request(method, self.service.http_url + path, data=io.BytesIO(body)) as answer:
            return answer.status, json.loads(await answer.read())

    async def rows(self) -> int:
        """Return how much is in the log."""
        connection = await asyncpg.connect(self.service.database_url)
        try:
            return await connection.fetchval("SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM stream)")
        finally:
            await connection.close()

    async def register(self) -> None:
        """Make the template known."""
        template = {"template": {"name": "open", "steps": [{"name": "only"}]}}
        told = await self.command("template", "register", json.dumps(template).encode())
        assert told["ok"], told

    async def unharmed(self) -> None:
        """Check that the service goes on."""
        made = await self.command("task", "create", given(b"{}"))
        assert made["ok"], made
        assert (await self.http("GET", "/health/ready", b""))[0] == 200
        assert self.service.process.ended() is None


@pytest.fixture
async def doors(service: Service) -> AsyncIterator[Doors]:
    bus = await nats.connect(service.nats_url, pending_size=64 * 1024**2)
    async with aiohttp.ClientSession() as http:
        doors = Doors(service, bus, http)
        await doors.register()
        yield doors
    await bus.close()


@pytest.mark.parametrize(("make", "codes"), [case[1:] for case in CREATIONS], ids=[case[0] for case in CREATIONS])
async def test_a_creation_far_beyond_every_limit(doors: Doors, make: Callable[[], bytes], codes: set[str]) -> None:
    body, before = make(), await doors.rows()
    started_s = time.monotonic()
    status, problem = await doors.http("POST", "/v1/tasks", body)
    assert (status, problem["status"]) == (problem["status"], status)
    assert problem["code"] in codes, problem
    if len(body) <= MESSAGE_BYTES:  # the server itself refuses a larger message
        refusal = await doors.command("task", "create", body)
        assert refusal["error"]["code"] == problem["code"]
    assert time.monotonic() - started_s < QUICK_S
    assert len(json.dumps(problem)) < 8_000
    assert await doors.rows() == before
    await doors.unharmed()


@pytest.mark.parametrize("count", [1_001, 10_000])
async def test_a_template_of_ten_thousand_steps(doors: Doors, count: int) -> None:
    body, before = dag(count), await doors.rows()
    started_s = time.monotonic()
    wanted = "template_invalid" if len(body) <= BODY_BYTES_MAX else "body_too_large"
    assert (await doors.http("PUT", "/v1/templates", body))[1]["code"] == wanted
    assert (await doors.command("template", "register", body))["error"]["code"] == wanted
    assert time.monotonic() - started_s < QUICK_S
    assert await doors.rows() == before


RESULTS: list[tuple[str, bytes]] = [
    ("a result of 70 kB", b'"' + b"x" * 70_000 + b'"'),
    ("a result of many keys", keys(30_000)),
    ("a result of many levels", b"[" * 10_000 + b"]" * 10_000),
    ("a result of many digits", b"7" * 100_000),
    ("a result with U+0000", rb'"\u0000"'),
    ("a result of bad UTF-8", b'"\xff"'),
]


@pytest.mark.parametrize("result", [case[1] for case in RESULTS], ids=[case[0] for case in RESULTS])
async def test_a_result_beyond_a_limit_fails_its_step_and_says_why(doors: Doors, result: bytes) -> None:
    """A worker of any language reports it: its attempt fails, typed, and nothing of the result is kept."""
    made = await doors.command("task", "create", given(b"{}"))
    answer = await report(doors, made["task_id"], b'"completed","result":' + result)
    assert answer["ok"], answer
    assert answer["recorded"]
    async with asyncio.timeout(60):
        while not (view := (await doors.http("GET", f"/v1/tasks/{made['task_id']}", b""))[1]).get("error"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert view["error"]["type"] == "result_invalid", view
    assert len(json.dumps(view)) < 20_000
    await doors.unharmed()


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        (b'"completed","result":"' + b"x" * 600_000 + b'"', "body_too_large"),
        (b'"completed","result":NaN', "body_invalid"),
        (b'"completed","result":{"a":', "body_invalid"),
    ],
    ids=["600 kB", "NaN", "cut off"],
)
async def test_a_report_that_is_none_is_refused_and_its_attempt_stays_open(
    doors: Doors, rest: bytes, code: str
) -> None:
    made = await doors.command("task", "create", given(b"{}"))
    before = await doors.rows()
    answer = await report(doors, made["task_id"], rest)
    assert not answer["ok"]
    assert answer["error"]["code"] == code, answer
    assert await doors.rows() == before
    answer = await report(doors, made["task_id"], b'"completed","result":1')
    assert answer["recorded"]


async def report(doors: Doors, task_id: str, rest: bytes) -> Any:
    """Report on the one step of a task; `rest` begins with the kind."""
    body = b'{"task_id":"%b","step":"only","attempt":1,"worker":"w1","kind":%b}' % (task_id.encode(), rest)
    return await doors.ask(doors.subjects.report("default", shard_of(uuid.UUID(task_id), 16)), body)


@pytest.mark.whole
@pytest.mark.timeout(300)
async def test_a_history_of_a_hundred_thousand_events_holds_up_its_task_alone(
    database: str, nats_url: str, nats_prefix: str, tmp_path: Path
) -> None:
    """At the limit it can be ended and nothing else; others neither wait nor fail."""
    run = at_the_limit()
    async with await PostgresLog.connect(database, committers=1) as log:
        await put_template(log, run.template)
        await append_all(log, run.units)
    service = Service(database_url=database, nats_url=nats_url, nats_prefix=nats_prefix, folder=tmp_path)
    await asyncio.to_thread(service.start)
    bus = await nats.connect(nats_url)
    try:
        async with aiohttp.ClientSession() as http:
            doors = Doors(service, bus, http)
            await doors.register()
            task = f"/v1/tasks/{run.task_id}"
            asked = doors.command("task", "retry", json.dumps({"task_id": str(run.task_id)}).encode())
            refused, *made = await asyncio.gather(asked, *(timed(doors.unharmed()) for _ in range(20)))
            assert refused["error"]["code"] == "history_limit", refused
            assert max(made) < QUICK_S, made
            assert (await doors.http("POST", f"{task}/retry", b"{}"))[1]["code"] == "history_limit"
            told = (await doors.http("POST", f"{task}/cancel", b"{}"))[1]
            assert told["ok"], told
            ended = (await doors.http("GET", f"{task}?at_least={told['position']}", b""))[1]
            assert ended["state"] == "cancelled", ended
    finally:
        await bus.close()
        assert await asyncio.to_thread(service.process.stop) == 0
    report = await verify(database, workers=1)
    assert report.events > HISTORY_EVENTS_MAX - HISTORY_EVENTS_RESERVED
    assert not report.findings


def at_the_limit() -> Run:
    """A task whose step was retried by hand until that was refused."""
    run = Run(linear(1, retry={"max_attempts": 1}))
    run.create()
    while True:
        attempt = run.state.steps["s1"].attempt
        run.fail("s1", attempt)
        try:
            run.retry("s1", attempt)
        except HistoryLimit:
            return run


async def timed(work: Awaitable[None]) -> float:
    """Return how long it took."""
    started_s = time.monotonic()
    await work
    return time.monotonic() - started_s
