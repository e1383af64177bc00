"""I5: the rows of a view equal the fold of the log at its checkpoint."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tasker.events.envelope import RecordedEvent
from tasker.projections.projection import Projection
from tasker.projections.views import PROJECTIONS
from tasker.replay.checkers.checker import decoded
from tasker.replay.checkers.projected import ViewChecker
from tasker.replay.findings import Finding
from tests.unit.replay.good_log import changed, completed, delayed, good_log
from tests.view_rows import fold_into

TASK, STEP, TEMPLATE = PROJECTIONS[:3]
Rows = dict[tuple[Any, str], Any]


def rows_at(events: list[RecordedEvent], projection: Projection[Any], checkpoint: int) -> Rows:
    rows: Rows = {}
    for one in events[:checkpoint]:
        fold_into(rows, projection, one)
    return rows


def find(
    projection: Projection[Any],
    *,
    damage: Callable[[Rows], object] = lambda rows: None,
    events: list[RecordedEvent] | None = None,
    checkpoint: int | None = None,
    claimed: int | None = None,
) -> list[tuple[str | None, str]]:
    """What is found when a view is at `checkpoint` (and says `claimed`), with its rows damaged."""
    events = events or good_log()
    checkpoint = len(events) if checkpoint is None else checkpoint
    rows = rows_at(events, projection, checkpoint)
    damage(rows)
    findings: list[Finding] = []
    checker = ViewChecker(projection, 0, checkpoint if claimed is None else claimed, findings.append)
    checker.take_page(events, [decoded(one) for one in events])
    checker.close()
    by_stream: dict[UUID, list[msgspec.Struct]] = {}
    for row in rows.values():
        by_stream.setdefault(projection.key_of(row)[0], []).append(row)
    for expected in checker.take_due(1000):
        checker.compare(expected, [row for stream_id in expected for row in by_stream.get(stream_id, ())])
    checker.check_whole(rows=len(rows), head=max((one.position for one in events), default=0))
    return [(one.task_id, one.detail.partition("of shard 0: ")[2]) for one in findings]


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda one: one.name)
def test_a_view_is_right_wherever_its_checkpoint_is(projection: Projection[Any]) -> None:
    for checkpoint in range(len(good_log()) + 1):
        assert find(projection, checkpoint=checkpoint) == []


def test_poison_is_folded_alike() -> None:
    for projection in PROJECTIONS:
        assert find(projection, events=changed(good_log(), 5, payload=b"{")) == []


def test_a_row_that_differs_is_found_with_its_columns() -> None:
    task = completed().task_id

    def damage(rows: Rows) -> None:
        rows[task, ""].state = "running"
        rows[task, ""].retries = 7

    assert find(TASK, damage=damage) == [(str(task), "differs from the log in state, retries")]


def test_a_missing_row_is_found() -> None:
    """Planted bug: the checkpoint is moved in another transaction than the rows."""
    task = completed().task_id
    assert find(STEP, damage=lambda rows: rows.pop((task, "b"))) == [(str(task), "b: has no row")]


def test_a_row_that_no_event_made_is_found() -> None:
    task = completed().task_id

    def damage(rows: Rows) -> None:
        rows[task, "x"] = msgspec.structs.replace(rows[task, "a"], step="x")

    assert find(STEP, damage=damage) == [(str(task), "x: has a row that no event made")]


def test_rows_of_a_stream_that_the_log_does_not_have_are_found() -> None:
    """Planted bug: the views were kept through a restore of the log."""
    events = [one for one in good_log() if one.stream_id != delayed().task_id]
    stray = rows_at(good_log(), TASK, 100)[delayed().task_id, ""]
    found = find(TASK, events=events, damage=lambda rows: rows.update({(stray.task_id, ""): stray}), claimed=40)
    assert (None, "1 rows are of streams that the shard does not have") in found


def test_an_event_folded_twice_is_found() -> None:
    """Planted bug: the checkpoint stays behind the rows after a crash."""
    events = good_log()
    behind = len(events) - 1
    assert find(TASK, claimed=behind)


def test_a_view_ahead_of_the_log_is_found() -> None:
    events = good_log()
    assert (None, f"the log ends at {len(events)}") in find(TASK, claimed=len(events) + 3)
