"""On what machine, with what versions: without it a figure says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil

from benchmarks.floor import ROOT, connect
from tasker.version import __version__

_FSYNCS: Final = 50
_BLOCK: Final = b"." * 8192
DURABLE: Final = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""What both systems' commits must mean."""


async def facts(database_url: str, nats_url: str, folder: Path) -> dict[str, Any]:
    """Return the facts of machine, servers and checkout. `folder` is where the servers keep their data."""
    database = await asyncpg.connect(database_url)
    bus = await connect(nats_url)
    try:
        settings = {name: await database.fetchval("SELECT current_setting($1)", name) for name in DURABLE}
        postgres = await database.fetchval("SELECT current_setting('server_version')")
        version = bus.connected_server_version
    finally:
        await database.close()
        await bus.close()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": _cores(),
        "cpu": _cpu(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_1m_before": round(psutil.getloadavg()[0], 2),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "filesystem": _filesystem(folder),
        "fsync_p50_ms": _fsync_p50_ms(folder),
        "python": platform.python_version(),
        "postgres": postgres,
        "postgres_settings": settings,
        "nats_server": f"{version.major}.{version.minor}.{version.patch}",
        "tasker": __version__,
        "commit": commit(),
        "changed_since_commit": _changed(),
    }


def commit() -> str:
    """Return the short name of the commit that is checked out; empty without git."""
    return _git("rev-parse", "--short=9", "HEAD")


def _changed() -> bool:
    return bool(_git("status", "--porcelain", "--untracked-files=no", "--", "tasker", "benchmarks"))


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", *arguments],  # noqa: S607 - git is found where its user has it
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _filesystem(folder: Path) -> str:
    """Return the type of the file system below `folder`: on one in memory, fsync costs nothing."""
    inside = [one for one in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(one.mountpoint)]
    return max(inside, key=lambda one: len(one.mountpoint)).fstype if inside else ""


def _fsync_p50_ms(folder: Path) -> float:
    """Return how long the disk takes to make one block durable."""
    path = folder / "fsync-probe"
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_FSYNCS):
            started_s = time.perf_counter()
            file.write(_BLOCK)
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started_s)
    path.unlink()
    return round(sorted(taken)[_FSYNCS // 2] * 1e3, 3)
