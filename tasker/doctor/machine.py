"""What can be wrong with this machine: Python, packages, the data directory, files with secrets, disk."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from tasker.doctor.finding import Finding
from tasker.settings import Effective
from tasker.settings.keys import keys

DISTRIBUTION: Final = "tasker-service"
RIVAL: Final = "tasker"
PYTHON_TESTED_MAX: Final = (3, 14)

_OTHERS_READ: Final = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH


def examine_settings(found: Effective) -> Iterator[Finding]:
    """Yield what is odd about the settings, and who may read their file."""
    for warning in found.warnings:
        yield Finding(
            code="variable_unknown", detail=warning, remedy="unset or rename it; `tasker config show` lists all"
        )
    settings = found.settings
    if settings.database.statement_timeout_s >= settings.pace.lease_s:
        yield Finding(
            code="timeout_above_lease",
            detail=f"database.statement_timeout_s is {settings.database.statement_timeout_s:g}, which is not below "
            f"pace.lease_s, {settings.pace.lease_s:g}: an owner may wait while another takes over",
            remedy="lower database.statement_timeout_s, or raise pace.lease_s",
        )
    of_file = [key.name for key in keys().values() if key.secret and found.sources[key.name] == found.file]
    if found.file is not None and of_file and os.name != "nt":
        mode = Path(found.file).stat().st_mode
        if mode & _OTHERS_READ:
            yield Finding(
                code="settings_file_open",
                detail=f"{found.file} has {', '.join(of_file)}, and others may read it ({stat.filemode(mode)})",
                remedy=f"chmod 600 {found.file}",
            )


def examine_versions(path: list[str] | None = None, python: tuple[int, int] | None = None) -> Iterator[Finding]:
    """Yield what is wrong with Python and the packages that are installed on `path` (else where Python looks)."""
    version = python or sys.version_info[:2]
    tested = ".".join(map(str, PYTHON_TESTED_MAX))
    if version > PYTHON_TESTED_MAX:
        yield Finding(
            code="python_untested",
            detail=f"Python is {version[0]}.{version[1]}; tested is up to {tested}",
            remedy=f"use Python {tested}",
        )
    installed = {
        _plain(distribution.metadata["Name"]): distribution
        for distribution in metadata.distributions(path=sys.path if path is None else path)
    }
    if RIVAL in installed:
        yield Finding(
            code="package_rival",
            detail=f"the unrelated package {RIVAL} {installed[RIVAL].version} is installed: both write to one folder",
            remedy=f"pip uninstall {RIVAL} && pip install --force-reinstall {DISTRIBUTION}",
        )
    ours = installed.get(DISTRIBUTION)
    if ours is not None:
        yield from _requirements(ours, installed)


def _requirements(ours: metadata.Distribution, installed: dict[str, metadata.Distribution]) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    for line in ours.requires or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        found = installed.get(_plain(wanted.name))
        if found is None or not wanted.specifier.contains(found.version, prereleases=True):
            yield Finding(
                code="package_version",
                detail=f"{wanted.name} {'is missing' if found is None else f'is {found.version}'}; "
                f"this build needs {wanted.name}{wanted.specifier}",
                remedy=f"pip install '{wanted.name}{wanted.specifier}'",
            )


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def examine_files(data: Path, stack_file: str, *, free_bytes_min: int) -> Iterator[Finding]:
    """Yield what is wrong with the data directory of `tasker up`, where there is one, and with its disk."""
    if data.is_dir():
        found = data.stat()
        if found.st_mode & _OTHERS_READ:
            yield Finding(
                code="data_open",
                detail=f"others may read {data} ({stat.filemode(found.st_mode)})",
                remedy=f"chmod go-rw {data}",
            )
        if found.st_uid != os.geteuid():
            yield Finding(
                code="data_foreign",
                detail=f"{data} belongs to user {found.st_uid}, and this is {os.geteuid()}",
                remedy=f"run as that user, choose another with data (TASKER_DATA), or chown -R {os.geteuid()} {data}",
            )
        stack = data / stack_file
        if stack.is_file() and (mode := stack.stat().st_mode) & _OTHERS_READ:
            yield Finding(
                code="stack_file_open",
                detail=f"others may read {stack}, which holds the secret of NATS ({stat.filemode(mode)})",
                remedy=f"chmod 600 {stack}, and restart `tasker up`",
            )
    there = next(path for path in (data, *data.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if free < free_bytes_min:
        yield Finding(
            code="disk_full",
            detail=f"{free / 1024**2:.0f} MiB are free at {there}; PostgreSQL stops when there are none",
            remedy="free space, or move data (TASKER_DATA) to a larger disk (doctor.disk_free_bytes_min is the bound)",
        )
