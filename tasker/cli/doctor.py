"""`tasker doctor`: what is wrong, and what to change."""

from __future__ import annotations

from pathlib import Path

from tasker.cli.options import Output


async def doctor(*, data: Path | None = None, output: Output = "table") -> None:
    """Say what is wrong with settings, machine, PostgreSQL, NATS and the service, and what to change.

    Nothing is changed. Exit code 9 when there is a finding, 0 when there is none.

    For example:

    $ tasker doctor
    $ tasker doctor -o json | jq -r '.findings[].remedy'

    Args:
        data: data directory of a `tasker up`, instead of TASKER_DATABASE_URL and the others.
        output: the form of what is printed; json is one document, jsonl a finding a line.
    """
    from tasker.cli.examining import examine_all

    await examine_all(data, output=output)
