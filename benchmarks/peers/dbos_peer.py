"""DBOS Transact as the harness drives it: `dbos_app.py` in the peers' environment, on the same PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import subprocess
from base64 import b64decode
from functools import partial
from pathlib import Path
from typing import Final

import asyncpg

from benchmarks.driving import Ended, System, WorkLost
from benchmarks.processes import Find, family
from benchmarks.workloads import INPUT, SHAPES

READY_S_MAX: Final = 60.0
STOP_S_MAX: Final = 30.0
RUNS: Final = ("one", "linear4", "diamond4", "fanout100")
"""Shapes that `dbos_app.py` has."""

_WORKFLOWS = "SELECT name, status, count(*) AS count FROM dbos.workflow_status GROUP BY name, status"
_STEPS = """
SELECT w.name, o.output, count(*) AS count FROM dbos.operation_outputs AS o
JOIN dbos.workflow_status AS w USING (workflow_uuid) GROUP BY w.name, o.output
"""


class Dbos(System):
    """One DBOS application on a database of its own."""

    name = "dbos"

    def __init__(self, database_url: str, python: Path, pool: int) -> None:
        self._database_url = database_url
        self._python = python
        self._pool = pool
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._created: dict[str, int] = {}

    def parts(self) -> dict[str, Find]:
        assert self._process is not None  # noqa: S101 - opened before
        return {"application": partial(family, self._process.pid)}

    async def open(self, ended: Ended) -> None:
        environ = {**os.environ, "PEER_DATABASE_URL": self._database_url, "PEER_POOL": str(self._pool)}
        self._process = await asyncio.create_subprocess_exec(
            str(self._python),
            str(Path(__file__).with_name("dbos_app.py")),
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        async with asyncio.timeout(READY_S_MAX):
            line = await self._process.stdout.readline()
        if not line:
            raise WorkLost("the DBOS application did not start: see what it said above")
        self._reader = asyncio.create_task(self._read(self._process.stdout, ended))

    async def _read(self, lines: asyncio.StreamReader, ended: Ended) -> None:
        while line := await lines.readline():
            ended(json.loads(line)["ended"])

    async def close(self) -> None:
        """End the application: it goes when its stdin ends."""
        if self._process is None:
            return
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._reader is not None:
            await self._reader
        self._process = None

    async def create(self, shape: str, count: int) -> list[str]:
        assert self._process is not None  # noqa: S101 - opened before
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        ids = [os.urandom(16).hex() for _ in range(count)]
        self._created[shape] = self._created.get(shape, 0) + count
        self._process.stdin.write(json.dumps({"shape": shape, "ids": ids, "n": INPUT["n"]}).encode() + b"\n")
        await self._process.stdin.drain()
        return ids

    async def check(self) -> list[str]:
        """Return what is missing or wrong in DBOS's own tables of all that was created."""
        connection = await asyncpg.connect(self._database_url)
        try:
            workflows = {(row["name"], row["status"]): row["count"] for row in await connection.fetch(_WORKFLOWS)}
            steps = [(row["name"], row["output"], row["count"]) for row in await connection.fetch(_STEPS)]
        finally:
            await connection.close()
        wanted = {(shape, "SUCCESS"): count for shape, count in self._created.items()}
        wrong = [] if workflows == wanted else [f"DBOS has the workflows {workflows}, not {wanted}"]
        return wrong + wrong_results(self._created, steps)


def wrong_results(created: dict[str, int], steps: list[tuple[str, str, int]]) -> list[str]:
    """Return which steps' results are not what so many tasks of each shape come to.

    Args:
        created: tasks by shape.
        steps: shape, result as DBOS stores it, how many have it.
    """
    found: dict[tuple[str, str], int] = {}
    for shape, output, count in steps:
        key = (shape, repr(pickle.loads(b64decode(output))))  # noqa: S301 - our own application wrote it
        found[key] = found.get(key, 0) + count
    wanted: dict[tuple[str, str], int] = {}
    for shape, count in created.items():
        for result in SHAPES[shape].results.values():
            if result is not None:
                wanted[shape, repr(result)] = wanted.get((shape, repr(result)), 0) + count
    keys = sorted(wanted.keys() | found.keys())
    return [
        f"DBOS has {found.get(key, 0)} steps of {key[0]} with the result {key[1]}, not {wanted.get(key, 0)}"
        for key in keys
        if found.get(key, 0) != wanted.get(key, 0)
    ]
