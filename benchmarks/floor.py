"""The floor: as little Python as can move a durable step, on the same servers as the service.

    append   takes tasks and results from NATS, turns them into events, and appends whole batches of them to a table
             of Postgres: one statement, one commit (with fsync) for all that came in meanwhile. What follows from a
             batch (work, ends, the events themselves) is published after its commit.
    work     runs the steps and sends their results back.

Nothing else: no checks, no retries, no views, no JetStream, no recovery, no second owner. A service that keeps its
promises can only be slower, and the ratio says what they cost, on whatever machine.

Run as `python -m benchmarks.floor append|work`; the harness starts both.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.driving import Ended, System
from benchmarks.processes import Find, family
from benchmarks.workloads import SHAPES

ROOT: Final = Path(__file__).resolve().parents[1]
DATABASE_URL: Final = "FLOOR_DATABASE_URL"
NATS_URL: Final = "FLOOR_NATS_URL"
PAYLOAD: Final = b'{"result":{"ok":true,"value":1679616},"worker":"floor-1","attempt":1,"text":"' + b"." * 180 + b'"}'
RESULT: Final = b'{"ok":true,"value":1679616}'
CREATED, DISPATCHED, STARTED, COMPLETED, ENDED = range(1, 6)
ARRAY: Final = 64
"""Steps or events in a NATS message."""

_TABLE = """
DROP TABLE IF EXISTS floor_event;
CREATE TABLE floor_event (
    position bigint   PRIMARY KEY,
    task     uuid     NOT NULL,
    seq      integer  NOT NULL,
    type     smallint NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    data     bytea    NOT NULL
);
CREATE UNIQUE INDEX ON floor_event (task, seq);
"""
_INSERT = """
INSERT INTO floor_event (position, task, seq, type, data)
SELECT $1 + number, task, seq, type, data
FROM unnest($2::uuid[], $3::integer[], $4::smallint[], $5::bytea[]) WITH ORDINALITY AS e (task, seq, type, data, number)
"""
_COUNTS = """
SELECT count(*) AS events, count(DISTINCT task) AS tasks, max(position) AS last,
       count(*) FILTER (WHERE type = 4) AS steps, count(*) FILTER (WHERE type = 5) AS ended
FROM floor_event
"""

encode = msgspec.msgpack.encode
decode = msgspec.msgpack.decode


async def connect(url: str) -> Client:
    """Return a connection that takes bursts."""
    return await nats.connect(url, pending_size=64 * 2**20)


class Run:
    """Where one task is."""

    __slots__ = ("left", "seq", "stage", "widths")

    def __init__(self, widths: tuple[int, ...]) -> None:
        self.widths = widths
        self.seq = 0
        self.stage = -1
        self.left = 0


class Batch:
    """What one commit holds, and what follows from it."""

    __slots__ = ("ended", "seqs", "tasks", "types", "work")

    def __init__(self) -> None:
        self.tasks: list[UUID] = []
        self.seqs: list[int] = []
        self.types: list[int] = []
        self.work: list[bytes] = []
        self.ended: list[bytes] = []

    def event(self, task: UUID, run: Run, type: int) -> None:
        """Add an event."""
        run.seq += 1
        self.tasks.append(task)
        self.seqs.append(run.seq)
        self.types.append(type)


class Appender:
    """Decides and appends."""

    def __init__(self, bus: Client, database: asyncpg.Connection) -> None:
        self._bus = bus
        self._database = database
        self._runs: dict[bytes, Run] = {}
        self._batch = Batch()
        self._wake = asyncio.Event()

    async def on_create(self, message: Msg) -> None:
        """Begin some tasks."""
        shape, ids = decode(message.data)
        widths = SHAPES[shape].widths
        for key in ids:
            run = self._runs[key] = Run(widths)
            self._batch.event(UUID(bytes=key), run, CREATED)
            self._advance(key, run)
        self._wake.set()

    async def on_results(self, message: Msg) -> None:
        """Move tasks on."""
        batch = self._batch
        for key, _result in decode(message.data):
            run, task = self._runs[key], UUID(bytes=key)
            batch.event(task, run, STARTED)
            batch.event(task, run, COMPLETED)
            run.left -= 1
            if not run.left:
                self._advance(key, run)
        self._wake.set()

    def _advance(self, key: bytes, run: Run) -> None:
        batch, task = self._batch, UUID(bytes=key)
        run.stage += 1
        if run.stage == len(run.widths):
            batch.event(task, run, ENDED)
            batch.ended.append(key)
            del self._runs[key]
            return
        run.left = run.widths[run.stage]
        for _ in range(run.left):
            batch.event(task, run, DISPATCHED)
            batch.work.append(key)

    async def run(self) -> None:
        """Append whatever has come in, for ever: the group grows while a commit is under way."""
        insert = await self._database.prepare(_INSERT)
        position = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._batch = self._batch, Batch()
            count = len(batch.tasks)
            await insert.fetch(position, batch.tasks, batch.seqs, batch.types, [PAYLOAD] * count)
            position += count
            for start in range(0, len(batch.work), ARRAY):
                await self._bus.publish("floor.work", encode(batch.work[start : start + ARRAY]))
            if batch.ended:
                await self._bus.publish("floor.ended", encode(batch.ended))
            for start in range(0, count, ARRAY):
                await self._bus.publish("floor.event", encode([PAYLOAD] * min(ARRAY, count - start)))


async def append() -> None:
    """Be the one process that appends."""
    bus = await connect(os.environ[NATS_URL])
    database = await asyncpg.connect(os.environ[DATABASE_URL])
    await database.execute(_TABLE)
    appender = Appender(bus, database)
    await bus.subscribe("floor.create", cb=appender.on_create)
    await bus.subscribe("floor.results", cb=appender.on_results)
    await bus.flush()
    print("ready", flush=True)
    await appender.run()


async def work() -> None:
    """Be the one process that runs steps: each as an asyncio task of its own, as a handler is."""
    bus = await connect(os.environ[NATS_URL])
    results: list[tuple[bytes, bytes]] = []
    running: set[asyncio.Task[None]] = set()
    wake = asyncio.Event()

    async def step(key: bytes) -> None:
        results.append((key, RESULT))
        wake.set()

    async def on_work(message: Msg) -> None:
        for key in decode(message.data):
            task = asyncio.create_task(step(key))
            running.add(task)
            task.add_done_callback(running.discard)

    await bus.subscribe("floor.work", queue="workers", cb=on_work)
    await bus.flush()
    print("ready", flush=True)
    while True:
        await wake.wait()
        wake.clear()
        done, results = results, []
        for start in range(0, len(done), ARRAY):
            await bus.publish("floor.results", encode(done[start : start + ARRAY]))


class Floor(System):
    """The floor as the harness drives it."""

    name = "floor"

    def __init__(self, database_url: str, nats_url: str) -> None:
        self._database_url = database_url
        self._nats_url = nats_url
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._bus: Client | None = None
        self._created: dict[str, int] = {}

    def start(self) -> None:
        """Start both processes; the table is made anew."""
        environ = {**os.environ, DATABASE_URL: self._database_url, NATS_URL: self._nats_url}
        for role in ("append", "work"):
            argv = [sys.executable, "-m", "benchmarks.floor", role]
            process = subprocess.Popen(
                argv, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            self._processes[role] = process
            assert process.stdout is not None  # noqa: S101 - it was asked for
            if process.stdout.readline().strip() != b"ready":
                raise RuntimeError(f"the floor's process `{role}` did not start")

    def stop(self) -> None:
        """End both processes. Twice is fine."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        self._processes.clear()

    def parts(self) -> dict[str, Find]:
        return {role: partial(family, process.pid) for role, process in self._processes.items()}

    async def open(self, ended: Ended) -> None:
        self._bus = await connect(self._nats_url)

        async def on_ended(message: Msg) -> None:
            ended([key.hex() for key in decode(message.data)])

        await self._bus.subscribe("floor.ended", cb=on_ended)
        await self._bus.flush()

    async def close(self) -> None:
        if self._bus is not None:
            await self._bus.close()

    async def create(self, shape: str, count: int) -> list[str]:
        assert self._bus is not None  # noqa: S101 - opened before
        ids = [os.urandom(16) for _ in range(count)]
        self._created[shape] = self._created.get(shape, 0) + count
        await self._bus.publish("floor.create", encode((shape, ids)))
        return [key.hex() for key in ids]

    async def check(self) -> list[str]:
        """Return what is missing in the table of all that was created."""
        wanted = {
            "events": sum(SHAPES[shape].events * count for shape, count in self._created.items()),
            "tasks": sum(self._created.values()),
            "last": sum(SHAPES[shape].events * count for shape, count in self._created.items()),
            "steps": sum(SHAPES[shape].steps * count for shape, count in self._created.items()),
            "ended": sum(self._created.values()),
        }
        connection = await asyncpg.connect(self._database_url)
        try:
            found = dict(await connection.fetchrow(_COUNTS) or {})
        finally:
            await connection.close()
        return [
            f"the floor's table has {found[name]} {name}, not {count}"
            for name, count in wanted.items()
            if found[name] != count
        ]


if __name__ == "__main__":
    import uvloop

    from tasker.orphans import end_with_owner

    end_with_owner(drain_s=1.0)
    uvloop.run(append() if sys.argv[1] == "append" else work())
