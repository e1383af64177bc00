"""How a schedule is shown."""

from __future__ import annotations

import msgspec
import pytest

from tasker.cli.schedule import _fields
from tasker.events.messages import ScheduleDocument
from tasker.events.reads import ScheduleView

VIEW = ScheduleView(
    tenant="default",
    namespace="default",
    name="often",
    state="active",
    schedule=ScheduleDocument(template="report", every_s=2.0),
    created_at="2026-11-26T01:02:03.000000Z",
    updated_at="2026-11-26T01:02:03.000000Z",
    seq=9,
    position="0:9",
    running=("t1", "t2"),
)


@pytest.mark.parametrize(
    ("overlap", "running"),
    [("skip", ("t1", "t2")), ("allow", "see `tasker task list --tag schedule=often --state running`")],
)
def test_tasks_that_a_schedule_does_not_ask_after_are_not_said_to_run(overlap: str, running: object) -> None:
    view = msgspec.structs.replace(VIEW, schedule=msgspec.structs.replace(VIEW.schedule, overlap=overlap))
    assert dict(_fields(view))["running"] == running
