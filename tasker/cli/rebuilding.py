"""Filling a view anew: `tasker projection rebuild`."""

from __future__ import annotations

from tasker.cli.options import Format
from tasker.cli.output import fields, progress
from tasker.events.postgres_log import PostgresLog
from tasker.projections.postgres_store import PostgresRebuildStore, PostgresTail, open_pool
from tasker.projections.rebuild import Rebuilder
from tasker.projections.views import PROJECTIONS
from tasker.replay.verifier import collecting_rarely


async def rebuild_view(dsn: str, name: str, *, output: Format) -> None:
    """Rebuild view `name` of the database at `dsn`, with progress on a terminal, and print what that came to."""
    log = await PostgresLog.connect(dsn, committers=0, readers=1)
    try:
        shards = (await log.info()).shards
    finally:
        await log.close()
    pool = await open_pool(dsn)
    try:
        rebuilder = Rebuilder(PostgresTail(pool), PostgresRebuildStore(pool), PROJECTIONS, shards=shards)
        with collecting_rarely(), progress(f"rebuilding {name}", "events") as advance:
            rebuilt = await rebuilder.rebuild(name, lambda now: advance(now.events, now.of))
    finally:
        await pool.close()
    pairs = [
        ("view", rebuilt.name),
        ("version", f"{rebuilt.version}, which reads show now"),
        ("events", rebuilt.events),
    ]
    fields(rebuilt, pairs, output)
