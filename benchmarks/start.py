"""`python -m benchmarks.start`: how soon a command answers and `tasker up` is ready, and what it holds when idle.

Exit codes: 0; 9 when a target is not met.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.floor import ROOT
from benchmarks.processes import family

TARGETS_MS: Final = {"tasker --version": 150.0, "tasker --help": 250.0, "tasker task create --help": 250.0}
UP_S_MAX: Final = 4.0
RSS_MIB_MAX: Final = 150.0
COMMAND_RUNS: Final = 10
UP_RUNS: Final = 3
IDLE_S: Final = 10.0
NOT_MET: Final = 9

APP: Final = ROOT / "examples" / "hello.py"


class Figure(NamedTuple):
    """A figure and what it may be at most."""

    what: str
    found: float
    allowed: float
    unit: str


def main() -> int:
    """Measure, print, and say whether all is within its bounds."""
    figures = [Figure(command, command_ms(command.split()), most, "ms") for command, most in TARGETS_MS.items()]
    with tempfile.TemporaryDirectory(prefix="tasker-start-", ignore_cleanup_errors=True) as folder:
        figures += of_up(Path(folder))
    table = Table()
    table.add_column("what")
    for title in ("found", "allowed"):
        table.add_column(title, justify="right")
    for figure in figures:
        table.add_row(figure.what, *(f"{value:,.2f} {figure.unit}" for value in (figure.found, figure.allowed)))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return NOT_MET if any(figure.found > figure.allowed for figure in figures) else 0


def command_ms(command: Sequence[str]) -> float:
    """Return the median time of a command, from its start to its end, after one run that nobody counts."""
    taken = []
    for _ in range(COMMAND_RUNS + 1):
        begun_s = time.perf_counter()
        subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        taken.append((time.perf_counter() - begun_s) * 1e3)
    return median(taken[1:])


def of_up(folder: Path) -> list[Figure]:
    """Return the figures of `tasker up` with a worker, on data that is there already."""
    taken: list[float] = []
    held: Mapping[str, float] = {}
    for number in range(UP_RUNS + 1):
        begun_s = time.perf_counter()
        up = subprocess.Popen(
            [sys.executable, "-m", "tasker", "up", str(APP), "--data", str(folder / "data")],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("TASKER_")},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert up.stdout is not None  # noqa: S101 - it was asked for
            up.stdout.readline()
            taken.append(time.perf_counter() - begun_s)
            if number == UP_RUNS:
                time.sleep(IDLE_S)
                held = python_rss_mib(up.pid)
        finally:
            up.send_signal(signal.SIGTERM)
            up.communicate()
    processes = [Figure(f"idle: {name}", mib, RSS_MIB_MAX, "MiB") for name, mib in held.items()]
    return [Figure("tasker up, warm", median(taken[1:]), UP_S_MAX, "s"), *processes]


def python_rss_mib(pid: int) -> Mapping[str, float]:
    """Return the memory of every Python process of `tasker up` by what it is."""
    held = {}
    for one in family(pid):
        try:
            process = psutil.Process(one)
            words = process.cmdline()
            mib = process.memory_info().rss / 2**20
        except psutil.Error:
            continue
        if "-m" in words:
            module = words.index("-m") + 1
            held[" ".join(Path(word).name for word in words[module : module + 2])] = mib
    return held


if __name__ == "__main__":
    sys.exit(main())
