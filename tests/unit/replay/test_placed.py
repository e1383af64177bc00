"""I8 of concurrency keys: never more than may, each in its turn, and every place comes back."""

from __future__ import annotations

import pytest

from tasker.events.concurrency_events import (
    ConcurrencyEvent,
    ConcurrencyKeyOpened,
    PlacesAsked,
    PlacesEvicted,
    PlacesGranted,
    PlacesReturned,
)
from tasker.events.envelope import US_PER_S
from tasker.events.task_events import PlaceRequested
from tasker.ids import concurrency_stream_id
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.order import OrderChecker
from tasker.replay.checkers.placed import PlacedChecker
from tasker.replay.findings import Finding
from tests.histories import Recorder
from tests.runs import Run, linear

STREAM = concurrency_stream_id("default", "shop", "t", "", "7")
OPENED = ConcurrencyKeyOpened(namespace="shop", template="t", key="7")
GOOD: tuple[ConcurrencyEvent, ...] = (
    OPENED,
    PlacesAsked(requests=("a", "b", "c"), limit=1),
    PlacesGranted(requests=("a",)),
    PlacesEvicted(requests=("b",)),
    PlacesReturned(requests=("a", "b")),
    PlacesGranted(requests=("c",)),
)


def check(*events: ConcurrencyEvent) -> tuple[PlacedChecker, list[str], Recorder]:
    recorder = Recorder(shards=1)
    recorder.record(STREAM, events)
    findings: list[Finding] = []
    checker = PlacedChecker(0, findings.append)
    feed(recorder.events, [checker])
    return checker, [one.detail for one in findings], recorder


def test_a_good_key_has_no_findings() -> None:
    checker, findings, _ = check(*GOOD)
    assert findings == []
    assert checker.held() == {"c": STREAM}


@pytest.mark.parametrize(
    ("events", "detail"),
    [
        (GOOD[1:], "begins with places_asked"),
        ((*GOOD[:3], PlacesGranted(requests=("b",))), "2 hold a place of 1"),
        (
            (*GOOD[:3], PlacesGranted(requests=("b",), beyond=True), PlacesGranted(requests=("c",))),
            "3 hold a place of 1",
        ),
        ((*GOOD[:2], PlacesGranted(requests=("b",))), "before a, which waits longer"),
        ((*GOOD[:2], PlacesGranted(requests=("x",))), "did not wait"),
        ((*GOOD[:2], PlacesAsked(requests=("a",), limit=1)), "asks twice"),
        ((*GOOD[:2], PlacesReturned(requests=("x",))), "does not have"),
        ((*GOOD[:2], PlacesEvicted(requests=("x",))), "has no place"),
    ],
)
def test_planted_faults_are_found(events: tuple[ConcurrencyEvent, ...], detail: str) -> None:
    _, findings, _ = check(*events)
    assert len(findings) == 1
    assert detail in findings[0]


def test_a_holder_that_ended_long_ago_is_a_leak() -> None:
    recorder = Recorder(shards=1)
    recorder.record(STREAM, GOOD)
    findings: list[Finding] = []
    checker = PlacedChecker(0, findings.append)
    feed(recorder.events, [checker])
    last_us = recorder.events[-1].at_us
    checker.check_ended("c", last_us - 599 * US_PER_S)
    checker.check_ended("a", 0)
    assert findings == []
    checker.check_ended("c", last_us - 601 * US_PER_S)
    assert "601 s after its task ended" in findings[0].detail


def test_nothing_begins_without_the_place_that_was_asked_for() -> None:
    run = Run(linear(1))
    run.create()
    recorder = Recorder(shards=1)
    asked = PlaceRequested(key="7", limit=1)
    recorder.record(run.task_id, [run.events[0], asked, *run.events[1:]])
    findings: list[Finding] = []
    feed(recorder.events, [OrderChecker(0, findings.append, {run.template.hash: run.template}.get)])
    assert [one.detail for one in findings] == ["step s1 begins without its place under a concurrency key"]
