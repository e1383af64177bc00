"""The usage view: sums a meter of a step, over all its attempts."""

from typing import Any

from tasker.events.task_events import UsageRecorded
from tasker.projections.views.usage import UsageProjection, UsageRow
from tests.histories import Recorder, created, ran
from tests.view_rows import fold_into


def used(amount: str = "1", *, attempt: int = 1, step: str = "a", **more: Any) -> UsageRecorded:
    return UsageRecorded(step=step, attempt=attempt, meter="pages", amount=amount, **more)


def fold(*events: Any) -> dict[str, UsageRow]:
    recorder = Recorder()
    recorder.task([created(), *events])
    rows: dict[Any, Any] = {}
    for recorded in recorder.events:
        fold_into(rows, UsageProjection(), recorded)
    return {row.line: row for row in rows.values()}


def test_attempts_of_a_step_are_added_up_exactly() -> None:
    (row,) = fold(
        used("0.1", cost="0.01", currency="USD"), used("0.2", attempt=2, cost="0.02", currency="USD")
    ).values()
    assert (row.amount, row.cost, row.attempts, row.currency) == ("0.3", "0.03", 2, "USD")


def test_what_differs_in_more_than_its_amount_is_a_row_of_its_own() -> None:
    rows = fold(
        used(),
        used(step="b"),
        used(model="m"),
        used(unit="sheet"),
        used(cost="1", currency="USD"),
        used(cost="1", currency="USD", price="1", prices="v1"),
        used(cost="1", currency="USD", price="1", prices="v2"),
        used(cost="1", currency="EUR"),
    )
    assert len(rows) == 8
    assert all(row.attempts == 1 for row in rows.values())


def test_a_cost_that_nobody_knows_is_none() -> None:
    (row,) = fold(used()).values()
    assert row.cost is None


def test_other_events_make_no_row() -> None:
    assert fold(*ran("a")) == {}
