"""The whole examination: settings, machine, database, NATS, HTTP, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tasker.clock import Clock
from tasker.doctor.finding import Examination, Finding
from tasker.doctor.http_checks import examine_http
from tasker.doctor.log_checks import examine_log
from tasker.doctor.machine import examine_files, examine_settings, examine_versions
from tasker.doctor.nats_checks import examine_nats
from tasker.doctor.postgres_checks import examine_database
from tasker.settings import Effective


async def examine(
    found: Effective, *, data: Path, stack_file: str, clock: Clock, on_progress: Callable[[str], None]
) -> Examination:
    """Return everything that is wrong. A server that is down is a finding, and ends nothing else.

    Args:
        found: the settings, with their sources.
        data: the data directory of `tasker up`; there may be none.
        stack_file: the name of the file with its secrets.
        clock: this machine's.
        on_progress: told what is looked at.
    """
    settings = found.settings
    findings: list[Finding] = []
    on_progress("settings and machine")
    findings += examine_settings(found)
    findings += examine_versions()
    findings += examine_files(data, stack_file, free_bytes_min=settings.doctor.disk_free_bytes_min)
    on_progress("PostgreSQL")
    findings += await examine_database(settings, clock)
    on_progress("NATS")
    findings += await examine_nats(settings)
    findings += await examine_log(settings)
    on_progress("HTTP")
    findings += await examine_http(settings)
    return Examination(ok=not findings, findings=tuple(findings))
