"""I8 of compensations: the last first, one after the other, all of them before the end."""

from collections.abc import Callable, Sequence

import msgspec
import pytest

from tasker.events.task_events import (
    AnyTaskEvent,
    ErrorInfo,
    StepCompleted,
    StepDispatched,
    StepSkipped,
    StepStarted,
    TaskCompensating,
    TaskCreated,
    TaskFailed,
)
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.order import OrderChecker
from tasker.replay.findings import Finding
from tests.histories import Recorder
from tests.runs import Run, template

NEVER = ErrorInfo(type="ValueError", message="never", retryable=False)
SHAPE: dict[str, list[str]] = {"a": [], "b": ["a"], "end": ["b"]}


def undone(**keys: str) -> Run:
    """A task that failed and has undone what it did."""
    run = Run(template(SHAPE, steps={"a": {"compensate": "u"}, "b": {"compensate": "u"}}, on_failure="fail", **keys))
    run.create()
    run.complete("a")
    run.complete("b")
    run.fail("end", error=NEVER)
    run.finish()
    return run


def find(run: Run, events: Sequence[AnyTaskEvent]) -> list[str]:
    recorder = Recorder(shards=1)
    recorder.record(run.task_id, events)
    findings: list[Finding] = []
    feed(recorder.events, [OrderChecker(0, findings.append, {run.template.hash: run.template}.get)])
    return [one.detail for one in findings]


def test_a_task_that_has_undone_all_has_no_findings() -> None:
    run = undone()
    assert isinstance(run.events[-1], TaskFailed)
    assert find(run, run.events) == []


def test_a_compensation_that_a_person_gave_up_or_did_is_over() -> None:
    run = Run(template(SHAPE, steps={"a": {"compensate": "u"}, "b": {"compensate": "u"}}, on_failure="fail"))
    run.create()
    run.complete("a")
    run.complete("b")
    run.cancel(grace_s=0)
    gone = ErrorInfo(type="Gone", message="no", retryable=False)
    run.fail("b~undo", error=gone)
    run.resolve("b~undo", 1)
    run.fail("a~undo", error=gone)
    run.skip("a~undo")
    assert run.state.ended
    assert find(run, run.events) == []
    skipped = next(event for event in run.events if isinstance(event, StepSkipped))
    left_out = [event for event in run.events if event is not skipped]
    assert find(run, left_out) == ["the task ends before it has undone a~undo"]


def swapped(events: list[AnyTaskEvent]) -> list[AnyTaskEvent]:
    """Planted bug: the first thing done is the first undone."""
    order = {"a~undo": "b~undo", "b~undo": "a~undo"}
    return [
        msgspec.structs.replace(one, step=order[one.step])
        if isinstance(one, StepDispatched | StepStarted | StepCompleted) and one.step in order
        else one
        for one in events
    ]


def short(events: list[AnyTaskEvent]) -> list[AnyTaskEvent]:
    """Planted bug: a step is left out of what is undone."""
    return [TaskCompensating(steps=("a",), instances=1) if isinstance(one, TaskCompensating) else one for one in events]


def together(events: list[AnyTaskEvent]) -> list[AnyTaskEvent]:
    """Planted bug: all compensations begin at once."""
    late = StepDispatched(step="a~undo", attempt=1)
    index = events.index(StepDispatched(step="b~undo", attempt=1))
    return [*events[: index + 1], late, *(one for one in events[index + 1 :] if one != late)]


def forgotten(events: list[AnyTaskEvent]) -> list[AnyTaskEvent]:
    """Planted bug: the task ends after its first compensation."""
    return [one for one in events if getattr(one, "step", None) != "a~undo"]


def unplanned(events: list[AnyTaskEvent]) -> list[AnyTaskEvent]:
    """Planted bug: a task that is to compensate only fails."""
    return [
        one
        for one in events
        if not isinstance(one, TaskCompensating) and "~undo" not in str(getattr(one, "step", None))
    ]


def early(events: list[AnyTaskEvent]) -> list[AnyTaskEvent]:
    """Planted bug: a step begins while the task stops."""
    return [*events[:-1], StepDispatched(step="end", attempt=2), events[-1]]


def twice(events: list[AnyTaskEvent]) -> list[AnyTaskEvent]:
    """Planted bug: a compensation completes a second time."""
    index = next(at for at, one in enumerate(events) if isinstance(one, StepCompleted) and one.step == "b~undo")
    return [*events[: index + 1], events[index], *events[index + 1 :]]


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (swapped, ["compensation a~undo is dispatched, and the next is b~undo"]),
        (short, ["the task undoes 1 of a, and completed are b, a"]),
        (together, ["compensation a~undo is dispatched while b~undo is open"]),
        (forgotten, ["the task ends before it has undone a"]),
        (unplanned, ["the task ends before it has undone b, a"]),
        (early, ["step end is dispatched while the task stops"]),
        (twice, ["compensation b~undo completes, and was not the one under way"]),
    ],
)
def test_a_planted_bug_is_found(plant: Callable[[list[AnyTaskEvent]], list[AnyTaskEvent]], found: list[str]) -> None:
    run = undone()
    details = find(run, plant(run.events))
    assert [detail for wanted in found for detail in details if detail.startswith(wanted)] == details[: len(found)]
    assert len(details) >= len(found)


def test_a_task_that_compensates_against_its_template_is_found() -> None:
    run = undone()
    events = list(run.events)
    run.template = template(
        SHAPE, steps={"a": {"compensate": "u"}, "b": {"compensate": "u"}}, on_failure="fail", compensate_on="cancel"
    )
    (created, *rest) = events
    assert isinstance(created, TaskCreated)
    ref = msgspec.structs.replace(created.template, hash=run.template.hash)
    changed = msgspec.structs.replace(created, template=ref)
    assert find(run, [changed, *rest])[0] == "the task compensates, and its template does not say so"
