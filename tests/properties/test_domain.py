"""The pure core under random tasks: any shape, any order of commands, reports and timers.

A small worker and a clock are simulated; commands may be stale, repeated, or make no sense at all.
"""

from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tasker.errors import CommandRejected, TemplateInvalid
from tasker.events.stored import from_recorded, meta_of
from tasker.events.task_events import ENDING_TYPES, Choice, ErrorInfo
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.complete import CompleteChecker
from tasker.replay.checkers.epochs import EpochsChecker
from tasker.replay.checkers.folded import FoldedChecker
from tasker.replay.checkers.once import OnceChecker
from tasker.replay.checkers.order import OrderChecker
from tasker.replay.checkers.timely import TimelyChecker
from tasker.replay.findings import Finding
from tasker.service.domain.decide import isolated_items, open_attempt
from tasker.service.domain.dry_run import copied
from tasker.service.domain.evolve import evolve
from tasker.service.domain.obligations import Kind, obligations_of, parse_obligation
from tasker.service.domain.state import STEP_OPEN, StepState, StepStatus, TaskState, TaskStatus
from tasker.service.domain.state_document import state_hash
from tasker.service.domain.steps.compensate import failed_undo
from tasker.service.domain.waits.wait_state import SignalWait
from tasker.templates import CompiledTemplate, compile_template, validate
from tests.runs import T0_US, Run, Shelf

NAMES = [f"s{number}" for number in range(1, 7)]
ERRORS = [
    ErrorInfo(type="OSError", message="no route"),
    ErrorInfo(type="Refused", message="no such card"),
    ErrorInfo(type="ValueError", message="never", retryable=False),
    ErrorInfo(type="Busy", message="later", retry_after_s=7.5),
]


ASKS: list[dict[str, Any]] = [
    {},
    {"approvals": 2},
    {"assignees": ["ada"], "escalate_after_s": 3.0, "escalate_to": ["bob"]},
    {"roles": ["heads"], "four_eyes": True},
]


@st.composite
def templates(draw: st.DrawFn) -> CompiledTemplate:
    """Any DAG of up to six steps, with few attempts; half of them with decisions, conditions, joins, items, loops."""
    while True:
        document = draw(documents())
        if draw(st.booleans()):
            make_dynamic(draw, document["steps"])
            if draw(st.integers(0, 3)) == 0:
                document["concurrency"] = {"key": "input.n", "strategy": "drop"}
            document["on_timeout"] = draw(st.sampled_from(["fail", "fail", "block", "continue"]))
            if any("compensate" in step for step in document["steps"]):
                document["compensate_on"] = draw(st.sampled_from(["both", "both", "failure", "cancel", "never"]))
        try:
            return compile_template(validate(document))
        except TemplateInvalid:
            event("the steps do not fit together")


def make_dynamic(draw: st.DrawFn, steps: list[dict[str, Any]]) -> None:
    """Add dynamic keys to some steps; not all of them fit together."""
    for index, step in enumerate(steps):
        children = [one["name"] for one in steps if step["name"] in one.get("after", ())]
        match draw(
            st.sampled_from(["plain", "plain", "routes", "batches", "each", "service", "child", "loop", "signal"])
        ):
            case "routes" if children:
                step["routes"] = draw(st.lists(st.sampled_from(children), unique=True, min_size=1))
            case "batches" if step.get("after"):
                step["batches"] = step["after"][0]
                step["parallelism"] = draw(st.integers(1, 2))
                step["failure_strategy"] = draw(st.sampled_from(["fail_fast", "continue_on_failure", "isolate"]))
            case "each":
                step["each"] = "[1, 2, 3]"
                step["max_parallel"] = draw(st.integers(1, 3))
                if draw(st.booleans()):
                    step.update(on_item_failure="tolerate", tolerate=draw(st.sampled_from([1, "50%"])))
            case "service":
                for key in ("retry", "schedule_to_start_s", "schedule_to_close_s"):
                    step.pop(key, None)
                kinds = [{"transform": "input.n + 1"}, {"asserts": "input.n > 9"}, {"delay_s": 3.0}]
                step.update(draw(st.sampled_from(kinds)))
            case "child":
                for key in ("retry", "schedule_to_start_s", "schedule_to_close_s"):
                    step.pop(key, None)
                step["child"] = "c"
                step["on_parent_close"] = draw(st.sampled_from(["cancel", "wait", "abandon"]))
            case "signal":
                make_waiting(draw, step)
            case "loop" if not children and index:
                target = steps[draw(st.integers(0, index))]
                step["back_to"] = target["name"]
                target["max_visits"] = 2
            case _:
                pass
        parents = step.get("after", [])
        if parents:
            step["join"] = draw(st.sampled_from(["all", "all", "deferred", "any", "n_of", "all_settled"]))
            if step["join"] == "n_of":
                step["join_count"] = draw(st.integers(1, len(parents)))
            if draw(st.integers(0, 3)) == 0:
                condition = draw(st.sampled_from(["input.n > 5", "input.n > 7", f"results['{parents[0]}'] == 1"]))
                if draw(st.booleans()):
                    step["when"] = condition
                else:
                    step["after"] = [{"step": parents[0], "when": condition}, *parents[1:]]
        if "child" not in step and draw(st.integers(0, 3)) == 0:
            actions = st.sampled_from(["retry", "fail", "block", "continue"])
            step["on_timeout"] = {"heartbeat": draw(actions), "start_to_close": draw(actions)}
        by_service = any(key in step for key in ("transform", "asserts", "delay_s"))
        if draw(st.integers(0, 3)) == 0 and not by_service:
            step["concurrency"] = {"key": draw(st.sampled_from(["input.n", "null", "input.n > 5"]))}
        if draw(st.integers(0, 2)) == 0 and not by_service:
            step.update({"compensate": "undo", "compensate_retry": {"max_attempts": draw(st.integers(1, 2))}})


def make_waiting(draw: st.DrawFn, step: dict[str, Any]) -> None:
    """Let a step wait for a signal."""
    for key in ("retry", "schedule_to_start_s", "schedule_to_close_s"):
        step.pop(key, None)
    if draw(st.integers(0, 2)) == 0:
        step["approval"] = draw(st.sampled_from(ASKS))
        step.update(draw(st.sampled_from([{}, {"wait_deadline_s": 5.0, "on_wait_deadline": "continue"}])))
        return
    if draw(st.integers(0, 2)) == 0:
        step["event"] = "task_completed"
        step.update(draw(st.sampled_from([{}, {"event_when": "event.n == 1"}, {"wait_deadline_s": 5.0}])))
        return
    step["signal"] = draw(st.sampled_from(["go", "go", "stop"]))
    step["signal_take"] = draw(st.sampled_from(["first", "last", "all"]))
    if step["signal_take"] == "all":
        step["signal_count"] = draw(st.integers(1, 3))
    if draw(st.booleans()):
        step["signal_when"] = draw(st.sampled_from(["signal > 1", "signal.n == 1", "signal != input.n"]))
    if draw(st.booleans()):
        step.update(wait_deadline_s=5.0, on_wait_deadline=draw(st.sampled_from(["fail", "continue"])))


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Documents of plain steps."""
    count = draw(st.integers(1, 6))
    steps: list[dict[str, Any]] = []
    for index in range(count):
        step: dict[str, Any] = {"name": NAMES[index]}
        if index:
            step["after"] = draw(st.lists(st.sampled_from(NAMES[:index]), unique=True, max_size=3))
        retry: dict[str, Any] = {"max_attempts": draw(st.integers(1, 3))}
        if retry["max_attempts"] > 1:
            retry["non_retryable"] = ["Refused"]
            retry["backoff"] = draw(st.sampled_from(["exponential", "none", "linear", "fibonacci", "constant"]))
        step["retry"] = retry
        if draw(st.booleans()):
            step["schedule_to_start_s"] = 20.0
        if draw(st.integers(0, 3)) == 0:
            step["schedule_to_close_s"] = 40.0
        steps.append(step)
    document: dict[str, Any] = {"name": "t", "steps": steps}
    if draw(st.booleans()):
        document["on_failure"] = "fail"
    if draw(st.integers(0, 2)) == 0:
        document["stale_after"] = {"waiting_s": 1.0, "blocked_s": 2.0, "paused_s": 2.0}
    if draw(st.booleans()):
        document["result"] = draw(st.sampled_from(NAMES[:count]))
    return document


def complete(run: Run, step: str, attempt: int, data: st.DataObject, *, gives_back: bool = True) -> None:
    """Complete an attempt as its step may: with a choice, cursors, or any result; or give it back."""
    spec = run.template.step(step)
    if gives_back and spec.kind == "handler" and data.draw(st.integers(0, 9), label="give back") == 0:
        run.give_back(step, attempt, checkpoint=1, delay_s=data.draw(st.sampled_from([0.0, 2.0])))
        return
    choice = None
    if spec.routes and data.draw(st.integers(0, 9), label="no choice") < 9:
        routes = data.draw(st.lists(st.sampled_from(spec.routes), unique=True), label="routes")
        choice = Choice(routes=tuple(routes), reason="why not")
    is_batchable = any(one.batches == spec.name for one in run.template.steps.values())
    results = st.sampled_from([[], [1], [1, 2, 3]]) if is_batchable else st.integers(0, 3)
    run.complete(step, attempt, data.draw(results, label="result"), choice=choice)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """A task that was created, with or without a start time and a deadline."""
    run = Run(draw(templates()))
    run.create(
        not_before_us=draw(st.none() | st.sampled_from([T0_US - 1, T0_US + 30_000_000])),
        timeout_s=draw(st.none() | st.sampled_from([10.0, 1000.0])),
    )
    return run


ACTIONS = [
    "child",
    "child",
    "start",
    "complete",
    "fail",
    "fail",
    "cancel",
    "retry",
    "retry_step",
    "create",
    "fire",
    "fire_any",
    "wait",
]
ACTIONS += ["signal", "signal", "answer", "answer", "place", "place", "event"]
ACTIONS += ["pause", "resume", "resume", "skip", "resolve", "reset", "edit", "release", "deadline"]


def act(run: Run, data: st.DataObject) -> None:
    """Give the task some command, sensible or not."""
    action = data.draw(st.sampled_from(ACTIONS), label="action")
    steps = list(run.state.steps) or NAMES[:1]
    step = data.draw(st.sampled_from([*steps, *steps, *run.template.steps]), label="step")
    newest = run.state.steps[step].attempt if step in run.state.steps else 1
    attempt = data.draw(st.sampled_from([newest, newest, newest, newest - 1, newest + 1]), label="attempt")
    match action:
        case "child":
            child = data.draw(st.sampled_from(["c1", "c1", None]), label="child")  # None: it was refused
            states = ["", "", "completed", "failed", "cancelled"] if child is not None else [""]
            run.child(step, child, attempt, state=data.draw(st.sampled_from(states), label="state"))
        case "start":
            run.start(step, attempt, worker=data.draw(st.sampled_from(["w1", "w2"])))
        case "complete":
            complete(run, step, attempt, data)
        case "fail":
            run.fail(step, attempt, data.draw(st.sampled_from(ERRORS)), jitter=data.draw(st.sampled_from([0.0, 0.99])))
        case "cancel":
            run.cancel(data.draw(st.sampled_from([0.0, 10.0])))
        case "retry" | "create":
            (run.retry if action == "retry" else run.create)()
        case "retry_step":
            run.retry(step, data.draw(st.none() | st.just(attempt)))
        case "skip" | "resolve":
            routes = run.template.step(step).routes
            chosen = data.draw(st.lists(st.sampled_from(routes), unique=True), label="routes") if routes else []
            (run.skip if action == "skip" else run.resolve)(step, data.draw(st.integers(0, 3)), *chosen)
        case "event":
            tell(run, step, attempt, data)
        case "signal" | "answer":
            (send if action == "signal" else say)(run, data)
        case "place":
            answer_place(run, data.draw(st.sampled_from([*run.state.places, "", step]), label="place"), attempt, data)
        case "reset" | "release":
            (run.reset if action == "reset" else run.release)(step)
        case "edit":
            run.edit(step, data.draw(st.integers(0, 3)))
        case "deadline":
            run.deadline(within_s=data.draw(st.sampled_from([None, 0.5, 100.0]), label="within"))
        case "pause" | "resume":
            (run.pause if action == "pause" else run.resume)()
        case "fire":
            owed = sorted(obligations_of(run.state).items())
            if owed:
                run.fire_at(data.draw(st.sampled_from(owed))[0])
        case "fire_any":
            fire_closed(run, data.draw(st.sampled_from(list(Kind))), step, attempt)
        case _:
            run.wait(data.draw(st.sampled_from([0.0, 0.001, 5.0])))


def fire_closed(run: Run, kind: Kind, step: str, attempt: int) -> None:
    """Let an obligation fire that is not open: nothing comes of it."""
    obligation = str(kind) if kind in (Kind.NOT_BEFORE, Kind.DEADLINE) else f"{kind}:{step}:{attempt}"
    if obligation not in obligations_of(run.state):
        assert run.fire(obligation) == (), "a closed obligation causes something"


def answer_place(run: Run, step: str, attempt: int, data: st.DataObject) -> None:
    """Tell a step, or the task, that its place is there or that there is none."""
    answer: Literal["take", "full", "evicted"] = data.draw(
        st.sampled_from(["take", "take", "full", "evicted"]), label="answer"
    )
    number = attempt if step else 0
    if answer == "take":
        run.take(step, number)
    else:
        run.deny(step, number, answer)


def send(run: Run, data: st.DataObject) -> None:
    """Send some signal; without a command id, or with one that was used before, too."""
    name = data.draw(st.sampled_from([*run.template.signals, "go"]), label="signal")
    command_id = data.draw(st.sampled_from([None, "c1", "c2", "c3"]), label="command id")
    if command_id is None or not run.state.has_taken(command_id):
        run.signal(name, data.draw(st.sampled_from([1, 2, 6, {"n": 1}]), label="value"), command_id=command_id)


def tell(run: Run, step: str, attempt: int, data: st.DataObject) -> None:
    """Tell a step of an event of another task, one before it waited among them."""
    at_us = data.draw(st.sampled_from([None, T0_US - 1]), label="event at")
    run.event(step, data.draw(st.sampled_from([{"n": 1}, {"n": 2}, 7]), label="event"), attempt, at_us=at_us)


def say(run: Run, data: st.DataObject) -> None:
    """Answer, or hand over, what some step asks."""
    asked = [name for name, step in run.state.steps.items() if step.waits == "approval"] or ["s1"]
    name, by = data.draw(st.sampled_from(asked), label="asked"), data.draw(st.sampled_from(["ada", "bob", "carol"]))
    match data.draw(st.sampled_from(["approve", "approve", "reject", "delegate"]), label="answer"):
        case "approve":
            run.approve(name, by, roles=("heads",))
        case "reject":
            run.reject(name, by, roles=("heads",))
        case _:
            run.delegate(name, by, data.draw(st.sampled_from(["ada", "bob", "dave"])))


def is_outside(step: StepState) -> bool:
    """Return whether only a signal, or a person, moves the step."""
    return step.wait is not None and step.wait.deadline_us is None


def check_state(run: Run) -> None:
    """What holds after every command."""
    state = run.state
    assert state.seq == len(run.events)
    assert state.open == sum(step.status in STEP_OPEN for step in state.steps.values())
    assert state.completed == sum(step.status is StepStatus.COMPLETED for step in state.steps.values())
    nodes = {name: state.node(name) for name in run.template.steps}
    failed = {node for node in nodes.values() if node in state.steps and state.steps[node].status is StepStatus.FAILED}
    assert set(state.failed) == failed - set(state.accepted)
    assert state.settled == sum(
        name in state.closed
        or node in state.accepted
        or (node in state.steps and state.steps[node].status in (StepStatus.COMPLETED, StepStatus.CANCELLED))
        for name, node in nodes.items()
    )
    owed = obligations_of(state)
    assert run.owes() == owed, "the account kept event by event differs"
    if state.ended:
        assert owed == {}
        return
    check_waits(state, run.template)
    if state.blocked_reason == "compensation_failed":
        assert failed_undo(state) is not None
    if state.blocked_reason == "step_failed":
        assert state.failed or isolated_items(state, run.template)
        assert all(step.expansion is not None for step in state.steps.values() if step.status in STEP_OPEN)


def check_waits(state: TaskState, template: CompiledTemplate) -> None:
    """Nothing of an open task waits without somebody who will wake it."""
    owed = obligations_of(state)
    if (
        state.status not in (TaskStatus.BLOCKED, TaskStatus.PAUSED)
        and not state.is_late
        and not any(is_outside(step) for step in state.steps.values())
    ):
        assert owed, "a task that goes on owes nothing: nothing will ever wake it"
    for name, step in state.steps.items():
        if step.status not in STEP_OPEN or state.blocked_reason == "history_limit" or state.held:
            continue
        if is_outside(step):
            if isinstance(step.wait, SignalWait):
                assert state.inbox is not None
                assert name in state.inbox.waiting[step.wait.signal], "no signal reaches it"
        elif step.expansion is not None:
            waits_for_others = template.step(name).isolates and step.expansion.failed and state.open > 1
            assert step.expansion.open or state.status is TaskStatus.BLOCKED or waits_for_others, (
                f"no item wakes step {name}"
            )
        elif step.waits == "turn":
            assert step.of is not None
            assert len(step.of.open) > len(step.of.again), f"no item before it wakes {name}"
        else:
            assert any(parse_obligation(one)[1] == name for one in owed), f"nothing wakes step {name}"


def check_history(run: Run) -> None:
    """What holds of the recorded history."""
    types = [one.type for unit in run.units for one in unit]
    assert not set(types[:-1]) & ENDING_TYPES, "something follows an ending"
    shelf = Shelf(1)
    shelf.put(run.units)
    findings: list[Finding] = []
    feed(
        shelf.events[0],
        [
            CompleteChecker(0, findings.append),
            EpochsChecker(0, findings.append),
            OnceChecker(0, findings.append),
            OrderChecker(0, findings.append, {run.template.hash: run.template}.get),
            TimelyChecker(0, findings.append),
            FoldedChecker(0, findings.append),
        ],
    )
    assert findings == []
    again = TaskState()
    for one in shelf.events[0]:
        meta = meta_of(one)
        evolve(again, from_recorded(one), at_us=one.at_us, command_id=meta.command_id, request=meta.request)  # type: ignore[arg-type]
    assert state_hash(again) == state_hash(run.state)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(runs(), st.data())
def test_any_commands_leave_a_sound_task_and_a_sound_history(run: Run, data: st.DataObject) -> None:
    check_state(run)
    for _ in range(data.draw(st.integers(0, 40), label="commands")):
        before = state_hash(run.state)
        assert state_hash(copied(run.state)) == before
        try:
            act(run, data)
        except CommandRejected:
            assert state_hash(run.state) == before
        check_state(run)
    event(str(run.state.status))
    check_history(run)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(runs(), st.data())
def test_what_is_owed_leads_every_task_to_its_end(run: Run, data: st.DataObject) -> None:
    """With nobody but the clock and a worker that takes what is offered, a task ends or waits for a person."""
    for _ in range(data.draw(st.integers(0, 15), label="commands")):
        try:
            act(run, data)
        except CommandRejected:
            continue
    for _ in range(600):
        if run.state.is_late and run.state.stopping is None and not run.state.ended:
            run.deadline()
            check_state(run)
        if run.state.paused:
            run.resume()
            check_state(run)
        owed = obligations_of(run.state)
        if not owed and not any(is_outside(step) for step in run.state.steps.values()):
            break
        if not owed:
            for name in [name for name, step in run.state.steps.items() if is_outside(step)][:1]:
                run.release(name)
            check_state(run)
            continue
        obligation, at_us = min(owed.items(), key=lambda one: (one[1], one[0]))
        run.now_us = max(run.now_us, at_us)
        kind, step, attempt = parse_obligation(obligation)
        if kind is Kind.CHILD:
            run.child(step, "c1", attempt, state="completed")
        elif kind is Kind.PLACE:
            run.take(step, attempt)
        elif kind is Kind.EVENT:
            run.event(step, {"n": 1}, attempt)
        elif kind is Kind.OFFER:
            complete(run, step, attempt, data, gives_back=False)
        else:
            run.fire(obligation)
        check_state(run)
    assert run.state.ended or run.state.status is TaskStatus.BLOCKED
    check_history(run)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(runs(), st.data())
def test_a_task_at_its_history_limit_blocks_and_can_always_be_cancelled(run: Run, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasker.service.domain.decide.HISTORY_EVENTS_MAX", 1000)
        patch.setattr("tasker.service.domain.decide.HISTORY_EVENTS_RESERVED", 1000 - data.draw(st.integers(2, 12)))
        for _ in range(data.draw(st.integers(0, 30), label="commands")):
            try:
                act(run, data)
            except CommandRejected:
                continue
            check_state(run)
        if not run.state.ended and run.state.stopping is None:
            run.cancel(data.draw(st.sampled_from([0.0, 10.0])))
        while not run.state.ended:
            undo = failed_undo(run.state)
            if undo is not None:
                run.skip(undo)
            else:
                follow_up(run, data)
            check_state(run)
    check_history(run)


def follow_up(run: Run, data: st.DataObject) -> None:
    """Have come what a task that stops is owed next: there is something as long as no compensation has failed."""
    owed = obligations_of(run.state)
    obligation = min(owed, key=lambda one: (owed[one], one))
    kind, step, attempt = parse_obligation(obligation)
    if kind is Kind.CHILD:
        run.child(step, "c1", attempt, state="cancelled")
    elif kind is Kind.PLACE:
        run.deny(step, attempt)
    elif kind is Kind.OFFER:  # what is offered now can only be a compensation
        complete(run, step, attempt, data, gives_back=False)
    else:
        run.fire_at(obligation)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(runs(), st.data())
def test_a_repeated_command_changes_nothing(run: Run, data: st.DataObject) -> None:
    """Every entrance is idempotent: what was decided once is not decided again."""
    for _ in range(data.draw(st.integers(0, 20), label="commands")):
        try:
            act(run, data)
        except CommandRejected:
            continue
        for name, step in list(run.state.steps.items()):
            if step.status is StepStatus.COMPLETED:
                assert run.complete(name, step.attempt) == ()
                assert run.fail(name, step.attempt) == ()
            if open_attempt(run.state, name, step.attempt) is None:
                assert run.start(name, step.attempt) == ()


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(runs(), runs(), st.data())
def test_evolve_takes_the_events_of_another_task(run: Run, other: Run, data: st.DataObject) -> None:
    """Total, also in states that no decider leads to."""
    for one in (run, other):
        for _ in range(data.draw(st.integers(0, 20))):
            try:
                act(one, data)
            except CommandRejected:
                continue
    for found in other.events:
        evolve(run.state, found, at_us=run.now_us)
    for obligation in obligations_of(run.state):
        parse_obligation(obligation)
