"""What people may do about dead letters."""

from typing import Any

import pytest

from tasker.errors import DeadLetterUnknown, StateForbids, StepUnknown
from tasker.events.dead_letter_events import (
    DeadLetterAdded,
    DeadLetterAssigned,
    DeadLetterIgnored,
    DeadLetterInvestigated,
    DeadLetterNoted,
    DeadLetterReopened,
    DeadLetterResolved,
)
from tasker.events.task_events import ErrorInfo
from tasker.service.domain.dead_letters.investigation import (
    Add,
    Investigate,
    Investigations,
    Reopen,
    Resolve,
    Subject,
    decide_investigation,
    evolve_investigation,
    subject_of,
)
from tests.runs import Run, linear

DEAD = Subject("charge", 2, is_dead=True)
RUNNING = Subject("charge", 1, is_dead=False)
OVER = Subject("charge", 3, is_dead=False, is_over=True)
NO = ErrorInfo(type="NoSuchCard", message="no", retryable=False)


class People:
    """One task's investigations, command by command."""

    def __init__(self) -> None:
        self.state = Investigations()

    def do(self, command: Any, subject: Subject = DEAD) -> list[type]:
        events = decide_investigation(self.state, "t", subject, command)
        for event in events:
            assert (event.task_id, event.step, event.attempt) == ("t", subject.step, subject.attempt)
            evolve_investigation(self.state, event, command_id="c")
        return [type(event) for event in events]


def test_looking_into_it_takes_owner_and_note_at_once() -> None:
    people = People()
    told = Investigate(owner="ada", note="the bank is down")
    assert people.do(told) == [DeadLetterInvestigated, DeadLetterAssigned, DeadLetterNoted]
    assert people.do(Investigate(owner="ada")) == []
    assert people.do(Investigate(owner="")) == [DeadLetterAssigned]
    assert people.state.letters["charge"].owner is None
    assert people.do(Investigate(note="again")) == [DeadLetterNoted]


def test_settling_twice_is_once_and_ignoring_is_something_else() -> None:
    people = People()
    assert people.do(Resolve()) == [DeadLetterResolved]
    assert people.do(Resolve()) == []
    assert people.do(Resolve(ignore=True)) == [DeadLetterIgnored]
    assert people.do(Reopen()) == [DeadLetterReopened]
    assert people.do(Reopen()) == []


def test_a_new_failure_is_a_new_matter() -> None:
    people = People()
    people.do(Resolve())
    failed_again = Subject("charge", 5, is_dead=True)
    assert people.do(Resolve(), failed_again) == [DeadLetterResolved]
    with pytest.raises(StateForbids, match="attempt 5, not 2"):
        people.do(Resolve(attempt=2), failed_again)


@pytest.mark.parametrize("command", [Investigate(note="x"), Resolve(), Reopen()])
@pytest.mark.parametrize("subject", [RUNNING, OVER, Subject("", 0, is_dead=False)])
def test_what_is_no_dead_letter_is_refused(command: Any, subject: Subject) -> None:
    with pytest.raises(DeadLetterUnknown):
        People().do(command, subject)


def test_a_person_adds_what_has_not_failed() -> None:
    people = People()
    assert people.do(Add(), RUNNING) == [DeadLetterAdded]
    assert people.do(Add(), RUNNING) == []
    assert people.do(Resolve(), RUNNING) == [DeadLetterResolved]
    assert people.do(Add(), RUNNING) == [DeadLetterAdded]


@pytest.mark.parametrize(("subject", "words"), [(DEAD, "already"), (OVER, "over")])
def test_what_is_there_already_or_over_is_not_added(subject: Subject, words: str) -> None:
    with pytest.raises(StateForbids, match=words):
        People().do(Add(), subject)


def test_the_task_says_what_of_it_is_dead() -> None:
    run = Run(linear(2, retry={"max_attempts": 1}))
    run.create()
    assert subject_of(run.state, "") == Subject("", 0, is_dead=False)
    assert subject_of(run.state, "s1") == Subject("s1", 1, is_dead=False)
    run.fail("s1", error=NO)
    assert subject_of(run.state, "s1") == Subject("s1", 1, is_dead=True)
    run.retry("s1")
    assert subject_of(run.state, "s1") == Subject("s1", 2, is_dead=False)
    run.complete("s1", 2)
    assert subject_of(run.state, "s1") == Subject("s1", 2, is_dead=False, is_over=True)
    with pytest.raises(StepUnknown):
        subject_of(run.state, "nothing")


def test_steps_of_a_cancelled_task_are_over_and_those_of_a_failed_one_dead() -> None:
    run = Run(linear(2, retry={"max_attempts": 1}))
    run.create()
    run.fail("s1", error=NO)
    run.cancel(0)
    assert subject_of(run.state, "s1") == Subject("s1", 1, is_dead=False, is_over=True)
    run = Run(linear(2, retry={"max_attempts": 1}, on_failure="fail"))
    run.create()
    run.fail("s1", error=NO)
    assert subject_of(run.state, "s1") == Subject("s1", 1, is_dead=True)


def test_a_task_at_the_end_of_its_history_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.service.domain.decide.HISTORY_EVENTS_MAX", 3)
    monkeypatch.setattr("tasker.service.domain.decide.HISTORY_EVENTS_RESERVED", 0)
    run = Run(linear(2))
    run.create()
    run.start("s1")
    run.complete("s1")
    assert subject_of(run.state, "") == Subject("", 0, is_dead=True)
