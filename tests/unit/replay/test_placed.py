"""I8 of concurrency keys: never more than may, each in its turn, and every place comes back."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest

from tasker.events.concurrency_events import (
    ConcurrencyEvent,
    ConcurrencyKeyOpened,
    PlacesAsked,
    PlacesEvicted,
    PlacesGranted,
    PlacesMoved,
    PlacesReturned,
)
from tasker.events.envelope import US_PER_S, NewEvent
from tasker.events.task_events import PlaceRequested
from tasker.ids import concurrency_stream_id
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.order import OrderChecker
from tasker.replay.checkers.placed import PlacedChecker
from tasker.replay.findings import Finding
from tasker.service.domain.limits.ranks import OLD_S
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


RANKED: tuple[ConcurrencyEvent, ...] = (
    OPENED,
    PlacesAsked(requests=("a", "b"), limit=1),
    PlacesAsked(requests=("c", "d"), limit=1, priority=5, share="x"),
    PlacesAsked(requests=("e",), limit=1, priority=5, share="y"),
)


def test_a_key_whose_places_go_by_rank_has_no_findings() -> None:
    returned = (PlacesReturned(requests=(one,)) for one in "ceda")
    granted = (PlacesGranted(requests=(one,)) for one in "edab")
    turns = [event for pair in zip(returned, granted, strict=True) for event in pair]
    _, findings, _ = check(*RANKED, PlacesGranted(requests=("c",)), *turns)
    assert findings == []


def test_who_is_moved_has_its_place_among_those_of_that_priority_who_asked_before_and_after() -> None:
    moved = (*RANKED, PlacesMoved(requests=("b", "a"), priority=9))
    turns = [PlacesGranted(requests=("a",)), PlacesReturned(requests=("a",)), PlacesGranted(requests=("b",))]
    assert check(*moved, *turns)[1] == []
    assert check(*moved, PlacesGranted(requests=("c",)))[1] == ["c gets a place before a, which has a higher priority"]


def test_what_is_old_may_go_first() -> None:
    def later(new: NewEvent) -> NewEvent:
        return msgspec.structs.replace(new, at_us=new.at_us + round(OLD_S * US_PER_S))

    recorder = Recorder(shards=1)
    recorder.record(STREAM, RANKED)
    recorder.record(STREAM, [PlacesGranted(requests=("a",))], change=later)
    findings: list[Finding] = []
    feed(recorder.events, [PlacedChecker(0, findings.append)])
    assert findings == []


def test_a_good_key_has_no_findings() -> None:
    _, findings, _ = check(*GOOD)
    assert findings == []


def test_who_holds_a_place_is_a_task_or_a_step_of_one() -> None:
    task, other = str(UUID(int=1)), f"{UUID(int=2)}:s1:1"
    asked = PlacesAsked(requests=(task, other, "nobody"), limit=3)
    recorder = Recorder(shards=1)
    recorder.record(STREAM, [OPENED, asked, PlacesGranted(requests=(task,)), PlacesGranted(requests=(other, "nobody"))])
    findings: list[Finding] = []
    checker = PlacedChecker(0, findings.append)
    feed(recorder.events, [checker])
    assert findings == []
    assert checker.held() == {task: UUID(int=1), other: UUID(int=2)}
    assert [one.detail for one in findings] == ["'nobody' has a place and names no task"]


@pytest.mark.parametrize(
    ("events", "detail"),
    [
        (GOOD[1:], "begins with places_asked"),
        ((*RANKED, PlacesGranted(requests=("a",))), "a gets a place before c, which has a higher priority"),
        ((*RANKED, PlacesGranted(requests=("d",))), "d gets a place before c, which waits longer"),
        ((*RANKED, PlacesMoved(requests=("f",), priority=1)), "f is moved and does not wait"),
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
