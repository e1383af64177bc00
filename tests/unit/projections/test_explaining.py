"""Why a task or a step is where it is, from the rows of real tasks."""

import re
from typing import Any, Literal
from uuid import uuid4

import msgspec
import pytest

from tasker.events.envelope import Meta, RecordedEvent
from tasker.events.reads import (
    AskedFacts,
    CircuitFacts,
    EndFacts,
    Explanation,
    HoldFacts,
    LimitFacts,
    PlaceFacts,
    PlaceHolder,
    QueueFacts,
    RouteFacts,
    StepView,
    TaskView,
    TurnFacts,
    Wait,
)
from tasker.events.stored import encode_meta, from_recorded
from tasker.projections.explaining import Around, explain_step, explain_task
from tasker.projections.recorded import Told, cancelled_of, end_of, route_of
from tasker.projections.views import step as step_view
from tasker.projections.views import task as task_view
from tasker.projections.views.reasons import Standing
from tasker.projections.views.words import words_of_task
from tasker.service.domain.state import StepStatus
from tests.runs import DIAMOND, ERROR, T0_US, Run, template

BUSY = QueueFacts(namespace="default", queue="t", asking=0, offered=3, last_taken="2026-11-26T01:02:03.000000Z")


def run_of(shape: dict[str, list[str]], *, steps: dict[str, Any] | None = None, **keys: Any) -> Run:
    run = Run(template(shape, steps=steps, **keys), task_id=uuid4())
    run.create()
    return run


def read(run: Run, *, by: str | None = None, reason: str | None = None) -> tuple[TaskView, list[StepView]]:
    """Fold the run into the rows of both views, as the runner does."""
    tasks, steps = task_view.TaskProjection(), step_view.StepProjection()
    row: Any = None
    rows: dict[str, Any] = {}
    position = 0
    for unit in run.units:
        for new in unit:
            position += 1
            fields = {name: getattr(new, name) for name in new.__struct_fields__}
            if new.type == "task_paused":
                fields["meta"] = encode_meta(Meta(requested_by=by, reason=reason))
            recorded = RecordedEvent(shard=0, position=position, epoch=1, chain=None, **fields)
            event = from_recorded(recorded)
            row = tasks.apply(row, recorded, event)
            if recorded.type in (steps.types or ()):
                key = steps.key_at(recorded, event)
                if key is not None:
                    rows[key[1]] = steps.apply(rows.get(key[1]), recorded, event)
    open_steps = [
        Standing(*(getattr(one, name) for name in Standing.__struct_fields__))
        for one in rows.values()
        if one.state in step_view.STEP_OPEN
    ]
    return task_view.to_view(row, open_steps), [step_view.to_view(one) for one in rows.values()]


def told(run: Run, step: str | None, *, by: str | None = None, reason: str | None = None) -> Told:
    """What the log tells, of a task whose last command had a person and a reason."""
    events = [
        msgspec.structs.replace(event, meta=encode_meta(Meta(requested_by=by, reason=reason)))
        if unit is run.units[-1]
        else event
        for unit in run.units
        for event in unit
    ]
    newest_first = [
        RecordedEvent(
            shard=0,
            position=event.seq,
            epoch=1,
            chain=None,
            **{name: getattr(event, name) for name in event.__struct_fields__},
        )
        for event in reversed(events)
    ]
    if step is None:
        return Told(end=end_of(newest_first))
    return Told(route_of(newest_first, step), cancelled_of(newest_first, step), end_of(newest_first))


def explained(
    run: Run,
    step: str | None = None,
    *,
    queues: dict[str, QueueFacts] | None = None,
    places: dict[str, PlaceFacts] | None = None,
    **asked: Any,
) -> Explanation:
    view, steps = read(run, **asked)
    around = Around(queues or {}, places or {}, told(run, step, **asked))
    if step is None:
        return explain_task(view, steps, around)
    return explain_step(view, step, run.template.spec, steps, around)


def kinds(why: Explanation) -> list[str]:
    return [cause.kind for cause in why.causes]


def test_a_step_that_no_worker_begins_tells_of_its_queue() -> None:
    run = run_of(DIAMOND)
    why = explained(run, "a", queues={"a": BUSY})
    assert why.sentence == (
        "Step a waits for a worker: no worker with a free slot asks for work of queue t of namespace default, "
        "where 3 wait; the last took some at 2026-11-26T01:02:03.000000Z."
    )
    [cause] = why.causes
    assert (cause.queue, cause.remedy) == (BUSY, "tasker worker APP.py")


def test_a_step_that_is_kept_for_a_worker_names_it() -> None:
    run = run_of({"a": [], "b": ["a"]}, steps={"b": {"sticky": "a"}})
    run.complete("a", worker="w1")
    why = explained(run, "b", queues={"b": QueueFacts(namespace="default", queue="t", asking=2)})
    assert why.sentence == (
        "Step b waits for worker w1, with which it stays while that lives: workers ask for work of queue t of "
        "namespace default."
    )
    assert why.causes[0].worker == "w1"
    assert why.causes[0].remedy is None, "workers are there"
    assert read(run)[0].waiting_on == "worker w1 for step b"
    assert read(run)[1][1].worker == "w1"
    run.start("b", worker="w2")
    assert "has run on worker w2" in explained(run, "b").sentence


def test_a_step_whose_work_comes_back_names_the_handler_that_no_worker_may_have() -> None:
    """Its worker only logs it: the step was renamed, or another build serves the queue."""
    given_back = QueueFacts(namespace="default", queue="t", asking=2, given_back=1, handler="pack")
    why = explained(run_of(DIAMOND), "a", queues={"a": given_back})
    assert why.sentence == (
        "Step a waits for a worker: workers ask for work of queue t of namespace default, and have given 1 back: there "
        "may be none with the handler pack (its log says handler_unknown then), or it is at its concurrency."
    )
    busy = msgspec.structs.replace(given_back, asking=0)
    assert "given" not in explained(run_of(DIAMOND), "a", queues={"a": busy}).sentence
    at_once = msgspec.structs.replace(given_back, given_back=0)
    assert "pack" not in explained(run_of(DIAMOND), "a", queues={"a": at_once}).sentence


def test_a_step_that_requires_labels_tells_which() -> None:
    run = run_of(DIAMOND)
    why = explained(run, "a", queues={"a": QueueFacts(namespace="default", queue="t~gpu=a100~zone=eu", known=False)})
    assert why.sentence == (
        "Step a waits for a worker: no worker has ever served queue t of namespace default with the labels "
        "gpu=a100, zone=eu."
    )
    assert why.causes[0].remedy == "tasker worker APP.py --label gpu=a100 --label zone=eu"
    never = explained(run, "a", queues={"a": QueueFacts(namespace="default", queue="t", known=False)})
    assert "no worker has ever served queue t" in never.sentence
    asking = explained(run, queues={"a": QueueFacts(namespace="default", queue="t", asking=2)})
    assert asking.sentence == (
        "The task is running: it waits for a worker: workers ask for work of queue t of namespace default (step a)."
    )


def test_a_step_that_has_not_begun_tells_what_the_steps_ahead_wait_for() -> None:
    run = run_of(DIAMOND)
    run.complete("a")
    run.start("b")
    why = explained(run, "d")
    assert kinds(why) == ["parents", "outcome", "worker"]
    assert why.causes[0].steps == ("b", "c")
    assert [cause.step for cause in why.causes] == ["d", "b", "c"]
    assert why.sentence.startswith(
        "Step d has not begun: it waits for steps b, c; there worker w1 to finish it (step b)"
    )


def test_what_is_further_ahead_is_named_too() -> None:
    run = run_of({"a": [], "b": ["a"], "c": ["b"], "d": ["c"]})
    run.start("a")
    why = explained(run, "d")
    assert [(cause.kind, cause.step) for cause in why.causes] == [("parents", "d"), ("outcome", "a")]


def test_a_failed_step_ahead_is_named_with_the_command_that_helps() -> None:
    run = run_of(DIAMOND, steps={"b": {"retry": {"max_attempts": 1}}})
    run.complete("a")
    run.complete("c")
    run.fail("b")
    why = explained(run, "d")
    assert why.causes[-1].kind == "repair"
    assert ERROR.message in why.sentence
    assert why.causes[-1].remedy == f"tasker step retry {run.task_id} b"
    whole = explained(run)
    assert (whole.state, kinds(whole), whole.causes[0].steps) == ("blocked", ["repair"], ("b",))
    assert whole.causes[0].remedy == f"tasker task retry {run.task_id}"
    failed = explained(run, "b")
    assert failed.sentence.startswith("Step b failed at ")
    assert [cause.remedy for cause in failed.causes] == [f"tasker step retry {run.task_id} b"]
    run.cancel()
    assert explained(run, "b").causes == ()


def test_a_pause_names_who_and_why() -> None:
    run = run_of(DIAMOND)
    run.pause()
    paused: dict[str, Any] = {"by": "ada", "reason": "the bank is down"}
    for step in (None, "a", "d"):
        why = explained(run, step, **paused)
        assert why.causes[0].kind == "resume"
        assert "paused by ada: the bank is down" in why.sentence
        assert why.causes[0].remedy == f"tasker task resume {run.task_id}"


def test_a_backoff_tells_its_time_and_the_error() -> None:
    run = run_of(DIAMOND)
    run.fail("a")
    why = explained(run, "a")
    assert kinds(why) == ["retry"]
    assert why.causes[0].until is not None
    assert why.causes[0].until in why.sentence
    assert "ValueError: no such card" in why.sentence


@pytest.mark.parametrize(
    ("keys", "kind", "words"),
    [
        ({"delay_s": 60}, "time", "the time 2026-"),
        ({"signal": "go", "wait_deadline_s": 60}, "signal", "signal go until 2026-"),
        ({"approval": {"assignees": ["ada"]}}, "approval", "the approval of ada"),
        ({"child": "other"}, "child", "the start of its child task"),
        ({"concurrency": {"key": "input.n"}}, "place", "a place under its concurrency key 6"),
    ],
)
def test_waits_are_told(keys: dict[str, Any], kind: str, words: str) -> None:
    run = run_of({"w": []}, steps={"w": keys})
    why = explained(run, "w")
    assert kinds(why) == [kind]
    assert f"Step w waits for {words}" in why.sentence
    assert kinds(explained(run)) == [kind]


def test_a_task_that_has_not_started_tells_for_what() -> None:
    run = Run(template({"a": []}, concurrency={"key": "input.n"}), task_id=uuid4())
    run.create()
    why = explained(run)
    assert why.sentence == "The task is pending: it waits for a place under its concurrency key 6."
    assert kinds(why) == kinds(explained(run, "a")) == ["place"]
    later = Run(template({"a": []}), task_id=uuid4())
    later.create(not_before_us=T0_US + 60_000_000)
    why = explained(later)
    assert (kinds(why), why.causes[0].until) == (["start_time"], "2026-09-21T14:14:20.000000Z")


HELD = PlaceFacts(
    key="6",
    limit=2,
    held=5,
    waiting=3,
    ahead=1,
    holders=tuple(PlaceHolder(task_id=f"t{number}", since="2026-11-26T01:02:03.000000Z") for number in range(4)),
)


def test_who_holds_a_place_is_told_and_how_many_come_first() -> None:
    run = run_of({"w": []}, steps={"w": {"concurrency": {"key": "input.n"}}})
    why = explained(run, "w", places={"w": HELD})
    assert why.sentence == (
        "Step w waits for a place under its concurrency key 6: held by task t0 since 2026-11-26T01:02:03.000000Z, "
        "task t1 since 2026-11-26T01:02:03.000000Z, task t2 since 2026-11-26T01:02:03.000000Z and 2 more; "
        "1 more waits ahead of it."
    )
    assert why.causes[0].place == HELD
    of_task = Run(template({"a": []}, concurrency={"key": "input.n"}), task_id=uuid4())
    of_task.create()
    for step in (None, "a"):
        why = explained(of_task, step, places={"": HELD})
        assert "held by task t0" in why.sentence
        assert why.causes[0].place == HELD
        assert why.causes[0].remedy == f"tasker task update {of_task.task_id} --priority 100"
    by_step = PlaceHolder(task_id="t9", step="w[1]", since="2026-11-26T01:02:03.000000Z")
    lone = PlaceFacts(key="6", limit=1, held=1, waiting=1, ahead=0, holders=(by_step,))
    why = explained(run, "w", places={"w": lone})
    assert why.sentence.endswith("key 6: held by step w[1] of task t9 since 2026-11-26T01:02:03.000000Z.")
    assert why.causes[0].remedy == "tasker task explain t9"
    mine = msgspec.structs.replace(lone, holders=(msgspec.structs.replace(by_step, task_id=str(run.task_id)),))
    why = explained(run, "w", places={"w": mine})
    assert why.causes[0].remedy == f"tasker step explain {run.task_id} w[1]"


@pytest.mark.parametrize(
    ("keys", "remedy"),
    [
        ({"approval": {"assignees": ["ada"]}}, "tasker approval approve TASK w --requested-by NAME"),
        ({"approval": {"roles": ["editors"]}}, "tasker approval approve TASK w --requested-by NAME --role editors"),
        ({"approval": {"roles": ["a", "b"]}}, "tasker approval approve TASK w --requested-by NAME --role ROLE"),
        ({"signal": "order.paid", "wait_deadline_s": 60}, "tasker task signal TASK order.paid"),
        ({"signal": "go", "signal_take": "all", "signal_count": 3}, "tasker task signal TASK go"),
        ({"delay_s": 60}, "tasker step release TASK w"),
        ({"event": "task_completed"}, None),
        ({"child": "other"}, None),
        ({}, "tasker worker APP.py"),
    ],
)
def test_the_next_command_is_named(keys: dict[str, Any], remedy: str | None) -> None:
    run = run_of({"w": []}, steps={"w": keys})
    expected = None if remedy is None else remedy.replace("TASK", str(run.task_id))
    assert [cause.remedy for cause in explained(run, "w").causes] == [expected]


def test_a_child_and_a_retry_have_a_next_command_too() -> None:
    run = run_of({"w": []}, steps={"w": {"child": "other"}})
    run.child("w", "c1")
    assert explained(run, "w").causes[0].remedy == "tasker task explain c1"
    again = run_of({"w": []})
    again.fail("w")
    assert explained(again, "w").causes[0].remedy == f"tasker step release {again.task_id} w"


def test_a_step_that_a_limit_completed_says_so() -> None:
    run = run_of({"w": []}, steps={"w": {"on_timeout": {"heartbeat": "continue"}}})
    run.start("w")
    run.fire_at("heartbeat:w:1")
    assert "without a result, as its template says, after worker_lost: worker w1 gave" in explained(run, "w").sentence


def test_a_deadline_that_has_passed_says_what_helps() -> None:
    run = Run(template({"a": []}, on_timeout="block"), task_id=uuid4())
    run.create(timeout_s=60)
    run.fire_at("deadline")
    why = explained(run)
    assert why.sentence == (
        "The task is blocked: it waits for a person: its deadline, 2026-09-21T14:14:20.000000Z, has passed."
    )
    assert why.causes[0].remedy == f"tasker task deadline {run.task_id} --within-s SECONDS"


def test_a_step_with_items_names_those_that_are_open_or_failed() -> None:
    run = run_of({"m": []}, steps={"m": {"each": "[0, 1]", "on_item_failure": "isolate", "retry": {"max_attempts": 1}}})
    run.start("m[1]")
    run.fail("m[0]")
    why = explained(run, "m")
    assert kinds(why) == ["items", "repair", "outcome"]
    assert why.sentence.endswith("; worker w1 to finish it (step m[1]).")
    assert [(cause.kind, cause.step) for cause in explained(run).causes] == [
        ("items", "m"),
        ("repair", "m[0]"),
        ("outcome", "m[1]"),
    ]
    assert kinds(explained(run, "m[1]")) == ["outcome"]


def test_an_item_that_failed_its_list_is_repaired_with_the_list() -> None:
    run = run_of({"m": []}, steps={"m": {"each": "[0, 1]", "retry": {"max_attempts": 1}}})
    run.fail("m[0]")
    for step in ("m", "m[0]"):
        assert [cause.remedy for cause in explained(run, step).causes] == [f"tasker step retry {run.task_id} m"]


def test_an_item_that_has_not_begun_waits_for_its_turn() -> None:
    run = run_of({"m": []}, steps={"m": {"each": "[0, 1, 2]", "max_parallel": 1}})
    run.start("m[0]")
    why = explained(run, "m[2]")
    assert [(cause.kind, cause.step) for cause in why.causes] == [("items", "m[2]"), ("outcome", "m[0]")]
    assert why.sentence.startswith("Step m[2] has not begun: it waits for its turn: of step m 1 run at a time; there ")
    run.complete("m[0]")
    assert [cause.step for cause in explained(run, "m[2]").causes] == ["m[2]", "m[1]"]


def test_what_is_over_has_no_causes() -> None:
    run = run_of({"a": [], "b": ["a"]}, steps={"b": {"when": "results.a > 1"}})
    run.complete("a", result=1)
    assert explained(run).sentence.startswith("The task has ended: it completed at ")
    assert explained(run, "a").sentence.startswith("Step a completed at ")
    assert explained(run, "b").sentence == "Step b will not run: its condition is false: results.a > 1."


def test_a_task_that_failed_says_of_what() -> None:
    run = run_of({"a": []}, steps={"a": {"retry": {"max_attempts": 1}}}, on_failure="fail")
    run.fail("a")
    assert re.fullmatch(r"The task has ended: it failed at \S+: \w+: .+\.", explained(run).sentence)
    cancelled = run_of({"a": [], "b": ["a"]})
    cancelled.cancel()
    assert explained(cancelled, "b").sentence == "Step b has not begun, and the task has ended: it was cancelled."
    for why in (explained(run), explained(run, "a"), explained(run, "b"), explained(cancelled)):
        assert why.causes == ()


@pytest.mark.parametrize(("join", "words"), [("any", "the first of steps a, b"), ("all_settled", "steps a, b")])
def test_how_it_joins_is_told(join: str, words: str) -> None:
    run = run_of({"a": [], "b": [], "j": ["a", "b"]}, steps={"j": {"join": join}})
    assert explained(run, "j").causes[0].text == words


def test_every_open_step_of_a_task_has_a_reason() -> None:
    """Whatever a step waits for, there is a word for it: the rule has no gap."""
    steps = {
        "m": {"each": "[1, 2]", "max_parallel": 1},
        "d": {"delay_s": 5},
        "s": {"signal": "go"},
        "c": {"child": "other"},
    }
    run = run_of({"a": [], "m": [], "d": [], "s": [], "c": []}, steps=steps)
    run.start("m[0]")
    view, found = read(run)
    open_steps = [name for name, entry in run.state.steps.items() if entry.status is not StepStatus.COMPLETED]
    assert len(open_steps) == 6
    assert {one.step for one in found if one.waiting_facts is not None} == set(open_steps)
    assert view.waiting_on is not None


def test_a_wait_carries_what_its_words_say_as_facts() -> None:
    """Of steps and of their task alike: nobody has to read them out of the sentence."""
    steps: dict[str, Any] = {
        "a": {"approval": {"assignees": ["ada"], "title": "Pay?"}, "wait_deadline_s": 60},
        "p": {"concurrency": {"key": "input.n"}},
        "s": {"signal": "order", "signal_take": "all", "signal_count": 3},
        "w": {},
    }
    run = run_of({name: [] for name in steps}, steps=steps)
    run.start("w")
    view, found = read(run)
    waits = {one.step: one.waiting_facts for one in found}
    assert {one.step: one for one in view.waiting_facts} == waits
    since = "2026-09-21T14:13:20.000000Z"
    until = "2026-09-21T14:14:20.000000Z"
    asked = AskedFacts(title="Pay?", assignees=("ada",))
    assert waits == {
        "a": Wait(kind="approval", step="a", attempt=1, since=since, until=until, approval=asked),
        "p": Wait(kind="place", step="p", attempt=1, since=since, key="6"),
        "s": Wait(kind="signal", step="s", attempt=1, since=since, signal="order", count=3),
        "w": Wait(kind="outcome", step="w", attempt=1, since=since, worker="w1"),
    }


ROUTES = {"route": [], "auto": ["route"], "manager": ["route"], "finance": ["route"]}


def test_a_decision_says_what_it_chose_and_why() -> None:
    run = run_of(ROUTES, steps={"route": {"routes": ["auto", "manager", "finance"]}})
    run.choose("route", "manager", "finance", reason="5,000 or more")
    why = explained(run, "route")
    assert re.fullmatch(
        r"Step route completed at \S+; it chose manager, finance, not auto: 5,000 or more\.", why.sentence
    )
    assert why.route == RouteFacts(chosen=("manager", "finance"), closed=("auto",), reason="5,000 or more")
    assert explained(run, "manager").route is None
    for chosen, words in (
        (("auto", "manager", "finance"), "it chose auto, manager, finance."),
        ((), "it chose none of auto, manager, finance."),
    ):
        other = run_of(ROUTES, steps={"route": {"routes": ["auto", "manager", "finance"]}})
        other.choose("route", *chosen)
        assert explained(other, "route").sentence.endswith(f"; {words}")


def test_a_decision_that_a_person_made_names_the_person() -> None:
    run = run_of(ROUTES, steps={"route": {"routes": ["auto", "manager", "finance"]}})
    run.skip("route", None, "auto")
    assert explained(run, "route", by="ada", reason="a small one").sentence.endswith(
        " (skipped by hand); ada chose auto, not manager, finance: a small one."
    )


def test_of_a_decision_in_a_loop_each_visit_says_its_own() -> None:
    run = run_of(
        {"check": [], "again": ["check"], "done": ["check"]},
        steps={"check": {"routes": ["again", "done"]}, "again": {"back_to": "check"}},
    )
    run.choose("check", "again", reason="not yet")
    run.complete("again")
    run.choose("check#2", "done", reason="good")
    assert "it chose again, not done: not yet." in explained(run, "check").sentence
    assert "it chose done, not again: good." in explained(run, "check#2").sentence


def test_a_cancelled_task_says_by_whom_and_why() -> None:
    run = run_of({"a": [], "b": ["a"]})
    run.cancel()
    asked: dict[str, Any] = {"by": "ada", "reason": "the order was withdrawn"}
    why = explained(run, **asked)
    words = "; ada asked for it: the order was withdrawn."
    assert re.fullmatch(r"The task has ended: it was cancelled at \S+" + re.escape(words), why.sentence)
    assert why.end == EndFacts(cause="cancel", requested_by="ada", reason="the order was withdrawn")
    assert re.fullmatch(
        r"Step a was cancelled at \S+: the task is stopping: cancel" + re.escape(words),
        explained(run, "a", **asked).sentence,
    )
    assert explained(run, "b", **asked).sentence.endswith("the task has ended: it was cancelled" + words)
    assert explained(run, reason="no need").sentence.endswith("; somebody asked for it: no need.")
    assert explained(run, by="ada").sentence.endswith("; ada asked for it.")


def test_a_task_that_stops_says_who_asked_for_it() -> None:
    run = run_of({"a": []})
    run.start("a")
    run.cancel()
    why = explained(run, by="ada", reason="too late")
    assert why.sentence == (
        "The task is running and ends as cancelled: it waits for worker w1 to stop it (step a); ada asked for it: "
        "too late."
    )


@pytest.mark.parametrize(
    ("reason", "taken_by", "words"),
    [
        ("full", None, "no place was free under its concurrency key"),
        ("full", "t7", "no place was free under its concurrency key: task t7 had one"),
        ("evicted", None, "it made room for another task under its concurrency key"),
        ("evicted", "t7", "it made room for task t7 under its concurrency key"),
    ],
)
def test_a_task_that_its_key_cancelled_says_for_whom(
    reason: Literal["full", "evicted"], taken_by: str | None, words: str
) -> None:
    run = Run(template({"a": []}, concurrency={"key": "input.n", "strategy": "cancel_oldest"}), task_id=uuid4())
    run.create()
    run.deny(reason=reason, taken_by=taken_by)
    why = explained(run)
    assert re.fullmatch(rf"The task has ended: it was cancelled at \S+; {words}\.", why.sentence)
    assert why.end == EndFacts(cause="concurrency", place=reason, taken_by=taken_by)


@pytest.mark.parametrize(
    ("reason", "taken_by", "words"),
    [
        ("full", None, "no place was free under the concurrency key of step w"),
        ("full", "t7:w:1", "no place was free under the concurrency key of step w; step w of task t7 has one"),
        ("evicted", None, "step w makes room for another under its concurrency key"),
        ("evicted", "t7:w:1", "step w makes room for step w of task t7 under its concurrency key"),
    ],
)
def test_a_step_that_its_key_cancelled_says_for_whom(
    reason: Literal["full", "evicted"], taken_by: str | None, words: str
) -> None:
    run = run_of({"w": [], "x": []}, steps={"w": {"concurrency": {"key": "input.n", "strategy": "drop"}}})
    run.deny("w", 1, reason, taken_by)
    assert re.fullmatch(rf"Step w was cancelled at \S+: {words}\.", explained(run, "w").sentence)


def test_an_end_that_a_person_said_names_the_person() -> None:
    for end in ("complete", "fail"):
        run = run_of({"a": []})
        if end == "complete":
            run.force_complete(1)
        else:
            run.force_fail(ERROR)
        why = explained(run, by="ada", reason="done by phone")
        assert why.sentence.endswith("; ada asked for it: done by phone.")
        assert why.end is not None
        assert why.end.cause == "operator"


def test_a_task_that_its_deadline_ended_says_so() -> None:
    late = Run(template({"a": []}), task_id=uuid4())
    late.create(timeout_s=60)
    late.fire_at("deadline")
    assert explained(late).sentence.endswith(": timeout: the task's timeout was over.")
    assert "the task is stopping: timeout" in explained(late, "a").sentence


def test_what_of_the_log_cannot_be_read_tells_nothing() -> None:
    run = run_of({"a": []})
    run.cancel()
    for damaged in ({"payload": b"{"}, {"meta": b"{"}):
        unit = [msgspec.structs.replace(event, **damaged) for event in run.units[-1]]
        recorded = [
            RecordedEvent(
                shard=0, position=1, epoch=1, chain=None, **{name: getattr(one, name) for name in one.__struct_fields__}
            )
            for one in reversed(unit)
        ]
        assert end_of(recorded) is None


def test_items_that_wait_for_the_same_are_counted_not_repeated() -> None:
    """Who holds the key is said once; what of the list waits for something else is named beside it."""
    steps = {"m": {"each": "[0, 1, 2, 3, 4]", "concurrency": {"key": "item % 2"}}}
    run = run_of({"m": []}, steps=steps)
    holder = PlaceHolder(task_id="t1", since="2026-11-26T01:02:03.000000Z")
    held = {
        f"m[{index}]": PlaceFacts(key=str(index % 2), limit=1, held=1, waiting=5, ahead=index, holders=(holder,))
        for index in range(5)
    }
    for step in (None, "m"):
        why = explained(run, step, places=held)
        named = [(cause.kind, cause.step, cause.more) for cause in why.causes]
        assert named == [("items", "m", 0), ("place", "m[0]", 2), ("place", "m[1]", 1)]
        assert why.sentence.count("held by task t1") == 2
        assert (
            "key 0: held by task t1 since 2026-11-26T01:02:03.000000Z; so do 2 more items of its list" in why.sentence
        )
        assert "1 more waits ahead of it; so does 1 more item of its list" in why.sentence


def test_of_a_long_list_that_waits_for_workers_one_item_is_named() -> None:
    run = run_of({"m": []}, steps={"m": {"each": "lists.range(40)"}})
    run.start("m[7]")
    why = explained(run, queues={f"m[{index}]": BUSY for index in range(40)})
    assert [(cause.kind, cause.step, cause.more) for cause in why.causes] == [
        ("items", "m", 0),
        ("worker", "m[0]", 38),
        ("outcome", "m[7]", 0),
    ]


SINCE = "2026-11-26T01:02:03.000000Z"
LATER = "2026-11-26T01:05:00.000000Z"
OPEN = CircuitFacts(state="open", opened_at=SINCE, trial_at=LATER, open_s=60, failures=5, attempts=8, error="Timeout")
HALF = CircuitFacts(state="half_open", opened_at=SINCE, trial_at=LATER, open_s=60, again=1)
OPENED, TRIAL = f"open since {SINCE}", f"the next trial is at {LATER}"
PAUSE = HoldFacts(scope="queue", namespace="shop", name="q", since=SINCE, requested_by="ada", reason="bank down")


@pytest.mark.parametrize(
    ("hold", "until", "words", "remedy"),
    [
        (
            PAUSE,
            None,
            f"a person to resume queue shop/q; paused by ada at {SINCE}: bank down",
            "tasker resume queue q --namespace shop --reason WHY",
        ),
        (
            HoldFacts(scope="everything", since=SINCE, requested_by="ada", reason="moving"),
            None,
            f"a person to resume everything; paused by ada at {SINCE}: moving",
            "tasker resume everything --reason WHY",
        ),
        (
            HoldFacts(scope="tenant", name="acme", since=SINCE, ramp_until=LATER),
            SINCE,
            f"its turn at {SINCE}; tenant acme comes back slowly until {LATER}",
            "tasker controls",
        ),
        (
            HoldFacts(scope="handler", namespace="default", name="h", since=SINCE, circuit=OPEN),
            LATER,
            f"the circuit of handler default/h, {OPENED}; 5 of 8 attempts failed, the last with Timeout; {TRIAL}",
            "tasker circuits events h",
        ),
        (
            HoldFacts(scope="handler", namespace="shop", name="h", since=SINCE, circuit=HALF),
            None,
            f"the circuit of handler shop/h, {OPENED}; its trial failed; its trial runs",
            "tasker circuits events h --namespace shop",
        ),
        (
            HoldFacts(
                scope="handler",
                namespace="shop",
                name="h",
                since=SINCE,
                requested_by="ada",
                reason="bank down",
                circuit=msgspec.structs.replace(OPEN, failures=0, attempts=0, error=None),
            ),
            LATER,
            f"the circuit of handler shop/h, {OPENED}; ada opened it: bank down; {TRIAL}",
            "tasker circuits events h --namespace shop",
        ),
        (
            HoldFacts(
                scope="handler",
                namespace="shop",
                name="h",
                since=SINCE,
                circuit=msgspec.structs.replace(HALF, again=0),
            ),
            None,
            f"the circuit of handler shop/h, {OPENED}; it was opened by hand; its trial runs",
            "tasker circuits events h --namespace shop",
        ),
    ],
)
def test_what_holds_work_back_is_told(hold: HoldFacts, until: str | None, words: str, remedy: str) -> None:
    run = run_of({"a": [], "b": ["a"]})
    view, [step] = read(run)
    assert step.waiting_facts is not None
    step.waiting_facts = msgspec.structs.replace(step.waiting_facts, kind="hold", hold=hold, until=until)
    why = explain_step(view, "a", run.template.spec, [step], Around())
    assert why.sentence == f"Step a waits for {words}."
    assert why.causes[0].remedy == remedy
    assert explain_task(view, [step], Around()).sentence == f"The task is running: it waits for {words} (step a)."
    assert explain_step(view, "b", run.template.spec, [step], Around()).sentence.endswith(f"; there {words} (step a).")
    assert words_of_task((step.waiting_facts,)) == f"{words} (step a)"


def test_rate_limits_are_told() -> None:
    view, [step] = read(run_of({"a": []}))
    assert step.waiting_facts is not None
    step.waiting_facts.limits = (
        LimitFacts(scope="queue", per_s=2.5, namespace="shop", name="q"),
        LimitFacts(scope="handler", per_s=1, namespace="shop", name="h", key="input.n"),
    )
    assert explain_task(view, [step], Around()).sentence == (
        "The task is running: it waits for a worker, within the limit of 2.5 a second of queue shop/q and "
        "1 a second for each input.n of handler shop/h (step a)."
    )


@pytest.mark.parametrize(
    ("ahead", "words", "next_"),
    [
        (0, " (it has the next turn, at about soon)", None),
        (1, " (its turn comes at about soon, behind 1 other)", "tasker task update {} --priority 100"),
        (41, " (its turn comes at about soon, behind 41 others)", "tasker task update {} --priority 100"),
    ],
)
def test_the_turn_under_a_limit_is_told(ahead: int, words: str, next_: str | None) -> None:
    """It named the limit, and not how long that lasts."""
    view, [step] = read(run_of({"a": []}))
    assert step.waiting_facts is not None
    step.waiting_facts.limits = (LimitFacts(scope="queue", per_s=2.5, namespace="shop", name="q"),)
    turn = TurnFacts(ahead=ahead, at="soon")
    why = explain_task(view, [step], Around(turns={"a": turn}))
    limit = "within the limit of 2.5 a second of queue shop/q"
    assert why.sentence == f"The task is running: it waits for a worker, {limit}{words} (step a)."
    [cause] = why.causes
    assert (cause.turn, cause.remedy) == (turn, next_ and next_.format(view.task_id))
    queue = QueueFacts(namespace="shop", queue="q")
    [cause] = explain_task(view, [step], Around(queues={"a": queue}, turns={"a": turn})).causes
    assert cause.remedy == "tasker worker APP.py", "nobody asks for its work: there is more in the way than the limit"


def test_the_next_part_of_a_step_is_told() -> None:
    run = run_of({"a": []})
    run.start("a")
    run.give_back("a", delay_s=60)
    why = explained(run, "a")
    assert re.fullmatch(r"Step a waits for its next part at \S+\.", why.sentence)
    assert why.causes[0].remedy == f"tasker step release {run.task_id} a"
    assert re.fullmatch(r"the next part of step a at \S+", read(run)[0].waiting_on or "")


def test_a_step_that_joins_some_says_how_many() -> None:
    run = run_of({"a": [], "b": [], "c": [], "j": ["a", "b", "c"]}, steps={"j": {"join": "n_of", "join_count": 2}})
    run.complete("a")
    assert explained(run, "j").causes[0].text == "2 of its parents, of which steps b, c are open"


def test_what_has_not_reached_the_views_is_not_guessed() -> None:
    """Of a task whose steps are not there yet; and of a step whose parents are over."""
    run = run_of({"a": [], "b": ["a"]})
    run.complete("a")
    view, steps = read(run)
    assert explain_task(view, [], Around()).sentence == (
        "The task is running; nothing that it waits for has reached the views yet."
    )
    begun = [one for one in steps if one.step == "a"]
    assert explain_step(view, "b", run.template.spec, begun, Around()).sentence == (
        "Step b has not begun; what it waits for has not reached the views yet."
    )


def test_a_task_that_its_budget_blocks_says_of_what_and_how_it_goes_on() -> None:
    run = run_of({"a": [], "b": ["a"]}, budget={"running_s_max": 60})
    run.start("a")
    run.fire_at(next(name for name in run.owes() if name.startswith("run_by:")))
    run.complete("a")
    why = explained(run)
    assert why.sentence.startswith("The task is blocked: it waits for a person: it went over its budget: its steps ran")
    assert why.causes[0].remedy == f"tasker task budget {run.task_id} --running-s-max SECONDS"
