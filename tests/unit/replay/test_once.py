"""I7: one completion a step, one start and one outcome an attempt, one effect a key."""

import msgspec
import pytest

from tasker.events.envelope import RecordedEvent
from tasker.replay.checkers.once import OnceChecker
from tasker.replay.findings import Finding
from tests.effects import check_effects
from tests.runs import Run, template
from tests.unit.replay.good_log import by_time, changed, completed, found, good_log, index_of, renumbered


def find(events: list[RecordedEvent]) -> list[str]:
    return [one.detail for one in found(lambda report: OnceChecker(0, report), events)]


def test_a_good_log_has_no_findings() -> None:
    assert find(good_log()) == []


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("step_completed", "step a completes twice"),
        ("step_started", "attempt 1 of step a starts twice"),
        ("step_attempt_failed", "attempt 1 of step a fails after its outcome"),
        ("step_dispatched", "attempt 1 of step a begins while 1 is open"),
    ],
)
def test_what_happens_twice_is_found(kind: str, detail: str) -> None:
    """Planted bug: the report's duplicate is decided on again."""
    events = good_log()
    index = index_of(events, kind, task=completed())
    assert detail in find(renumbered([*events[: index + 1], *events[index:]]))


def test_a_completion_without_a_start_is_found() -> None:
    events = good_log()
    index = index_of(events, "step_started", task=completed(), nth=1)
    assert find(renumbered(events[:index] + events[index + 1 :])) == ["attempt 2 of step a completes without a start"]


def test_the_outcome_of_an_old_attempt_is_found() -> None:
    """Planted bug: a stale report is recorded, after the next attempt was dispatched."""
    events = good_log()
    failed = index_of(events, "step_attempt_failed", task=completed())
    again = index_of(events, "step_dispatched", task=completed(), nth=1)
    late = [*events[: again + 1], events[failed], *events[again + 1 :]]
    assert find(renumbered(late)) == ["attempt 1 of step a fails, its newest is 2"]


def test_a_skipped_attempt_number_is_found() -> None:
    events = good_log()
    index = index_of(events, "step_dispatched", task=completed())
    assert "attempt 2 of step a follows attempt 0" in find(renumbered(events[:index] + events[index + 1 :]))


def test_an_attempt_that_was_cancelled_before_it_had_its_place_used_up_its_number() -> None:
    items = {"each": "[0, 1]", "concurrency": {"key": "'k'", "limit": 2}, "retry": {"max_attempts": 1}}
    run = Run(template({"m": []}, steps={"m": items}))
    run.create()
    run.take("m[0]", 1)
    run.start("m[0]")
    run.fail("m[0]")
    run.retry("m")
    for item in ("m[0]", "m[1]"):
        run.take(item, 2)
        run.start(item, 2)
        run.complete(item, attempt=2)
    events = by_time([run])
    assert find(events) == []
    index = index_of(events, "step_cancelled", task=run)
    asked = index_of(events, "place_requested", task=run, nth=1)
    assert index > asked
    without = [one for number, one in enumerate(events) if number != asked]
    assert find(renumbered(without)) == ["attempt 2 of step m[1] asks for a place after 0"]


def test_effects_happen_once_a_key() -> None:
    findings: list[Finding] = []
    check_effects(["t1:a", "t1:b", "t2:a"], findings.append, owed=["t1:a", "t2:a"])
    assert findings == []


def test_an_effect_that_happened_twice_or_never_is_found() -> None:
    """Planted bug: a handler whose target does not look at the idempotency key; a completion without its effect."""
    findings: list[Finding] = []
    check_effects(["t1:a", "t1:a"], findings.append, owed=["t1:a", "t2:a"])
    assert [(one.task_id, one.detail) for one in findings] == [
        ("t1", "the effect of t1:a happened 2 times"),
        ("t2", "t2:a completed, and its effect never happened"),
    ]


def signalled(*numbers: int) -> list[RecordedEvent]:
    """A log of a task to which so many signals came, and whose step takes those `numbers`."""
    run = Run(template({"a": [], "w": ["a"]}, steps={"w": {"signal": "go", "signal_take": "all", "signal_count": 3}}))
    run.create()
    for number in range(3):
        run.signal("go", number)
    run.complete("a")
    events = by_time([run])
    index = index_of(events, "step_signalled")
    payload = msgspec.json.encode({"step": "w", "attempt": 1, "numbers": numbers})
    return changed(events, index, payload=payload)


def test_each_signal_is_taken_once_and_counted_without_a_gap() -> None:
    """Planted bugs: a signal that two steps take, one that never came, one that is not counted."""
    assert find(signalled(1, 2, 3)) == []
    assert find(signalled(1, 2, 2)) == ["step w takes signal 2, which is not there to be taken"]
    assert find(signalled(1, 2, 4)) == ["step w takes signal 4, which is not there to be taken"]
    events = signalled(1, 3)
    index = index_of(events, "signal_received", nth=1)
    assert find(renumbered(events[:index] + events[index + 1 :])) == ["signal 3 follows signal 1"]
