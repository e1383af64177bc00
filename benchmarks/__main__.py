"""`make bench`: the floor and the service in turns on the same servers.

Exit codes: 0; 1 when work was lost or done wrong; 9 with `--check` when a target is not met.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
import psutil
import uvloop
from cyclopts import App, Parameter
from rich.console import Console

from benchmarks import machine
from benchmarks.driving import Driver, Figures, WorkLost
from benchmarks.floor import Floor
from benchmarks.processes import Find, family
from benchmarks.report import RESULTS, Round, name_of_run, show, show_targets, summarize, targets, write
from benchmarks.service import Service, at_database
from benchmarks.workloads import (
    BIG,
    CREATES_QUICK_SECONDS,
    CREATES_SECONDS,
    HELD,
    HELD_QUICK_TASKS,
    HELD_TASKS,
    SCHEDULES,
    SCHEDULES_DUE,
    SCHEDULES_QUICK_DUE,
    SIGNALS,
    SIGNALS_QUICK_SECONDS,
    SIGNALS_SECONDS,
    WARM_UP_S,
    WORKLOADS,
    Workload,
)
from tasker.embedded.stack import Stack
from tasker.settings import read_settings

Name = Literal[
    "linear4",
    "linear4-single",
    "prior4",
    "paced4",
    "plain4",
    "capped4",
    "one",
    "diamond4",
    "fanout100",
    "batch",
    "creates",
    "signals",
    "schedules",
    "held",
    "big",
    "verify",
]
ALL: Final[tuple[Name, ...]] = get_args(Name)
ROUNDS: Final = 3
UNMET: Final = 9

app = App(name="make bench", help="The service against its floor.", version_flags=[])
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
notes = Console(highlight=False, stderr=True)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and for how long."""

    chosen: tuple[Name, ...]
    quick: bool
    rounds: int
    scale: float
    by_stream: bool = False

    @property
    def workloads(self) -> list[Workload]:
        """Return the workloads that both systems run."""
        return [workload for workload in WORKLOADS if workload.name in self.chosen]

    @property
    def creates_s(self) -> float:
        """Return how long creations are measured."""
        return self.scale * (CREATES_QUICK_SECONDS if self.quick else CREATES_SECONDS)

    @property
    def signals_s(self) -> float:
        """Return how long signals are sent."""
        return self.scale * (SIGNALS_QUICK_SECONDS if self.quick else SIGNALS_SECONDS)

    @property
    def schedules_due(self) -> int:
        """Return how many schedules are due within a second."""
        return max(1, round(self.scale * (SCHEDULES_QUICK_DUE if self.quick else SCHEDULES_DUE)))

    @property
    def held_tasks(self) -> int:
        """Return how many tasks wait behind one concurrency key."""
        return max(1, round(self.scale * (HELD_QUICK_TASKS if self.quick else HELD_TASKS)))

    @property
    def warm_up_s(self) -> float:
        """Return how long a system runs before anything is measured."""
        return self.scale * WARM_UP_S

    def seconds(self, workload: Workload) -> float:
        """Return how long tasks of a workload are started."""
        return self.scale * (workload.quick_seconds if self.quick else workload.seconds)


class Bench:
    """The turns of both systems on one pair of servers."""

    def __init__(self, stack: Stack, plan: Plan) -> None:
        self._plan = plan
        self._database_url = stack.postgres.dsn
        self._nats_url = stack.nats.url
        self._folder = stack.data_dir
        postgres, nats_server = stack.postgres.pid, stack.nats.pid
        self._servers: dict[str, Find] = {
            "Postgres": lambda: family(postgres),
            "NATS": lambda: family(nats_server),
            "client": lambda: [os.getpid()],
        }

    def facts(self) -> dict[str, Any]:
        """Return the facts of the machine.

        Raises:
            WorkLost: commits would not be durable, so there is nothing to compare.
        """
        found = asyncio.run(machine.facts(self._database_url, self._nats_url, self._folder))
        if found["postgres_settings"] != machine.DURABLE:
            raise WorkLost(f"commits are not durable: {found['postgres_settings']}")
        return found

    def floor_turn(self, result: Round) -> None:
        """Run the workloads on the floor.

        Raises:
            WorkLost: a task was lost.
        """
        floor = Floor(self._database_url, self._nats_url)
        try:
            floor.start()
            result.floor = uvloop.run(self._drive_floor(floor))
        finally:
            floor.stop()

    async def _drive_floor(self, floor: Floor) -> dict[str, Figures]:
        figures = {}
        async with Driver(floor, self._servers) as driver:
            await driver.run(WORKLOADS[0], self._plan.warm_up_s)
            for workload in self._plan.workloads:
                figures[workload.name] = await driver.run(workload, self._plan.seconds(workload))
        _must_be_whole(await floor.check())
        return figures

    def service_turn(self, number: int, result: Round) -> None:
        """Run the workloads on the service, prove its log, and remove what it left.

        Raises:
            WorkLost: something was lost or is wrong.
        """
        dsn = at_database(self._database_url, f"bench_{number}")
        service = Service(dsn, self._nats_url, self._folder, by_stream=self._plan.by_stream)
        try:
            service.start()
            uvloop.run(self._drive_service(service, result))
            _must_be_whole(service.stop())
            result.verified = service.verify()
        finally:
            service.stop()
            asyncio.run(service.remove())

    async def _drive_service(self, service: Service, result: Round) -> None:
        async with Driver(service, self._servers) as driver:
            await driver.run(WORKLOADS[0], self._plan.warm_up_s)
            for workload in self._plan.workloads:
                result.service[workload.name] = await driver.run(workload, self._plan.seconds(workload))
                result.rss_mib[workload.name] = service.rss_mib()
            if "creates" in self._plan.chosen:
                result.creates = await service.creates(self._plan.creates_s)
                result.rss_mib["creates"] = service.rss_mib()
            if SIGNALS in self._plan.chosen:
                result.signals = await service.signals(self._plan.signals_s)
                result.rss_mib[SIGNALS] = service.rss_mib()
            if SCHEDULES in self._plan.chosen:
                result.schedules = await service.schedules(self._plan.schedules_due)
                result.rss_mib[SCHEDULES] = service.rss_mib()
            if HELD in self._plan.chosen:
                result.held = await service.held(self._plan.held_tasks)
                result.rss_mib[HELD] = service.rss_mib()
            if BIG in self._plan.chosen:
                result.big = await service.big()
                result.rss_mib[BIG] = service.rss_mib()
            result.lag = await service.caught_up()
        _must_be_whole(await service.check())


def _must_be_whole(missing: Sequence[str]) -> None:
    if missing:
        raise WorkLost("; ".join(missing))


@app.default
def bench(
    *,
    quick: Annotated[bool, Parameter(negative="")] = False,
    only: Annotated[tuple[Name, ...], Parameter(negative="")] = (),
    rounds: int | None = None,
    scale: float = 1.0,
    by_stream: Annotated[bool, Parameter(negative="")] = False,
    check: Annotated[bool, Parameter(negative="")] = False,
    results: Path = RESULTS,
    data: Path | None = None,
) -> int:
    """Run the floor and the service in turns on the same servers and print the ratios.

    Args:
        quick: one short round, about a minute.
        only: these workloads.
        rounds: pairs of turns; 3 unless given, 1 with --quick.
        scale: make every workload so many times as long.
        by_stream: no work goes straight to the worker, all of it through the work stream.
        check: exit with 9 when a target is not met.
        results: directory for the JSON file.
        data: where the servers' data goes for the time of the run; a temporary directory unless given.
    """
    plan = Plan(
        chosen=only or ALL, quick=quick, rounds=rounds or (1 if quick else ROUNDS), scale=scale, by_stream=by_stream
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Path(tempfile.mkdtemp(prefix="tasker-bench-", dir=data))
    stack = Stack(folder, read_settings().settings.embedded)
    done: list[Round] = []
    try:
        stack.start()
        turns = Bench(stack, plan)
        facts = turns.facts()
        for number in range(1, plan.rounds + 1):
            result = Round()
            notes.print(f"round {number} of {plan.rounds}: floor")
            turns.floor_turn(result)
            notes.print(f"round {number} of {plan.rounds}: service")
            turns.service_turn(number, result)
            done.append(result)
        facts["load_1m_after"] = round(psutil.getloadavg()[0], 2)
    except WorkLost as error:
        notes.print(f"error: {error}", markup=False)
        return 1
    finally:
        stack.remove()
    return _report(plan, facts, done, results, check=check)


def _report(plan: Plan, facts: dict[str, Any], done: list[Round], results: Path, *, check: bool) -> int:
    """Print and write what was found; returns the exit code."""
    summary = summarize(done)
    found = targets(summary, plan.chosen)
    show(console, facts, done, summary)
    show_targets(console, found)
    document = {
        "format": 1,
        "machine": facts,
        "plan": plan,
        "seconds": {workload.name: plan.seconds(workload) for workload in plan.workloads},
        "summary": summary,
        "targets": found,
        "rounds": done,
    }
    notes.print(f"written: {write(document, results, _name(plan, facts['commit']))}")
    return UNMET if check and not all(target.met for target in found) else 0


def _name(plan: Plan, commit: str) -> str:
    kind = "-quick" if plan.quick else ""
    way = "-by-stream" if plan.by_stream else ""
    part = "" if set(plan.chosen) == set(ALL) else "-" + "-".join(plan.chosen)
    return f"{name_of_run(commit)}{kind}{way}{part}"


if __name__ == "__main__":
    sys.exit(app())
