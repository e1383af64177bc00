"""Proving the log: `tasker log verify`."""

from __future__ import annotations

from tasker.cli.failures import CheckFailed
from tasker.cli.options import Format
from tasker.cli.output import Column, document, fields, line, progress, rows
from tasker.replay.findings import Finding
from tasker.replay.report import VerifyReport
from tasker.replay.verify import verify


def _positions(found: Finding) -> str | None:
    if found.position is None or found.last_position in (None, found.position):
        return None if found.position is None else str(found.position)
    return f"{found.position}-{found.last_position}"


_COLUMNS: list[Column] = [
    ("promise", lambda found: found.invariant),
    ("shard", lambda found: found.shard),
    ("position", _positions),
    ("task", lambda found: found.task_id),
    ("finding", lambda found: found.detail),
]


async def verify_log(dsn: str, *, workers: int | None, output: Format) -> None:
    """Verify the log at `dsn` and print the report.

    Raises:
        CheckFailed: something was found.
    """
    with progress("verifying", "events") as advance:
        report = await verify(dsn, workers=workers, on_progress=lambda now: advance(now.events, now.of))
    if output == "table":
        _show(report)
    else:
        document(report, output)
    if not report.ok:
        raise CheckFailed(f"{report.findings_total} places where the log or a view breaks a promise")


def _show(report: VerifyReport) -> None:
    if report.findings:
        rows(report.findings, _COLUMNS, "table")
        line("")
    pairs = [
        ("events", f"{report.events} in {report.shards} shards"),
        ("tasks", f"{report.tasks} folded"),
        ("rows", f"{report.rows} of views compared"),
        ("rate", f"{report.events_per_s:.0f} events/s in {report.seconds:.2f} s, {report.workers} processes"),
        ("up to", report.position),
        ("findings", report.findings_total),
    ]
    fields(report, pairs, "table")
