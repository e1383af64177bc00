"""The real core and the reference model, told the same; what both say of a task must be the same."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import strategies as st

from tasker.events.task_events import DomainEventRaised, StepAttemptFailed, StepCompleted, TaskCompleted
from tasker.service.domain.obligations import Kind, obligations_of
from tasker.service.domain.repairs.restart import original_of
from tasker.service.domain.shared_state.shared import seen_raw
from tasker.service.domain.state import TaskStatus
from tests.reference.documents import INPUT
from tests.reference.model.domain_events import Raised
from tests.reference.model.waits import OPERATOR
from tests.reference.names import name_of
from tests.reference.people import People
from tests.reference.workers import Workers

WORDS = {"completed": "done", "dispatched": "open", "running": "open", "waiting": "open"}


class Both(Workers, People):
    """One task, twice."""

    def create(self) -> None:
        """Create the task."""
        self.run.create(created_by=OPERATOR, timeout_s=self.said.document.get("timeout_s"))
        self.said.create()

    # ---------------------------------------------------------------- what is the same

    def agree(self) -> None:
        """What both say of the task is the same."""
        state, said = self.run.state, self.said
        same("the task", str(state.status), said.status)
        is_held = bool(said.holds)
        begun = {name: one.status for name, one in said.instances.items() if not is_held or one.items is None}
        same("what has begun", self._statuses(is_held=is_held), begun)
        for name, one in said.instances.items():
            if one.status == "done" and not (is_held and one.items is not None) and not name.endswith("~undo"):
                same(f"result of {name}", self._result_at(name), said.result_of(name))
            elif one.status == "open" and one.items is None and "state" in said.document:
                same(f"what {name} sees", self._seen_by(name), said.seen_by(name))
        self._agree_on_budget()
        same("the domain events", self._raised(), said.domain.raised)
        if is_held:
            return  # what follows is said once it goes on
        same("what does not run", set(state.closed), said.not_run)
        kept = {
            name: [one.value for one in said.inbox if one.name == name] for name in {one.name for one in said.inbox}
        }
        same("what is kept", {} if state.inbox is None else kept_of(state.inbox), kept)
        if state.status is TaskStatus.COMPLETED:
            same("the task's result", _plain(self.run.result()), said.result)
            ended = self.run.events[-1]
            if isinstance(ended, TaskCompleted) and not said.ending:
                left = {} if ended.state is None else msgspec.json.decode(ended.state)
                same("the state at the end", left, said.last_state())
        same("what is to be undone", [f"{name}~undo" for name in state.to_undo], said.to_undo)

    def _agree_on_budget(self) -> None:
        state, budget = self.run.state, self.said.budget
        used = {"tokens": Fraction(budget.tokens()), **{f"cost:{one}": budget.cost(one) for one in ("USD", "EUR")}}
        for name, amount in used.items():
            same(name, Fraction((state.usage or {}).get(name, Decimal(0))), amount)
        if state.running is not None:
            same("how long it ran", state.running.spent_by_us(self.run.now_us), budget.ran_us)

    def _raised(self) -> list[Raised]:
        """Return the domain events; each stands before the outcome that raised it, with others of it at most."""
        found = []
        events = self.run.events
        for index, one in enumerate(events):
            if isinstance(one, DomainEventRaised):
                outcome = next(after for after in events[index:] if not isinstance(after, DomainEventRaised))
                assert isinstance(outcome, (StepCompleted, StepAttemptFailed)), outcome
                assert (outcome.step, outcome.attempt) == (one.step, one.attempt)
                data = _plain_data(msgspec.json.decode(one.data))
                found.append(Raised(one.step, one.attempt, one.name, one.outcome, data))
        return found

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

    def agree_on_restart(self) -> None:
        """Another run takes over what both say; of a task that has not ended there is none."""
        given = self.said.given
        if not self.said.is_over:
            assert not self._takes(lambda: original_of(self.run.state, self.run.template))
            return
        found = original_of(self.run.state, self.run.template)
        same("the input", msgspec.json.decode(found.input), INPUT)
        same("the tags", found.tags, given.tags)
        same("the metadata", msgspec.json.decode(found.metadata or b"{}"), given.metadata)
        same("the timeout", found.timeout_s, given.timeout_s)
        same("the priority", found.priority, given.priority)

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
            acts += ["cancel", "force", "signal", "resolve", "skip", "deadline", "update"]
            acts += ["give_time"] * (self.data.draw(st.integers(0, 3), label="another deadline") == 0)
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

    def _deadline(self) -> None:
        if self.said.given.has_deadline and self._fire(str(Kind.DEADLINE)):
            self.said.deadline()

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
                self._event(name, attempt)
            case _:
                self._answer(name)

    def _event(self, name: str, attempt: int) -> None:
        """Tell a step of an event that the log is said to have."""
        event = self.data.draw(st.sampled_from([{"v": 1}, {"v": 2}, {"w": 1}]), label="event")
        self.run.event(name, event, attempt)
        self.said.event(name, event)


def same(what: str, core: object, model: object) -> None:
    """Raise when the two do not say the same."""
    assert core == model, f"{what}: core {core}, model {model}"


def kept_of(inbox: Any) -> dict[str, list[Any]]:
    """Return the values that a task keeps of each signal."""
    return {name: [msgspec.json.decode(value) for value in kept.values()] for name, kept in inbox.kept.items() if kept}


def _plain(value: Any) -> Any:
    """Of what people decided, and of events of other tasks, what the model says, too."""
    if isinstance(value, dict):
        if value.keys() >= {"type", "task_id", "seq", "at"}:
            return plain_event(value)
        if "answers" in value:
            return {"decision": value["decision"], "by": value["by"]}
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def plain_event(document: dict[str, Any]) -> dict[str, Any]:
    """Return of an event as a step gets it what the model says, too."""
    found: dict[str, Any] = {name: document[name] for name in ("type", "task_id", "step") if name in document}
    data = document["data"]
    if "step" in document:
        return {**found, "data": _plain_data(data)}
    return {**found, "data": {"result": _plain(data["result"])} if "result" in data else {}}


def _plain_data(data: Any) -> Any:
    """Return the data of a domain event; of an error, its type."""
    return {"error": data["error"]["type"]} if isinstance(data, dict) and "error" in data else data
