"""I8 of circuits: each change as it may be, for failures that were recorded; nothing new begins while one is open."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from tasker.events.control_events import AnyCircuitEvent, CircuitClosed, CircuitHalfOpened, CircuitOpened
from tasker.events.envelope import US_PER_S, RecordedEvent
from tasker.events.memory_log import MemoryLog
from tasker.events.task_events import ErrorInfo, StepAttemptFailed, StepDispatched, StepStarted
from tasker.ids import control_stream_id
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.circuits import CircuitsChecker
from tasker.replay.checkers.tried import Openings, TriedChecker, read_openings, unexplained
from tasker.replay.findings import Finding
from tests.histories import T0_US, Recorder, created
from tests.runs import linear

TEMPLATE = linear(2)
PAY: dict[str, Any] = {"scope": "handler", "namespace": "default", "name": "s1"}
TRIPPED = CircuitOpened(**PAY, open_s=30, open_s_max=100, probes=2, failures=2, attempts=3, error="E: no")
AGAIN = CircuitOpened(**PAY, open_s=60, open_s_max=100, probes=2, again=1, error="E: no")
BY_HAND = CircuitOpened(**PAY, open_s=60, open_s_max=60, probes=2)
TRIED = CircuitHalfOpened(**PAY)
CLOSED = CircuitClosed(**PAY)
CLOSED_BY_HAND = CircuitClosed(**PAY, anew=True)

At = tuple[float, Any]
"""Something that happened so many seconds after the beginning."""

GOOD: tuple[At, ...] = ((0, TRIPPED), (30, TRIED), (31, AGAIN), (91, TRIED), (92, CLOSED))


def at(recorded: RecordedEvent, seconds: float) -> RecordedEvent:
    return msgspec.structs.replace(recorded, at_us=T0_US + round(seconds * US_PER_S))


def controls(*told: At) -> list[RecordedEvent]:
    recorder = Recorder(shards=1)
    recorder.record(control_stream_id(), [event for _, event in told])
    return [at(one, seconds) for one, (seconds, _) in zip(recorder.events, told, strict=True)]


def faults(*told: At) -> list[str]:
    findings: list[Finding] = []
    feed(controls(*told), [CircuitsChecker(0, findings.append)])
    return [one.detail.removeprefix("the circuit of handler default/s1 ") for one in findings]


@pytest.mark.parametrize(
    "told",
    [
        GOOD,
        (*GOOD, (100, msgspec.structs.replace(TRIPPED, open_s=100, again=2))),
        (*GOOD, (92 + 600, TRIPPED)),
        ((0, TRIPPED), (5, CLOSED_BY_HAND), (6, TRIPPED)),
        ((0, BY_HAND), (1, BY_HAND), (61, TRIED), (62, BY_HAND), (63, CLOSED_BY_HAND)),
        ((0, TRIPPED), (1, msgspec.structs.replace(BY_HAND, name="other"))),
    ],
)
def test_a_good_circuit_has_no_findings(told: tuple[At, ...]) -> None:
    assert faults(*told) == []


@pytest.mark.parametrize(
    ("told", "detail"),
    [
        (((0, TRIED),), "is tried while it is closed"),
        (((0, TRIPPED), (29.5, TRIED)), "is tried 0.500000 s before its wait of 30 s is over"),
        (((0, TRIPPED), (30, TRIED), (31, TRIED)), "is tried while it is half open"),
        (((0, TRIPPED), (30, CLOSED)), "closes by itself while it is open"),
        (((0, CLOSED_BY_HAND),), "is closed by hand and was closed"),
        (((0, TRIPPED), (1, msgspec.structs.replace(TRIPPED, again=1, open_s=60))), "opens for failures while"),
        (((0, TRIPPED), (1, AGAIN)), "opens for a trial that failed while it is open"),
        (((0, msgspec.structs.replace(TRIPPED, failures=4)),), "opens for 4 failures of 3 attempts"),
        (((0, msgspec.structs.replace(TRIPPED, failures=0)),), "opens for 0 failures of 3 attempts"),
        (((0, msgspec.structs.replace(TRIPPED, open_s=101)),), "is open for 101 s, of at most 100 s"),
        (((0, msgspec.structs.replace(TRIPPED, again=1)),), "opened 1 times in a row before, not 0"),
        (((0, TRIPPED), (30, TRIED), (31, msgspec.structs.replace(AGAIN, again=0))), "0 times in a row before, not 1"),
        (((0, TRIPPED), (30, TRIED), (31, msgspec.structs.replace(AGAIN, open_s=30))), "again for 30 s, after 30 s"),
    ],
)
def test_planted_faults_are_found(told: tuple[At, ...], detail: str) -> None:
    [found] = faults(*told)
    assert detail in found


# ---------------------------------------------------------------- beside the tasks


def tried(openings: Openings, *events: tuple[float, Any], shards: int = 1) -> tuple[TriedChecker, list[str]]:
    """What a shard with one task of the handler has, beside what the circuits were."""
    recorder = Recorder(shards=shards)
    stream_id = UUID(int=7)
    recorder.record(stream_id, [created(hash=TEMPLATE.hash), *(event for _, event in events)])
    findings: list[Finding] = []
    checker = TriedChecker(0, findings.append, {TEMPLATE.hash: TEMPLATE}.get, openings)
    feed(map(at, recorder.events, (-1e6, *(seconds for seconds, _ in events))), [checker])
    return checker, [one.detail for one in findings]


def openings_of(*told: At) -> Openings:
    openings = Openings()
    for recorded in controls(*told):
        openings.take(recorded)
    return openings


def dispatched(attempt: int = 1, step: str = "s1") -> StepDispatched:
    return StepDispatched(step=step, attempt=attempt)


def began(attempt: int = 1, step: str = "s1") -> StepStarted:
    return StepStarted(step=step, attempt=attempt, worker="w", finish_by_us=T0_US, heartbeat_s=10.0)


def failed(attempt: int = 1, step: str = "s1", *, retryable: bool = True) -> StepAttemptFailed:
    return StepAttemptFailed(step=step, attempt=attempt, error=ErrorInfo(type="E", message="no", retryable=retryable))


LONG = ((0, BY_HAND), (100, TRIED), (101, CLOSED_BY_HAND))


@pytest.mark.parametrize(
    "events",
    [
        ((-1, dispatched()), (50, began())),  # a worker had it, and its word came late
        ((9, dispatched()), (10, began())),  # a node did not know yet
        ((20, dispatched()), (100, began())),  # the trial
        ((20, dispatched()), (200, began())),
        ((20, dispatched(step="s2")), (30, began(step="s2"))),  # of another handler
        ((110, dispatched()), (111, began())),
    ],
)
def test_what_may_begin_is_no_finding(events: tuple[At, ...]) -> None:
    assert tried(openings_of(*LONG), *events)[1] == []


def test_a_new_attempt_that_begins_while_its_circuit_is_open_is_found() -> None:
    [found] = tried(openings_of(*LONG), (20, dispatched()), (30, began()))[1]
    assert found.startswith("attempt 1 of step s1 begins 30.0 s after the circuit of handler default/s1 opened")
    assert len(tried(openings_of((0, BY_HAND)), (20, dispatched()), (9999, began()))[1]) == 1


def test_a_circuit_opens_for_failures_that_are_recorded() -> None:
    """Wherever they are: those of all shards count together, each for the opening that it can have caused."""
    openings = openings_of(*GOOD)
    shards = [
        tried(openings, (-5, failed()), (-4, failed(2)), (30.5, failed(3)))[0].failures,
        tried(openings, (-3, failed(1, retryable=False)), (200, failed(2)))[0].failures,
    ]
    assert list(unexplained(openings, shards)) == []
    found = list(unexplained(openings, [tried(openings, (-5, failed()), (200, failed(2)))[0].failures]))
    assert [one.detail.partition(" opens ")[2] for one in found] == [
        "for 2 failures, of which 1 are recorded",
        "for 1 failures, of which 0 are recorded",
    ]
    assert [one.position for one in found] == [1, 3]


def test_a_task_whose_template_is_not_there_makes_the_count_blind() -> None:
    openings = openings_of(*GOOD)
    recorder = Recorder(shards=1)
    recorder.task([created(hash="00" * 32)])
    checker = TriedChecker(0, lambda _: None, lambda _: None, openings)
    feed(recorder.events, [checker])
    assert checker.is_blind


async def test_openings_are_read_from_the_log() -> None:
    recorder, log = Recorder(shards=1), MemoryLog(shards=1)
    lease = await log.acquire("o", [0], 60)
    told: list[AnyCircuitEvent] = [TRIPPED, TRIED, AGAIN]
    recorder.record(control_stream_id(), told)
    await recorder.append_to(log, lease.epochs)
    openings = await read_openings(log)
    [first, second] = openings.by_handler["default", "default", "s1"]
    assert (first.seq, first.since_us, first.failures) == (1, 0, 2)
    assert (second.seq, second.since_us, second.failures, second.until_us) == (3, first.until_us, 1, None)
