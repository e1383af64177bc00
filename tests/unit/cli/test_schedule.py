"""How a schedule is shown."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tasker.cli.schedule import _fields
from tasker.cli.showing import show_reply
from tasker.events.messages import Reply, ScheduleDocument, WouldHappen
from tasker.events.reads import OpenBackfill, ScheduleView

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
    assert dict(_fields(view))["may still run"] == running


def test_an_open_backfill_says_how_far_it_is() -> None:
    one = OpenBackfill(
        start="2026-01-01T00:00:00Z",
        end="2026-01-02T00:00:00Z",
        overlap="buffer_all",
        next="2026-01-01T03:00:00Z",
        started=3,
        fires=24,
        requested_by="ada",
    )
    view = msgspec.structs.replace(VIEW, backfills=(one, msgspec.structs.replace(one, fires=None, requested_by=None)))
    shown: Any = dict(_fields(view))["backfills"]
    first, second = shown
    assert first == (
        "2026-01-01 00:00:00Z to 2026-01-02 00:00:00Z (buffer_all): 3 of 24 started, next 2026-01-01 03:00:00Z, for ada"
    )
    assert second.endswith(": 3 started, next 2026-01-01 03:00:00Z")


def test_a_dry_run_shows_fire_times_where_it_is_about_some(capsys: pytest.CaptureFixture[str]) -> None:
    resumed, skipped = WouldHappen(event="schedule_resumed"), WouldHappen(event="schedule_fires_skipped", fires=3)
    show_reply(Reply(ok=True, dry_run=True, would=(resumed, skipped)), "table")
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert told[0][-2:] == ["FIRE", "TIMES"]
    assert told[1:] == [["schedule_resumed", "-", "-"], ["schedule_fires_skipped", "-", "3"]]
    show_reply(Reply(ok=True, dry_run=True, would=(resumed,)), "table")
    assert "FIRE" not in capsys.readouterr().out
