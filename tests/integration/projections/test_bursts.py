"""Reads of what came in a burst: the database has no statistics of it yet, and takes it for next to nothing."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tasker.events.task_events import ApprovalRequested
from tasker.projections import postgres_dead_letters as dead_letters
from tasker.projections.folding import Folding
from tasker.projections.postgres_store import PostgresRebuildStore, open_pool
from tasker.projections.sql import statements
from tasker.projections.views import PROJECTIONS
from tests.histories import Recorder, blocked_task, completed_task, created

COUNT = 400
SHARDS = 4
STATEMENTS: Mapping[str, str] = {
    "page": dead_letters._PAGE[True],
    "groups": dead_letters._GROUPS[True],
    "count": dead_letters._COUNT[True],
    "page of all": dead_letters._PAGE[False],
    "groups of all": dead_letters._GROUPS[False],
    "count of all": dead_letters._COUNT[False],
    "approvals": statements("queries")["approvals"],
}
_LIMIT = 101


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for one in plan.get("Plans", ()):
        yield from nodes(one)


def rows_seen(plan: dict[str, Any]) -> float:
    """Return how many rows all parts of a plan looked at."""
    seen = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck")
    return sum(node["Actual Loops"] * sum(node.get(name, 0) for name in seen) for node in nodes(plan))


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
async def test_a_burst_of_a_new_template_is_looked_through_once(database: str, statement: str) -> None:
    """Of 5,000 that failed within seconds, `dlq groups` looked through all of them 5,000 times, and timed out."""
    pool = await open_pool(database)
    folding = Folding(PostgresRebuildStore(pool))
    await folding.open([(one, 1) for one in PROJECTIONS], shards=SHARDS)
    recorder = Recorder(shards=SHARDS)
    for _ in range(COUNT):
        recorder.task(completed_task("s1", template="usual"))
    await folding.take(recorder.events)
    asks = [created("burst"), ApprovalRequested(step="ask", attempt=1, assignees=("ada",))]
    async with pool.acquire() as connection:
        for name in ("task_v1", "step_v1", "dlq_v1"):
            await connection.execute(f"ALTER TABLE {name} SET (autovacuum_enabled = off)")
        await connection.execute("ANALYZE")
        known = len(recorder.events)
        for _ in range(COUNT):
            recorder.task(blocked_task(template="burst"))
            recorder.task(asks)
        await folding.take(recorder.events[known:])
        numbers = max(int(number) for number in re.findall(r"\$(\d+)", statement))
        given: list[Any] = ["default", *[None] * (numbers - 1)]
        given[3 if "approval" in statement else 5] = "burst"
        if "LIMIT $" in statement:
            given[-1] = _LIMIT
        [(text,)] = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *given)
    await pool.close()
    [explained] = json.loads(text)
    assert explained["Plan"]["Actual Rows"] >= 1
    assert rows_seen(explained["Plan"]) < 20 * COUNT
