"""A peer as the harness drives it: applications in the peers' environment, on the same PostgreSQL as the service."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import itertools
import json
import os
import pickle
import subprocess
from base64 import b64decode
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Final

import asyncpg

from benchmarks.driving import Ended, System, WorkLost
from benchmarks.floor import ROOT
from benchmarks.processes import Find, family
from benchmarks.workloads import INPUT, SHAPES

READY_S_MAX: Final = 60.0
STOP_S_MAX: Final = 30.0


class Peer(System):
    """Some processes of one application, which take the tasks in turns."""

    packages: ClassVar[tuple[str, ...]]
    """Distributions whose versions a result names."""

    module: ClassVar[str]

    def __init__(self, database_url: str, python: Path, *, processes: int, connections: int) -> None:
        self._database_url = database_url
        self._python = python
        self._count = processes
        self._connections = connections
        self._processes: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []
        self._turns = itertools.count()
        self._created: dict[str, int] = {}

    def parts(self) -> dict[str, Find]:
        pids = [process.pid for process in self._processes]
        return {"application": lambda: [pid for one in pids for pid in family(one)]}

    async def open(self, ended: Ended) -> None:
        for number in range(self._count):
            environ = {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PEER_DATABASE_URL": self._database_url,
                "PEER_CONNECTIONS": str(self._connections),
                "PEER_NUMBER": str(number),
            }
            process = await asyncio.create_subprocess_exec(
                str(self._python), "-m", self.module, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self._processes.append(process)
            assert process.stdout is not None  # noqa: S101 - it was asked for
            async with asyncio.timeout(READY_S_MAX):
                if not await process.stdout.readline():
                    raise WorkLost(f"{self.name} did not start: see what it said above")
            self._readers.append(asyncio.create_task(self._read(process.stdout, ended)))

    async def _read(self, lines: asyncio.StreamReader, ended: Ended) -> None:
        while line := await lines.readline():
            ended(json.loads(line)["ended"])

    async def close(self) -> None:
        """End the applications: they go when their stdin ends."""
        for process in self._processes:
            assert process.stdin is not None  # noqa: S101 - it was asked for
            process.stdin.close()
        for process in self._processes:
            try:
                async with asyncio.timeout(STOP_S_MAX):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        await asyncio.gather(*self._readers)
        self._processes.clear()
        self._readers.clear()

    async def create(self, shape: str, count: int) -> list[str]:
        process = self._processes[next(self._turns) % len(self._processes)]
        assert process.stdin is not None  # noqa: S101 - it was asked for
        ids = [os.urandom(16).hex() for _ in range(count)]
        self._created[shape] = self._created.get(shape, 0) + count
        process.stdin.write(json.dumps({"shape": shape, "ids": ids, "n": INPUT["n"]}).encode() + b"\n")
        await process.stdin.drain()
        return ids

    async def check(self) -> list[str]:
        """Return what is missing or wrong in the peer's own tables of all that was created."""
        connection = await asyncpg.connect(self._database_url)
        try:
            ended = await self.ended(connection)
            results = await self.results(connection)
        finally:
            await connection.close()
        wrong = [] if ended == self._created else [f"{self.name} has the ended tasks {ended}, not {self._created}"]
        return wrong + [f"{self.name}: {one}" for one in wrong_results(self._created, results)]

    @abc.abstractmethod
    async def ended(self, connection: asyncpg.Connection) -> dict[str, int]:
        """Return how many tasks of each shape are stored as done."""

    @abc.abstractmethod
    async def results(self, connection: asyncpg.Connection) -> list[tuple[str, Any, int]]:
        """Return shape, result of a step, and how many steps have it."""


class Dbos(Peer):
    """DBOS Transact."""

    name = "dbos"
    packages = ("dbos",)
    module = "benchmarks.peers.dbos_app"

    async def ended(self, connection: asyncpg.Connection) -> dict[str, int]:
        rows = await connection.fetch(
            "SELECT name, count(*) AS count FROM dbos.workflow_status WHERE status = 'SUCCESS' GROUP BY name"
        )
        return {row["name"]: row["count"] for row in rows}

    async def results(self, connection: asyncpg.Connection) -> list[tuple[str, Any, int]]:
        rows = await connection.fetch(
            "SELECT w.name, o.output, count(*) AS count FROM dbos.operation_outputs AS o "
            "JOIN dbos.workflow_status AS w USING (workflow_uuid) GROUP BY w.name, o.output"
        )
        loads = pickle.loads  # what our own application wrote
        return [(row["name"], loads(b64decode(row["output"])), row["count"]) for row in rows]


class Absurd(Peer):
    """Absurd."""

    name = "absurd"
    packages = ("absurd-sdk", "absurdctl")
    module = "benchmarks.peers.absurd_app"

    async def ended(self, connection: asyncpg.Connection) -> dict[str, int]:
        rows = await connection.fetch(
            "SELECT task_name, count(*) AS count FROM absurd.t_default WHERE state = 'completed' GROUP BY task_name"
        )
        return {row["task_name"]: row["count"] for row in rows}

    async def results(self, connection: asyncpg.Connection) -> list[tuple[str, Any, int]]:
        rows = await connection.fetch(
            "SELECT t.task_name, c.state::text AS state, count(*) AS count FROM absurd.c_default AS c "
            "JOIN absurd.t_default AS t USING (task_id) GROUP BY t.task_name, c.state::text"
        )
        return [(row["task_name"], json.loads(row["state"]), row["count"]) for row in rows]


PEERS: Final[dict[str, type[Peer]]] = {peer.name: peer for peer in (Dbos, Absurd)}


def _key(result: Any) -> str:
    return json.dumps(result, sort_keys=True)


def wrong_results(created: dict[str, int], found: Iterable[tuple[str, Any, int]]) -> list[str]:
    """Return which results are not those that so many tasks of each shape come to.

    Args:
        created: tasks by shape.
        found: shape, result of a step, how many steps have it.
    """
    has: dict[tuple[str, str], int] = {}
    for shape, result, count in found:
        has[shape, _key(result)] = has.get((shape, _key(result)), 0) + count
    wanted: dict[tuple[str, str], int] = {}
    for shape, count in created.items():
        for result in SHAPES[shape].results.values():
            if result is not None:
                wanted[shape, _key(result)] = wanted.get((shape, _key(result)), 0) + count
    return [
        f"{has.get(key, 0)} steps of {key[0]} have the result {key[1]}, not {wanted.get(key, 0)}"
        for key in sorted(wanted.keys() | has.keys())
        if has.get(key, 0) != wanted.get(key, 0)
    ]
