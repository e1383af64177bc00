"""Debounced starts: what a waiting task takes, and whom its key names; the rules by example."""

from typing import Any

import pytest

from tasker.errors import KeyConflict
from tasker.events.concurrency_events import StartsMet
from tasker.events.envelope import US_PER_S
from tasker.events.task_events import TaskPostponed, TemplateRef
from tasker.service.domain.commands import CreateTask, PostponeTask
from tasker.service.domain.limits import concurrency
from tasker.service.domain.limits.concurrency import Ask
from tasker.service.domain.limits.debounce import debounce_of, waiting, waits_for_more
from tasker.service.domain.obligations import Kind, obligations_of
from tasker.templates import Debounce
from tests.runs import T0_US, Run, raw, template
from tests.unit.domain.limits.test_concurrency import Key


def made(max_s: float | None = 12, **keys: Any) -> Run:
    """A task that waits for more starts, for 5 s."""
    run = Run(template({"a": []}, debounce={"key": "input", "for_s": 5, "max_s": max_s}, **keys))
    run.create(not_before_us=run.now_us + 5 * US_PER_S, admitted_us=run.now_us)
    return run


def postpone(run: Run, start: str, value: Any = 1, **more: Any) -> tuple[Any, ...]:
    return run.do(PostponeTask(at_us=run.now_us, start=start, request_hash=f"h{value}", input=raw(value), **more))


def pass_s(run: Run, seconds: float) -> None:
    run.now_us += round(seconds * US_PER_S)


def test_it_begins_later_with_the_newest_input() -> None:
    run = made()
    pass_s(run, 4)
    (event,) = postpone(run, "s2", 7, timeout_s=60)
    due_us, deadline_us = run.now_us + 5 * US_PER_S, run.now_us + 65 * US_PER_S
    assert event == TaskPostponed(
        start="s2", request_hash="h7", input=raw(7), not_before_us=due_us, deadline_us=deadline_us
    )
    assert obligations_of(run.state) == {Kind.NOT_BEFORE: due_us, Kind.DEADLINE: deadline_us}
    assert run.state.input == raw(7)


def test_its_timeout_counts_from_its_begin() -> None:
    command = CreateTask(
        at_us=T0_US, template=TemplateRef("n", "t", "1", ""), input=raw(1), request_hash="", timeout_s=3
    )
    first = waiting(Debounce(key="input", for_s=5), command)
    assert (first.not_before_us, first.timeout_s) == (T0_US + 5 * US_PER_S, 8)


def test_at_most_so_long_after_the_first_unless_a_start_is_not_to_begin_before() -> None:
    run = made()
    first_us = run.now_us
    pass_s(run, 4.9)
    postpone(run, "s2")
    pass_s(run, 4.9)
    assert postpone(run, "s3")[0].not_before_us == first_us + 12 * US_PER_S
    assert postpone(run, "s4", not_before_us=first_us + 90 * US_PER_S)[0].not_before_us == first_us + 90 * US_PER_S
    assert postpone(run, "s5")[0].not_before_us == first_us + 12 * US_PER_S
    pass_s(run, 60)
    assert postpone(run, "s6")[0].not_before_us == run.now_us + 1


def test_a_repeat_is_nothing_and_another_of_its_name_a_conflict() -> None:
    run = made()
    postpone(run, "s2", 1)
    postpone(run, "s3", 2)
    assert postpone(run, "s2", 1) == ()
    assert run.state.input == raw(2)
    with pytest.raises(KeyConflict):
        postpone(run, "s2", 3)


def test_one_that_has_begun_stops_or_has_ended_takes_none() -> None:
    begun = made()
    pass_s(begun, 5)
    begun.fire(Kind.NOT_BEFORE)
    assert postpone(begun, "s2") == ()
    cancelled = made()
    cancelled.cancel()
    assert postpone(cancelled, "s2") == ()
    behind_its_time = made(concurrency={"key": "input.n"})
    pass_s(behind_its_time, 5)
    behind_its_time.fire(Kind.NOT_BEFORE)
    assert (behind_its_time.state.status, waits_for_more(behind_its_time.state)) == ("pending", False)
    paused = made()
    paused.pause()
    assert len(postpone(paused, "s2")) == 1


def test_other_contents_of_the_template_have_other_keys() -> None:
    one, other = made(12).template, made(13).template
    assert debounce_of(one, raw(1)) == debounce_of(one, raw(1)) != debounce_of(one, raw(2))
    assert debounce_of(one, raw(1)) != debounce_of(other, raw(1))
    assert debounce_of(one, raw(None)) is None


def start(name: str, past: str | None = None) -> Ask:
    return Ask(request=f"{name}:~debounce:1", limit=1, strategy="debounce", past=past)


class TestKey:
    def test_one_waits_and_the_others_are_told_who(self) -> None:
        key = Key()
        assert key.decide([start("a"), start("b")], ()) == ["b:~debounce:1"]
        assert key.decide([start("c")], ()) == ["c:~debounce:1"]
        assert key.state.held_by("b:~debounce:9") == key.state.held_by("c:~debounce:9") == "a:~debounce:1"
        met = StartsMet(requests=("c:~debounce:1",), holder="a:~debounce:1")
        assert key.events[-1] == met

    def test_a_repeat_is_told_the_same_behind_its_end_and_records_nothing(self) -> None:
        key = Key()
        key.decide([start("a"), start("b")], ())
        key.give_back("a:~debounce:1")
        count = len(key.events)
        assert key.decide([start("b")], ()) == ["b:~debounce:1"]
        assert (key.state.held_by("b:~debounce:1"), len(key.events)) == ("a:~debounce:1", count)

    def test_one_that_was_not_taken_waits_itself(self) -> None:
        key = Key()
        key.decide([start("a"), start("b"), start("c")], ())
        assert key.decide([start("b", past="a:~debounce:1"), start("c", past="a:~debounce:1")], ()) == ["c:~debounce:1"]
        assert key.state.held_by("c:~debounce:1") == "b:~debounce:1"
        assert key.stands()[0] == ["b:~debounce:1"]

    def test_it_forgets_the_oldest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(concurrency, "STARTS_REMEMBERED_MAX", 2)
        key = Key()
        key.decide([start(name) for name in "abcd"], ())
        assert list(key.state.met) == ["c", "d"]
