"""Proving the log: `tasker log verify`."""

from __future__ import annotations

from tasker.cli.options import Format
from tasker.cli.output import document, line, note, progress
from tasker.replay.verify import Report, verify


async def verify_log(dsn: str, *, workers: int | None, output: Format) -> int:
    """Verify the log at `dsn`, print the report, and return 0 or 9."""
    with progress("verifying", "events") as advance:
        report = await verify(dsn, on_progress=lambda now: advance(now.events, now.of), workers=workers)
    if output == "table":
        _print(report)
    else:
        document(report, output)
    return 9 if report.findings else 0


def _print(report: Report) -> None:
    for finding in report.findings:
        line(str(finding))
    note(f"{len(report.findings)} problems")
