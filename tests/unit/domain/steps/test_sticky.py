"""For which worker an attempt of a sticky step is kept: it stands in the event that offers it."""

from __future__ import annotations

from typing import Any

import pytest

from tasker.events.task_events import AnyTaskEvent, StepDispatched
from tasker.service.domain.state_document import state_document
from tests.runs import Run, template

RETRY = {"retry": {"max_attempts": 3, "backoff": "none"}}


def run_of(**keys: Any) -> Run:
    """A task that has fetched something to worker w1, and then cuts it."""
    shape = {"fetch": [], "cut": ["fetch"], "send": ["cut"]}
    steps = {"fetch": RETRY, "cut": {**RETRY, "sticky": "fetch", **keys}}
    run = Run(template(shape, steps=steps))
    run.create()
    return run


def kept(events: tuple[AnyTaskEvent, ...]) -> list[tuple[str, str | None]]:
    return [(event.step, event.worker) for event in events if isinstance(event, StepDispatched)]


def test_it_is_kept_for_the_worker_that_ran_the_other_step() -> None:
    run = run_of()
    assert kept((*run.events, *run.complete("fetch", worker="w1"))) == [("fetch", None), ("cut", "w1")]
    assert run.state.steps["cut"].kept_for == "w1"
    assert kept(run.complete("cut", worker="w1")) == [("send", None)]


def test_of_several_attempts_the_last_one_counts() -> None:
    run = run_of()
    run.fail("fetch", worker="w1")
    assert kept(run.complete("fetch", 2, worker="w2")) == [("cut", "w2")]


def test_a_retry_goes_where_the_attempt_before_it_ran() -> None:
    """It may have run elsewhere, when the worker was gone: now what it needs is there."""
    run = run_of()
    run.complete("fetch", worker="w1")
    run.wait(1)
    assert kept(run.fail("cut", worker="w2")) == [("cut", "w2")], "its beginning and its end came in one report"
    run.wait(1)
    run.start("cut", 2, worker="w3")
    run.wait(1)
    assert kept(run.fail("cut", 2, worker="w3")) == [("cut", "w3")]


def test_a_retry_of_what_no_worker_began_goes_to_the_same_one() -> None:
    run = run_of(schedule_to_start_s=10)
    run.complete("fetch", worker="w1")
    run.wait(11)
    assert kept(run.fire("start_by:cut:1")) == [("cut", "w1")]


def test_a_retry_after_a_wait_and_the_next_part_of_a_step_go_there_too() -> None:
    run = run_of(retry={"max_attempts": 2, "backoff": "constant", "delay_s": 5})
    run.complete("fetch", worker="w1")
    run.wait(1)
    run.fail("cut", worker="w2")
    run.wait(6)
    assert kept(run.fire("retry:cut:2")) == [("cut", "w2")]
    run.start("cut", 2, worker="w1")
    assert kept(run.give_back("cut", 2)) == [("cut", "w1")]


def test_when_a_person_has_the_other_step_run_again_elsewhere_that_one_counts() -> None:
    run = Run(template({"fetch": [], "cut": ["fetch"]}, steps={"cut": {"sticky": "fetch", "back_to": "fetch"}}))
    run.create()
    run.complete("fetch", worker="w1")
    run.wait(1)
    run.complete("cut", worker="w1")
    run.wait(1)
    assert kept(run.complete("fetch#2", worker="w2")) == [("cut#2", "w2")]


def test_a_step_that_sticks_to_itself_keeps_its_worker() -> None:
    run = Run(template({"warm": []}, steps={"warm": {**RETRY, "sticky": "warm"}}))
    assert kept(run.create()) == [("warm", None)]
    assert kept(run.fail("warm", worker="w1")) == [("warm", "w1")]


def test_without_a_worker_that_ran_the_other_step_it_is_anybodys() -> None:
    run = run_of()
    assert kept(run.skip("fetch")) == [("cut", None)]


@pytest.mark.parametrize("worker", ["w1", None])
def test_it_is_part_of_the_state(worker: str | None) -> None:
    run = run_of()
    run.complete("fetch", worker="w1") if worker else run.skip("fetch")
    assert state_document(run.state)["steps"]["cut"].get("kept_for") == worker
