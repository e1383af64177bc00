"""Schedules in the test kit: the real service, on a clock of its own, which begins on 1 January 2030."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tasker import Template
from tasker.errors import BodyInvalid, ScheduleConflict, ScheduleForbids, ScheduleInvalid, ScheduleUnknown
from tasker.service.actors.schedules.schedule_effects import ScheduleEffects
from tasker.testing import TaskerTest

quick = Template("quick")


@quick.step
async def note(input: Any) -> Any:
    return input


long = Template("long")


@long.step(start_to_close_s=86_400)
async def work(input: float) -> str:
    await asyncio.sleep(input)
    return "done"


def at(hour: int, minute: int = 0, second: int = 0, *, day: int = 1, month: int = 1) -> datetime:
    return datetime(2030, month, day, hour, minute, second, tzinfo=UTC)


@pytest.fixture
async def tasker() -> AsyncIterator[TaskerTest]:
    async with TaskerTest(quick, long) as kit:
        yield kit


def times(schedule: Any) -> list[datetime]:
    return [fire.fire_time for fire in schedule.fires]


class TestFires:
    async def test_each_fire_time_starts_one_task_that_knows_it(self, tasker: TaskerTest):
        hourly = await tasker.schedule(
            "hourly", template="quick", cron="0 * * * *", input={"who": "me"}, time_key="hour"
        )
        await tasker.advance(hours=3, minutes=1)
        assert times(hourly) == [at(1), at(2), at(3)]
        assert [run.state for run in hourly.tasks] == ["completed"] * 3
        assert hourly.tasks[0].result == {"who": "me", "hour": "2030-01-01T01:00:00Z"}
        assert all(fire.at - fire.fire_time < timedelta(seconds=1) for fire in hourly.fires)
        assert hourly.next_fire == at(4)
        created = hourly.tasks[0].events[0]
        assert created.idempotency_key == "schedule:hourly:2030-01-01T01:00:00Z"
        assert created.tags == {"schedule": "hourly"}

    async def test_an_interval_counts_from_its_start(self, tasker: TaskerTest):
        schedule = await tasker.schedule(
            "often", template="quick", every_s=90, start_at="2030-01-01T00:10:00Z", end_at="2030-01-01T00:14:30Z"
        )
        await tasker.advance(hours=1)
        assert times(schedule) == [at(0, 10), at(0, 11, 30), at(0, 13)]
        assert schedule.state == "finished"

    async def test_one_shots(self, tasker: TaskerTest):
        schedule = await tasker.schedule(
            "twice", template="quick", at=["2030-01-02T00:00:00Z", "2030-01-01T12:00:00+02:00"]
        )
        await tasker.advance(days=3)
        assert times(schedule) == [at(10), at(0, day=2)]
        assert schedule.state == "finished"

    async def test_so_many_fires_at_most(self, tasker: TaskerTest):
        schedule = await tasker.schedule("few", template="quick", every_s=60, fires_max=2)
        await tasker.advance(hours=1)
        assert len(schedule.fires) == 2
        assert schedule.state == "finished"

    async def test_jitter_is_late_by_what_the_fire_time_draws(self, tasker: TaskerTest):
        schedule = await tasker.schedule("soft", template="quick", every_s=600, jitter_s=300)
        await tasker.advance(hours=5)
        late_s = [(fire.at - fire.fire_time).total_seconds() for fire in schedule.fires]
        assert len(late_s) >= 29
        assert all(0 <= one <= 301 for one in late_s)
        assert max(late_s) - min(late_s) > 100


class TestDaylightSaving:
    """Zurich puts its clocks forward on 31 March 2030 at 02:00, and back on 27 October 2030 at 03:00."""

    async def test_a_time_of_day_in_the_gap_fires_behind_it_and_in_the_overlap_once(self, tasker: TaskerTest):
        daily = await tasker.schedule("daily", template="quick", cron="30 2 * * *", timezone="Europe/Zurich")
        await tasker.advance(days=310)
        fired = times(daily)
        march = [fire for fire in fired if fire.month == 3 and fire.day >= 30]
        assert march == [at(1, 30, day=30, month=3), at(1, 0, day=31, month=3)]
        october = [fire for fire in fired if fire.month == 10 and fire.day in (26, 27, 28)]
        assert october == [at(0, 30, day=26, month=10), at(0, 30, day=27, month=10), at(1, 30, day=28, month=10)]
        assert len(fired) == 310


class TestOverlap:
    async def test_skip(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="long", every_s=60, input=150.0)
        await tasker.advance(minutes=7)
        assert times(schedule) == [at(0, 1), at(0, 4), at(0, 7)]
        assert [(skip.first, skip.reason) for skip in schedule.skips] == [
            (at(0, minute), "overlap") for minute in (2, 3, 5, 6)
        ]

    async def test_buffer_one(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="long", every_s=60, input=150.0, overlap="buffer_one")
        await tasker.advance(minutes=6)
        assert times(schedule) == [at(0, 1), at(0, 2)]
        assert schedule.waiting == (at(0, 4),)
        assert [skip.first for skip in schedule.skips] == [at(0, 3), at(0, 5), at(0, 6)]
        [_, second] = schedule.fires
        assert second.cause == "buffered"
        assert timedelta(0) < second.at - at(0, 3, 30) < timedelta(seconds=31)

    async def test_buffer_all(self, tasker: TaskerTest):
        schedule = await tasker.schedule(
            "s", template="long", every_s=60, input=150.0, overlap="buffer_all", fires_max=3
        )
        await tasker.advance(minutes=30)
        assert times(schedule) == [at(0, 1), at(0, 2), at(0, 3)]
        assert schedule.skips == ()
        assert schedule.state == "finished"

    async def test_cancel_running(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="long", every_s=60, input=150.0, overlap="cancel_running")
        await tasker.advance(minutes=3, seconds=30)
        assert times(schedule) == [at(0, 1), at(0, 2), at(0, 3)]
        assert [run.state for run in schedule.tasks] == ["cancelled", "cancelled", "running"]

    async def test_allow(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="long", every_s=60, input=150.0, overlap="allow")
        await tasker.advance(minutes=3, seconds=1)
        assert [run.state for run in schedule.tasks] == ["running"] * 3


class TestStops:
    async def test_what_a_stop_of_hours_left_is_made_up_for_within_the_window(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="quick", every_s=600, overlap="allow", catch_up_s=3600)
        await tasker.crash_service(down_s=4 * 3600)
        await tasker.advance(minutes=1)
        [missed] = schedule.skips
        assert (missed.first, missed.reason) == (at(0, 10), "missed")
        made_up = times(schedule)
        assert made_up == [missed.until + timedelta(minutes=10 * index) for index in range(len(made_up))]
        assert len(made_up) == 6
        assert missed.count == 24 - 6
        assert [run.state for run in schedule.tasks] == ["completed"] * 6

    async def test_a_fire_whose_start_was_never_sent_starts_its_task_after_two_kills(
        self, tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch
    ):
        schedule = await tasker.schedule("s", template="quick", at=["2030-01-01T01:00:00Z"])
        with monkeypatch.context() as lost:
            lost.setattr(ScheduleEffects, "start", lambda *_: None)
            await tasker.advance(hours=1, seconds=1)
            await tasker.crash_service()
            await tasker.crash_service(down_s=7200)
            assert times(schedule) == [at(1)]
            assert "schedule_task_started" not in schedule.history
        await tasker.crash_service()
        await tasker.advance(minutes=2)
        assert times(schedule) == [at(1)]
        assert [run.state for run in schedule.tasks] == ["completed"]
        assert schedule.history.count("schedule_task_started") == 1

    async def test_a_start_whose_answer_was_lost_is_still_one_task(
        self, tasker: TaskerTest, monkeypatch: pytest.MonkeyPatch
    ):
        schedule = await tasker.schedule("s", template="quick", at=["2030-01-01T01:00:00Z"])
        with monkeypatch.context() as deaf:
            deaf.setattr(ScheduleEffects, "_tell", lambda *_: None)
            await tasker.advance(hours=1, minutes=10)
            assert "schedule_task_started" not in schedule.history
        await tasker.crash_service()
        await tasker.advance(minutes=2)
        assert len(schedule.tasks) == 1
        assert schedule.history[-1] == "schedule_task_started"


class TestPeople:
    async def test_the_same_document_is_a_duplicate_and_another_one_a_conflict(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="quick", cron="@daily")
        await tasker.schedule("s", template="quick", cron="@daily")
        assert schedule.history == ("schedule_created",)
        with pytest.raises(ScheduleConflict, match=r"schedule\.update"):
            await tasker.schedule("s", template="quick", cron="@hourly")

    async def test_every_fault_at_once(self, tasker: TaskerTest):
        with pytest.raises(ScheduleInvalid) as caught:
            await tasker.schedule("s", template="quick", cron="61 * * * *", timezone="Mars/North", jitter_s=-1)
        assert [one.pointer for one in caught.value.errors] == ["/timezone", "/cron", "/jitter_s"]

    async def test_what_lies_behind_never_fires(self, tasker: TaskerTest):
        with pytest.raises(ScheduleInvalid, match="never"):
            await tasker.schedule("s", template="quick", at=["2029-01-01T00:00:00Z"])

    async def test_fire_times_of_a_pause_are_skipped(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="quick", every_s=600)
        await tasker.advance(minutes=15)
        await schedule.pause("the shop is closed")
        assert schedule.state == "paused"
        await tasker.advance(hours=1)
        await schedule.resume()
        await tasker.advance(minutes=10)
        assert times(schedule) == [at(0, 10), at(1, 20)]
        [skip] = schedule.skips
        assert (skip.first, skip.until, skip.count, skip.reason) == (at(0, 20), at(1, 20), 6, "paused")

    async def test_a_trigger_starts_a_task_at_once_whatever_runs(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="long", every_s=3600, input=7200.0)
        await tasker.advance(hours=1)
        await schedule.pause()
        await schedule.trigger()
        await schedule.trigger()
        assert [fire.cause for fire in schedule.fires] == ["time", "trigger", "trigger"]
        assert [run.state for run in schedule.tasks] == ["running"] * 3

    async def test_a_backfill_starts_one_after_another_what_has_no_task(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="long", cron="0 * * * *", input=60.0)
        await tasker.advance(hours=2, minutes=30)
        await schedule.backfill("2029-12-31T22:00:00Z", "2030-01-01T02:00:00Z")
        await tasker.advance(minutes=20)
        eve = [at(0) - timedelta(hours=2), at(0) - timedelta(hours=1), at(0), at(1)]
        assert times(schedule) == [at(1), at(2), *eve]
        assert len(schedule.tasks) == 5
        begun = [run.events[0].at for run in schedule.tasks[2:]]
        assert all(later - earlier >= timedelta(seconds=60) for earlier, later in pairwise(begun))

    async def test_a_backfill_at_once(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="quick", cron="0 * * * *")
        await tasker.advance(minutes=1)
        await schedule.backfill("2029-12-20T00:00:00Z", "2029-12-30T00:00:00Z", overlap="allow")
        await tasker.advance(minutes=1)
        assert len(schedule.tasks) == 240
        assert all(run.state == "completed" for run in schedule.tasks)

    async def test_a_backfill_is_stopped_and_the_next_one_goes_on(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="long", cron="0 * * * *", input=60.0)
        await tasker.advance(minutes=1)
        await schedule.pause()
        await schedule.backfill("2029-12-31T12:00:00Z", "2029-12-31T22:00:00Z")
        await schedule.backfill("2029-12-30T00:00:00Z", "2029-12-30T02:00:00Z")
        await tasker.advance(minutes=3)
        await schedule.stop_backfill("2029-12-31T22:00:00Z")
        begun = len(schedule.tasks)
        assert 1 <= begun < 6
        with pytest.raises(ScheduleForbids, match="no backfill up to 2029-12-31T22:00:00Z is open"):
            await schedule.stop_backfill("2029-12-31T22:00:00Z")
        await tasker.advance(hours=1)
        assert [fire.fire_time.day for fire in schedule.fires] == [31] * begun + [30] * 2
        assert [run.state for run in schedule.tasks] == ["completed"] * (begun + 2)
        with pytest.raises(ScheduleForbids, match="no backfill is open"):
            await schedule.stop_backfill()

    async def test_all_backfills_are_stopped_at_once(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="long", cron="0 * * * *", input=60.0)
        for day in (27, 28, 29):
            await schedule.backfill(f"2029-12-{day}T00:00:00Z", f"2029-12-{day + 1}T00:00:00Z")
        await schedule.stop_backfill()
        await tasker.advance(minutes=30)
        assert len(schedule.tasks) <= 1

    async def test_a_backfill_without_end_is_refused(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="quick", every_s=60)
        with pytest.raises(BodyInvalid, match="shorter range"):
            await schedule.backfill("2029-12-01T00:00:00Z", "2029-12-04T11:21:00Z")
        await schedule.backfill("2029-12-01T00:00:00Z", "2029-12-04T11:20:00Z")

    async def test_an_update_holds_from_the_next_fire_time(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="quick", every_s=600, input=1)
        await tasker.advance(minutes=11)
        await schedule.update(template="quick", every_s=3600, input=2)
        await tasker.advance(hours=1)
        assert times(schedule) == [at(0, 10), at(1)]
        assert [run.result for run in schedule.tasks] == [1, 2]

    async def test_a_deleted_schedule_is_gone_and_its_name_is_free(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="quick", every_s=600)
        await schedule.delete()
        assert schedule.state == "deleted"
        with pytest.raises(ScheduleUnknown):
            await schedule.pause()
        await tasker.advance(hours=1)
        assert schedule.fires == ()
        await tasker.schedule("s", template="quick", every_s=3600)
        await tasker.advance(hours=1)
        assert times(schedule) == [at(2)]

    async def test_a_task_that_is_refused_is_told_and_the_next_fire_goes_on(self, tasker: TaskerTest):
        schedule = await tasker.schedule("s", template="missing", every_s=600)
        await tasker.advance(minutes=21)
        assert len(schedule.fires) == 2
        assert schedule.history.count("schedule_start_refused") == 2
