"""Record whole histories: `python -m tests.compat.record_histories`. What is recorded never changes.

A file is one task, an event a line, as the log holds it; `histories.json` has the hash of the state that it folds to.
A story that is new here is recorded; one that has its file is left alone.
"""

import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec

from tasker.events.envelope import NewEvent, RecordedEvent
from tasker.events.messages import EmittedEvent, Progress, UsageLine
from tasker.events.task_events import ErrorInfo
from tasker.service.domain.commands import (
    CancelTask,
    CompleteAttempt,
    FailAttempt,
    PauseTask,
    PostponeTask,
    Reconcile,
    RecordUsage,
    ResolveStep,
    ResumeTask,
    RetryTask,
    SetBudget,
)
from tasker.service.domain.state_document import state_hash
from tests.runs import DIAMOND, ERROR, T0_US, Run, linear, raw, template

FOLDER: Final = Path(__file__).with_name("histories")
HASHES: Final = FOLDER / "histories.json"
RECORDED: Final[dict[str, str]] = msgspec.json.decode(HASHES.read_bytes())
"""History -> hash of the state that it folds to."""


class Line(msgspec.Struct):
    """One event of a history: its envelope as far as a fold looks at it, and its exact bytes."""

    seq: int
    type: str
    version: int
    at_us: int
    meta: str
    payload: str


def history(name: str) -> list[RecordedEvent]:
    """A recorded history, as the log would give it."""
    lines = [msgspec.json.decode(line, type=Line) for line in (FOLDER / f"{name}.jsonl").read_bytes().splitlines()]
    return recorded_of(lines, stream_id=uuid.uuid5(uuid.NAMESPACE_OID, name), kind="task")


def recorded_of(lines: Iterable[Line], *, stream_id: UUID, kind: str) -> list[RecordedEvent]:
    """The lines of one stream, as the log would give them."""
    return [
        RecordedEvent(
            shard=0,
            position=line.seq,
            epoch=1,
            stream_id=stream_id,
            kind=kind,
            seq=line.seq,
            type=line.type,
            version=line.version,
            tenant="default",
            at_us=line.at_us,
            meta=line.meta.encode(),
            payload=line.payload.encode(),
            encoding="json",
            chain=None,
        )
        for line in lines
    ]


def new_run(name: str, shape: dict[str, Any] | None = None, **keys: Any) -> Run:
    made = linear(3, **keys) if shape is None else template(shape, **keys)
    return Run(made, task_id=uuid.uuid5(uuid.NAMESPACE_OID, name))


def completed() -> Run:
    """A diamond with every result, one retry after a wait, big integers and accents."""
    run = new_run("completed", DIAMOND)
    run.create(key="order-17", tags={"team": "core", "é": "ü"})
    run.start("a")
    run.wait(0.25)
    run.fail("a", error=ErrorInfo(type="Busy", message='say "later" ☕', retry_after_s=2.5, stack="a\nb"))
    run.fire_at("retry:a:2")
    run.complete("a", 2, result={"total": 12345678901234567890123, "rate": 0.1})
    run.complete("c", result=None, worker="w2")
    run.complete("b", result=[1, "ü"])
    run.complete("d", result="done")
    return run


def repaired() -> Run:
    """Failed for good, blocked, repaired by a person, completed."""
    run = new_run("repaired", retry={"max_attempts": 2, "backoff": "none"})
    run.create()
    run.start("s1")
    run.fire_at("heartbeat:s1:1")
    run.fire_at("offer:s1:2")
    run.fail("s1", 2, error=ErrorInfo(type="NoSuchCard", message="no", retryable=False))
    run.wait(3600)
    run.do(RetryTask(at_us=run.now_us), command_id="command-1")
    run.finish()
    return run


def cancelled() -> Run:
    """Begun at its time, told to stop, its grace over."""
    run = new_run("cancelled", {"a": [], "b": [], "c": []})
    run.create(not_before_us=T0_US + 60_000_000, timeout_s=3600)
    run.fire_at("not_before")
    run.start("a")
    run.start("b")
    run.do(CancelTask(grace_s=5, at_us=run.now_us), command_id="command-2")
    run.wait(1)
    run.fail("b")
    run.fire_at("grace:a:1")
    return run


def timed_out() -> Run:
    """Nobody took the work; the task's timeout ended it while a retry waited."""
    run = new_run("timed_out", schedule_to_start_s=5.0, retry={"delay_s": 3600.0, "delay_s_max": 3600.0})
    run.create(timeout_s=60)
    run.fire_at("start_by:s1:1")
    run.fire_at("deadline")
    return run


def failed() -> Run:
    """`on_failure: fail`, with a running step that completed in its grace."""
    run = new_run("failed", {"a": [], "b": []}, on_failure="fail")
    run.create()
    run.start("b")
    run.fail("a", error=ErrorInfo(type="NoSuchCard", message="no", retryable=False))
    run.wait(1)
    run.complete("b")
    return run


def blocked() -> Run:
    """Still open: one step failed, one completed."""
    run = new_run("blocked", {"a": [], "b": []})
    run.create()
    run.complete("b")
    run.fail("a", error=ErrorInfo(type="NoSuchCard", message="no", retryable=False))
    return run


def limited() -> Run:
    """A task and its steps under concurrency keys: one place granted, one refused, one wanted back."""
    steps = {name: {"concurrency": {"key": "input.n", "strategy": "cancel_oldest"}} for name in ("a", "b")}
    shape: dict[str, Any] = {"a": [], "b": [], "c": [], "end": ["c"]}
    run = new_run("limited", shape, steps=steps, concurrency={"key": "input.n", "limit": 2})
    run.create()
    run.wait(1)
    run.take()
    run.take("a", 1)
    run.deny("b", 1, "full")
    run.start("a")
    run.deny("a", 1, "evicted")
    run.complete("c")
    run.complete("end")
    return run


def in_turn() -> Run:
    """Of three items one runs at a time."""
    run = new_run("in_turn", {"each": []}, steps={"each": {"each": "[1, 2, 3]", "max_parallel": 1}})
    run.create()
    for index in range(2):
        run.complete(f"each[{index}]", result=index)
    return run


def reconciled() -> Run:
    """A retry that was lost is brought back."""
    run = new_run("reconciled")
    run.create()
    run.fail("s1")
    run.do(Reconcile(lost="forgotten", obligations=("retry:s1:2", "retry:s1:3"), at_us=run.now_us))
    run.fire_at("retry:s1:2")
    run.complete("s1", 2)
    return run


def left_alone() -> Run:
    """Limits that are over do what the template says: a step goes on with null, one is blocked, and so is the task."""
    steps = {
        "a": {"on_timeout": {"start_to_close": "continue"}},
        "b": {"schedule_to_start_s": 5, "on_timeout": {"schedule_to_start": "block"}},
    }
    run = new_run("left_alone", {"a": [], "b": [], "c": ["a"]}, steps=steps, on_failure="fail", on_timeout="block")
    run.create(timeout_s=600)
    run.start("a")
    run.fire_at("start_by:b:1")
    run.fire_at("finish_by:a:1")
    run.fire_at("deadline")
    run.deadline(within_s=60)
    run.complete("c", result=3)
    return run


def routed() -> Run:
    """A decision chose one way of three; a join of what ran; a failure that another join accepts."""
    shape = {"route": [], "a": ["route"], "b": ["route"], "c": [], "end": ["a", "b", "c"]}
    run = new_run("routed", shape, steps={"route": {"routes": ["a", "b"]}, "end": {"join": "all_settled"}})
    run.create()
    run.choose("route", "b", reason='say "b" ☕')
    run.fail("c", error=ErrorInfo(type="NoSuchCard", message="no", retryable=False))
    run.complete("b", result=1)
    run.complete("end", result={"b": 1})
    return run


def expanded() -> Run:
    """Batches, one in parts and one that failed; a person repaired it."""
    steps = {"process": {"batches": "analyze", "parallelism": 2, "failure_strategy": "isolate"}}
    run = new_run("expanded", {"analyze": [], "process": ["analyze"], "end": ["process"]}, steps=steps)
    run.create()
    run.complete("analyze", result=[{"start": 0}, {"start": 200}, {"start": 400}])
    run.give_back("process[0]", checkpoint={"at": 25})
    run.give_back("process[1]", checkpoint={"at": 25}, delay_s=5)
    run.complete("process[0]", 2, result=10)
    run.fail("process[2]", error=ErrorInfo(type="NoSuchCard", message="no", retryable=False))
    run.fire_at("retry:process[1]:2")
    run.complete("process[1]", 2, result=20)
    run.wait(60)
    run.do(RetryTask(at_us=run.now_us), command_id="command-3")
    run.complete("process[2]", 2, result=30)
    run.complete("end", result=60)
    return run


def looped() -> Run:
    """A polling loop of three visits."""
    steps = {"check": {"routes": ["pause", "done"]}, "pause": {"delay_s": 5, "back_to": "check"}}
    run = new_run("looped", {"check": [], "pause": ["check"], "done": ["check"]}, steps=steps)
    run.create()
    for visit in ("", "#2"):
        run.choose(f"check{visit}", "pause", reason="not yet")
        run.fire_at(f"timer:pause{visit}:1")
    run.choose("check#3", "done")
    run.complete("done", result="at last")
    return run


def parent() -> Run:
    """Two children: one completed, one failed and was started anew by a person."""
    steps = {"first": {"child": "parcel"}, "second": {"child": "parcel", "child_input": "results.first"}}
    run = new_run("parent", {"first": [], "second": ["first"]}, steps=steps)
    run.create()
    run.child("first", "01234567-89ab-8def-8123-456789abcdef")
    run.child("first", "01234567-89ab-8def-8123-456789abcdef", state="completed", result={"n": 1})
    run.child("second", "11234567-89ab-8def-8123-456789abcdef")
    run.child("second", "11234567-89ab-8def-8123-456789abcdef", state="failed")
    run.do(RetryTask(at_us=run.now_us), command_id="command-4")
    run.child("second", "21234567-89ab-8def-8123-456789abcdef", 2, state="completed", result="done")
    return run


def compensated() -> Run:
    """A step failed, what was done is undone in reverse; a compensation failed for good, and a person retried it."""
    steps = {"charge": {"compensate": "refund"}, "reserve": {"compensate": "release"}}
    shape = {"charge": [], "reserve": ["charge"], "ship": ["reserve"]}
    run = new_run("compensated", shape, steps=steps, on_failure="fail")
    run.create()
    run.complete("charge", result={"receipt": "r-1"})
    run.complete("reserve", result={"items": 2})
    run.fail("ship", error=ErrorInfo(type="NoSuchAddress", message="no", retryable=False))
    run.start("reserve~undo")
    run.fail("reserve~undo", error=ErrorInfo(type="Busy", message="later"))
    run.fire_at("retry:reserve~undo:2")
    run.fail("reserve~undo", 2, error=ErrorInfo(type="Gone", message="no", retryable=False))
    run.wait(60)
    run.do(RetryTask(at_us=run.now_us), command_id="command-4")
    run.complete("reserve~undo", 3, result=None)
    run.complete("charge~undo", result="refunded")
    return run


def paused() -> Run:
    """Paused before its start and while steps run; a failure repaired meanwhile; resumed, completed."""
    run = new_run("paused", DIAMOND)
    run.create(not_before_us=T0_US + 60_000_000)
    run.do(PauseTask(at_us=run.now_us), command_id="command-4")
    run.wait(90)
    run.do(ResumeTask(at_us=run.now_us), command_id="command-5")
    run.fire_at("not_before")
    run.complete("a", result=1)
    run.start("b")
    run.start("c")
    run.do(PauseTask(at_us=run.now_us), command_id="command-6")
    run.complete("b", result=2)
    run.fail("c", error=ErrorInfo(type="NoSuchCard", message="no", retryable=False))
    run.do(RetryTask(at_us=run.now_us), command_id="command-7")
    run.wait(3600)
    run.do(ResumeTask(at_us=run.now_us), command_id="command-8")
    run.complete("c", 2, result=3)
    run.complete("d", result="done")
    return run


def by_hand() -> Run:
    """Every repair of a person: skip, resolve with a choice, reset, release, override, edit."""
    shape = {"a": [], "route": ["a"], "x": ["route"], "y": ["route"], "nap": [], "late": ["a", "nap"], "c": []}
    run = new_run("by_hand", shape, steps={"route": {"routes": ["x", "y"]}, "nap": {"delay_s": 3600}})
    run.create()
    run.start("c")
    run.fail("c")
    run.reset("c")
    run.release("c")
    run.complete("c", 2)
    run.fail("a", error=ErrorInfo(type="NoSuchCard", message="no", retryable=False))
    run.release("late")
    run.skip("a", {"receipt": None})
    run.resolve("route", None, "y")
    run.complete("y", result=1)
    run.edit("y", [1, 2])
    run.complete("late")
    run.release("nap")
    return run


def prioritized() -> Run:
    """A task with a priority that a person changed twice."""
    run = new_run("prioritized", DIAMOND, priority=-100)
    run.create(priority=run.template.spec.priority)
    run.update(priority=50)
    run.complete("a", result=1)
    run.update(tags={"urgent": "yes"}, priority=100)
    return run


def forced() -> Run:
    """A restart with metadata; labels and the deadline changed; then a person completed it while a step ran."""
    run = new_run("forced", DIAMOND)
    run.create(metadata=raw({"ticket": 17}), restarted_from="01234567-89ab-8def-8123-456789abcdef", timeout_s=60)
    run.update(tags={"team": "core"}, metadata={"ticket": None, "by": "ada"})
    run.deadline(within_s=3600)
    run.complete("a", result=1)
    run.start("b")
    run.deadline()
    run.force_complete({"by": "hand"})
    run.complete("b", result=2)
    return run


def announced() -> Run:
    """Domain events: of a failed attempt, of the handler, of the service."""
    emits = [{"name": "order.late", "on": "retryable", "auto": True}, {"name": "order.paid"}]
    run = new_run("announced", {"a": []}, steps={"a": {"emits": emits, "retry": {"backoff": "none"}}})
    run.create()
    run.fail("a")
    emitted = (EmittedEvent(name="order.paid", data=raw({"cents": 2500})),)
    run.do(CompleteAttempt(step="a", attempt=2, worker="w1", result=raw(1), at_us=run.now_us, emitted=emitted))
    return run


def signalled() -> Run:
    """Signals before a step waits, for one and for all; a deadline that fails a step, a retry, one that does not."""
    run = new_run(
        "signalled",
        {"a": [], "one": ["a"], "all": ["a"], "late": ["one"], "never": ["a"]},
        steps={
            "one": {"signal": "go", "signal_when": "signal.n > 1"},
            "all": {"signal": "vote", "signal_take": "all", "signal_count": 2},
            "late": {"signal": "paid", "wait_deadline_s": 60},
            "never": {"signal": "never", "wait_deadline_s": 30, "on_wait_deadline": "continue"},
        },
    )
    run.create()
    run.signal("go", {"n": 1}, command_id="command-9")
    run.signal("vote", "yes", command_id="command-10")
    run.complete("a")
    run.signal("go", {"n": 2}, command_id="command-11")
    run.fire_at("wait_by:never:1")
    run.fire_at("wait_by:late:1")
    run.signal("vote", ["no", 1.5], command_id="command-12")
    run.wait(3600)
    run.do(RetryTask(at_us=run.now_us), command_id="command-13")
    run.signal("paid", {"cents": 12345678901234567890123}, command_id="command-14")
    return run


def events_awaited() -> Run:
    """A step that waits for an event of another task, one that fails by its expression, one that expires."""
    run = new_run(
        "events_awaited",
        {"paid": [], "odd": [], "never": []},
        steps={
            "paid": {"event": "payment.captured", "event_when": "event.data.order == input.n"},
            "odd": {"event": "task_failed", "event_when": "event.data.missing"},
            "never": {"event": "task_completed", "wait_deadline_s": 30, "on_wait_deadline": "continue"},
        },
    )
    run.create()
    run.event("paid", {"data": {"order": 5}})
    run.event("paid", {"data": {"order": 6, "cents": 12345678901234567890123}}, seq=7)
    run.event("odd", {"data": {}})
    run.fire_at("wait_by:never:1")
    return run


def approved() -> Run:
    """Approvals: escalated, handed over, approved by two; rejected; one that expires; the creator is known."""
    asks = {"assignees": ["ada"], "approvals": 2, "four_eyes": True, "escalate_after_s": 60, "escalate_to": ["carol"]}
    run = new_run(
        "approved",
        {"a": [], "two": ["a"], "no": ["a"], "silent": ["a"]},
        steps={
            "two": {"approval": asks},
            "no": {"approval": {"form": {"type": "object"}}},
            "silent": {"approval": {"roles": ["heads"]}, "wait_deadline_s": 30, "on_wait_deadline": "continue"},
        },
    )
    run.create(created_by="mallory")
    run.complete("a")
    run.fire_at("wait_by:silent:1")
    run.delegate("two", "ada", "bob")
    run.fire_at("escalate:two:1")
    run.approve("two", "carol", {"rate": 0.1}, reason="fine ☕")
    run.reject("no", "dave", reason="no")
    run.approve("two", "bob")
    return run


def changed() -> Run:
    """An approval that may not be of who changed by hand what it is about."""
    run = new_run(
        "changed",
        {"a": [], "b": [], "c": [], "ask": ["a", "b", "c"]},
        steps={"ask": {"approval": {"four_eyes": True}}},
    )
    run.create(created_by="mallory")
    run.complete("a")
    run.edit("a", "better", by="ada")
    run.skip("b", by="bob")
    run.resolve("c", 7, by="ada")
    run.approve("ask", "carol")
    return run


def metered() -> Run:
    """Usage of a failed attempt and of a completed one, over the budget, allowed to go on."""
    keys = {"a": {"retry": {"backoff": "none"}}}
    run = new_run("metered", {"a": [], "b": ["a"]}, steps=keys, budget={"tokens_max": 100, "cost_max": "1"})
    run.create()
    tokens = UsageLine(meter="tokens_in", amount="60", unit="token", model="m", cost="0.0006", currency="USD")
    run.do(FailAttempt(step="a", attempt=1, worker="w1", error=ERROR, jitter=0.5, at_us=run.now_us, usage=(tokens,)))
    pages = UsageLine(meter="pages", amount="2.5", unit="page")
    done = CompleteAttempt(step="a", attempt=2, worker="w1", result=raw(1), at_us=run.now_us, usage=(tokens, pages))
    run.do(done)
    run.do(SetBudget(tokens_max=200, at_us=run.now_us), command_id="command-3")
    run.finish()
    return run


def metered_late() -> Run:
    """Usage of an attempt that had timed out, and of one whose step a person had resolved; it is over the budget."""
    keys = {"a": {"retry": {"backoff": "none"}}}
    run = new_run("metered_late", {"a": [], "b": ["a"]}, steps=keys, budget={"tokens_max": 100})
    run.create()
    run.start("a")
    run.fire_at("finish_by:a:1")
    tokens = UsageLine(meter="tokens_in", amount="60", unit="token", model="m")
    run.do(RecordUsage(step="a", attempt=1, usage=(tokens,), at_us=run.now_us))
    run.start("a", 2)
    run.do(ResolveStep(step="a", result=raw(1), at_us=run.now_us), command_id="command-18")
    pages = UsageLine(meter="pages", amount="2.5", unit="page")
    run.do(RecordUsage(step="a", attempt=2, usage=(tokens, pages), at_us=run.now_us))
    run.do(SetBudget(tokens_max=200, at_us=run.now_us), command_id="command-19")
    run.finish()
    return run


def timed() -> Run:
    """Its steps run for longer than its budget allows, until a person allows more."""
    run = new_run("timed", {"a": [], "b": ["a"]}, budget={"running_s_max": 60})
    run.create()
    run.wait(30)
    run.start("a")
    run.fire_at("run_by:a:1")
    run.wait(5)
    run.complete("a")
    run.do(SetBudget(running_s_max=90, at_us=run.now_us), command_id="command-4")
    run.start("b")
    run.wait(5)
    run.complete("b")
    return run


def stale() -> Run:
    """Pending, paused and blocked for longer than its template allows, and a step that waited too long."""
    run = new_run(
        "stale",
        {"a": [], "w": ["a"]},
        steps={"w": {"signal": "go"}},
        stale_after={"pending_s": 30, "blocked_s": 3600, "paused_s": 60, "waiting_s": 5},
    )
    run.create(not_before_us=T0_US + 60_000_000)
    run.fire_at("stale")
    run.do(PauseTask(at_us=run.now_us), command_id="command-15")
    run.fire_at("stale")
    run.do(ResumeTask(at_us=run.now_us), command_id="command-16")
    run.fire_at("not_before")
    run.fail("a", error=ErrorInfo(type="NoSuchCard", message="no", retryable=False))
    run.fire_at("stale")
    run.do(RetryTask(at_us=run.now_us), command_id="command-17")
    run.complete("a", 2, result=1)
    run.fire_at("stale:w:1")
    run.signal("go", {"n": 1}, command_id="command-18")
    return run


def progressed() -> Run:
    """The last progress of an attempt goes with its outcome."""
    run = new_run("progressed", {"a": []}, steps={"a": {"retry": {"backoff": "none"}}})
    run.create()
    at_us = run.now_us
    half = Progress(done=1, total=2, message="half")
    run.do(FailAttempt(step="a", attempt=1, worker="w1", error=ERROR, jitter=0.5, at_us=at_us, progress=half))
    run.do(CompleteAttempt(step="a", attempt=2, worker="w1", result=raw(1), at_us=at_us, progress=Progress(done=2)))
    return run


def shared() -> Run:
    """A state that branches, items and the visits of a loop write; a conflict that a person settles."""
    shape = {"a": [], "b": ["a"], "m": ["a"], "join": ["b", "m"], "back": ["join"]}
    steps = {"m": {"each": "['x', 'y']"}, "back": {"back_to": "a"}}
    run = new_run("shared", shape, steps=steps, state={"n": "sum", "all": "append", "who": "last_edge_wins"})

    def complete(step: str, attempt: int = 1, **writes: Any) -> None:
        run.wait(0.5)
        written = {key: raw(value) for key, value in writes.items()}
        run.do(
            CompleteAttempt(step=step, attempt=attempt, worker="w1", result=raw(step), at_us=run.now_us, writes=written)
        )

    run.create()
    complete("a", n=1)
    complete("m[1]", n=2.5, all="y", who="y", clash={"by": "y"})
    complete("b", n=12345678901234567890123, all="b", who="b")
    complete("m[0]", all="ü", clash=None)
    run.resolve("join", "by hand")
    complete("back", who="back")
    complete("a#2", n=1, clash=0)
    complete("b#2")
    complete("m#2[1]")
    complete("m#2[0]", all="x")
    complete("join#2", n=1)
    run.cancel()
    return run


def given_up() -> Run:
    """A task that undoes what it did: one compensation was done by hand, one is given up."""
    run = new_run(
        "given_up",
        {"reserve": [], "charge": ["reserve"], "ship": ["charge"]},
        steps={"reserve": {"compensate": "release"}, "charge": {"compensate": "refund"}},
    )
    run.create()
    run.complete("reserve", result=1)
    run.complete("charge", result=2)
    run.cancel(grace_s=0)
    run.fail("charge~undo", error=ErrorInfo(type="Gone", message="no", retryable=False))
    run.resolve("charge~undo", "refunded by phone")
    run.fail("reserve~undo", error=ErrorInfo(type="Gone", message="no", retryable=False))
    run.skip("reserve~undo")
    return run


def admitted() -> Run:
    """A task that was let in under the `max_running` of its template."""
    run = new_run("admitted", {"a": []}, max_running=3)
    run.create(admitted_us=run.now_us - 1)
    run.complete("a")
    return run


def debounced() -> Run:
    """Three starts went into one task, which then began with the input of the last one."""
    run = new_run("debounced", {"a": []}, debounce={"key": "input.n", "for_s": 5})
    run.create(not_before_us=run.now_us + 5_000_000, admitted_us=run.now_us - 1)
    for number, timeout_s in ((1, None), (2, 60.0)):
        run.now_us += 4_000_000
        run.do(
            PostponeTask(
                at_us=run.now_us,
                start=str(uuid.uuid5(uuid.NAMESPACE_OID, f"start {number}")),
                request_hash=f"start {number}",
                input=raw({"n": number}),
                timeout_s=timeout_s,
            )
        )
    run.now_us += 5_000_000
    run.fire("not_before")
    run.complete("a")
    return run


def kept_for_a_worker() -> Run:
    run = Run(template({"a": [], "b": ["a"]}, steps={"b": {"sticky": "a"}}))
    run.create()
    run.complete("a", worker="w1")
    run.wait(1)
    run.start("b", worker="w2")
    run.wait(1)
    run.fail("b", worker="w2")
    return run


def named() -> Run:
    """Commands and a signal under ids, whose events say what was asked for."""
    run = new_run("named", {"a": [], "w": ["a"]}, steps={"w": {"signal": "go"}})
    run.create()
    run.do(PauseTask(at_us=run.now_us), command_id="c1", request="0011223344556677")
    run.do(ResumeTask(at_us=run.now_us), command_id="c2", request="8899aabbccddeeff")
    run.complete("a")
    run.signal("go", 1, command_id="c3", request="0123456789abcdef")
    return run


STORIES: Final[tuple[Callable[[], Run], ...]] = (
    completed,
    repaired,
    cancelled,
    timed_out,
    failed,
    blocked,
    left_alone,
    in_turn,
    reconciled,
    routed,
    expanded,
    looped,
    parent,
    compensated,
    paused,
    by_hand,
    signalled,
    events_awaited,
    forced,
    approved,
    changed,
    stale,
    given_up,
    announced,
    metered,
    metered_late,
    timed,
    limited,
    progressed,
    shared,
    admitted,
    prioritized,
    debounced,
    kept_for_a_worker,
    named,
)


def line_of(event: NewEvent) -> Line:
    return Line(event.seq, event.type, event.version, event.at_us, event.meta.decode(), event.payload.decode())


def main() -> None:
    """Record the stories that have no file yet."""
    FOLDER.mkdir(exist_ok=True)
    hashes = dict(RECORDED)
    for story in STORIES:
        file = FOLDER / f"{story.__name__}.jsonl"
        if file.exists():
            continue
        run = story()
        lines = [msgspec.json.encode(line_of(event)) for unit in run.units for event in unit]
        file.write_bytes(b"".join(line + b"\n" for line in lines))
        hashes[story.__name__] = state_hash(run.state)
    HASHES.write_bytes(msgspec.json.format(msgspec.json.encode(hashes), indent=2) + b"\n")


if __name__ == "__main__":
    main()
