"""Loops: every visit is an instance of its own."""

from typing import Any

from tasker.events.task_events import LoopTurned, StepDispatched, StepFailed, StepFailureAccepted, TaskBlocked
from tasker.service.domain.state import StepStatus, TaskStatus
from tests.runs import Run, template

POLLING: dict[str, list[str]] = {"check": [], "pause": ["check"], "done": ["check"]}


def polling(**keys: Any) -> Run:
    """Check decides: pause (and check again), or done."""
    steps = {
        "check": {"routes": ["pause", "done"], **keys},
        "pause": {"delay_s": 5, "back_to": "check"},
    }
    run = Run(template(POLLING, steps=steps))
    run.create()
    return run


def test_a_failure_that_nobody_needed_counts_when_the_next_visit_needs_it() -> None:
    """The first visit of `use` does not run, so that `fetch` may fail; the second one waits for it."""
    shape = {"check": [], "fetch": [], "use": ["check", "fetch"], "again": ["check"]}
    steps = {
        "use": {"when": "results.check > 1", "after": [{"step": "check", "when": "results.check > 1"}, "fetch"]},
        "again": {"back_to": "check", "when": "results.check < 2"},
        "fetch": {"retry": {"max_attempts": 1}},
    }
    run = Run(template(shape, steps=steps))
    run.create()
    run.complete("check", result=1)
    assert run.fail("fetch")[-1] == StepFailureAccepted(step="fetch", joins=("use",))
    [_, _, turned, *_] = run.complete("again")
    assert turned == LoopTurned(step="check", by="again", visit=2, steps=("check", "use", "again"), failures=("fetch",))
    assert run.complete("check#2", result=2)[-1] == TaskBlocked(reason="step_failed", steps=("fetch",))
    run.retry()
    run.complete("fetch", 2)
    run.finish()
    assert run.state.status is TaskStatus.COMPLETED


def test_a_loop_whose_target_began_by_hand_ends_where_its_parents_let_it_not_run() -> None:
    shape = {"a": [], "b": ["a"]}
    run = Run(template(shape, steps={"b": {"join": "any", "back_to": "b", "max_visits": 2}}))
    run.create()
    run.release("b")  # which cancels what only led to it
    run.complete("b")
    assert run.state.status is TaskStatus.COMPLETED


def turn(run: Run, visit: int) -> None:
    suffix = "" if visit == 1 else f"#{visit}"
    run.choose(f"check{suffix}", "pause")
    run.fire_at(f"timer:pause{suffix}:1")


def test_each_visit_is_a_step_of_its_own_until_the_condition_holds() -> None:
    run = polling()
    turn(run, 1)
    assert run.events[-2:] == [
        LoopTurned(step="check", by="pause", visit=2, steps=("check", "pause", "done")),
        StepDispatched(step="check#2", attempt=1),
    ]
    turn(run, 2)
    run.choose("check#3", "done")
    run.complete("done", result="found")
    assert (run.state.status, run.result()) == (TaskStatus.COMPLETED, "found")
    assert list(run.state.steps) == ["check", "pause", "check#2", "pause#2", "check#3", "done"]


def test_the_bound_on_visits_fails_the_next_one_and_a_retry_gives_one_more() -> None:
    run = polling(max_visits=2)
    turn(run, 1)
    turn(run, 2)
    failed = run.events[-2]
    assert isinstance(failed, StepFailed)
    assert (failed.step, failed.reason) == ("check#3", "visits_exhausted")
    assert run.events[-1] == TaskBlocked(reason="step_failed", steps=("check#3",))
    run.retry()
    run.choose("check#3", "done", attempt=1)
    run.complete("done")
    assert run.state.status is TaskStatus.COMPLETED


def test_visits_that_give_the_same_again_and_again_are_no_progress() -> None:
    run = polling(unchanged_visits_max=2)
    turn(run, 1)
    turn(run, 2)
    failed = run.events[-2]
    assert isinstance(failed, StepFailed)
    assert failed.reason == "no_progress"


def test_a_loop_turns_when_nothing_of_its_body_is_open() -> None:
    shape = {"a": [], "side": ["a"], "back": ["a"]}
    run = Run(template(shape, steps={"back": {"back_to": "a"}}))
    run.create()
    run.complete("a")
    run.complete("back")
    assert run.offered() == ["side"]
    run.complete("side")
    assert run.offered() == ["a#2"]


def test_steps_ahead_of_the_loop_keep_their_results() -> None:
    shape = {"first": [], "a": ["first"], "back": ["a"]}
    run = Run(template(shape, steps={"back": {"back_to": "a", "delay_s": 1}}))
    run.create()
    run.complete("first", result=1)
    run.complete("a", result=2)
    run.fire_at("timer:back:1")
    assert run.offered() == ["a#2"]
    assert run.result_of("first") == 1
    assert run.result_of("a") is None


def test_items_within_a_loop_are_named_by_visit_and_item() -> None:
    shape = {"list": [], "each": ["list"], "back": ["each"]}
    run = Run(template(shape, steps={"each": {"batches": "list"}, "back": {"back_to": "list"}}))
    run.create()
    run.complete("list", result=[1])
    run.complete("each[0]")
    run.complete("back")
    run.complete("list#2", result=[1, 2])
    assert run.offered() == ["each#2[0]", "each#2[1]"]


def test_a_task_may_begin_only_so_many_steps() -> None:
    steps = {"check": {"routes": ["pause", "done"]}, "pause": {"delay_s": 5, "back_to": "check"}}
    run = Run(template(POLLING, steps=steps, max_steps=3))
    run.create()
    turn(run, 1)
    run.choose("check#2", "pause")
    (failed,) = [one for one in run.events if isinstance(one, StepFailed)]
    assert (failed.step, failed.reason) == ("pause#2", "steps_exhausted")
    assert isinstance(run.retry("pause#2")[-2], StepFailed), "there is no more than that, whoever asks"
    run.skip("pause#2")
    assert run.state.status is TaskStatus.BLOCKED, "and no visit more"


def test_items_count_among_the_steps_that_a_task_may_begin() -> None:
    shape, steps = {"first": [], "each": ["first"]}, {"each": {"each": "input", "max_parallel": 1}}
    run = Run(template(shape, steps=steps, max_steps=4))
    run.create(input=b"[1,2,3]")
    run.complete("first")
    (failed,) = [one for one in run.events if isinstance(one, StepFailed)]
    assert (failed.step, failed.reason) == ("each", "steps_exhausted")
    assert failed.error is not None
    assert failed.error.message == "3 items are more than the task may begin: 2 of 4 step instances have begun"
    assert run.offered() == [], "no item begins where not all may"

    run = Run(template(shape, steps=steps, max_steps=5))
    run.create(input=b"[1,2,3]")
    run.complete("first")
    for index in range(3):
        run.complete(f"each[{index}]")
    assert run.state.status is TaskStatus.COMPLETED


def test_two_lists_together_begin_no_more_than_a_task_may() -> None:
    lists = {name: {"each": "input", "max_parallel": 1} for name in ("a", "b")}
    run = Run(template({"a": [], "b": []}, steps=lists, max_steps=6))
    run.create(input=b"[1,2,3]")
    for instance in ("a[0]", "b[0]", "a[1]"):
        run.complete(instance)
    failed = [(one.step, one.reason) for one in run.events if isinstance(one, StepFailed)]
    assert failed == [("a", "steps_exhausted")]
    assert len(run.state.steps) == 6


def test_a_loop_that_a_person_turned_ahead_of_its_parents_waits_for_them() -> None:
    run = Run(template({"first": [], "a": ["first"]}, steps={"a": {"back_to": "a"}}))
    run.create()
    run.skip("a")
    assert run.offered() == ["first"]
    run.complete("first")
    assert run.offered() == ["a#2"]


def test_a_loop_whose_bound_is_taken_as_it_is_ends_with_it() -> None:
    shape = {"a": [], "back": ["a"]}
    run = Run(template(shape, steps={"a": {"max_visits": 2}, "back": {"back_to": "a", "join": "all_settled"}}))
    run.create()
    for visit in ("", "#2"):
        run.complete(f"a{visit}")
        run.complete(f"back{visit}")
    assert run.state.steps["a#3"].status is StepStatus.FAILED
    assert run.offered() == ["back#3"]
    run.complete("back#3")
    assert run.state.status is TaskStatus.COMPLETED


def test_a_failure_without_which_a_join_has_enough_outside_its_loop_counts_no_more_when_it_turns() -> None:
    """`lost` counted again and was let go again, and that began `last` beside `work`, and cancelled it."""
    shape = {"kept": [], "lost": [], "end": ["kept", "lost"], "work": [], "last": ["kept", "lost", "work"]}
    steps = {
        "lost": {"retry": {"max_attempts": 1}},
        "end": {"join": "all_settled"},
        "last": {"join": "any", "back_to": "work"},
    }
    run = Run(template(shape, steps=steps))
    run.create()
    run.fail("lost")
    run.complete("work")
    run.complete("kept")
    events = run.complete("last")
    assert LoopTurned(step="work", by="last", visit=2, steps=("work", "last"), failures=()) in events
    assert [name for name in run.offered() if name != "end"] == ["work#2"]


def test_what_an_earlier_visit_failed_with_counts_no_more_when_another_loop_turns() -> None:
    """`a` counted as failed once more, though it is being visited again, and the task could never end."""
    shape = {"a": [], "b": [], "again": ["b"], "meet": ["a", "b"]}
    steps = {
        "a": {"retry": {"max_attempts": 1}},
        "again": {"back_to": "b", "when": "results.b == 1"},
        "meet": {"join": "any", "back_to": "a", "when": "!has(results.a)"},
    }
    run = Run(template(shape, steps=steps))
    run.create()
    run.fail("a")
    run.complete("b")
    run.complete("meet")
    events = run.complete("again")
    assert LoopTurned(step="b", by="again", visit=2, steps=("b", "again", "meet"), failures=()) in events
    run.complete("a#2")
    run.complete("b#2", result=2)
    assert run.state.status is TaskStatus.COMPLETED
