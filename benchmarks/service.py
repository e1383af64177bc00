"""The service as the harness drives it: `tasker serve` with all roles and `tasker worker`, over NATS and SQL alone."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import msgspec
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.big import BigTask, run_big
from benchmarks.driving import Ended, System, WorkLost, percentile_ms
from benchmarks.floor import ROOT, connect
from benchmarks.held import Held
from benchmarks.held import measure as measure_held
from benchmarks.processes import Find, child_named, cpu_s, family, rss_mib
from benchmarks.schedules import TEMPLATE as SCHEDULED
from benchmarks.schedules import Schedules
from benchmarks.schedules import measure as measure_schedules
from benchmarks.signals import Signaller, Signals
from benchmarks.workloads import ARRAY, ARRAYS_IN_FLIGHT, HELD, INPUT, PARKED, SHAPES
from tasker.cli.owned import OWNED
from tasker.events.messages import DEFAULT_TENANT, Reply
from tasker.events.postgres_schema import migrate
from tasker.events.subjects import Subjects
from tasker.handlers import Template

READY_S_MAX: Final = 60.0
CATCH_UP_S_MAX: Final = 60.0
VERIFY_S_MAX: Final = 300.0
STOP_S_MAX: Final = 60.0
REQUEST_S: Final = 10.0
TRIES_MAX: Final = 6
UNAVAILABLE: Final = 503
RAMP: Final = 0.15

_POSITIONS = """
SELECT h.shard, coalesce(e.position, 0) AS head, p.position AS published,
       (SELECT min(c.position) FROM projection AS v JOIN checkpoint AS c ON c.projection = v.name
            AND c.version = v.version WHERE c.shard = h.shard) AS viewed
FROM shard_head AS h JOIN publish_cursor AS p USING (shard)
LEFT JOIN LATERAL (SELECT position FROM event WHERE shard = h.shard ORDER BY position DESC LIMIT 1) AS e ON true
"""
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_TYPES = "SELECT type, count(*) FROM event GROUP BY type"
_TASKS = "SELECT template, state, result, count(*) FROM task GROUP BY template, state, result"
_STEPS = """
SELECT t.template, s.step, s.state, s.result, count(*) FROM step AS s JOIN task AS t USING (task_id)
GROUP BY t.template, s.step, s.state, s.result
"""
_ENDED = "SELECT count(*) FROM task WHERE template = $1 AND ended_at_us IS NOT NULL"
_replies = msgspec.json.Decoder(list[Reply])

parked = Template(PARKED)


@parked.step
async def nobody() -> None:
    """Never run: no worker has this handler."""


class Lag(msgspec.Struct, frozen=True):
    """How long after the last reply the views and the event stream had everything."""

    views_s: float
    stream_s: float


class Behind(NamedTuple):
    """How many events the event stream and the views are behind the log, all shards together."""

    stream: int
    views: int


class Creates(msgspec.Struct, frozen=True, kw_only=True):
    """Durable creations, in arrays, several of them in flight.

    Attributes:
        p50_ms, p99_ms: of the answer to an array.
    """

    tasks: int
    creates_per_s: float
    p50_ms: float
    p99_ms: float


class Verified(msgspec.Struct, frozen=True):
    """What `tasker log verify` said of the whole log of a turn."""

    events: int
    tasks: int
    rows: int
    findings_total: int
    seconds: float
    events_per_s: float
    workers: int


class Service(System):
    """One service and one worker, on a database and a prefix of their own."""

    name = "service"

    def __init__(self, database_url: str, nats_url: str, folder: Path, *, by_stream: bool = False) -> None:
        self.prefix = f"bench{uuid.uuid4().hex[:8]}"
        self.nats_url = nats_url
        self._database_url = database_url
        self._folder = folder
        self._subjects = Subjects(self.prefix)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        own = {
            "TASKER_DATABASE_URL": database_url,
            "TASKER_NATS_URL": nats_url,
            "TASKER_NATS_PREFIX": self.prefix,
            "TASKER_HTTP_URL": f"http://127.0.0.1:{self._port}",
        }
        if by_stream:
            own["TASKER_DIRECT_ENABLED"] = "false"
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("TASKER_")} | own
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._bus: Client | None = None
        self._keys = 0
        self._created: dict[str, int] = {}

    # ---------------------------------------------------------------- processes

    def start(self) -> None:
        """Bring the database to its schema and start the service and then the worker.

        Raises:
            WorkLost: the service does not become ready.
        """
        asyncio.run(_create_database(self._database_url))
        asyncio.run(migrate(self._database_url))
        self._processes["serve"] = self._spawn("serve", "--http-port", str(self._port))
        until_s = time.monotonic() + READY_S_MAX
        while not self._ready():
            if self._processes["serve"].poll() is not None or time.monotonic() > until_s:
                raise WorkLost(f"the service does not become ready:\n{self._said('serve')}")
            time.sleep(0.05)
        self._processes["worker"] = self._spawn("worker", str(Path(__file__).with_name("app.py")))

    def stop(self) -> list[str]:
        """Drain both, worker first; returns what went wrong with it. Twice is fine."""
        wrong = []
        for name in ("worker", "serve"):
            process = self._processes.pop(name, None)
            if process is None:
                continue
            process.terminate()
            try:
                code = process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            assert process.stdin is not None  # noqa: S101 - it was asked for
            process.stdin.close()
            if code:
                wrong.append(f"`tasker {name}` ended with code {code}:\n{self._said(name)}")
        return wrong

    def _spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{self.prefix}-{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tasker", *arguments, OWNED],
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.PIPE,  # its end tells them that the harness is gone
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _said(self, name: str) -> str:
        return (self._folder / f"{self.prefix}-{name}.log").read_text(errors="replace")[-3000:]

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def parts(self) -> dict[str, Find]:
        serve, worker = self._processes["serve"].pid, self._processes["worker"].pid
        return {
            "write side": lambda: child_named(serve, "write"),
            "read side": lambda: child_named(serve, "read"),
            "worker": lambda: family(worker),
        }

    def processes(self) -> dict[str, int]:
        """Return the id of each process that runs, the two that start others included."""
        serve, worker = self._processes["serve"].pid, self._processes["worker"].pid
        found = {
            "supervisor": [serve],
            "write side": child_named(serve, "write"),
            "read side": child_named(serve, "read"),
            "worker's parent": [worker],
            "worker": family(worker)[1:],
        }
        return {name: pids[0] for name, pids in found.items() if pids}

    def rss_mib(self) -> dict[str, float]:
        """Return the resident memory of each part."""
        return {name: rss_mib(find) for name, find in self.parts().items()}

    # ---------------------------------------------------------------- as a client

    async def open(self, ended: Ended) -> None:
        self._bus = await connect(self.nats_url)
        place = self.prefix.count(".") + 5

        async def on_completed(message: Msg) -> None:
            ended((message.subject.split(".")[place],))

        pattern = self._subjects.event("*", "*", "*", "*", "task_completed")
        await self._bus.subscribe(pattern, cb=on_completed, pending_msgs_limit=-1, pending_bytes_limit=-1)
        await self._bus.flush()
        await self._templates_known()

    async def close(self) -> None:
        if self._bus is not None:
            await self._bus.close()

    async def create(self, shape: str, count: int) -> list[str]:
        first, self._keys = self._keys, self._keys + count
        self._created[shape] = self._created.get(shape, 0) + count
        given = SHAPES[shape].input if shape in SHAPES else INPUT
        keys = range(first, first + count)
        tasks = [{"template": shape, "input": given, "idempotency_key": f"key-{number}"} for number in keys]
        return [reply.task_id or "" for reply in await self._accept("task.create", tasks)]

    async def _accept(self, verb: str, commands: Sequence[object]) -> list[Reply]:
        """Send commands until all are accepted; each may be sent twice."""
        body = json.dumps(commands).encode()
        for attempt in range(TRIES_MAX):
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                replies = _replies.decode(await self._request(verb, body))
                refused = next((reply for reply in replies if not reply.ok), None)
                if refused is None:
                    return replies
                if refused.error is None or refused.error.status != UNAVAILABLE:
                    raise WorkLost(f"{verb} was refused: {refused.error}")
            await asyncio.sleep(0.2 * 2**attempt)
        raise WorkLost(f"{verb} was not answered in {TRIES_MAX} tries")

    async def _request(self, verb: str, body: bytes) -> bytes:
        assert self._bus is not None  # noqa: S101 - opened before
        noun, _, verb = verb.partition(".")
        subject = self._subjects.command(DEFAULT_TENANT, noun, verb)
        reply: Msg = await self._bus.request(subject, body, timeout=REQUEST_S)
        return reply.data

    async def _templates_known(self) -> None:
        """Register the template that has no worker; wait until the worker has registered its own."""
        register = json.dumps({"template": parked.document()}).encode()
        await self._accepted("template.register", register)
        connection = await asyncpg.connect(self._database_url)
        try:
            async with asyncio.timeout(READY_S_MAX):
                while True:
                    if await connection.fetchval("SELECT count(*) FROM template") == len(SHAPES) + 1:
                        break
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()

    async def _accepted(self, verb: str, body: bytes) -> None:
        reply = msgspec.json.decode(await self._request(verb, body), type=Reply)
        if not reply.ok:
            raise WorkLost(f"{verb} was refused: {reply.error}")

    async def creates(self, seconds: float) -> Creates:
        """Create tasks that nobody works on, for `seconds`."""
        answers: list[tuple[float, float]] = []
        started_s = time.perf_counter()
        from_s, until_s = started_s + RAMP * seconds, started_s + seconds

        async def create_arrays() -> None:
            while (began_s := time.perf_counter()) < until_s:
                await self.create(PARKED, ARRAY)
                answers.append((began_s, time.perf_counter()))

        async with asyncio.TaskGroup() as group:
            for _ in range(ARRAYS_IN_FLIGHT):
                group.create_task(create_arrays())
        counted = sum(from_s <= end_s < until_s for _, end_s in answers)
        latencies = sorted(end_s - began_s for began_s, end_s in answers)
        return Creates(
            tasks=len(answers) * ARRAY,
            creates_per_s=round(counted * ARRAY / (until_s - from_s), 1),
            p50_ms=percentile_ms(latencies, 0.5),
            p99_ms=percentile_ms(latencies, 0.99),
        )

    async def signals(self, seconds: float) -> Signals:
        """Send signals to tasks that wait for them, for `seconds`."""
        return await Signaller(self.create, self._request).measure(seconds)

    async def schedules(self, count: int) -> Schedules:
        """Have so many schedules be due within a second."""
        connection = await self.connect()
        try:
            found = await measure_schedules(self._accept, connection, count)
        finally:
            await connection.close()
        self._created[SCHEDULED] = self._created.get(SCHEDULED, 0) + count
        return found

    async def held(self, tasks: int) -> Held:
        """Have so many tasks wait behind one concurrency key, and pass it."""
        connection = await self.connect()
        try:

            async def ended() -> int:
                return int(await connection.fetchval(_ENDED, HELD))

            def cpu() -> float:
                return cpu_s(self.parts()["write side"])

            return await measure_held(self.create, ended, lambda: self.rss_mib()["write side"], cpu, tasks)
        finally:
            await connection.close()

    async def big(self) -> list[BigTask]:
        """Run one task after the other, of more and more items."""
        connection = await self.connect()
        try:
            return await run_big(self.create, connection, self.caught_up)
        finally:
            await connection.close()

    # ---------------------------------------------------------------- how is it?

    async def connect(self) -> asyncpg.Connection:
        """Return a connection to its database."""
        return await asyncpg.connect(self._database_url)

    async def behind(self, connection: asyncpg.Connection) -> Behind:
        """Return how far event stream and views are behind the log."""
        shards = await connection.fetch(_POSITIONS)
        return Behind(
            stream=sum(one["head"] - one["published"] for one in shards),
            views=sum(one["head"] - (one["viewed"] or 0) for one in shards),
        )

    async def connections(self, connection: asyncpg.Connection) -> int:
        """Return how many others are connected to its database."""
        return int(await connection.fetchval(_CONNECTIONS))

    async def streams_mib(self, bus: Client) -> dict[str, float]:
        """Return the size of each of its streams on NATS."""
        found = {}
        for stream in self._subjects.streams:
            with contextlib.suppress(nats.js.errors.NotFoundError):
                state = (await bus.jetstream().stream_info(stream)).state
                found[stream.removeprefix(f"{self.prefix}_".upper())] = round(state.bytes / 2**20, 1)
        return found

    # ---------------------------------------------------------------- was it done?

    async def caught_up(self) -> Lag:
        """Wait until the views and the event stream have everything.

        Raises:
            WorkLost: they do not get there.
        """
        connection = await self.connect()
        began_s = time.monotonic()
        views_s = stream_s = None
        try:
            while views_s is None or stream_s is None:
                behind = await self.behind(connection)
                now_s = time.monotonic() - began_s
                if views_s is None and not behind.views:
                    views_s = round(now_s, 3)
                if stream_s is None and not behind.stream:
                    stream_s = round(now_s, 3)
                if now_s > CATCH_UP_S_MAX:
                    raise WorkLost(f"behind the log: the views {behind.views} events, the stream {behind.stream}")
                await asyncio.sleep(0.02)
        finally:
            await connection.close()
        return Lag(views_s, stream_s)

    async def check(self) -> list[str]:
        """Return what is not in the log and the views of all that was created, or not right."""
        connection = await asyncpg.connect(self._database_url)
        try:
            types: dict[str, int] = {row[0]: row[1] for row in await connection.fetch(_TYPES)}
            tasks = {tuple(row)[:3]: row[3] for row in await connection.fetch(_TASKS)}
            steps = {tuple(row)[:4]: row[4] for row in await connection.fetch(_STEPS)}
        finally:
            await connection.close()
        worked = {shape: count for shape, count in self._created.items() if shape != PARKED}
        waiting = self._created.get(PARKED, 0)
        in_log = {
            "task_created": sum(worked.values()) + waiting,
            "task_completed": sum(worked.values()),
            "step_completed": sum(SHAPES[shape].steps * count for shape, count in worked.items()),
        }
        return [
            *_differences("events in the log", {name: types.get(name, 0) for name in in_log}, in_log),
            *_differences("rows of the task view", _decoded(tasks), _tasks_wanted(worked, waiting)),
            *_differences("rows of the step view", _decoded(steps), _steps_wanted(worked, waiting)),
        ]

    def verify(self, *, within_s: float = VERIFY_S_MAX) -> Verified:
        """Run `tasker log verify`.

        Raises:
            WorkLost: it found something, or did not come through.
        """
        done = subprocess.run(
            [sys.executable, "-m", "tasker", "log", "verify", "-o", "json"],
            cwd=ROOT,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=within_s,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace")[-3000:]
            raise WorkLost(f"`tasker log verify` ended with code {done.returncode}:\n{said}")
        return msgspec.json.decode(done.stdout, type=Verified)

    async def remove(self) -> None:
        """Delete its database and its streams."""
        await _drop_database(self._database_url)
        bus = await connect(self.nats_url)
        try:
            for stream in self._subjects.streams:
                with contextlib.suppress(nats.errors.Error):
                    await bus.jetstream().delete_stream(stream)
        finally:
            await bus.close()


def _tasks_wanted(worked: Mapping[str, int], waiting: int) -> dict[str, int]:
    wanted = {
        _row(shape, "completed", list(SHAPES[shape].results.values())[-1]): count for shape, count in worked.items()
    }
    return wanted | ({_row(PARKED, "running", None): waiting} if waiting else {})


def _steps_wanted(worked: Mapping[str, int], waiting: int) -> dict[str, int]:
    wanted = {
        _row(shape, step, "completed", result): count
        for shape, count in worked.items()
        for step, result in SHAPES[shape].results.items()
    }
    return wanted | ({_row(PARKED, "nobody", "dispatched", None): waiting} if waiting else {})


def _decoded(rows: Mapping[tuple[Any, ...], int]) -> dict[str, int]:
    """Return counts by a text that says what the rows have in common; their last column is JSON."""
    return {
        _row(*row[:-1], None if row[-1] is None else msgspec.json.decode(row[-1])): count for row, count in rows.items()
    }


def _row(*columns: object) -> str:
    return json.dumps(columns, sort_keys=True)


def _differences(what: str, found: Mapping[str, int], wanted: Mapping[str, int]) -> list[str]:
    return [
        f"{what}: {found.get(name, 0)} of {name}, not {wanted.get(name, 0)}"
        for name in sorted({*found, *wanted})
        if found.get(name, 0) != wanted.get(name, 0)
    ]


def at_database(dsn: str, name: str) -> str:
    """Return the address of another database on the same server."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


async def _administer(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(at_database(dsn, "postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _create_database(dsn: str) -> None:
    await _administer(dsn, f"CREATE DATABASE {urlsplit(dsn).path[1:]}")


async def _drop_database(dsn: str) -> None:
    await _administer(dsn, f"DROP DATABASE IF EXISTS {urlsplit(dsn).path[1:]} WITH (FORCE)")
