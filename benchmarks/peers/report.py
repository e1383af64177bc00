"""Peers beside the floor and the service, in ratios of one round."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.driving import Figures
from benchmarks.report import Spread
from benchmarks.workloads import Workload

FLOOR: Final = "floor"
SERVICE: Final = "service"


class Turn(msgspec.Struct):
    """What each system came to in one round: system -> workload -> figures."""

    figures: dict[str, dict[str, Figures]] = {}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One system on one workload, over the rounds.

    Attributes:
        of_service, of_floor: steps/s as a share of theirs in the same round; above 1 is faster.
        p50_in_services: its p50 in p50s of the service in the same round; below 1 is faster.
    """

    workload: str
    system: str
    steps_per_s: Spread
    p50_ms: Spread
    p99_ms: Spread
    of_service: Spread
    of_floor: Spread
    p50_in_services: Spread
    cpu_us_per_step: dict[str, float]
    others_cores: Spread


def spread(values: Sequence[float]) -> Spread:
    """Return median, least and most."""
    return Spread(*(round(value, 3) for value in (median(values), min(values), max(values))))


def rows_of(turns: Sequence[Turn], workloads: Sequence[str], systems: Sequence[str]) -> list[Row]:
    """Return a row for each system that ran a workload; a ratio is of one round, so that a slow minute slows all."""
    rows = []
    for workload in workloads:
        for system in systems:
            rounds = [turn.figures for turn in turns if workload in turn.figures.get(system, {})]
            if not rounds:
                continue
            own = [one[system][workload] for one in rounds]
            services = [one[SERVICE][workload] for one in rounds]
            floors = [one[FLOOR][workload] for one in rounds]
            parts = own[0].cpu_us_per_step
            rows.append(
                Row(
                    workload=workload,
                    system=system,
                    steps_per_s=spread([one.steps_per_s for one in own]),
                    p50_ms=spread([one.p50_ms for one in own]),
                    p99_ms=spread([one.p99_ms for one in own]),
                    of_service=spread([a.steps_per_s / b.steps_per_s for a, b in zip(own, services, strict=True)]),
                    of_floor=spread([a.steps_per_s / b.steps_per_s for a, b in zip(own, floors, strict=True)]),
                    p50_in_services=spread([a.p50_ms / b.p50_ms for a, b in zip(own, services, strict=True)]),
                    cpu_us_per_step={
                        part: round(median(one.cpu_us_per_step[part] for one in own), 1) for part in parts
                    },
                    others_cores=spread([one.others_cores for one in own]),
                )
            )
    return rows


def show(console: Console, rows: Sequence[Row], workloads: Sequence[Workload]) -> None:
    """Print the table."""
    latency = {workload.name for workload in workloads if workload.of_latency}
    table = Table(title="median of the rounds (min..max)", title_justify="left")
    for column in (
        "workload",
        "system",
        "steps/s",
        "p50 ms",
        "p99 ms",
        "of the service",
        "of the floor",
        "CPU us/step",
    ):
        table.add_column(column, justify="left" if column in {"workload", "system"} else "right", overflow="fold")
    for row in rows:
        ratio = f"p50 x {row.p50_in_services}" if row.workload in latency else str(row.of_service)
        cpu = sum(row.cpu_us_per_step.values())
        cells = (row.steps_per_s, row.p50_ms, row.p99_ms, ratio, row.of_floor, f"{cpu:,.0f}")
        table.add_row(row.workload, row.system, *map(str, cells))
    console.print(table)
    for row in rows:
        parts = ", ".join(f"{part} {used:,.0f}" for part, used in row.cpu_us_per_step.items())
        console.print(f"{row.workload}, {row.system}: CPU us/step: {parts}; others' cores {row.others_cores}")
