"""Looking for what is wrong: `tasker doctor`."""

from __future__ import annotations

from pathlib import Path

from tasker.cli.failures import CheckFailed
from tasker.cli.options import Format
from tasker.cli.output import Column, document, line, note, rows, status
from tasker.cli.reach import effective
from tasker.clock import SystemClock
from tasker.doctor.examine import examine
from tasker.doctor.finding import Finding
from tasker.settings import read_settings
from tasker.settings.running import STACK_FILE, data_dir_of, running_stack
from tasker.telemetry import configure_logging

_COLUMNS: list[Column] = [
    ("code", lambda found: found.code),
    ("finding", lambda found: found.detail),
    ("remedy", lambda found: found.remedy),
]


async def examine_all(data: Path | None, *, output: Format) -> None:
    """Examine and print.

    Raises:
        CheckFailed: something was found.
        SettingsInvalid: the settings cannot be used at all.
    """
    # What the drivers log of a server that is down is what the findings say.
    configure_logging("error")
    # Where nothing runs on a named directory, that is a finding.
    runs = data is None or running_stack(str(data))
    found = effective(data) if runs else read_settings(flags={"data": str(data)})
    with status("looking at settings and machine") as show:
        examination = await examine(
            found,
            data=data_dir_of(str(data) if data else found.settings.data),
            stack_file=STACK_FILE,
            clock=SystemClock(),
            on_progress=lambda what: show(f"looking at {what}"),
        )
    if output == "json":
        document(examination, output)
    elif output == "jsonl":
        rows(examination.findings, _COLUMNS, output)
    else:
        _lines(examination.findings)
    if not examination.ok:
        count = len(examination.findings)
        raise CheckFailed(f"{count} findings" if count > 1 else "one finding", remedy="the remedy stands beside each")
    note("nothing found")


def _lines(findings: tuple[Finding, ...]) -> None:
    """Print a line a finding: a table would fold the remedies."""
    for found in findings:
        line(f"{found.code}: {found.detail}. Remedy: {found.remedy}")
