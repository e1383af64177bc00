"""Signals: kept until a step takes them, each taken once; what becomes of a step whose signal does not come."""

from typing import Any

import pytest

from tasker.errors import (
    HistoryLimit,
    KeyConflict,
    SignalInvalid,
    SignalsFull,
    SignalUnknown,
    StateForbids,
    TaskEnded,
    TaskUnknown,
)
from tasker.events.task_events import (
    SignalReceived,
    StepAttemptFailed,
    StepAwaited,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepReleased,
    StepSignalled,
    StepSkipped,
    TaskBlocked,
    TaskCompleted,
    WaitExpired,
)
from tasker.service.domain import decide as deciding
from tasker.service.domain.obligations import obligations_of
from tasker.service.domain.state import StepStatus, TaskStatus
from tasker.service.domain.state_document import state_document
from tasker.service.domain.waits.signals import COLLECTED_BYTES_MAX, SIGNALS_BYTES_MAX
from tasker.templates.model import SIGNALS_MAX
from tests.runs import T0_US, Run, raw, template, types

NULL = raw(None)


def waiting(*, shape: dict[str, list[str]] | None = None, keys: dict[str, Any] | None = None, **wait: Any) -> Run:
    """A task whose step `w` waits for the signal `go`."""
    made = template(shape or {"w": []}, steps={"w": {"signal": "go", **wait}}, **(keys or {}))
    run = Run(made)
    run.create()
    return run


# ---------------------------------------------------------------- which signals a step takes


def test_a_signal_completes_the_step_that_waits_for_it() -> None:
    run = waiting()
    assert run.events[1:] == [StepAwaited(step="w", attempt=1, signal="go")]
    assert obligations_of(run.state) == {}
    assert run.signal("go", {"n": 1}) == (
        SignalReceived(name="go", number=1, value=raw({"n": 1})),
        StepSignalled(step="w", attempt=1, numbers=(1,)),
        StepCompleted(step="w", attempt=1, result=raw({"n": 1})),
        TaskCompleted(result=raw({"n": 1})),
    )


def test_a_signal_that_comes_early_is_kept() -> None:
    run = waiting(shape={"a": [], "w": ["a"]})
    assert run.signal("go", 1) == (SignalReceived(name="go", number=1, value=raw(1)),)
    assert types(run.complete("a"))[1:] == [StepCompleted, StepAwaited, StepSignalled, StepCompleted, TaskCompleted]
    assert run.result() == 1


def test_signals_are_taken_in_order_each_once() -> None:
    run = Run(template({"w": [], "x": ["w"]}, steps={"w": {"signal": "go"}, "x": {"signal": "go"}}))
    run.create(not_before_us=T0_US + 10)
    for number in range(3):
        assert types(run.signal("go", number)) == [SignalReceived]
    run.fire_at("not_before")
    assert (run.result_of("w"), run.result_of("x")) == (0, 1)
    assert run.state.ended


def test_two_steps_that_wait_take_one_signal_each_the_first_to_wait_first() -> None:
    run = Run(template({"b": [], "a": []}, steps={"b": {"signal": "go"}, "a": {"signal": "go"}}))
    run.create()
    run.signal("go", 1)
    assert (run.result_of("b"), run.state.steps["a"].status) == (1, StepStatus.WAITING)
    run.signal("go", 2)
    assert run.result() == {"b": 1, "a": 2}


def test_last_takes_the_newest_and_uses_the_older_up() -> None:
    run = waiting(shape={"a": [], "w": ["a"]}, signal_take="last")
    for number in range(3):
        run.signal("go", number)
    assert StepSignalled(step="w", attempt=1, numbers=(1, 2, 3)) in run.complete("a")
    assert run.result() == 2
    assert run.state.inbox is not None
    assert not run.state.inbox.kept["go"]


def test_all_collects_in_order() -> None:
    run = waiting(shape={"a": [], "w": ["a"]}, signal_take="all", signal_count=3)
    run.signal("go", 0)
    run.complete("a")
    assert types(run.signal("go", 1)) == [SignalReceived, StepSignalled]
    run.signal("go", 2)
    assert run.result() == [0, 1, 2]


def test_all_leaves_the_rest_to_others() -> None:
    steps = {"w": {"signal": "go", "signal_take": "all", "signal_count": 2}, "x": {"signal": "go"}}
    run = Run(template({"w": [], "x": ["w"]}, steps=steps))
    run.create(not_before_us=T0_US + 10)
    for number in range(3):
        run.signal("go", number)
    run.fire_at("not_before")
    assert (run.result_of("w"), run.result_of("x")) == ([0, 1], 2)


def test_an_expression_tells_whether_a_signal_is_meant_for_the_step() -> None:
    run = waiting(signal_when="signal.n == input.n")
    assert types(run.signal("go", {"n": 5})) == [SignalReceived]
    run.signal("go", {"n": 6})
    assert run.result() == {"n": 6}


def test_each_item_of_a_list_waits_for_its_own() -> None:
    run = waiting(each="['x', 'y']", signal_when="signal.key == item")
    run.signal("go", {"key": "y", "n": 1})
    run.signal("go", {"key": "x", "n": 2})
    assert run.result() == [{"key": "x", "n": 2}, {"key": "y", "n": 1}]


def test_a_signal_on_which_the_expression_has_no_value_fails_the_step_once() -> None:
    run = waiting(signal_when="signal.n == 1")
    events = run.signal("go", "text")
    assert types(events) == [SignalReceived, StepSignalled, StepAttemptFailed, StepFailed, TaskBlocked]
    failed = events[3]
    assert isinstance(failed, StepFailed)
    assert failed.reason == "expression_failed"
    assert "signal.n == 1" in failed.error.message
    assert "signal 1 of the task" in failed.error.message
    assert types(run.retry("w"))[-1] is StepAwaited
    run.signal("go", {"n": 1})
    assert run.state.status is TaskStatus.COMPLETED


def test_the_result_of_all_is_bounded() -> None:
    run = waiting(signal_take="all", signal_count=10)
    text = "x" * (COLLECTED_BYTES_MAX // 2)
    run.signal("go", text)
    events = run.signal("go", text)
    assert types(events) == [SignalReceived, StepSignalled, StepAttemptFailed, StepFailed, TaskBlocked]
    assert [event.reason for event in events if isinstance(event, StepFailed)] == ["result_too_large"]


def test_a_loop_waits_anew_in_each_visit() -> None:
    run = Run(
        template(
            {"w": [], "again": ["w"], "done": ["w"]},
            steps={
                "w": {"signal": "go", "max_visits": 5},
                "again": {"transform": "1", "back_to": "w", "when": "results.w == 'again'"},
                "done": {"transform": "2", "when": "results.w == 'done'"},
            },
        )
    )
    run.create()
    run.signal("go", "again")
    assert run.state.steps["w#2"].status is StepStatus.WAITING
    run.signal("go", "done")
    assert run.state.status is TaskStatus.COMPLETED


# ---------------------------------------------------------------- what is refused


def test_a_name_that_no_step_waits_for_is_refused() -> None:
    with pytest.raises(SignalUnknown, match=r"did you mean 'go'.*its steps wait for: go"):
        waiting().signal("goo")


def test_a_value_that_does_not_match_the_schema_is_refused() -> None:
    run = waiting(signal_schema={"type": "object", "required": ["n"]})
    with pytest.raises(SignalInvalid) as caught:
        run.signal("go", {})
    assert caught.value.errors
    run.signal("go", {"n": 1})
    assert run.state.ended


def test_a_task_that_is_unknown_ended_or_ending_takes_none() -> None:
    run = waiting(shape={"w": [], "a": []})
    with pytest.raises(TaskUnknown):
        Run(run.template).signal("go")
    run.start("a")
    run.cancel()
    with pytest.raises(StateForbids, match="ending"):
        run.signal("go")
    run.fire_at("grace:a:1")
    with pytest.raises(TaskEnded):
        run.signal("go")


def test_the_signals_that_a_task_keeps_are_bounded() -> None:
    run = waiting(shape={"a": [], "w": ["a"]})
    for number in range(SIGNALS_MAX):
        run.signal("go", number)
    with pytest.raises(SignalsFull, match=str(SIGNALS_MAX)):
        run.signal("go")
    run.complete("a")
    assert run.result() == 0


def test_their_bytes_are_bounded_too() -> None:
    run = waiting(shape={"a": [], "w": ["a"]})
    text = "x" * 60_000
    for _ in range(SIGNALS_BYTES_MAX // 60_002):
        run.signal("go", text)
    with pytest.raises(SignalsFull, match="bytes"):
        run.signal("go", text)


def test_a_task_with_a_full_history_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    run = waiting()
    monkeypatch.setattr(deciding, "HISTORY_EVENTS_MAX", deciding.HISTORY_EVENTS_RESERVED)
    with pytest.raises(HistoryLimit):
        run.signal("go")


def test_a_command_that_brought_a_signal_is_known_as_long_as_the_task_is() -> None:
    run = waiting(shape={"a": [], "w": ["a"]})
    for number in range(500):
        run.signal("go", number, command_id=f"c{number}")
    assert run.state.has_taken("c0")
    assert run.state.commands.seqs == {}, "signals push no other command out of the memory"
    assert not run.state.has_taken("c500")


def test_a_signal_under_the_id_of_another_one_is_a_conflict() -> None:
    run = waiting(shape={"a": [], "w": ["a"]})
    run.signal("go", 1, command_id="said", request="one")
    run.signal("go", 2, command_id="of an older build")
    assert run.state.has_taken("said", "one")
    with pytest.raises(KeyConflict, match="'said'"):
        run.state.has_taken("said", "another")
    assert run.state.has_taken("of an older build", "whatever")


# ---------------------------------------------------------------- deadlines and people


def test_a_signal_that_does_not_come_fails_the_step() -> None:
    run = waiting(wait_deadline_s=60)
    assert obligations_of(run.state) == {"wait_by:w:1": T0_US + 60_000_000}
    events = run.fire_at("wait_by:w:1")
    assert types(events) == [WaitExpired, StepAttemptFailed, StepFailed, TaskBlocked]
    failed = events[2]
    assert isinstance(failed, StepFailed)
    assert (failed.reason, failed.error.message) == ("wait_expired", "no signal 'go' came within 60 s")
    assert StepAwaited(step="w", attempt=2, signal="go", deadline_us=T0_US + 120_000_000) in run.retry("w")
    run.signal("go", 1)
    assert run.result() == 1


@pytest.mark.parametrize(
    ("take", "come", "wanted"), [({}, 0, None), ({"signal_take": "all", "signal_count": 3}, 2, [0, 1])]
)
def test_or_lets_it_complete_with_what_has_come(take: dict[str, Any], come: int, wanted: object) -> None:
    run = waiting(wait_deadline_s=60, on_wait_deadline="continue", **take)
    for number in range(come):
        run.signal("go", number)
    assert types(run.fire_at("wait_by:w:1")) == [WaitExpired, StepCompleted, TaskCompleted]
    assert run.result() == wanted


def test_a_signal_and_a_deadline_have_one_outcome_whichever_is_first() -> None:
    first = waiting(wait_deadline_s=60)
    first.now_us += 60_000_000
    first.signal("go", 1)
    assert first.fire("wait_by:w:1") == ()
    second = waiting(shape={"w": [], "x": []}, wait_deadline_s=60)
    second.fire_at("wait_by:w:1")
    assert types(second.signal("go", 1)) == [SignalReceived]
    assert types(second.retry("w"))[-2:] == [StepSignalled, StepCompleted]


def test_a_paused_task_keeps_signals_and_takes_them_before_deadlines_when_it_goes_on() -> None:
    run = waiting(wait_deadline_s=60)
    run.pause()
    assert types(run.signal("go", 1)) == [SignalReceived]
    run.wait(3600)
    assert obligations_of(run.state) == {}
    assert types(run.resume())[1:] == [StepSignalled, StepCompleted, TaskCompleted]


def test_a_deadline_waits_for_the_end_of_a_pause() -> None:
    run = waiting(wait_deadline_s=60)
    run.pause()
    run.wait(3600)
    run.resume()
    assert types(run.fire_at("wait_by:w:1"))[0] is WaitExpired


def test_people_end_a_wait() -> None:
    run = waiting()
    assert types(run.release("w")) == [StepReleased, StepCompleted, TaskCompleted]
    assert run.result() is None
    run = waiting()
    assert types(run.skip("w", 7)) == [StepSkipped, TaskCompleted]
    run = waiting()
    run.resolve("w", 8)
    assert run.result() == 8
    run = waiting(wait_deadline_s=60)
    run.pause()
    assert types(run.release("w")) == [StepReleased]
    assert types(run.resume())[1:] == [StepCompleted, TaskCompleted]


def test_a_cancelled_task_waits_no_more() -> None:
    run = waiting(wait_deadline_s=60)
    assert StepCancelled(step="w", attempt=1, reason="the task is stopping: cancel") in run.cancel()
    assert run.state.ended


def test_a_join_that_needs_it_no_more_ends_the_wait() -> None:
    run = Run(template({"a": [], "w": [], "j": ["a", "w"]}, steps={"w": {"signal": "go"}, "j": {"join": "any"}}))
    run.create()
    run.complete("a")
    assert run.state.steps["w"].status is StepStatus.CANCELLED
    assert types(run.signal("go")) == [SignalReceived]


def test_the_state_document_tells_of_signals() -> None:
    run = waiting(shape={"w": [], "a": []}, signal_take="all", signal_count=2)
    run.signal("go", 1)
    document = state_document(run.state)
    assert document["inbox"] == {"received": 1, "commands": [], "kept": {}, "waiting": {"go": ["w"]}}
    assert document["steps"]["w"]["wait"]["values"] == [1]
