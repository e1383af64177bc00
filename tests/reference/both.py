"""The real core and the reference model, told the same; what both say of a task must be the same."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import strategies as st

from tasker.errors import CommandRejected
from tasker.events.envelope import US_PER_S
from tasker.events.messages import UsageLine
from tasker.events.task_events import Decision, ErrorInfo, TaskCompleted
from tasker.service.domain.commands import CompleteAttempt, FailAttempt, SetBudget, YieldAttempt
from tasker.service.domain.obligations import Kind, obligations_of, parse_obligation
from tasker.service.domain.shared_state.shared import seen_raw
from tasker.service.domain.state import TaskStatus
from tasker.templates import CompiledTemplate
from tests.reference.budget import Used
from tests.reference.documents import INPUT, MEANINGS, PEOPLE, SIGNALS, STATE
from tests.reference.model import Reference
from tests.reference.names import name_of
from tests.reference.waits import OPERATOR
from tests.runs import Run, raw

ERROR = ErrorInfo(type="OSError", message="no route")
NEVER = ErrorInfo(type="ValueError", message="never", retryable=False)
WORDS = {"completed": "done", "dispatched": "open", "running": "open", "waiting": "open"}
LIMITS = {"heartbeat": Kind.HEARTBEAT, "start_to_close": Kind.FINISH_BY}


class Both:
    """One task, twice."""

    def __init__(self, template: CompiledTemplate, document: dict[str, Any], data: st.DataObject) -> None:
        self.run = Run(template)
        self.said = Reference(document, INPUT, MEANINGS)
        self.data = data
        self._signals = 0
        self._written = 0
        self._is_late = False

    def create(self) -> None:
        """Create the task."""
        self.run.create(created_by=OPERATOR, timeout_s=self.said.document.get("timeout_s"))
        self.said.create()

    # ---------------------------------------------------------------- what is the same

    def agree(self) -> None:
        """What both say of the task is the same."""
        state, said = self.run.state, self.said
        _same("the task", str(state.status), said.status)
        is_held = bool(said.holds)
        begun = {name: one.status for name, one in said.instances.items() if not is_held or one.items is None}
        _same("what has begun", self._statuses(is_held=is_held), begun)
        for name, one in said.instances.items():
            if one.status == "done" and not (is_held and one.items is not None) and not name.endswith("~undo"):
                _same(f"result of {name}", self._result_at(name), said.result_of(name))
            elif one.status == "open" and one.items is None and "state" in said.document:
                _same(f"what {name} sees", self._seen_by(name), said.seen_by(name))
        self._agree_on_budget()
        if is_held:
            return  # what follows is said once it goes on
        _same("what does not run", set(state.closed), said.not_run)
        kept = {
            name: [one.value for one in said.inbox if one.name == name] for name in {one.name for one in said.inbox}
        }
        _same("what is kept", {} if state.inbox is None else kept_of(state.inbox), kept)
        if state.status is TaskStatus.COMPLETED:
            _same("the task's result", _plain(self.run.result()), said.result)
            ended = self.run.events[-1]
            if isinstance(ended, TaskCompleted) and not said.ending:
                left = {} if ended.state is None else msgspec.json.decode(ended.state)
                _same("the state at the end", left, said.last_state())
        _same("what is to be undone", [f"{name}~undo" for name in state.to_undo], said.to_undo)

    def _agree_on_budget(self) -> None:
        state, budget = self.run.state, self.said.budget
        used = {"tokens": Fraction(budget.tokens()), **{f"cost:{one}": budget.cost(one) for one in ("USD", "EUR")}}
        for name, amount in used.items():
            _same(name, Fraction((state.usage or {}).get(name, Decimal(0))), amount)
        if state.running is not None:
            _same("how long it ran", state.running.spent_by_us(self.run.now_us), budget.ran_us)

    def _seen_by(self, name: str) -> dict[str, Any]:
        found = seen_raw(self.run.state, self.run.template, name)
        return {} if found is None else msgspec.json.decode(found)

    def _result_at(self, name: str) -> Any:
        found = self.run.state.result_at(name)
        return None if found is None else _plain(msgspec.json.decode(found))

    def _statuses(self, *, is_held: bool) -> dict[str, str]:
        steps = self.run.state.steps
        return {
            name: WORDS.get(step.status, str(step.status))
            for name, step in steps.items()
            if not is_held or step.expansion is None
        }

    # ---------------------------------------------------------------- what happens

    def go_on(self) -> None:
        """Let something happen that can."""
        said, draw = self.said, self.data.draw
        acts = ["tell"] * 12 if said.open() and said.status not in ("pending", "blocked") else []
        if said.status == "pending":
            acts += ["place"] * 6
        if said.status == "paused":
            acts = ["resume", "resume", *acts[:4]]
        elif said.status == "running" and not said.ending:
            acts += ["pause", "signal", "release"]
        if not said.ending:
            acts += ["cancel", "force", "signal", "resolve", "skip", "deadline"]
            if said.holds - {"paused"}:
                acts += ["more", "more", "more", *["tell"] * 3 * bool(said.open())]
            acts += ["reset"] * bool(said.open())
            if any(one.status == "failed" for one in said.instances.values()):
                acts += ["retry_one", "retry_one"]
                acts += ["retry_all"] * (not said.holds)  # what holds a held task up is told when it goes on
            acts += ["allow"] * ("budget" in said.document)
        if "running_s_max" in said.document.get("budget", ()) and said.open():
            acts += ["pass", "pass"]
        if not said.ending and said.status in ("running", "blocked"):
            acts.append("edit")
        if said.ending and said.status == "blocked":
            acts = ["undo"]
        getattr(self, f"_{draw(st.sampled_from(acts), label='act')}")()

    def _place(self) -> None:
        if self.data.draw(st.integers(0, 2), label="no place for the task") == 0:
            self.run.deny()
            self.said.deny("")
        else:
            self.run.take()
            self.said.take("")

    def _pause(self) -> None:
        self.run.pause()
        self.said.pause()

    def _resume(self) -> None:
        self.run.resume()
        self.said.resume()
        self._let_retry()

    def _deadline(self) -> None:
        if self._is_late or "timeout_s" not in self.said.document:
            return
        self._is_late = True
        if self._fire(str(Kind.DEADLINE)):
            self.said.deadline()

    def _more(self) -> None:
        """Give it more of what it lacks."""
        if "late" in self.said.holds:
            self.run.deadline()
            self.said.give_time()
        elif "budget" in self.said.holds:
            self._allow()
        self._let_retry()

    def _allow(self) -> None:
        """Allow more of what the budget limits, or as much as it is used up already."""
        said, draw = self.said, self.data.draw
        names = sorted({*said.budget.limits, "cost_max"})
        more: dict[str, Any] = {}
        for name in draw(st.lists(st.sampled_from(names), unique=True, min_size=1), label="allowed"):
            by = draw(st.integers(0, 2), label=f"more {name}")
            match name:
                case "tokens_max":
                    more[name] = max(1, said.budget.tokens() + by)
                case "cost_max":
                    more[name] = str(float(said.budget.cost("USD")) + by / 10)
                case _:
                    more[name] = max(1.0, said.budget.ran_us // 1_000_000 + 5.0 * by)
        command = SetBudget(**more, at_us=self.run.now_us)
        assert self._takes(lambda: self.run.do(command)) == said.allow(more)
        self._let_retry()

    def _pass(self) -> None:
        """Let time pass."""
        self._pass_until(self.run.now_us + self.data.draw(st.sampled_from([1, 5, 30]), label="seconds") * US_PER_S)

    def _pass_until(self, at_us: int) -> None:
        """Let time pass up to `at_us`, and what is due of the time that steps may run."""
        run, said = self.run, self.said
        due = {owed: us for owed, us in obligations_of(run.state).items() if owed.startswith(Kind.RUN_BY)}
        if due and min(due.values()) <= at_us:
            first = max(run.now_us, min(due.values()))
            said.pass_time(first - run.now_us)
            run.now_us = first
            run.fire(next(iter(due)))
        if at_us > run.now_us:
            said.pass_time(at_us - run.now_us)
            run.now_us = at_us

    def _fire(self, obligation: str) -> bool:
        """Let time pass until an open obligation is due, and fire it; False: it was owed no more by then."""
        self._pass_until(obligations_of(self.run.state)[obligation])
        if obligation not in obligations_of(self.run.state):
            return False
        self.run.fire(obligation)
        return True

    def _reset(self) -> None:
        """Let failures of something that has begun count no more."""
        waits = {name: step.waits for name, step in self.run.state.steps.items() if step.status == "waiting"}
        begun = [name for name in self._current() if waits.get(name) not in ("pause", "turn", "place")]
        if (name := self._pick(begun, "reset")) is not None:
            assert self._takes(lambda: self.run.reset(name)) == self.said.reset(name)

    def _retry_one(self) -> None:
        """Try one failed instance again, whether or not somebody needs it."""
        said = self.said
        failed = [name for name, one in said.instances.items() if one.status == "failed" and "~" not in name]
        if (name := self._pick(failed, "retried")) is not None:
            assert self._takes(lambda: self.run.retry(name)) == said.retry_one(name)
            self._let_retry()

    def _retry_all(self) -> None:
        assert self._takes(self.run.retry) == self.said.retry()
        self._let_retry()

    def _current(self) -> list[str]:
        """Return what has begun of the newest visits."""
        return [
            name
            for name in self.said.instances
            if name.partition("[")[0] == self.said.node(name_of(name)) and not name.endswith("~undo")
        ]

    def _cancel(self) -> None:
        if self.data.draw(st.integers(0, 3), label="really") == 0:
            graceful = self.data.draw(st.booleans(), label="graceful")
            self.run.cancel(10.0 if graceful else 0.0)
            self.said.cancel(graceful=graceful)

    def _force(self) -> None:
        match self.data.draw(st.sampled_from(["", "", "", "", "completed", "failed"]), label="force"):
            case "completed":
                self.run.force_complete(7, 0.0)
                self.said.force("completed", 7)
            case "failed":
                self.run.force_fail(ERROR, 0.0)
                self.said.force("failed")
            case _:
                pass

    def _signal(self) -> None:
        names = sorted({str(one["signal"]) for one in self.said.steps.values() if "signal" in one}) or list(SIGNALS)
        name = self.data.draw(st.sampled_from(names), label="signal")
        value = self.data.draw(st.sampled_from([{"v": 1}, {"v": 2}, {"v": 3}, {"w": 1}]), label="value")
        self._signals += 1
        assert self._takes(lambda: self.run.signal(name, value, command_id=f"c{self._signals}")) == self.said.signal(
            name, value
        )

    @staticmethod
    def _takes(command: Any) -> bool:
        try:
            command()
        except CommandRejected:
            return False
        return True

    def _pick(self, names: list[str], label: str) -> str | None:
        return self.data.draw(st.sampled_from(names), label=label) if names else None

    def _resolvable(self) -> list[str]:
        """Return what a person may give a result: what is open, failed or not begun, but no child that runs."""
        said = self.said
        found = [
            name
            for name, one in said.instances.items()
            if one.status in ("open", "failed")
            and "child" not in said.steps[name_of(name)]
            and (one.items is None or one.status == "failed")
            and name.partition("[")[0] == said.node(name_of(name))
        ]
        if not said.has_begun:
            return found
        lists = ("each", "batches", "child")
        return found + [name for name in said.not_begun() if not any(key in said.steps[name_of(name)] for key in lists)]

    def _resolve(self) -> None:
        self._complete_by_hand(is_skip=False)

    def _skip(self) -> None:
        self._complete_by_hand(is_skip=True)

    def _complete_by_hand(self, *, is_skip: bool) -> None:
        name = self._pick(self._resolvable(), "by hand")
        if name is None:
            return
        routes = self.said.steps[name_of(name)].get("routes")
        chosen = self.data.draw(st.lists(st.sampled_from(routes), unique=True, min_size=1)) if routes else []
        result = self.data.draw(st.sampled_from([1, [1], 2]), label="result")
        (self.run.skip if is_skip else self.run.resolve)(name, result, *chosen)
        self.said.resolve(name, result, chosen if routes else None, is_skipped=is_skip)

    def _undo(self) -> None:
        """Give up, or do by hand, what could not be undone."""
        [name] = list(self.said.failures())
        if self.data.draw(st.booleans(), label="given up"):
            self.run.skip(name)
        else:
            self.run.resolve(name, 1)
        self.said.resolve(name, 1)

    def _release(self) -> None:
        said = self.said
        waiting = [
            name
            for name, one in said.instances.items()
            if one.status == "open" and (one.wait is not None or "delay_s" in said.steps[name_of(name)])
        ]
        name = self._pick(waiting + said.not_begun(), "release")
        if name is not None:
            self.run.release(name)
            said.release(name)

    def _edit(self) -> None:
        said = self.said
        done = [
            name
            for name, one in said.instances.items()
            if one.status == "done" and one.items is None and name == said.node(name_of(name))
        ]
        if (name := self._pick(done, "edit")) is not None:
            self.run.edit(name, 2)
            said.edit(name, 2)

    # ---------------------------------------------------------------- an open instance

    def _tell(self) -> None:
        """Let an open instance end in some way, for both."""
        said, run, draw = self.said, self.run, self.data.draw
        name = draw(st.sampled_from(said.open()), label="next")
        one, step = said.instances[name], said.steps[name_of(name)]
        attempt = run.state.steps[name].attempt
        is_undo = name.endswith("~undo")
        if one.is_stopping and draw(st.booleans(), label="the grace is over"):
            if self._fire(f"{Kind.GRACE}:{name}:{attempt}"):
                said.grace_is_over(name)
        elif is_undo:
            self._work(name, attempt)
        elif one.is_to_begin or name in self._with_turns_to_come():
            return  # it goes on when the task does, or others of its list have ended
        elif said.holds and one.has_place and run.state.steps[name].waits in ("retry", "pause", "place"):
            return  # it goes on when the task does
        elif one.wait is not None:
            if not said.holds:
                self._end_wait(name, attempt)
        elif "delay_s" in step:
            if not said.holds and self._fire(f"{Kind.TIMER}:{name}:{attempt}"):
                said.complete(name, None)
        elif "child" in step:
            ending = draw(st.sampled_from(["completed", "completed", "failed", "cancelled"]), label=f"child of {name}")
            run.child(name, "c1", attempt, state=ending, result=1)
            said.end_child(name, ending, 1)
        elif not one.has_place or ("concurrency" in step and draw(st.integers(0, 4), label="evicted") == 0):
            self._answer_place(name)
        else:
            self._work(name, attempt)

    def _with_turns_to_come(self) -> set[str]:
        return {item for one in self.said.instances.values() for item in one.again}

    def _answer_place(self, name: str) -> None:
        place = self.run.state.places.get(name)
        if place is None or self.said.ending:
            return  # without a key there is no place to answer for
        attempt = place.request.attempt
        if not self.said.instances[name].has_place and self.data.draw(st.integers(0, 3), label="no place"):
            self.run.take(name, attempt)
            self.said.take(name)
        else:
            self.run.deny(name, attempt, "evicted")
            self.said.deny(name)

    def _work(self, name: str, attempt: int) -> None:
        said, run, draw = self.said, self.run, self.data.draw
        one, step = said.instances[name], said.steps[name_of(name)]
        is_undo = name.endswith("~undo")
        what = draw(st.sampled_from(["start", "limit", "fail", "part", *["complete"] * 4]), label=name)
        if what in ("start", "limit") and not one.is_running:
            run.start(name, attempt)
            said.start(name)
        elif what == "limit" and not is_undo and not one.is_stopping:
            limit = draw(st.sampled_from(list(LIMITS)), label="limit")
            if self._fire(f"{LIMITS[limit]}:{name}:{attempt}"):
                said.time_out(name, limit)
                self._let_retry()
        elif what == "fail":
            is_for_good, used = draw(st.booleans(), label="for good"), self._used()
            command = FailAttempt(
                step=name,
                attempt=attempt,
                worker="w1",
                error=NEVER if is_for_good else ERROR,
                jitter=0.5,
                at_us=run.now_us,
                usage=_usage(used),
            )
            run.do(command)
            said.fail(name, for_good=is_for_good, used=used)
            self._let_retry()
        elif what == "part" and not is_undo:
            writes, used = self._writes(), self._used()
            run.do(
                YieldAttempt(
                    step=name,
                    attempt=attempt,
                    worker="w1",
                    checkpoint=raw(1),
                    delay_s=0.0,
                    at_us=run.now_us,
                    usage=_usage(used),
                    writes={key: raw(value) for key, value in writes.items()},
                )
            )
            said.give_back(name, writes, used)
        elif "routes" in step and not is_undo:
            routes = draw(st.lists(st.sampled_from(step["routes"]), unique=True), label=f"{name} chooses")
            run.choose(name, *routes, attempt=attempt)
            said.complete(name, None, routes)
        else:
            is_cut = any(other.get("batches") == name_of(name) for other in said.steps.values())
            result = draw(st.sampled_from([[], [1], [1, 2, 3]] if is_cut and not is_undo else [1, 2]), label=name)
            used, writes = self._used(), {} if is_undo else self._writes()
            run.do(
                CompleteAttempt(
                    step=name,
                    attempt=attempt,
                    worker="w1",
                    result=raw(result),
                    at_us=run.now_us,
                    usage=_usage(used),
                    writes={key: raw(value) for key, value in writes.items()},
                )
            )
            said.complete(name, result, used=used, writes=writes)

    def _writes(self) -> dict[str, Any]:
        """Write some keys, each time something else."""
        if "state" not in self.said.document:
            return {}
        self._written += 1
        number, is_rare = self._written, self.data.draw(st.integers(0, 3), label="writes") == 0
        keys = ["any", *STATE] if is_rare else [*STATE]
        if self.data.draw(st.booleans(), label="one key"):
            keys = [self.data.draw(st.sampled_from(keys), label="key")]
        values = {"set": [number, number % 2], "of": {str(number % 2): number}}
        return {key: values.get(key, number) for key in keys}

    def _used(self) -> Used | None:
        if "budget" not in self.said.document or self.data.draw(st.booleans(), label="nothing used"):
            return None
        cost = self.data.draw(st.sampled_from([None, "0.1", "0.2"]), label="cost")
        currency = self.data.draw(st.sampled_from(["USD", "USD", "EUR"]), label="currency") if cost else "USD"
        return Used(self.data.draw(st.integers(0, 2), label="tokens"), cost, currency)

    def _let_retry(self) -> None:
        """Let what waits for its next attempt have it."""
        for obligation in list(obligations_of(self.run.state)):
            if parse_obligation(obligation)[0] is Kind.RETRY and obligation in obligations_of(self.run.state):
                self._fire(obligation)

    def _end_wait(self, name: str, attempt: int) -> None:
        said, run, draw = self.said, self.run, self.data.draw
        step = said.steps[name_of(name)]
        ways = ["come", "come"]
        owed = obligations_of(run.state)
        if "wait_deadline_s" in step and f"{Kind.WAIT_BY}:{name}:{attempt}" in owed:
            ways.append("deadline")
        if f"{Kind.ESCALATE}:{name}:{attempt}" in owed:
            ways.append("escalate")
        match draw(st.sampled_from(ways), label=f"{name} waits"):
            case "deadline":
                if self._fire(f"{Kind.WAIT_BY}:{name}:{attempt}"):
                    said.wait_is_over(name)
            case "escalate":
                if self._fire(f"{Kind.ESCALATE}:{name}:{attempt}"):
                    said.escalate(name)
            case _ if "signal" in step:
                self._signal()
            case _ if "event" in step:
                event = draw(st.sampled_from([{"v": 1}, {"v": 2}, {"w": 1}]), label="event")
                run.event(name, event, attempt)
                said.event(name, event)
            case _:
                self._answer(name)

    def _answer(self, name: str) -> None:
        draw = self.data.draw
        by = draw(st.sampled_from(PEOPLE), label="by")
        roles = draw(st.sampled_from([(), ("heads",)]), label="roles")
        if draw(st.integers(0, 3), label="delegates") == 0:
            to = draw(st.sampled_from([one for one in PEOPLE if one != by]), label="to")
            told = self._takes(lambda: self.run.delegate(name, by, to, roles=roles))
            assert told == self.said.delegate(name, by, to, roles)
            return
        answers: list[Decision] = ["approved", "approved", "rejected"]
        answer = draw(st.sampled_from(answers), label="answer")
        told = self._takes(lambda: self.run.answer(name, by=by, decision=answer, roles=roles))
        assert told == self.said.answer(name, by, answer, roles)


def _same(what: str, core: object, model: object) -> None:
    assert core == model, f"{what}: core {core}, model {model}"


def _usage(used: Used | None) -> tuple[UsageLine, ...]:
    if used is None:
        return ()
    tokens = UsageLine(meter="tokens_in", amount=str(used.tokens), unit="token", model="m")
    if used.cost is None:
        return (tokens,)
    return (tokens, UsageLine(meter="pages", amount="1", unit="page", cost=used.cost, currency=used.currency))


def kept_of(inbox: Any) -> dict[str, list[Any]]:
    """Return the values that a task keeps of each signal."""
    return {name: [msgspec.json.decode(value) for value in kept.values()] for name, kept in inbox.kept.items() if kept}


def _plain(value: Any) -> Any:
    """Of what people decided, what the model says, too."""
    if isinstance(value, dict):
        if "answers" in value:
            return {"decision": value["decision"], "by": value["by"]}
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
