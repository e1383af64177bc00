"""When a schedule fires: cron in a zone whose clocks change, intervals, single times, jitter."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from tasker.errors import ScheduleInvalid
from tasker.events.messages import ScheduleDocument
from tasker.schedules import document_of, due_us_of, fire_times, spec_of, time_text
from tasker.schedules.document import check_fires
from tasker.times import from_rfc3339

ZURICH = "Europe/Zurich"
GAP = "2026-03-29T01:00:00Z"
"""Zurich puts its clocks forward, from 02:00 to 03:00."""

OVERLAP = "2026-10-25T01:00:00Z"
"""Zurich puts its clocks back, from 03:00 to 02:00."""


def times(after: str, count: int = 3, **document: Any) -> list[str]:
    spec = spec_of(ScheduleDocument(template="t", **document))
    return [time_text(one) for one in islice(fire_times(spec, from_rfc3339(after)), count)]


class TestGap:
    def test_a_time_of_day_in_it_fires_behind_it(self) -> None:
        fired = times("2026-03-27T12:00:00Z", cron="30 2 * * *", timezone=ZURICH)
        assert fired == ["2026-03-28T01:30:00Z", GAP, "2026-03-30T00:30:00Z"]

    def test_two_times_of_day_in_it_are_one_behind_it(self) -> None:
        fired = times("2026-03-28T23:00:00Z", cron="10,40 2 * * *", timezone=ZURICH)
        assert fired == [GAP, "2026-03-30T00:10:00Z", "2026-03-30T00:40:00Z"]

    def test_a_job_of_every_hour_or_minute_knows_no_gap(self) -> None:
        fired = times("2026-03-29T00:00:00Z", cron="0 * * * *", timezone=ZURICH)
        assert fired == ["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T03:00:00Z"]


class TestOverlap:
    def test_a_time_of_day_in_it_fires_the_first_time(self) -> None:
        fired = times("2026-10-24T12:00:00Z", cron="30 2 * * *", timezone=ZURICH)
        assert fired[:2] == ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]

    def test_asked_from_its_second_pass_it_does_not_go_back(self) -> None:
        fired = times("2026-10-25T01:15:00Z", cron="30 2 * * *", timezone=ZURICH)
        assert fired[0] == "2026-10-26T01:30:00Z"

    def test_a_job_of_every_hour_fires_in_both_passes(self) -> None:
        fired = times("2026-10-25T00:00:00Z", cron="30 * * * *", timezone=ZURICH)
        assert fired == ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]


class TestOthers:
    def test_an_interval_counts_from_the_epoch_or_its_start(self) -> None:
        assert times("2026-01-01T00:00:01Z", every_s=3600)[0] == "2026-01-01T01:00:00Z"
        started = times("2026-01-01T00:00:00Z", every_s=3600, start_at="2026-01-01T00:10:00Z")
        assert started == ["2026-01-01T00:10:00Z", "2026-01-01T01:10:00Z", "2026-01-01T02:10:00Z"]

    def test_bounds_hold_for_all_kinds(self) -> None:
        bounds: dict[str, Any] = {"start_at": "2026-01-02T00:00:00Z", "end_at": "2026-01-04T00:00:00Z"}
        assert times("2026-01-01T00:00:00Z", cron="@daily", **bounds) == [
            "2026-01-02T00:00:00Z",
            "2026-01-03T00:00:00Z",
        ]
        at = tuple(f"2026-01-0{day}T00:00:00Z" for day in (4, 2, 1, 3))
        assert times("2026-01-01T00:00:00Z", at=at, **bounds) == ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]

    def test_jitter_is_the_schedule_s_and_the_fire_time_s_own(self) -> None:
        spec = spec_of(ScheduleDocument(template="t", cron="@hourly", jitter_s=60))
        late = {due_us_of(spec, name, at) - at for name in ("a", "b") for at in (0, 1, 2)}
        assert len(late) == 6
        assert all(0 <= one < 60_000_000 for one in late)
        assert due_us_of(spec, "a", 1) == due_us_of(spec, "a", 1)


class TestDocument:
    @pytest.mark.parametrize(
        "document",
        [
            {"cron": "*/5 9-17 * * mon-fri", "timezone": ZURICH, "jitter_s": 5.0, "overlap": "buffer_one"},
            {"every_s": 1.5, "start_at": "2026-01-01T00:00:00Z", "fires_max": 3, "tags": {"a": "b"}},
            {"at": ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00.000001Z"), "version": "1.0.0", "timeout_s": 3.0},
        ],
    )
    def test_its_stored_form_is_the_same_document(self, document: dict[str, Any]) -> None:
        given = ScheduleDocument(template="t", **document)
        assert document_of(spec_of(given)) == given

    @pytest.mark.parametrize(
        ("document", "pointer"),
        [
            ({}, ""),
            ({"cron": "@daily", "every_s": 60.0}, ""),
            ({"cron": "* * * * * *"}, "/cron"),
            ({"cron": "0 0 30 2 *"}, "/cron"),
            ({"cron": "L * * * *"}, "/cron"),
            ({"cron": "@daily", "timezone": "../etc/passwd"}, "/timezone"),
            ({"cron": "@daily", "timezone": ""}, "/timezone"),
            ({"every_s": 0.5}, "/every_s"),
            ({"every_s": float("inf")}, "/every_s"),
            ({"every_s": 60.0, "timezone": ZURICH}, "/timezone"),
            ({"at": ("2026-01-01T00:00:00",)}, "/at/0"),
            ({"every_s": 60.0, "fires_max": 0}, "/fires_max"),
            ({"every_s": 60.0, "end_at": "2020-01-01T00:00:00Z", "start_at": "2021-01-01T00:00:00Z"}, "/end_at"),
            ({"every_s": 60.0, "time_key": "at"}, "/input"),
            ({"every_s": 60.0, "template": "No Name"}, "/template"),
        ],
    )
    def test_a_fault_names_its_place(self, document: dict[str, Any], pointer: str) -> None:
        with pytest.raises(ScheduleInvalid) as caught:
            spec_of(ScheduleDocument(**{"template": "t", **document}))
        assert [one.pointer for one in caught.value.errors] == [pointer]

    def test_one_that_never_fires_has_a_fault(self) -> None:
        spec = spec_of(ScheduleDocument(template="t", every_s=60, end_at="2020-01-01T00:00:00Z"))
        with pytest.raises(ScheduleInvalid, match="never"):
            check_fires(spec, from_rfc3339("2026-01-01T00:00:00Z"))


def test_a_fault_of_the_whole_document_has_no_place_in_its_message() -> None:
    with pytest.raises(ScheduleInvalid) as found:
        spec_of(ScheduleDocument(template="t"))
    assert found.value.detail == "one of cron, every_s and at, not none"
    with pytest.raises(ScheduleInvalid) as found:
        spec_of(ScheduleDocument(template="t", every_s=0.0, tags={"": "x"}))
    assert [one.pointer for one in found.value.errors] == ["/tags", "/every_s"]
    assert "/tags: the tag with the value 'x' has no key; a key has 1 to 128 characters; /every_s" in found.value.detail
