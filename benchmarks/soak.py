"""`make soak`: the service at half load for long; is it flat? See benchmarks/results/README.md.

Exit codes: 0 flat; 1 when work was lost or done wrong; 9 when something grew, fell behind or was started again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import asyncpg
import msgspec
import psutil
import uvloop
from cyclopts import App, Parameter
from nats.aio.client import Client
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.driving import Driver, WorkLost
from benchmarks.floor import connect
from benchmarks.pacing import Pacer
from benchmarks.report import RESULTS, name_of_run, write
from benchmarks.service import Service, Verified, at_database
from benchmarks.verdict import Sample, Verdict, judge
from benchmarks.workloads import SHAPES, WORKLOADS
from tasker.embedded.stack import Stack
from tasker.settings import read_settings

MINUTES: Final = 60.0
PROBE_S: Final = 15.0
EVERY_S: Final = 10.0
LOAD_SHARE: Final = 0.5
NOT_FLAT: Final = 9
BYTES_PER_TASK: Final = 20_000
"""What a task leaves on the disk of PostgreSQL, rounded up: events, views, indexes, write-ahead log."""

app = App(name="make soak", help="The service at half load for long.", version_flags=[])
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
notes = Console(highlight=False, stderr=True, width=None if sys.stderr.isatty() else 200)


class Soaked(msgspec.Struct, kw_only=True):
    """What came of a run. `wrong`: what was lost or not right; empty: nothing."""

    saturated_tasks_per_s: float | None
    rate: float
    samples: list[Sample]
    verdict: Verdict | None = None
    at_rest: Sample | None = None
    verified: Verified | None = None
    wrong: list[str]


class Sampler:
    """Looks at the processes of a service, its log and its streams."""

    def __init__(self, service: Service, pacer: Pacer, database: asyncpg.Connection, bus: Client) -> None:
        self._service = service
        self._pacer = pacer
        self._database = database
        self._bus = bus

    async def look(self, at_s: float) -> Sample:
        """Return what there is to see now."""
        pids = self._service.processes()
        seen = {name: held for name, pid in pids.items() if (held := _held(pid)) is not None}
        behind = await self._service.behind(self._database)
        window = self._pacer.window()
        return Sample(
            at_s=round(at_s, 1),
            rss_mib={name: held.rss_mib for name, held in seen.items()},
            descriptors={name: held.descriptors for name, held in seen.items()},
            threads={name: held.threads for name, held in seen.items()},
            pids=pids,
            publisher_lag=behind.stream,
            view_lag=behind.views,
            connections=await self._service.connections(self._database),
            streams_mib=await self._service.streams_mib(self._bus),
            asked=self._pacer.asked,
            started=self._pacer.started,
            ended=self._pacer.ended,
            p50_ms=window.p50_ms,
            p99_ms=window.p99_ms,
        )


class Held(NamedTuple):
    """What a process holds."""

    rss_mib: float
    descriptors: int
    threads: int


def _held(pid: int) -> Held | None:
    """Return what a process holds; None when it has just ended: the next sample tells, by another id."""
    try:
        process = psutil.Process(pid)
        return Held(round(process.memory_info().rss / 2**20, 1), process.num_fds(), process.num_threads())
    except psutil.Error:
        return None


@app.default
def soak(
    *,
    minutes: Annotated[float, Parameter(env_var="SOAK_MINUTES")] = MINUTES,
    rate: Annotated[float | None, Parameter(env_var="SOAK_RATE")] = None,
    every_s: float = EVERY_S,
    results: Path = RESULTS,
    data: Path | None = None,
) -> int:
    """Drive the service and a worker at a steady rate, and say whether memory, descriptors and lag stay flat.

    Ctrl-C ends the load early, with the verdict of what was seen until then.

    Args:
        minutes: how long tasks are started.
        rate: tasks a second; half of what a short saturated probe reaches unless given.
        every_s: how often is looked.
        results: directory for the JSON file.
        data: where the servers' data goes for the time of the run; a temporary directory unless given.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Path(tempfile.mkdtemp(prefix="tasker-soak-", dir=data))
    stack = Stack(folder, read_settings().settings.embedded)
    service = None
    try:
        stack.start()
        facts = asyncio.run(machine.facts(stack.postgres.dsn, stack.nats.url, folder))
        service = Service(at_database(stack.postgres.dsn, "soak"), stack.nats.url, folder)
        service.start()
        soaked = uvloop.run(_soak(service, minutes=minutes, rate=rate, every_s=every_s, folder=folder))
        soaked.wrong += service.stop()
        if not soaked.wrong:
            notes.print("the log is verified")
            soaked.verified = service.verify(within_s=60 + soaked.samples[-1].started / 500)
    except WorkLost as error:
        notes.print(f"error: {error}", markup=False)
        return 1
    finally:
        if service is not None:
            service.stop()
        stack.remove()
    facts["load_1m_after"] = round(psutil.getloadavg()[0], 2)
    document = {"format": 1, "machine": facts, "minutes": minutes, "soak": soaked}
    notes.print(f"written: {write(document, results, name_of_run(facts['commit']) + '-soak')}")
    return _report(soaked)


async def _soak(service: Service, *, minutes: float, rate: float | None, every_s: float, folder: Path) -> Soaked:
    """Probe, load and look; returns what was seen, also when something went wrong on the way."""
    stop = asyncio.Event()
    _end_early_on_signals(stop)
    saturated = None
    if rate is None:
        notes.print(f"what the service reaches: {PROBE_S:g} s")
        async with Driver(service, {}) as driver:
            saturated = (await driver.run(WORKLOADS[0], PROBE_S)).tasks_per_s
        rate = round(LOAD_SHARE * saturated, 1)
    _check_disk(folder, tasks=rate * minutes * 60)
    shape = WORKLOADS[0].shape
    soaked = Soaked(saturated_tasks_per_s=saturated, rate=rate, samples=[], wrong=[])
    pacer = Pacer(service, shape, rate)
    notes.print(f"{rate:g} tasks/s of {shape} for {minutes:g} min; Ctrl-C ends early")
    await service.open(pacer.on_ended)
    database = await service.connect()
    bus = await connect(service.nats_url)
    sampler = Sampler(service, pacer, database, bus)
    looking = asyncio.create_task(_look_again(sampler, soaked.samples, every_s), name="sampler")
    looking.add_done_callback(lambda _: stop.set())  # load that nobody looks at is of no use
    try:
        await pacer.run(minutes * 60, stop)
        looking.cancel()
        await pacer.finish()
        await service.caught_up()
        soaked.at_rest = await sampler.look(minutes * 60)
        soaked.wrong += await service.check()
    except WorkLost as error:
        soaked.wrong.append(str(error))
    finally:
        looking.cancel()
        (ended,) = await asyncio.gather(looking, return_exceptions=True)
        if isinstance(ended, Exception):
            soaked.wrong.append(f"the samples ended early: {ended!r}")
        await bus.close()
        await database.close()
        await service.close()
    if soaked.samples:
        soaked.verdict = judge(soaked.samples, events_per_s=rate * SHAPES[shape].events)
    return soaked


async def _look_again(sampler: Sampler, samples: list[Sample], every_s: float) -> None:
    """Add a sample every `every_s` seconds, and say a line of each sixth, until cancelled."""
    begun_s = time.monotonic()
    while True:
        await asyncio.sleep(every_s * (len(samples) + 1) - (time.monotonic() - begun_s))
        samples.append(await sampler.look(time.monotonic() - begun_s))
        if len(samples) % 6 == 0:
            _tell(samples[-1])


def _tell(sample: Sample) -> None:
    held = ", ".join(f"{name} {mib:.0f}" for name, mib in sample.rss_mib.items())
    notes.print(
        f"{sample.at_s / 60:5.1f} min  {sample.ended:,} tasks  p50 {sample.p50_ms or 0:.0f} ms  p99 "
        f"{sample.p99_ms or 0:.0f} ms  MiB: {held}  behind: stream {sample.publisher_lag}, views {sample.view_lag}"
    )


def _end_early_on_signals(stop: asyncio.Event) -> None:
    """End the load at the first Ctrl-C; the second ends the run."""

    def on_signal() -> None:
        if stop.is_set():
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
        notes.print("the load ends; Ctrl-C again gives up")
        stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, on_signal)


def _check_disk(folder: Path, *, tasks: float) -> None:
    wanted, free = tasks * BYTES_PER_TASK, psutil.disk_usage(str(folder)).free
    if wanted > free:
        raise WorkLost(
            f"{tasks:,.0f} tasks need about {wanted / 2**30:.0f} GiB, {folder} has {free / 2**30:.0f}: "
            "choose another place with --data, a lower SOAK_RATE or fewer SOAK_MINUTES"
        )


def _report(soaked: Soaked) -> int:
    """Print the verdict; returns the exit code."""
    if soaked.verdict is not None:
        verdict = soaked.verdict
        table = Table(title=f"minutes {verdict.from_s / 60:.1f} to {verdict.to_s / 60:.1f}", title_justify="left")
        table.add_column("bound")
        for title in ("found", "allowed"):
            table.add_column(title, justify="right")
        table.add_column("")
        for finding in verdict.findings:
            cells = (f"{value:g} {finding.unit}".strip() for value in (finding.found, finding.bound))
            table.add_row(finding.what, *cells, "" if finding.met else "NOT MET")
        console.print(table)
    if soaked.verified is not None:
        console.print(f"log verify: {soaked.verified.events:,} events, {soaked.verified.findings_total} findings")
    for fault in soaked.wrong:
        console.print(f"WRONG: {fault}", markup=False)
    flat = soaked.verdict is not None and soaked.verdict.flat
    console.print("verdict: " + ("wrong" if soaked.wrong else "flat" if flat else "not flat"))
    return 1 if soaked.wrong else 0 if flat else NOT_FLAT


if __name__ == "__main__":
    sys.exit(app())
