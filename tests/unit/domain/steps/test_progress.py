"""The last progress that an attempt told is recorded with its outcome."""

from typing import Any

import pytest

from tasker.events.messages import EmittedEvent, Progress, UsageLine
from tasker.events.task_events import (
    DomainEventRaised,
    ProgressRecorded,
    StepAttemptFailed,
    StepCompleted,
    StepStarted,
    StepYielded,
    TaskCompleted,
    UsageRecorded,
)
from tasker.service.domain.commands import AnyTaskCommand, CompleteAttempt, FailAttempt, YieldAttempt
from tests.runs import ERROR, Run, linear, raw, template

TOLD = Progress(done=3, total=4, message="x" * 300 + "\0")


def begun() -> Run:
    run = Run(linear(2))
    run.create()
    return run


@pytest.mark.parametrize("outcome", [StepCompleted, StepAttemptFailed, StepYielded])
def test_it_stands_before_its_outcome_with_its_message_cut(outcome: type) -> None:
    run = begun()
    facts: dict[str, Any] = {"step": "s1", "attempt": 1, "worker": "w1", "at_us": run.now_us, "progress": TOLD}
    commands: dict[type, AnyTaskCommand] = {
        StepCompleted: CompleteAttempt(result=raw(1), **facts),
        StepAttemptFailed: FailAttempt(error=ERROR, jitter=0.5, **facts),
        StepYielded: YieldAttempt(checkpoint=raw(1), delay_s=0, **facts),
    }
    events = run.do(commands[outcome])
    assert [type(event) for event in events[:3]] == [StepStarted, ProgressRecorded, outcome]
    assert events[1] == ProgressRecorded(step="s1", attempt=1, done=3, total=4, message="x" * 200)


def test_who_told_none_has_none() -> None:
    run = begun()
    assert not any(isinstance(event, ProgressRecorded) for event in run.complete("s1"))


def test_usage_progress_and_domain_events_stand_before_the_outcome_in_this_order() -> None:
    run = Run(template({"a": []}, steps={"a": {"emits": [{"name": "paid"}]}}))
    run.create()
    command = CompleteAttempt(
        step="a",
        attempt=1,
        worker="w1",
        result=raw(1),
        at_us=run.now_us,
        emitted=(EmittedEvent(name="paid"),),
        usage=(UsageLine(meter="pages", amount="2"),),
        progress=TOLD,
    )
    kinds = [type(event) for event in run.do(command)]
    assert kinds == [StepStarted, UsageRecorded, ProgressRecorded, DomainEventRaised, StepCompleted, TaskCompleted]
