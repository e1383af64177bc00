"""From the figures of some rounds to ratios, targets and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.big import BigTask, growth_of
from benchmarks.driving import Figures
from benchmarks.held import Held
from benchmarks.schedules import Schedules
from benchmarks.service import Creates, Lag, Verified
from benchmarks.signals import Signals
from benchmarks.workloads import BIG, CREATES, HELD, LIMITED, PLAIN, SCHEDULES, SIGNALS, WORKLOADS

VERIFY: Final = "verify"
RESULTS: Final = Path(__file__).with_name("results")


class Round(msgspec.Struct, kw_only=True):
    """One turn of the floor and the turn of the service after it."""

    floor: dict[str, Figures] = {}
    service: dict[str, Figures] = {}
    creates: Creates | None = None
    signals: Signals | None = None
    schedules: Schedules | None = None
    held: Held | None = None
    big: list[BigTask] = []
    verified: Verified | None = None
    lag: Lag | None = None
    rss_mib: dict[str, dict[str, float]] = {}


class Spread(msgspec.Struct, frozen=True):
    """A figure over the rounds."""

    median: float
    min: float
    max: float

    def __str__(self) -> str:
        digits = 0 if self.median >= 100 else 2
        if self.min == self.max:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({self.min:,.{digits}f}..{self.max:,.{digits}f})"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A promise of the project and whether this run kept it."""

    what: str
    workload: str
    wanted: float
    at_least: bool
    found: Spread
    met: bool


class _Promise(msgspec.Struct, frozen=True):
    what: str
    workload: str
    figure: str
    wanted: float
    at_least: bool


_LIMIT: Final = "cpu_of_plain4"
_PROMISES: Final = (
    _Promise("linear4 saturated, steps/s as a share of the floor's", "linear4", "steps_ratio", 0.30, at_least=True),
    _Promise("linear4 one at a time, p50 in floors", "linear4-single", "p50_ratio", 2.0, at_least=False),
    _Promise("fanout100 saturated, steps/s as a share of the floor's", "fanout100", "steps_ratio", 0.30, at_least=True),
    _Promise("CPU of a step with a priority, in plain steps", "prior4", _LIMIT, 1.10, at_least=False),
    _Promise("CPU of a step with a rate limit, in plain steps", "paced4", _LIMIT, 1.10, at_least=False),
    _Promise("CPU of a step under a cap of tasks, in plain steps", "capped4", _LIMIT, 1.10, at_least=False),
    _Promise("durable creates/s in arrays of 100", CREATES, "creates_per_s", 5000, at_least=True),
    _Promise("log verify, events/s", VERIFY, "events_per_s", 60_000, at_least=True),
)

Summary = dict[str, dict[str, Spread]]
"""Workload -> figure -> spread."""


def summarize(rounds: Sequence[Round]) -> Summary:
    """Return the spread of every figure; a ratio is of one round's pair, so that a slow minute slows both."""
    summary: Summary = {}
    for workload in WORKLOADS:
        pairs = [
            (one.floor[workload.name], one.service[workload.name]) for one in rounds if workload.name in one.service
        ]
        if pairs:
            summary[workload.name] = {
                "floor_steps_per_s": _spread([floor.steps_per_s for floor, _ in pairs]),
                "steps_per_s": _spread([service.steps_per_s for _, service in pairs]),
                "steps_ratio": _spread([service.steps_per_s / floor.steps_per_s for floor, service in pairs]),
                "floor_p50_ms": _spread([floor.p50_ms for floor, _ in pairs]),
                "p50_ms": _spread([service.p50_ms for _, service in pairs]),
                "p50_ratio": _spread([service.p50_ms / floor.p50_ms for floor, service in pairs]),
                "p99_ms": _spread([service.p99_ms for _, service in pairs]),
                "floor_others_cores": _spread([floor.others_cores for floor, _ in pairs]),
                "others_cores": _spread([service.others_cores for _, service in pairs]),
                "cpu_ratio": _spread([_cpu_us(service) / max(_cpu_us(floor), 0.1) for floor, service in pairs]),
            }
        pairs = [(one.service[PLAIN], one.service[workload.name]) for one in rounds if _both(one, workload.name)]
        if pairs:
            ratios = [_cpu_us(limited) / max(_cpu_us(plain), 0.1) for plain, limited in pairs]
            summary[workload.name][_LIMIT] = _spread(ratios)
    if creates := [one.creates for one in rounds if one.creates is not None]:
        summary[CREATES] = {
            "creates_per_s": _spread([one.creates_per_s for one in creates]),
            "p50_ms": _spread([one.p50_ms for one in creates]),
        }
    if signals := [one.signals for one in rounds if one.signals is not None]:
        summary[SIGNALS] = {
            "to_one_per_s": _spread([one.to_one_per_s for one in signals]),
            "to_many_per_s": _spread([one.to_many_per_s for one in signals]),
            "p50_ms": _spread([one.p50_ms for one in signals]),
        }
    if schedules := [one.schedules for one in rounds if one.schedules is not None]:
        summary[SCHEDULES] = {
            "created_per_s": _spread([one.created_per_s for one in schedules]),
            "fired_p50_ms": _spread([one.fired_p50_ms for one in schedules]),
            "fired_p99_ms": _spread([one.fired_p99_ms for one in schedules]),
            "started_p99_ms": _spread([one.started_p99_ms for one in schedules]),
            "ended_p99_ms": _spread([one.ended_p99_ms for one in schedules]),
        }
    if held := [one.held for one in rounds if one.held is not None]:
        summary[HELD] = {
            "first_half_per_s": _spread([one.first_half_per_s for one in held]),
            "second_half_per_s": _spread([one.second_half_per_s for one in held]),
            "first_half_us": _spread([one.first_half_us for one in held]),
            "second_half_us": _spread([one.second_half_us for one in held]),
            "rss_mib_waiting": _spread([one.rss_mib_waiting for one in held]),
            "rss_mib_end": _spread([one.rss_mib_end for one in held]),
        }
    if bigs := [one.big for one in rounds if one.big]:
        growths = [growth_of(big) for big in bigs]
        summary[BIG] = {
            "seconds": _spread([big[-1].seconds for big in bigs]),
            **{f"{figure}_growth": _spread([growth[figure] for growth in growths]) for figure in growths[0]},
        }
    if verified := [one.verified for one in rounds if one.verified is not None]:
        summary[VERIFY] = {"events_per_s": _spread([one.events_per_s for one in verified])}
    return summary


def targets(summary: Summary, chosen: Sequence[str]) -> list[Target]:
    """Return the promises about the chosen workloads."""
    found = []
    for promise in _PROMISES:
        spread = summary[promise.workload].get(promise.figure) if promise.workload in chosen else None
        if spread is None:  # what it is compared with did not run
            continue
        met = spread.median >= promise.wanted if promise.at_least else spread.median <= promise.wanted
        found.append(
            Target(
                what=promise.what,
                workload=promise.workload,
                wanted=promise.wanted,
                at_least=promise.at_least,
                found=spread,
                met=met,
            )
        )
    return found


def _both(one: Round, workload: str) -> bool:
    """Return whether a round ran one of the limited workloads, and the plain one to compare it with."""
    return workload in LIMITED and workload in one.service and PLAIN in one.service


def cpu_per_step(rounds: Sequence[Round], workload: str, of: Callable[[Round], dict[str, Figures]]) -> dict[str, float]:
    """Return the CPU time of a step by part, in microseconds, as the median over the rounds."""
    parts = [of(one)[workload].cpu_us_per_step for one in rounds if workload in of(one)]
    return {part: round(median(one[part] for one in parts), 1) for part in parts[0]} if parts else {}


def show(console: Console, machine: dict[str, Any], rounds: Sequence[Round], summary: Summary) -> None:
    """Print the tables."""
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {machine['kernel']}; "
        f"Python {machine['python']}, PostgreSQL {machine['postgres']}, nats-server {machine['nats_server']}; "
        f"fsync {machine['fsync_p50_ms']} ms on {machine['filesystem']}; "
        f"load {machine['load_1m_before']} before; commit {machine['commit'] or '?'}"
    )
    _show_workloads(console, summary)
    _show_cpu(console, rounds, summary)
    if CREATES in summary:
        creates = summary[CREATES]
        console.print(f"creates: {creates['creates_per_s']} /s, an array answered in {creates['p50_ms']} ms (p50)")
    if SIGNALS in summary:
        signals = summary[SIGNALS]
        console.print(
            f"signals: {signals['to_one_per_s']} /s to one task, {signals['to_many_per_s']} /s to 1,000 tasks, "
            f"an array of 100 answered in {signals['p50_ms']} ms (p50)"
        )
    if SCHEDULES in summary:
        due = summary[SCHEDULES]
        console.print(
            f"schedules due within a second: fired {due['fired_p50_ms']} ms late (p50), {due['fired_p99_ms']} (p99); "
            f"their tasks are there after {due['started_p99_ms']} ms and done after {due['ended_p99_ms']} (p99); "
            f"{due['created_per_s']} schedules/s created"
        )
    if HELD in summary:
        held = summary[HELD]
        console.print(
            f"held: {held['first_half_per_s']} tasks/s pass a key of 10 in the first half of those that wait, "
            f"{held['second_half_per_s']} in the second ({held['first_half_us']} and {held['second_half_us']} us "
            f"of the write side each); write side {held['rss_mib_waiting']} MiB while all wait, "
            f"{held['rss_mib_end']} at the end"
        )
    if BIG in summary:
        big = summary[BIG]
        console.print(
            f"big: a task of 10,000 items in {big['seconds']} s; an item of it takes {big['ms_per_item_growth']} times "
            f"the time, {big['log_bytes_per_item_growth']} times the bytes in the log and "
            f"{big['wal_bytes_per_item_growth']} times the bytes written of one of 1,000"
        )
    if VERIFY in summary:
        events = [one.verified.events for one in rounds if one.verified is not None]
        console.print(f"log verify: {summary[VERIFY]['events_per_s']} events/s, of {events} events")
    lags = [one.lag for one in rounds if one.lag is not None]
    if lags:
        console.print(
            f"views complete {max(lag.views_s for lag in lags):.2f} s after the end, "
            f"event stream {max(lag.stream_s for lag in lags):.2f} s (worst round)"
        )
    for when, parts in rounds[-1].rss_mib.items():
        console.print(f"memory after {when}: " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in parts.items()))


def _show_workloads(console: Console, summary: Summary) -> None:
    table = Table(title="median of the rounds (min..max)", title_justify="left")
    for column in ("workload", "", "floor", "service", "ratio", "p99 ms", "CPU ratio", "others' cores"):
        table.add_column(column, justify="left" if column in {"workload", ""} else "right", overflow="fold")
    for workload in WORKLOADS:
        found = summary.get(workload.name)
        if found is None:
            continue
        unit, kind = ("p50 ms", "p50") if workload.of_latency else ("steps/s", "steps")
        figure = "p50_ms" if workload.of_latency else "steps_per_s"
        table.add_row(
            workload.name,
            unit,
            str(found[f"floor_{figure}"]),
            str(found[figure]),
            str(found[f"{kind}_ratio"]),
            f"{found['p99_ms'].median:,.0f}",
            f"{found['cpu_ratio'].median:.1f}",
            f"{found['floor_others_cores'].median:.1f} / {found['others_cores'].median:.1f}",
        )
    if table.row_count:
        console.print(table)


def _show_cpu(console: Console, rounds: Sequence[Round], summary: Summary) -> None:
    table = Table(title="CPU microseconds a step", title_justify="left")
    sides: tuple[tuple[str, Callable[[Round], dict[str, Figures]]], ...] = (
        ("floor", lambda one: one.floor),
        ("service", lambda one: one.service),
    )
    rows = [
        (workload.name, name, cpu_per_step(rounds, workload.name, of))
        for workload in WORKLOADS
        if workload.name in summary
        for name, of in sides
    ]
    parts = list(dict.fromkeys(part for _, _, row in rows for part in row))
    table.add_column("workload")
    table.add_column("system")
    for part in (*parts, "total"):
        table.add_column(part, justify="right")
    for workload, system, row in rows:
        cells = [f"{row[part]:.0f}" if part in row else "" for part in parts]
        table.add_row(workload, system, *cells, f"{sum(row.values()):.0f}")
    if rows:
        console.print(table)


def show_targets(console: Console, found: Sequence[Target]) -> None:
    """Print whether the promises were kept."""
    if not found:
        return
    table = Table(title="targets", title_justify="left")
    for column in ("target", "wanted", "found", ""):
        table.add_column(column, justify="left" if column == "target" else "right")
    for target in found:
        sign = ">=" if target.at_least else "<="
        verdict = "[green]met[/]" if target.met else "[red]not met[/]"
        table.add_row(target.what, f"{sign} {target.wanted:,g}", str(target.found), verdict)
    console.print(table)


def _cpu_us(figures: Figures) -> float:
    """Return what a step cost in all processes together."""
    return sum(figures.cpu_us_per_step.values())


def _spread(values: Sequence[float]) -> Spread:
    return Spread(*(round(value, 3) for value in (median(values), min(values), max(values))))


def name_of_run(commit: str) -> str:
    """Return what the files of a run of today begin with."""
    return f"{datetime.now(UTC):%Y-%m-%d}-{commit or 'unknown'}"


def write(document: object, folder: Path, name: str) -> Path:
    """Write what was found as JSON, and return where."""
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    return path
