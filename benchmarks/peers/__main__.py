"""`make bench-peers`: floor, service and peers in turns on the same servers.

Exit codes: 0; 1 when work was lost or done wrong; 3 when the peers' environment is not there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

import asyncpg
import uvloop
from cyclopts import App, Parameter
from rich.console import Console

from benchmarks import machine
from benchmarks.driving import Driver, Figures, System, WorkLost
from benchmarks.floor import ROOT, Floor
from benchmarks.peers.peer import PEERS
from benchmarks.peers.report import FLOOR, SERVICE, Turn, rows_of, show
from benchmarks.processes import Find, family
from benchmarks.report import RESULTS, name_of_run, write
from benchmarks.service import Service, at_database
from benchmarks.workloads import WARM_UP_S, WORKLOADS, Workload
from tasker.embedded.stack import Stack
from tasker.settings import read_settings

Name = Literal["linear4", "linear4-single", "one", "diamond4", "fanout100"]
ALL: Final[tuple[Name, ...]] = get_args(Name)
PYTHON: Final = ROOT / ".venv-peers" / "bin" / "python"
NOT_THERE: Final = 3
WARM_UP: Final = Workload("warm-up", "linear4", 100, WARM_UP_S, WARM_UP_S)
"""With fewer tasks than what is measured: a slow peer takes long for 1,000."""
WIDE: Final = "fanout100"
MEASURED: Final = tuple(one._replace(in_flight=10) if one.name == WIDE else one for one in WORKLOADS)
"""As `make bench` has them, but for fewer wide tasks at a time: all end late, and a slow peer would seem stuck."""

app = App(name="python -m benchmarks.peers", help="The service beside its peers and its floor.", version_flags=[])
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
notes = Console(highlight=False, stderr=True)


class Settings(NamedTuple):
    """How every peer runs.

    Attributes:
        python: of the peers' environment.
        processes: of its application.
        connections: of each of these, and so workflows or workers at a time.
    """

    python: Path
    processes: int
    connections: int


def version_of(python: Path, package: str) -> str:
    """Return the version of a package in the peers' environment.

    Raises:
        FileNotFoundError: it is not there.
    """
    code = f"from importlib.metadata import version; print(version({package!r}))"
    try:
        done = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        raise FileNotFoundError(f"{package} is not in the environment of {python}: run `make bench-peers`") from None
    return done.stdout.strip()


async def _new_database(url: str, name: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return at_database(url, name)


async def _drive(
    system: System, servers: dict[str, Find], chosen: tuple[Name, ...], scale: float
) -> dict[str, Figures]:
    notes.print(f"  {system.name}")
    figures: dict[str, Figures] = {}
    async with Driver(system, servers) as driver:
        await driver.run(WARM_UP, scale * WARM_UP_S)
        for workload in MEASURED:
            if workload.name in chosen:
                figures[workload.name] = await driver.run(workload, scale * workload.quick_seconds)
    return figures


def _must_be_whole(wrong: list[str]) -> None:
    if wrong:
        raise WorkLost("; ".join(wrong))


def _round(stack: Stack, number: int, chosen: tuple[Name, ...], scale: float, peers: Settings) -> Turn:
    url, nats_url = stack.postgres.dsn, stack.nats.url
    postgres, nats_server = stack.postgres.pid, stack.nats.pid
    servers: dict[str, Find] = {
        "Postgres": lambda: family(postgres),
        "NATS": lambda: family(nats_server),
        "client": lambda: [os.getpid()],
    }
    turn = Turn()
    floor = Floor(url, nats_url)
    try:
        floor.start()
        turn.figures[FLOOR] = uvloop.run(_drive(floor, servers, chosen, scale))
        _must_be_whole(asyncio.run(floor.check()))
    finally:
        floor.stop()
    service = Service(at_database(url, f"bench_{number}"), nats_url, stack.data_dir)
    try:
        service.start()
        turn.figures[SERVICE] = uvloop.run(_drive(service, servers, chosen, scale))
        asyncio.run(service.caught_up())
        _must_be_whole(asyncio.run(service.check()))
        _must_be_whole(service.stop())
    finally:
        service.stop()
        asyncio.run(service.remove())
    for name, of in PEERS.items():
        url_of_peer = asyncio.run(_new_database(url, name))
        peer = of(url_of_peer, peers.python, processes=peers.processes, connections=peers.connections)
        turn.figures[name] = uvloop.run(_drive(peer, servers, chosen, scale))
        _must_be_whole(asyncio.run(peer.check()))
    return turn


@app.default
def bench(
    *,
    only: Annotated[tuple[Name, ...], Parameter(negative="")] = (),
    rounds: int = 1,
    scale: float = 1.0,
    processes: int = 2,
    connections: int = 20,
    results: Path = RESULTS,
    data: Path | None = None,
    python: Path = PYTHON,
) -> int:
    """Run floor, service, DBOS Transact and Absurd in turns on the same servers and print the ratios.

    Args:
        only: these workloads.
        rounds: turns of all of them.
        scale: make every workload so many times as long; 1 is about two minutes a round.
        processes: of each peer's application; as many as there are cores is what a Python program needs to use them.
        connections: to PostgreSQL of each of these, and so workflows, or workers, at a time in it.
        results: directory for the JSON file.
        data: where the servers' data goes for the time of the run; a temporary directory unless given.
        python: of the environment that `make bench-peers` makes from benchmarks/peers/requirements.txt.
    """
    chosen = only or ALL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        versions = {package: version_of(python, package) for peer in PEERS.values() for package in peer.packages}
    except FileNotFoundError as error:
        notes.print(f"error: {error}", markup=False)
        return NOT_THERE
    stack = Stack(Path(tempfile.mkdtemp(prefix="tasker-peers-", dir=data)), read_settings().settings.embedded)
    settings = Settings(python, processes, connections)
    turns: list[Turn] = []
    try:
        stack.start()
        facts: dict[str, Any] = asyncio.run(machine.facts(stack.postgres.dsn, stack.nats.url, stack.data_dir))
        found = facts["postgres_settings"]
        _must_be_whole([] if found == machine.DURABLE else [f"commits are not durable: {found}"])
        for number in range(1, rounds + 1):
            notes.print(f"round {number} of {rounds}")
            turns.append(_round(stack, number, chosen, scale, settings))
    except WorkLost as error:
        notes.print(f"error: {error}", markup=False)
        return 1
    finally:
        stack.remove()
    rows = rows_of(turns, ALL, (FLOOR, SERVICE, *PEERS))
    show(console, rows, MEASURED)
    document = {
        "format": 1,
        "machine": facts,
        "peers": {"versions": versions, "processes": processes, "connections": connections},
        "rows": rows,
        "rounds": turns,
    }
    part = "" if set(chosen) == set(ALL) else "-" + "-".join(chosen)
    name = f"{name_of_run(facts['commit'])}-peers{part}"
    notes.print(f"written: {write(document, results, name)}")
    return 0


if __name__ == "__main__":
    sys.exit(app())
