"""The state that steps share: who sees what, what two writes of a key come to, and when that is a conflict."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from tasker.events.task_events import StepFailed, TaskCompleted
from tasker.service.domain.commands import CompleteAttempt, RetryTask, YieldAttempt
from tasker.service.domain.dry_run import copied
from tasker.service.domain.evolve import evolve
from tasker.service.domain.shared_state.shared import KEPT_BYTES_MAX, seen_by, seen_raw
from tasker.service.domain.state import TaskState, TaskStatus
from tasker.service.domain.state_document import state_hash
from tests.runs import DIAMOND, ERROR, Run, raw, template


def begun(shape: Mapping[str, Sequence[Any]], *, steps: dict[str, Any] | None = None, **keys: Any) -> Run:
    run = Run(template(shape, steps=steps, **keys))
    run.create()
    return run


def complete(run: Run, step: str, attempt: int = 1, /, *, result: Any = None, **writes: Any) -> Any:
    run.wait(0.001)
    return run.do(
        CompleteAttempt(
            step=step,
            attempt=attempt,
            worker="w1",
            result=raw(result),
            at_us=run.now_us,
            writes={key: raw(value) for key, value in writes.items()},
        )
    )


def give_back(run: Run, step: str, attempt: int = 1, /, **writes: Any) -> None:
    run.do(
        YieldAttempt(
            step=step,
            attempt=attempt,
            worker="w1",
            checkpoint=raw(None),
            delay_s=0.0,
            at_us=run.now_us,
            writes={key: raw(value) for key, value in writes.items()},
        )
    )


def seen(run: Run, step: str) -> dict[str, Any]:
    found = seen_raw(run.state, run.template, step)
    return {} if found is None else msgspec.json.decode(found)


def failed(events: Any) -> StepFailed:
    [event] = [event for event in events if isinstance(event, StepFailed)]
    return event


def test_a_step_sees_what_those_ahead_of_it_wrote_and_no_other() -> None:
    run = begun({"a": [], "b": ["a"], "c": ["a"], "x": [], "y": []})
    complete(run, "a", k=1, j="a")
    assert seen(run, "b") == {"j": "a", "k": 1}
    complete(run, "x", z=1)
    assert seen(run, "c") == {"j": "a", "k": 1}
    assert seen(run, "y") == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [(10**400, 0.5), (0.5, 10**400), (1.5e308, 1.5e308), (9 * 10**999, 9 * 10**999)],
    ids=["large and small", "small and large", "doubles", "digits"],
)
def test_a_sum_that_is_no_number_any_more_is_told_as_a_conflict(one: float, other: float) -> None:
    """An integer that is too large for a double ended the task's actor; two large doubles were null."""
    run = begun({"a": [], "b": [], "c": ["a", "b"]}, state={"n": "sum"})
    complete(run, "a", n=one)
    event = failed(complete(run, "b", n=other))
    assert (event.step, event.reason) == ("c", "state_conflict")
    assert "the sum is no number that can be kept" in event.error.message
    run.skip("c")
    assert run.state.status is TaskStatus.COMPLETED


def test_a_later_write_takes_the_place_of_one_ahead_of_it() -> None:
    run = begun(DIAMOND)
    complete(run, "a", k=1)
    complete(run, "b", k=2)
    complete(run, "c")
    assert seen(run, "d") == {"k": 2}


def test_branches_that_write_one_key_fail_the_join_and_name_it_all() -> None:
    run = begun(DIAMOND)
    complete(run, "a", k=0)
    complete(run, "c", k="from c")
    event = failed(complete(run, "b", k=2))
    assert (event.step, event.reason, event.error.type) == ("d", "state_conflict", "state_conflict")
    assert "'k'" in event.error.message
    assert 'b 2, c "from c"' in event.error.message
    assert run.state.status is TaskStatus.BLOCKED


def test_a_retry_of_the_join_fails_again_and_by_hand_it_goes_on_with_the_last_edge() -> None:
    run = begun({**DIAMOND, "e": ["d"]})
    complete(run, "a")
    complete(run, "c", k="c")
    complete(run, "b", k="b")
    assert failed(run.do(RetryTask(at_us=run.now_us))).step == "d"
    run.skip("d")
    assert seen(run, "e") == {"k": "c"}
    complete(run, "e")
    assert run.state.status is TaskStatus.COMPLETED


POLICIES: list[tuple[Any, Any, Any, Any]] = [
    ("last_edge_wins", 2, 1, 1),
    ("sum", 2, 1.5, 3.5),
    ("max", 2, 1, 2),
    ("max", "a", "b", "b"),
    ("append", [2], 1, [[2], 1]),
    ("union", [2, 1], [1, 3], [2, 1, 3]),
    ("merge", {"a": 1, "b": 1}, {"b": 2}, {"a": 1, "b": 2}),
    ({"using": "left.n >= right.n ? left : right"}, {"n": 5}, {"n": 4}, {"n": 5}),
]


@pytest.mark.parametrize(("policy", "of_b", "of_c", "value"), POLICIES)
@pytest.mark.parametrize("order", ["bc", "cb"])
def test_a_policy_joins_in_the_order_of_edges(policy: Any, of_b: Any, of_c: Any, value: Any, order: str) -> None:
    run = begun(DIAMOND, state={"k": policy})
    complete(run, "a")
    for step in order:
        complete(run, step, k=of_b if step == "b" else of_c)
    assert seen(run, "d") == {"k": value}


@pytest.mark.parametrize(
    ("policy", "of_b"),
    [("sum", "x"), ("max", [1]), ("union", 1), ("merge", []), ({"using": "left + right"}, "x")],
)
def test_values_that_a_policy_cannot_join_fail_the_join(policy: Any, of_b: Any) -> None:
    run = begun(DIAMOND, state={"k": policy})
    complete(run, "a")
    complete(run, "b", k=of_b)
    event = failed(complete(run, "c", k=1))
    assert event.step == "d"
    assert "'k'" in event.error.message
    assert "c 1" in event.error.message


def test_each_write_counts_once_however_many_ways_lead_to_the_step() -> None:
    run = begun({**DIAMOND, "e": ["d", "b"]}, state={"n": "sum", "all": "append"})
    complete(run, "a", n=1, all="a")
    complete(run, "c", n=1, all="c")
    complete(run, "b", n=1, all="b")
    assert seen(run, "d") == {"all": ["a", "b", "c"], "n": 3}
    complete(run, "d", n=1, all="d")
    assert seen(run, "e") == {"all": ["a", "b", "c", "d"], "n": 4}


def test_items_write_in_the_order_of_the_list() -> None:
    run = begun(
        {"m": [], "end": ["m"]}, steps={"m": {"each": "[0, 1, 2]"}}, state={"all": "append", "last": "last_edge_wins"}
    )
    for index in (2, 0, 1):
        complete(run, f"m[{index}]", all=index, last=index)
    assert seen(run, "end") == {"all": [0, 1, 2], "last": 2}


def test_items_that_write_one_key_conflict_behind_their_step() -> None:
    run = begun({"m": [], "end": ["m"], "more": ["end"]}, steps={"m": {"each": "[0, 1]"}})
    complete(run, "m[1]", k="b")
    event = failed(complete(run, "m[0]", k="a"))
    assert event.step == "end"
    assert 'm[0] "a", m[1] "b"' in event.error.message
    run.skip("end")
    assert seen(run, "more") == {"k": "b"}


def test_what_items_see_is_what_their_step_saw() -> None:
    run = begun({"a": [], "m": ["a"], "x": []}, steps={"m": {"each": "[0, 1]", "max_parallel": 1}}, state={"n": "sum"})
    complete(run, "a", n=1)
    assert seen(run, "m[0]") == {"n": 1}
    complete(run, "m[0]", n=10)
    complete(run, "x", n=100)
    assert seen(run, "m[1]") == {"n": 1}


def test_failed_items_write_nothing() -> None:
    steps = {"m": {"each": "[0, 1]", "on_item_failure": "continue", "retry": {"max_attempts": 1}}}
    run = begun({"m": [], "end": ["m"]}, steps=steps, state={"n": "sum"})
    give_back(run, "m[0]", n=5)
    run.fail("m[0]", 2)
    complete(run, "m[1]", n=1)
    assert seen(run, "end") == {"n": 1}


def test_an_attempt_sees_what_its_own_parts_before_wrote() -> None:
    run = begun({"a": [], "b": ["a"]}, state={"n": "sum"})
    give_back(run, "a", n=1, k="one")
    assert seen(run, "a") == {"k": "one", "n": 1}
    give_back(run, "a", 2, n=1, k="two")
    complete(run, "a", 3, n=1)
    assert seen(run, "b") == {"k": "two", "n": 3}


LOOP = {"check": [], "b": ["check"], "c": ["check"], "back": ["b", "c"]}


def looping(**state: Any) -> Run:
    return begun(LOOP, steps={"check": {"max_visits": 4}, "back": {"back_to": "check"}}, state=state)


def test_a_visit_sees_what_the_visits_before_wrote() -> None:
    run = looping(n="sum", all="append")
    for visit in ("", "#2", "#3"):
        complete(run, f"check{visit}", n=1, round=visit, all=f"check{visit}")
        complete(run, f"c{visit}", all=f"c{visit}")
        complete(run, f"b{visit}", all=f"b{visit}")
        assert seen(run, f"back{visit}")["round"] == visit
        complete(run, f"back{visit}", back=visit)
    found = seen(run, "check#4")
    assert (found["n"], found["round"], found["back"]) == (3, "#3", "#3")
    assert found["all"] == [f"{step}{visit}" for visit in ("", "#2", "#3") for step in ("check", "b", "c")]


def test_writes_of_two_visits_are_no_conflict() -> None:
    run = looping()
    complete(run, "check")
    complete(run, "b", k=1)
    complete(run, "c")
    complete(run, "back")
    complete(run, "check#2")
    complete(run, "b#2")
    complete(run, "c#2", k=2)
    assert seen(run, "back#2") == {"k": 2}


def test_a_step_that_goes_on_sees_the_same_over_all_its_attempts() -> None:
    shape = {"a": [], "b": [], "join": ["a", "b"], "end": ["join"]}
    run = begun(shape, steps={"join": {"join": "all_settled"}, "b": {"retry": {"max_attempts": 1}}}, state={"n": "sum"})
    complete(run, "a", n=1)
    run.fail("b")
    assert seen(run, "join") == {"n": 1}
    run.retry("b")
    complete(run, "b", 2, n=1)
    run.fail("join")
    run.fire_at("retry:join:2")
    assert seen(run, "join") == {"n": 1}
    complete(run, "join", 2)
    assert seen(run, "end") == {"n": 2}


def test_a_compensation_sees_what_its_step_left_and_writes_nothing() -> None:
    steps = {"a": {"compensate": "undo"}, "b": {"retry": {"max_attempts": 1}}}
    run = begun({"a": [], "b": ["a"]}, steps=steps, on_failure="fail")
    complete(run, "a", k=1)
    run.fail("b")
    assert seen(run, "a~undo") == {"k": 1}
    events = complete(run, "a~undo", k=2)
    assert events[1].error.type == "state_invalid"


def test_expressions_read_it_and_an_edge_sees_what_its_parent_left() -> None:
    steps = {"t": {"transform": "state.n + 1"}, "w": {"after": [{"step": "a", "when": "state.n > 2"}]}}
    run = begun({"a": [], "x": [], "t": ["a"], "w": ["a"]}, steps=steps, state={"n": "sum"})
    complete(run, "x", n=100)
    complete(run, "a", n=2)
    assert run.result_of("t") == 3
    assert "w" in run.state.closed


def test_the_end_of_a_task_tells_the_state() -> None:
    run = begun({"a": [], "b": []}, state={"n": "sum"})
    complete(run, "b", n=1)
    events = complete(run, "a", n=2)
    assert isinstance(events[-1], TaskCompleted)
    assert bytes(events[-1].state or b"") == b'{"n":3}'
    plain = begun({"a": []})
    assert complete(plain, "a")[-1].state is None


def test_too_much_of_it_fails_the_attempt_or_the_step() -> None:
    run = begun({"m": [], "end": ["m"]}, steps={"m": {"each": "[0, 1]"}}, state={"k": "append"})
    complete(run, "m[0]", k="x" * 12_000)
    event = failed(complete(run, "m[1]", k="x" * 12_000))
    assert (event.step, event.error.type) == ("end", "state_too_large")
    assert run.state.shared is not None
    run.state.shared.size = KEPT_BYTES_MAX
    run.retry("end")
    other = begun({"a": [], "b": ["a"]})
    complete(other, "a", k=1)
    assert other.state.shared is not None
    other.state.shared.size = KEPT_BYTES_MAX
    assert failed(complete(other, "b", k=1)).error.type == "state_too_large"


def test_a_fold_of_the_events_and_a_copy_have_the_same_state() -> None:
    run = looping(n="sum")
    complete(run, "check", n=1)
    complete(run, "b", n=2)
    complete(run, "c", n=3)
    complete(run, "back")
    again = TaskState()
    for unit in run.units:
        for event in unit:
            evolve(again, run.events[event.seq - 1], at_us=event.at_us)
    assert state_hash(again) == state_hash(run.state) == state_hash(copied(run.state))
    assert seen_by(again, run.template, "check#2") == {"n": 6}


def test_the_order_of_finishing_changes_nothing() -> None:
    shape = {"a": [], **{name: ["a"] for name in "edcb"}, "m": ["a"], "join": ["c", "e", "m", "b", "d"]}
    policies = {"all": "append", "n": "sum", "last": "last_edge_wins", "some": {"using": "left + '/' + right"}}
    found = set()
    orders = set()
    for seed in range(60):
        run = begun(shape, steps={"m": {"each": "[0, 1, 2]"}}, state=policies)
        draw = random.Random(seed)
        order = []
        while "join" not in run.state.steps:
            name = draw.choice(run.offered())
            order.append(name)
            complete(run, name, all=name, n=len(name), last=name, some=name)
        found.add(bytes(seen_raw(run.state, run.template, "join") or b""))
        orders.add(tuple(order))
    assert len(orders) > 40
    assert len(found) == 1
    assert b'"all":["a","c","e","m[0]","m[1]","m[2]","b","d"]' in found.pop()


def test_an_edge_sees_what_its_parent_leaves() -> None:
    """Also what a visit before wrote behind it, and nothing that the parent did not wait for."""
    shape: dict[str, Any] = {
        "a": [],
        "b": [{"step": "a", "when": "state.n < 2"}],
        "c": [{"step": "a", "when": "state.n >= 2"}],
    }
    run = begun(shape, steps={"b": {"back_to": "a"}}, state={"n": "sum"})
    complete(run, "a", n=0)
    complete(run, "b", n=1)
    complete(run, "a#2", 1, n=1)
    assert run.offered() == ["c"]

    run = begun({"a": [], "p": ["a"], "q": [{"step": "p", "when": "state.n > 0"}]}, state={"n": "sum"})
    run.release("p")
    complete(run, "a", n=1)
    complete(run, "p")
    assert failed(run.events).step == "q"
    assert failed(run.do(RetryTask(at_us=run.now_us))).step == "q"


def test_what_is_written_after_a_step_began_is_not_seen_by_later_attempts() -> None:
    """Of a list, that is when all of it has completed."""
    shape = {"m": [], "x": [], "j": ["x", "m"], "k": ["m"]}
    run = begun(shape, steps={"m": {"each": "[0, 1]"}, "j": {"join": "any"}}, state={"n": "sum"})
    complete(run, "m[0]", n=1)
    complete(run, "x")
    assert seen(run, "j") == {}
    complete(run, "m[1]", n=1)
    run.fail("j")
    assert seen(run, "j") == {}
    assert seen(run, "k") == {"n": 2}


def test_a_compensation_sees_what_its_step_left_not_what_later_visits_wrote() -> None:
    steps = {"a": {"compensate": "undo"}, "b": {"back_to": "a"}}
    run = begun({"a": [], "b": ["a"]}, steps=steps, state={"n": "sum"})
    for visit in ("", "#2"):
        complete(run, f"a{visit}", n=1, k=visit)
        complete(run, f"b{visit}", n=10)
    run.cancel(0.0)
    assert seen(run, "a#2~undo") == {"k": "#2", "n": 12}
    complete(run, "a#2~undo")
    assert seen(run, "a~undo") == {"k": "", "n": 1}


def test_a_step_that_failed_before_it_began_sees_what_was_written_until_it_does() -> None:
    run = begun({"a": [], "b": ["a"]}, steps={"b": {"when": "state.n > 0"}})
    give_back(run, "a")
    run.release("b")
    complete(run, "a", 2, n=1)
    run.do(RetryTask(at_us=run.now_us))
    assert seen(run, "b") == {"n": 1}


def test_what_parts_of_a_step_wrote_counts_when_a_person_skips_it() -> None:
    run = begun({"a": [], "b": ["a"]}, state={"n": "sum"})
    give_back(run, "a", n=1)
    run.skip("a")
    assert seen(run, "b") == {"n": 1}


def test_a_conflict_that_was_settled_by_hand_is_none_in_the_next_visit() -> None:
    run = looping()
    complete(run, "check")
    complete(run, "b", k=1)
    complete(run, "c", k=2)
    run.skip("back")
    assert run.offered() == ["check#2"]
    assert seen(run, "check#2") == {"k": 2}


@pytest.mark.parametrize(("policy", "value"), [("sum", "two"), ({"using": "left.n > right.n ? left : right"}, 2)])
def test_what_a_rule_cannot_join_is_told_once_and_by_hand_the_last_write_wins(policy: Any, value: Any) -> None:
    """It failed each step behind the one that a person had completed, too."""
    run = begun({**DIAMOND, "e": ["d"]}, state={"k": policy})
    complete(run, "a", k=1)
    complete(run, "b", k=1)
    assert failed(complete(run, "c", k=value)).step == "d"
    run.skip("d")
    assert seen(run, "e") == {"k": value}
    complete(run, "e")
    assert run.state.status is TaskStatus.COMPLETED


def test_branches_of_a_loop_that_nothing_joins_meet_in_the_next_visit() -> None:
    run = begun({"a": [], "b": ["a"], "c": ["a"], "d": ["a"]}, steps={"c": {"back_to": "a"}})
    complete(run, "a")
    complete(run, "b", k=1)
    run.fail("d", error=msgspec.structs.replace(ERROR, retryable=False))
    event = failed(complete(run, "c", k=2))
    assert (event.step, event.reason) == ("a#2", "state_conflict")


def test_turns_of_an_inner_loop_put_nothing_beside_it_in_order() -> None:
    steps = {"inner": {"back_to": "inner", "max_visits": 2}, "outer": {"back_to": "a"}}
    run = begun({"a": [], "x": ["a"], "inner": ["a"], "outer": ["x"]}, steps=steps)
    complete(run, "a")
    complete(run, "inner")
    complete(run, "x")
    complete(run, "outer", k=1)
    failures = [one for one in complete(run, "inner#2", k=2) if isinstance(one, StepFailed)]
    assert [(one.step, one.reason) for one in failures] == [
        ("inner#3", "visits_exhausted"),
        ("a#2", "state_conflict"),
    ]


@pytest.mark.parametrize("first", ["x", "inner"])
def test_the_order_of_visits_does_not_depend_on_when_the_first_one_wrote(first: str) -> None:
    steps = {"inner": {"back_to": "inner", "max_visits": 2}, "outer": {"back_to": "a"}}
    run = begun({"a": [], "x": ["a"], "inner": ["a"], "outer": ["x"]}, steps=steps, state={"all": "append"})
    complete(run, "a")
    for step in (first, "inner" if first == "x" else "x"):
        complete(run, step, **({"all": "x"} if step == "x" else {}))
    complete(run, "inner#2", all="inner")
    complete(run, "outer", all="outer")
    assert seen(run, "a#2") == {"all": ["x", "outer", "inner"]}


def test_a_write_that_a_loop_took_up_and_wrote_anew_is_no_rival_of_later_visits() -> None:
    shape = {"init": [], "a": [], "b": ["a", "init"], "back": ["b"]}
    run = begun(shape, steps={"back": {"back_to": "a"}})
    complete(run, "init", k=0)
    complete(run, "a")
    complete(run, "b", k=1)
    complete(run, "back")
    complete(run, "a#2", k=2)
    assert seen(run, "b#2") == {"k": 2}


def test_branches_that_did_not_meet_ahead_conflict_where_they_do() -> None:
    """Neither a step that did not run, nor one that began before both had written, has told of it."""
    shape = {"r": [], "b": [], "c": [], "p": ["r", "b", "c"], "end": ["p", "b", "c"]}
    run = begun(shape, steps={"r": {"routes": ["p"]}, "end": {"join": "all_settled"}})
    run.choose("r")
    complete(run, "b", k=1)
    assert failed(complete(run, "c", k=2)).step == "end"
    shape = {"b": [], "c": [], "p": ["b", "c"], "q": ["c"], "end": ["p", "q"]}
    run = begun(shape, steps={"p": {"join": "any"}})
    complete(run, "b", k=1)
    complete(run, "c", k=2)
    complete(run, "q")
    assert failed(complete(run, "p")).step == "end"
