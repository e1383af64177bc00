"""What processes cost: CPU time and memory by part, from the operating system."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import psutil

Find = Callable[[], list[int]]
"""Returns the process ids that a part has now: a part may get new ones."""


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    try:
        top = psutil.Process(pid)
        return [pid, *(child.pid for child in top.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def child_named(pid: int, word: str) -> list[int]:
    """Return the children of `pid` that have the argument `word`."""
    found = []
    for one in family(pid)[1:]:
        try:
            if word in psutil.Process(one).cmdline():
                found.append(one)
        except psutil.Error:
            continue
    return found


class Meter:
    """CPU seconds of some parts, from one moment to another."""

    def __init__(self, parts: Mapping[str, Find]) -> None:
        self._parts = parts
        self._before = self._read()
        self._busy_before_s = _busy_s()
        self._started_s = time.perf_counter()

    def others_cores(self) -> float:
        """Return how many cores the rest of the machine has kept busy since the beginning."""
        now = self._read()
        ours_s = sum(now.values()) - sum(self._before.values())
        seconds = time.perf_counter() - self._started_s
        return round(max(0.0, _busy_s() - self._busy_before_s - ours_s) / seconds, 2)

    def stop(self) -> dict[str, float]:
        """Return the CPU seconds that each part has used since the beginning."""
        now = self._read()
        return {name: round(max(0.0, now[name] - self._before[name]), 3) for name in now}

    def _read(self) -> dict[str, float]:
        return {name: cpu_s(find) for name, find in self._parts.items()}


def _busy_s() -> float:
    """Return the CPU seconds of everything on the machine, with what a host withheld from it."""
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(float(getattr(times, name, 0.0)) for name in names)


def cpu_s(find: Find) -> float:
    """Return the CPU seconds that a part has used."""
    return sum(_cpu_s(pid) for pid in find())


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that have ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + ended)


def rss_mib(find: Find) -> float:
    """Return the resident memory of a part."""
    total = 0
    for pid in find():
        try:
            total += psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue
    return round(total / 2**20, 1)
