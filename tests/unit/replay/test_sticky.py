"""I8 of sticky steps: each attempt is kept for the worker that its step sticks to, by what the events tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tasker.events.task_events import AnyTaskEvent, StepDispatched
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.sticky import StickyChecker
from tasker.replay.findings import Finding
from tests.histories import Recorder
from tests.runs import Run, raw, template

RETRY: dict[str, Any] = {"retry": {"max_attempts": 3, "backoff": "none"}}
SHAPE = template(
    {"fetch": [], "cut": ["fetch"], "send": ["cut"]},
    steps={"fetch": RETRY, "cut": {**RETRY, "sticky": "fetch", "schedule_to_start_s": 10}},
)
ITEMS = template({"cut": []}, steps={"cut": {**RETRY, "sticky": "cut", "each": "input.n"}})


def faults(events: Sequence[AnyTaskEvent]) -> list[str]:
    recorder, findings = Recorder(shards=1), list[Finding]()
    recorder.task(events)
    feed(recorder.events, [StickyChecker(0, findings.append, {one.hash: one for one in (SHAPE, ITEMS)}.get)])
    return [one.detail for one in findings]


def good() -> Run:
    """Fetched at the second try, by another worker; cut elsewhere, and again there."""
    run = Run(SHAPE)
    run.create()
    run.fail("fetch", worker="w1")
    run.complete("fetch", 2, worker="w2")
    run.wait(1)
    run.start("cut", worker="w3")
    run.wait(1)
    run.fail("cut", worker="w3")
    run.wait(11)
    run.fire("start_by:cut:2")
    run.complete("cut", 3, worker="w2")
    run.complete("send", worker="w9")
    return run


def test_a_good_task_has_no_findings() -> None:
    run = good()
    assert [event.worker for event in run.events if isinstance(event, StepDispatched) and event.step == "cut"] == [
        "w2",
        "w3",
        "w2",
    ]
    assert faults(run.events) == []


@pytest.mark.parametrize(
    ("step", "attempt", "worker", "detail"),
    [
        ("cut", 1, "w1", "attempt 1 of step cut is for worker w1, and not for w2"),
        ("cut", 1, None, "attempt 1 of step cut is for worker any, and not for w2"),
        ("cut", 2, "w9", "attempt 2 of step cut is for worker w9, and not for w2 or w3"),
        ("send", 1, "w2", "attempt 1 of step send is for worker w2, and not for any"),
    ],
)
def test_a_planted_fault_is_found(step: str, attempt: int, worker: str | None, detail: str) -> None:
    def damaged(event: AnyTaskEvent) -> AnyTaskEvent:
        if isinstance(event, StepDispatched) and (event.step, event.attempt) == (step, attempt):
            return msgspec.structs.replace(event, worker=worker)
        return event

    assert faults([damaged(event) for event in good().events]) == [detail]


def test_a_person_who_resolves_what_nobody_began_leaves_nothing_to_stick_to() -> None:
    run = Run(SHAPE)
    run.create()
    run.fail("fetch", worker="w1")
    run.resolve("fetch", 1)
    assert faults(run.events) == []


def test_items_that_stick_to_their_own_step_go_where_they_ran_themselves() -> None:
    run = Run(ITEMS)
    run.create(input=raw({"n": [1, 2]}))
    run.fail("cut[0]", worker="w1")
    run.fail("cut[1]", worker="w2")
    run.complete("cut[0]", 2, worker="w1")
    run.complete("cut[1]", 2, worker="w2")
    assert [event.worker for event in run.events if isinstance(event, StepDispatched)] == [None, None, "w1", "w2"]
    assert faults(run.events) == []
