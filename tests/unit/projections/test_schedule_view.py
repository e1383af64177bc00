"""The view of schedules: which backfills are open, and how far they are."""

from typing import Any

import pytest

from tasker.events.envelope import US_PER_S
from tasker.events.reads import OpenBackfill
from tasker.events.schedule_events import (
    ScheduleBackfillRequested,
    ScheduleBackfillStopped,
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleFired,
    ScheduleSpec,
)
from tasker.ids import schedule_stream_id
from tasker.projections.views.schedule import ScheduleProjection, to_view
from tasker.times import to_rfc3339
from tests.histories import Recorder
from tests.view_rows import fold_into

HOUR_US = 3600 * US_PER_S
DAY_US = 24 * HOUR_US
CREATED = ScheduleCreated(namespace="shop", name="nightly", spec=ScheduleSpec(template="report", cron="0 * * * *"))


def asked(day: int, fires: int | None = 24) -> ScheduleBackfillRequested:
    start_us = day * DAY_US
    return ScheduleBackfillRequested(
        start_us=start_us, end_us=start_us + DAY_US, overlap="buffer_all", first_us=start_us, fires=fires
    )


def filled(day: int, hour: int, *, last: bool = False) -> ScheduleFired:
    fire_us = day * DAY_US + hour * HOUR_US
    next_us = None if last else fire_us + HOUR_US
    return ScheduleFired(fire_us=fire_us, cause="backfill", task_id=f"t-{hour}", key="k", next_us=next_us)


def stopped(day: int, hour: int) -> ScheduleBackfillStopped:
    return ScheduleBackfillStopped(next_us=day * DAY_US + hour * HOUR_US, end_us=(day + 1) * DAY_US)


def open_backfills(*events: Any) -> list[tuple[int, int, int | None]]:
    """Return of each open one its day, how many fire times had their turn, and how many there are."""
    view = folded(*events)
    for one in view:
        day = int(one.start[8:10]) - 1
        assert one.next == to_rfc3339(day * DAY_US + one.started * HOUR_US)
        assert one.end == to_rfc3339((day + 1) * DAY_US)
    return [(int(one.start[8:10]) - 1, one.started, one.fires) for one in view]


def folded(*events: Any) -> tuple[OpenBackfill, ...]:
    recorder = Recorder()
    recorder.record(schedule_stream_id("default", "shop", "nightly"), [CREATED, *events])
    rows: dict[Any, Any] = {}
    for recorded in recorder.events:
        fold_into(rows, ScheduleProjection(), recorded)
    (row,) = rows.values()
    return to_view(row).backfills


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ((asked(1),), [(1, 0, 24)]),
        ((asked(1), filled(1, 0), filled(1, 1)), [(1, 2, 24)]),
        ((asked(1), asked(2, None), filled(1, 0)), [(1, 1, 24), (2, 0, None)]),
        ((asked(1), asked(2), filled(1, 0, last=True), filled(2, 0)), [(2, 1, 24)]),
        ((asked(1), asked(2), filled(1, 0), stopped(1, 1)), [(2, 0, 24)]),
        ((asked(1), asked(2), stopped(2, 0), filled(1, 0)), [(1, 1, 24)]),
        ((asked(1), asked(1), stopped(1, 0)), [(1, 0, 24)]),
        ((asked(1), filled(1, 0, last=True)), []),
        ((asked(1), stopped(1, 0)), []),
        ((asked(1), asked(2), ScheduleDeleted()), []),
    ],
)
def test_open_backfills_are_shown_with_how_far_they_are(events: Any, found: Any) -> None:
    assert open_backfills(*events) == found
