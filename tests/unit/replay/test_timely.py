"""I9: no timer early or late, and every task ends unless a person holds it up."""

import pytest

from tasker.events.envelope import RecordedEvent
from tasker.replay.checkers.checker import decoded
from tasker.replay.checkers.timely import TimelyChecker
from tasker.replay.findings import Finding
from tests.runs import T0_US, Run, linear, template
from tests.timely_at_rest import TimelyAtRest
from tests.unit.replay.good_log import (
    LINEAR,
    by_time,
    cancelled,
    changed,
    completed,
    delayed,
    found,
    good_log,
    index_of,
    renumbered,
)


def find(events: list[RecordedEvent], *, late_s_max: float | None = None) -> list[str]:
    return [one.detail for one in found(lambda report: TimelyChecker(0, report, late_s_max=late_s_max), events)]


def find_at_rest(events: list[RecordedEvent], now_us: int | None = None) -> list[Finding]:
    findings: list[Finding] = []
    checker = TimelyAtRest(0, findings.append, late_s_max=1)
    for one in events:
        checker.take(one, decoded(one))
    checker.close_at_rest(now_us)
    return findings


def test_a_good_log_has_no_findings() -> None:
    assert find(good_log(), late_s_max=1) == []
    assert find_at_rest(good_log()) == []


def moved(kind: str, by_us: int, run: Run, *, nth: int = 0) -> list[RecordedEvent]:
    """The good log with the time of one event moved."""
    events = good_log()
    index = index_of(events, kind, nth=nth, task=run)
    return changed(events, index, at_us=events[index].at_us + by_us)


@pytest.mark.parametrize(
    ("kind", "nth", "run", "what"),
    [
        ("step_dispatched", 1, completed, "the retry of step a"),
        ("task_started", 0, delayed, "the task's not_before"),
        ("task_stopping", 0, delayed, "the task's deadline"),
        ("step_cancelled", 0, cancelled, "the grace of step a"),
    ],
)
def test_an_early_and_a_late_timer_are_found(kind: str, nth: int, run: object, what: str) -> None:
    """Planted bug: a timer on a wall clock that jumps, and one that only memory knew."""
    assert callable(run)
    assert find(moved(kind, -1, run(), nth=nth)) == [f"{kind} comes 0.000001 s before {what}"]
    assert f"{kind} comes 3.000000 s after {what}" in find(moved(kind, 3_000_000, run(), nth=nth), late_s_max=2)
    assert find(moved(kind, 3_000_000, run(), nth=nth)) == []


def test_a_schedule_to_start_that_fires_early_is_found() -> None:
    run = Run(linear(1, schedule_to_start_s=5))
    run.create()
    run.fire_at("start_by:s1:1")
    events = by_time([run])
    assert find(events, late_s_max=1) == []
    index = index_of(events, "step_attempt_failed")
    assert find(changed(events, index, at_us=events[index].at_us - 2)) == [
        "step_attempt_failed comes 0.000002 s before the start_by of step s1"
    ]


def test_an_outcome_long_after_its_timeout_is_late() -> None:
    """Planted bug: the timeout of a started attempt is forgotten at a takeover."""
    run = Run(linear(1))
    run.create()
    run.start("s1")
    run.wait(3600)
    run.complete("s1")
    assert find(by_time([run]), late_s_max=60) == ["step_completed comes 3568.000000 s after the finish_by of step s1"]


def test_a_worker_may_report_its_own_timeout_first() -> None:
    run = Run(linear(1))
    run.create()
    run.start("s1")
    run.wait(29.9)
    run.fail("s1")
    assert find(by_time([run]), late_s_max=0) == []


def test_a_retry_that_nobody_scheduled_is_found_by_its_missing_timer() -> None:
    events = good_log()
    index = index_of(events, "task_started")
    assert find(renumbered([*events[: index + 1], *events[index:]])) == [
        "task_started comes without the task's not_before"
    ]


def test_a_task_that_neither_ends_nor_waits_for_a_person_is_found_at_rest() -> None:
    """Planted bug: dispatched from memory alone, and the memory was lost."""
    run = Run(LINEAR)
    run.create()
    (finding,) = find_at_rest(by_time([run]))
    assert (finding.task_id, finding.detail) == (
        str(run.task_id),
        "the task has not ended, and no person holds it up",
    )


def test_a_blocked_task_may_rest() -> None:
    run = Run(linear(1, retry={"max_attempts": 1}))
    run.create()
    run.fail("s1")
    assert find_at_rest(by_time([run])) == []


def test_a_task_may_wait_for_a_timer_that_is_not_overdue() -> None:
    run = Run(LINEAR)
    run.create(not_before_us=T0_US + 3_600_000_000)
    events = by_time([run])
    assert find_at_rest(events, now_us=T0_US) == []
    (finding,) = find_at_rest(events, now_us=T0_US + 3_610_000_000)
    assert finding.detail == "the task's not_before is 10.000000 s overdue"


def waiting(*, fires: bool) -> Run:
    run = Run(template({"w": []}, steps={"w": {"signal": "go", "wait_deadline_s": 60}}))
    run.create()
    if fires:
        run.fire_at("wait_by:w:1")
    return run


def test_a_wait_expires_at_its_deadline() -> None:
    events = by_time([waiting(fires=True)])
    assert find(events, late_s_max=1) == []
    index = index_of(events, "wait_expired")
    early = changed(events, index, at_us=events[index].at_us - 1)
    assert find(early) == ["wait_expired comes 0.000001 s before the wait of step w"]


def test_a_task_that_waits_for_the_outside_may_stand_still() -> None:
    run = Run(template({"w": []}, steps={"w": {"signal": "go"}}))
    run.create()
    assert find_at_rest(by_time([run])) == []
    overdue = find_at_rest(by_time([waiting(fires=False)]), T0_US + 90_000_000)
    assert [one.detail for one in overdue] == ["the wait of step w is 30.000000 s overdue"]


def test_a_schedule_to_close_that_fires_early_is_found() -> None:
    run = Run(template({"a": []}, steps={"a": {"schedule_to_close_s": 20, "retry": {"delay_s": 30.0}}}))
    run.create()
    run.wait(11)
    run.fail("a")
    run.fire_at("close_by:a:1")
    run.retry("a")
    run.start("a", 2)
    run.fire_at("close_by:a:2")
    run.retry("a")
    run.fire_at("close_by:a:3")
    run.retry("a")
    run.complete("a", 4)
    events = by_time([run])
    assert find(events, late_s_max=1) == []
    index = index_of(events, "step_failed")
    assert find(changed(events, index, at_us=events[index].at_us - 2)) == [
        "step_failed comes 0.000002 s before the close_by of step a"
    ]
    assert "step_failed comes 3.000000 s after the close_by of step a" in find(
        changed(events, index, at_us=events[index].at_us + 3_000_000), late_s_max=2
    )
