"""What the documentation says of a task, as a small, slow interpreter: the real core must do the same.

It is written from docs/howto/dynamic-steps.md, wait-for-people-and-events.md, limit-time.md, limit-what-runs.md,
share-state.md, repair-tasks.md, usage.md, domain-events.md and compensate.md, not from `tasker.service.domain`, and
shares no code with it. Nothing is counted or kept up: every question (may a step begin? does anybody need this result?)
is asked anew of what has happened so far. It records no events, knows no time, and takes one outcome after the other.

    task = Reference(document, {"n": 6}, MEANINGS)
    task.create()
    task.complete("s1", 1)
    task.status, task.open(), task.instances["s1"].result
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.reference.budget import Budget, Used
from tests.reference.domain_events import DomainEvents, Emitted, Outcome
from tests.reference.given import Given
from tests.reference.names import name_of, visit_of
from tests.reference.shared import SharedState, Write
from tests.reference.waits import Asked, Signal, Wait

Meaning = Callable[[Any, Mapping[str, Any], Mapping[str, Any]], Any]
"""What an expression of a document means, as Python over the input, the results, and what else there is (`item`,
`signal`, `event`, `state`); `LookupError`: no value.
"""

Status = Literal["open", "done", "failed", "cancelled"]


@dataclass
class Instance:
    """One visit, item or compensation that has begun."""

    status: Status = "open"
    attempt: int = 1
    first_attempt: int = 1
    result: Any = None
    items: list[str] | None = None
    was_offered: bool = False
    is_running: bool = False
    is_stopping: bool = False
    is_left: bool = False
    is_by_hand: bool = False
    has_place: bool = False
    wait: Wait | None = None
    done_as: int = 0
    failed_as: int = 0
    again: list[str] = field(default_factory=list)
    stops_with_child: bool = False
    is_to_begin: bool = False


class Reference:
    """One task.

    Attributes:
        instances: what has begun, by name, in order. not_run: the steps of which this visit does not run.
        status: pending, running, paused, blocked, compensating, completed, failed or cancelled.
        holds: why nothing begins: `paused`, `late` (its deadline has passed), `budget`.
    """

    def __init__(self, document: Mapping[str, Any], value: Any, meanings: Mapping[str, Meaning]) -> None:
        self.document = document
        self.steps: dict[str, dict[str, Any]] = {}
        self.edges: dict[tuple[str, str], str] = {}
        for step in document["steps"]:
            parents = []
            for parent in step.get("after", []):
                if isinstance(parent, dict):
                    self.edges[parent["step"], step["name"]] = parent["when"]
                    parents.append(parent["step"])
                else:
                    parents.append(parent)
            self.steps[step["name"]] = {**step, "after": parents}
        self.input = value
        self.meanings = meanings
        self.status = "absent"
        self.ending = ""
        self.result: Any = None
        self.instances: dict[str, Instance] = {}
        self.not_run: set[str] = set()
        self.not_chosen: set[tuple[str, str]] = set()
        self.visits = dict.fromkeys(self.steps, 1)
        self.accepted: set[str] = set()
        self.to_undo: list[str] = []
        self.inbox: list[Signal] = []
        self.has_begun = False
        self.holds: set[str] = set()
        self.budget = Budget(document.get("budget"))
        self.forced: Any = None
        self.shared = SharedState(self.steps, document.get("state", {}))
        self.domain = DomainEvents(self.steps)
        self.given = Given(document.get("timeout_s"), has_deadline="timeout_s" in document)
        self._clock = 0

    # ---------------------------------------------------------------- what can be asked

    @property
    def is_over(self) -> bool:
        """Return whether the task has ended."""
        return self.status in ("completed", "failed", "cancelled")

    def open(self) -> list[str]:
        """Return what a worker, a child task, a person or a time is to end: open instances that are no lists."""
        return [name for name, one in self.instances.items() if one.status == "open" and one.items is None]

    def not_begun(self) -> list[str]:
        """Return the newest visits that may yet begin."""
        return [self.node(step) for step in self.steps if not self._is_past(step)]

    def node(self, step: str) -> str:
        """Return the newest visit of a step."""
        return visit_of(step, self.visits[step])

    def result_of(self, instance: str) -> Any:
        """Return the result of an instance that is done; a list's is that of its items."""
        one = self.instances[instance]
        if one.items is None:
            return one.result
        items = (self.instances.get(item) for item in one.items)
        return [item.result if item is not None and item.status == "done" else None for item in items]

    def _at(self, step: str) -> Instance | None:
        return self.instances.get(self.node(step))

    def _is(self, step: str, status: Status) -> bool:
        one = self._at(step)
        return one is not None and one.status == status

    def _children(self, step: str) -> list[str]:
        return [name for name, one in self.steps.items() if step in one["after"]]

    def _ahead(self, step: str) -> set[str]:
        parents = self.steps[step]["after"]
        return set(parents).union(*(self._ahead(parent) for parent in parents))

    def _is_past(self, step: str) -> bool:
        return step in self.not_run or self._at(step) is not None

    def _value(self, text: str, name: str = "", **more: Any) -> Any:
        results = {step: self.result_of(self.node(step)) for step in self.steps if self._is(step, "done")}
        if "[" in name:
            more["item"] = int(name.partition("[")[2].rstrip("]")) + 1
        return self.meanings[text](self.input, results, more)

    # ---------------------------------------------------------------- the state that steps share

    def counting(self) -> list[Write]:
        """Return the writes that count: of what is done, of lists when all of the list is."""
        nodes = [one.instance.partition("[")[0] for one in self.shared.writes]
        return [
            one
            for one, node in zip(self.shared.writes, nodes, strict=True)
            if self.instances[one.instance].status == self.instances[node].status == "done"
        ]

    def seen_by(self, instance: str) -> dict[str, Any]:
        """Return the state as an instance that has begun sees it; a compensation as its step left it."""
        name = instance.removesuffix("~undo")
        return self.shared.value([*self.shared.saw[name.partition("[")[0]], *self.shared.of(name)])

    def left_by(self, step: str) -> dict[str, Any]:
        """Return the state as a step that is done left it."""
        node = self.node(step)
        own = [one for one in self.counting() if one.instance.partition("[")[0] == node]
        return self.shared.value([*self.shared.saw[node], *self.shared.in_order(own, [])])

    def last_state(self) -> dict[str, Any]:
        """Return the state as the last steps left it."""
        last = [step for step in self.steps if not self._children(step)]
        steps = [one for step in last for one in (*self.shared.ahead(step), step)]
        return self.shared.value(self.shared.in_order(self.counting(), steps))

    def _look_at_state(self, step: str) -> None:
        """Keep what a step sees that begins now."""
        self.shared.saw[self.node(step)] = self.shared.visible(step, self.counting())

    def _must_agree(self, node: str) -> None:
        """Look whether branches that meet here agree.

        Raises:
            LookupError: they do not.
        """
        if self.shared.clashes(node, self.shared.saw[node]):
            raise LookupError(node)

    def _state_of(self, step: str) -> dict[str, Any]:
        return self.shared.value(self.shared.saw[self.node(step)])

    # ---------------------------------------------------------------- how a step joins its parents

    def _says(self, parent: str, child: str) -> Literal["done", "out", "failed", "coming"]:
        if parent in self.not_run or (parent, child) in self.not_chosen or self._is(parent, "cancelled"):
            return "out"
        if self._is(parent, "done"):
            return "done"
        return "failed" if self._is(parent, "failed") else "coming"

    def _join(self, step: str) -> Literal["begins", "does not run", "waits"]:
        parents = self.steps[step]["after"]
        said = [self._says(parent, step) for parent in parents]
        done, out, failed, coming = (said.count(word) for word in ("done", "out", "failed", "coming"))
        match self.steps[step].get("join", "all"):
            case "all" if out:
                return "does not run"
            case "all":
                return "begins" if done == len(parents) else "waits"
            case "deferred" if out == len(parents):
                return "does not run"
            case "deferred":
                return "begins" if not coming and not failed else "waits"
            case "all_settled" if out == len(parents):
                return "does not run"
            case "all_settled":
                return "waits" if coming else "begins"
            case _ if done >= self._wanted(step):
                return "begins"
            case _:
                return "does not run" if done + coming + failed < self._wanted(step) else "waits"

    def _wanted(self, step: str) -> int:
        return int(self.steps[step].get("join_count", 1))

    def _needs(self, child: str, parent: str) -> Literal["yes", "no", "perhaps"]:
        if (parent, child) in self.not_chosen or (self._is_past(child) and not self._is_to_begin_anew(child)):
            return "no"
        match self.steps[child].get("join", "all"):
            case "all_settled":
                return "no"
            case "any" | "n_of":
                said = [self._says(one, child) for one in self.steps[child]["after"]]
                if said.count("done") >= self._wanted(child):
                    return "no"
                return "perhaps" if said.count("done") + said.count("coming") >= self._wanted(child) else "yes"
            case _:
                return "yes"

    def _is_to_begin_anew(self, step: str) -> bool:
        """Return whether a step failed before it began, at an expression say: a retry looks at its parents again."""
        one = self._at(step)
        is_so = one is not None and one.status == "failed" and one.items is None and not one.was_offered
        return is_so and self.node(step) not in self.accepted

    def _holds_up(self, step: str) -> bool:
        """Return whether a failed step may yet be needed: a last step always is."""
        children = self._children(step)
        return not children or any(self._needs(child, step) != "no" for child in children)

    # ---------------------------------------------------------------- steps begin

    def create(self) -> None:
        """Ask for the task's place, or begin the first steps."""
        self.status = "pending"
        if self._key(self.document) is None:
            self.take("")

    def _begin_first(self) -> None:
        self.status, self.has_begun = "running", True
        for step, one in self.steps.items():
            if not one["after"]:
                self._look(step)
        self._rest()

    def _look(self, step: str) -> None:
        if not self.holds and not self.ending and not self._is_past(step) and self._join(step) == "begins":
            self._begin(step)

    def _begin(self, step: str) -> None:
        one, node = self.steps[step], self.node(step)
        self._look_at_state(step)
        try:
            self._must_agree(node)
            if "when" in one and not self._value(one["when"], state=self._state_of(step)):
                self._does_not_run([step])
            elif "each" in one or "batches" in one:
                self._begin_list(step, node)
            elif "transform" in one:
                value = self._value(one["transform"], state=self._state_of(step))
                self._enter(node)
                self._done(node, value)
            elif "asserts" in one:
                holds = self._value(one["asserts"])
                self._enter(node)
                if holds:
                    self._done(node, None)
                else:
                    self._failed(node)
            else:
                self._begin_leaf(node)
        except LookupError:
            self._enter(node)
            self._failed(node)
        if one.get("join") in ("any", "n_of") and not self.ending:
            self._cancel_what_only_led_to(step)
        self._look_at_failures_ahead(step)

    def _enter(self, name: str) -> Instance:
        if name not in self.instances and name == self.node(name_of(name)):
            self._look_at_state(name_of(name))
        return self.instances.setdefault(name, Instance())

    def _begin_leaf(self, name: str) -> None:
        """Offer a step or an item, or let it wait for its place, a signal, people or an event."""
        step = self.steps[name_of(name)]
        is_free = self._key(step, name) is None
        one = self._enter(name)
        one.was_offered, one.has_place, one.is_running = True, is_free, False
        if any(key in step for key in ("signal", "approval", "event")):
            self._clock += 1
            one.wait = Wait(self._clock, asked=Asked(step["approval"]) if "approval" in step else None)
            self._look_into_inbox(name)

    def _key(self, of: Mapping[str, Any], name: str = "") -> Any:
        return self._value(of["concurrency"]["key"], name) if "concurrency" in of else None

    def _cancel_what_only_led_to(self, join: str) -> None:
        needless = {one for one in self._ahead(join) if one not in self.not_run and not self._is(one, "done")}
        while kept := [
            one for one in needless if any(self._may_use(child, one, join, needless) for child in self._children(one))
        ]:
            needless -= set(kept)
        self._does_not_run([one for one in self._in_order() if one in needless])
        for one in (step for step in self._in_order() if step in needless):
            if self._is(one, "open"):
                self._cancel(self.node(one))

    def _may_use(self, child: str, parent: str, join: str, needless: set[str]) -> bool:
        is_cut = (parent, child) in self.not_chosen
        return not is_cut and child != join and child not in needless and not self._is_past(child)

    def _in_order(self) -> list[str]:
        """Return the steps, parents first; else as declared."""
        found: list[str] = []
        while len(found) < len(self.steps):
            found.append(next(s for s, one in self.steps.items() if s not in found and set(one["after"]) <= set(found)))
        return found

    def _does_not_run(self, steps: Sequence[str]) -> None:
        steps = [step for step in steps if not self._is_past(step)]
        self.not_run |= set(steps)
        for step in steps:
            self._after(step)
            self._look_at_failures_ahead(step)

    # ---------------------------------------------------------------- lists

    def _begin_list(self, step: str, node: str) -> None:
        one = self.steps[step]
        if "batches" in one:
            cursors = self.result_of(self.node(one["batches"])) if self._is(one["batches"], "done") else None
            if not isinstance(cursors, list):
                raise LookupError(one["batches"])
        else:
            cursors = self._value(one["each"])
        self._enter(node).items = [f"{node}[{index}]" for index in range(len(cursors))]
        self._next_items(node)

    def _policy(self, step: str) -> str:
        one = self.steps[step]
        return str(one.get("on_item_failure", one.get("failure_strategy", "fail_fast"))).partition("_on")[0]

    def _next_items(self, node: str) -> None:
        step, entry = self.steps[name_of(node)], self.instances[node]
        if self.holds or self.ending or entry.items is None or entry.status != "open":
            return
        policy = self._policy(name_of(node))
        if self._items(entry, "failed") > self._stands(step, policy, len(entry.items)):
            for item in entry.items:
                if item in self.instances and self.instances[item].status == "open":
                    self._cancel(item)
            self._failed(node)
            return
        at_a_time = step.get("max_parallel", step.get("parallelism", 100))
        for item in (*entry.again, *entry.items):
            is_next = item in entry.again or item not in self.instances
            if is_next and self._is_open(node) and self._running(entry) < at_a_time:
                if item in entry.again:
                    entry.again.remove(item)
                self._begin_item(item)
        if not self._is_open(node) or self._items(entry, "open"):
            return
        if not (self._items(entry, "failed") and policy == "isolate"):
            self._done(node, None)

    def _items(self, of: Instance, status: Status) -> int:
        return sum(self.instances[item].status == status for item in of.items or () if item in self.instances)

    def _running(self, of: Instance) -> int:
        return self._items(of, "open") - sum(self.instances[item].status == "open" for item in of.again)

    def _is_open(self, name: str) -> bool:
        return self.instances[name].status == "open" and not self.ending

    def _begin_item(self, item: str) -> None:
        try:
            self._begin_leaf(item)
        except LookupError:
            self._enter(item)
            self._failed(item)

    @staticmethod
    def _stands(step: Mapping[str, Any], policy: str, items: int) -> float:
        """Return how many failed items a list stands."""
        if policy == "fail_fast":
            return 0
        if policy != "tolerate":
            return float("inf")
        share = step["tolerate"]
        return int(items * float(share[:-1]) / 100) if isinstance(share, str) else int(share)

    # ---------------------------------------------------------------- outcomes

    def succeed(
        self,
        name: str,
        result: Any,
        routes: Sequence[str] | None = None,
        *,
        used: Used | None = None,
        writes: Mapping[str, Any] | None = None,
        emitted: Sequence[Emitted] = (),
    ) -> None:
        """Take the result of an attempt; with a domain event that may not be raised it has failed."""
        fault = self.domain.fault(name, emitted, result)
        if fault is not None:
            self.fail(name, fault, for_good=True, used=used)
            return
        self.domain.ended(name, self.instances[name].attempt, "success", emitted, result)
        self.complete(name, result, routes, used=used, writes=writes)

    def complete(
        self,
        name: str,
        result: Any,
        routes: Sequence[str] | None = None,
        *,
        used: Used | None = None,
        writes: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a result of an open instance, with what it chose, used and wrote."""
        step = name_of(name)
        self.shared.write(name, writes or {})
        is_too_much = self._use(used)
        if routes is not None:
            self.not_chosen |= {(step, route) for route in self.steps[step]["routes"] if route not in routes}
        self._done(name, result)
        self._rest_within_budget(is_too_much=is_too_much)

    def _use(self, used: Used | None) -> bool:
        """Add to what the task has used; return whether that is too much by now, and was not before."""
        if used is None:
            return False
        self.budget.told.append(used)
        if not self.budget.is_over() or self.ending or "budget" in self.holds:
            return False
        self.holds.add("budget")
        return True

    def _rest_within_budget(self, *, is_too_much: bool) -> None:
        if is_too_much and self.budget.fails and not self._is_done():
            self._stop("failed")
        self._rest()

    def pass_time(self, us: int) -> None:
        """Let time pass; while steps run, it is used up."""
        if not us or not any(one.is_running and one.status == "open" for one in self.instances.values()):
            return
        self.budget.ran_us += us
        if self.budget.has_run_out() and not self.ending and "budget" not in self.holds:
            self.holds.add("budget")
            self._rest_within_budget(is_too_much=True)

    def fail(
        self,
        name: str,
        error: str = "",
        *,
        for_good: bool = False,
        used: Used | None = None,
        emitted: Sequence[Emitted] = (),
    ) -> None:
        """Take the failure of an attempt; another follows unless it was `for_good` or the last."""
        one = self.instances[name]
        attempt = one.attempt
        is_too_much = self._use(used)
        step = self.steps[name_of(name)]
        retry = step.get("compensate_retry", step.get("retry", {})) if name.endswith("~undo") else step.get("retry", {})
        one.is_running = False
        outcome: Outcome
        if self.ending and not self.to_undo:
            outcome = "cancelled"
            self._cancelled(name)
        elif not for_good and one.attempt - one.first_attempt + 1 < retry.get("max_attempts", 3):
            outcome, one.attempt = "retryable", one.attempt + 1
        else:
            outcome = "permanent"
            self._failed(name)
        self.domain.ended(name, attempt, outcome, emitted, {"error": error})
        self._rest_within_budget(is_too_much=is_too_much)

    def give_back(self, name: str, writes: Mapping[str, Any], used: Used | None = None) -> None:
        """Take a part of an instance, which is called again."""
        one = self.instances[name]
        is_too_much = self._use(used)
        self.shared.write(name, writes)
        if self.ending:
            self._cancelled(name)
        else:
            one.attempt, one.first_attempt, one.is_running = one.attempt + 1, one.attempt + 1, False
        self._rest_within_budget(is_too_much=is_too_much)

    def start(self, name: str) -> None:
        """A worker says that it has begun."""
        self.instances[name].is_running = True

    def time_out(self, name: str, limit: str) -> None:
        """A limit of an attempt is over."""
        error = "worker_lost" if limit == "heartbeat" else "timeout"
        match self.steps[name_of(name)].get("on_timeout", {}).get(limit, "retry"):
            case "continue" if not self.ending:
                self.domain.ended(name, self.instances[name].attempt, "permanent", (), {"error": error})
                self.complete(name, None)
            case "retry":
                self.fail(name, error)
            case then:
                self.instances[name].is_left = then == "block" and not self.ending
                self.fail(name, error, for_good=True)

    def grace_is_over(self, name: str) -> None:
        """An attempt that was told to stop has not."""
        self._cancelled(name)
        self._rest()

    def end_child(self, name: str, state: str, result: Any = None) -> None:
        """Take the end of the child task that an instance waits for."""
        if state == "completed":
            self.complete(name, result)
        elif self.instances[name].stops_with_child:
            self._cancelled(name)
            self._rest()
        else:
            self.fail(name, for_good=True)

    def _done(self, name: str, result: Any) -> None:
        self._clock += 1
        one = self.instances[name]
        one.status, one.result, one.done_as = "done", result, self._clock
        self._went_on(name)

    def _cancelled(self, name: str) -> None:
        self.instances[name].status = "cancelled"
        self._went_on(name)

    def _went_on(self, name: str) -> None:
        self.instances[name].is_running = self.instances[name].is_to_begin = False
        self._takes_its_turn(name)
        if self.ending:
            self._undo_next()
        elif "[" in name:
            if self.instances[name].status != "cancelled":
                self._next_items(name.partition("[")[0])
        elif name == self.node(name_of(name)):
            self._after(name_of(name))
            self._look_at_failures_ahead(name_of(name))

    def _after(self, step: str) -> None:
        """Look at the children of a step that is done, cancelled or does not run."""
        if self.ending or self.holds:
            return
        closed = []
        for child in self._children(step):
            self._edge(step, child)
            if self._is_past(child):
                if self._is_to_begin_anew(child):
                    self._look_at_failures_ahead(child)
                continue
            says = self._join(child)
            if says == "does not run":
                closed.append(child)
            self._look(child)
            if says == "waits":
                self._look_at_failures_ahead(child)
        if not self.ending:
            self._does_not_run(closed)

    def _edge(self, parent: str, child: str) -> None:
        condition = self.edges.get((parent, child))
        if condition is None or not self._is(parent, "done") or self._is_past(child) or self.ending:
            return
        try:
            if not self._value(condition, state=self.left_by(parent)):
                self.not_chosen.add((parent, child))
        except LookupError:
            self._enter(self.node(child))
            self._failed(self.node(child))

    def _cancel(self, name: str) -> None:
        one = self.instances[name]
        for item in one.items or ():
            if item in self.instances and self.instances[item].status == "open":
                self._cancel(item)
        if self._has_child_to_stop(name):
            one.stops_with_child = True
        else:
            self._cancelled(name)

    def _has_child_to_stop(self, name: str) -> bool:
        """Return whether an instance ends with its child; what is retried and has not begun again has none."""
        one, step = self.instances[name], self.steps[name_of(name)]
        entry = self.instances.get(name.partition("[")[0])
        is_to_come = one.is_to_begin or (entry is not None and name in entry.again)
        return "child" in step and one.items is None and not is_to_come and step.get("on_parent_close") != "abandon"

    # ---------------------------------------------------------------- failures

    def _failed(self, name: str) -> None:
        self._clock += 1
        self.instances[name].status, self.instances[name].failed_as = "failed", self._clock
        self._look_at_failure(name)

    def _look_at_failures_ahead(self, step: str) -> None:
        for parent in self.steps[step]["after"]:
            if self._is(parent, "failed"):
                self._look_at_failure(self.node(parent))

    def _look_at_failure(self, name: str) -> None:
        if self.ending or self.holds or name.endswith("~undo"):
            return
        step, fails = name_of(name), self.document.get("on_failure") == "fail" and not self.instances[name].is_left
        if "[" in name:
            if fails and self._policy(step) == "isolate":
                self._stop("failed")
            else:
                self._next_items(name.partition("[")[0])
            return
        children = self._children(step)
        if fails and (not children or any(self._needs(child, step) == "yes" for child in children)):
            self._stop("failed")
        elif not self._holds_up(step) and name not in self.accepted:
            self.accepted.add(name)
            self._after(step)
        else:
            for child in children:
                if self.steps[child].get("join") == "all_settled":
                    self._look(child)

    def retry(self) -> bool:
        """A person retries what failed and holds the task up; False: it is refused, there is nothing of that kind."""
        again = list(self.failures())
        if not again or (self.ending and not self.to_undo):
            return False
        self._try_again(again)
        return True

    def retry_one(self, name: str) -> bool:
        """A person retries one failed instance; False: it is refused, another visit has begun since."""
        if self.ending or name.partition("[")[0] != self.node(name_of(name)):
            return False
        self._try_again([name])
        return True

    def _try_again(self, names: Sequence[str]) -> None:
        self._goes_on()
        for name in names:
            self._reopen(name)
        for name in names:
            if self.ending and not self.to_undo:
                break
            if not self.holds:
                self._begin_again(name)
            elif name in self.instances:
                self.instances[name].is_to_begin = True
        self._rest()

    def _reopen(self, name: str) -> None:
        """Give an instance fresh attempts; one that failed before it began is as if it never had."""
        one = self.instances[name]
        self.accepted.discard(name)
        if one.items is None and not one.was_offered and "[" not in name:
            del self.instances[name]
            return
        one.status, one.is_left, one.attempt, one.first_attempt = "open", False, one.attempt + 1, one.attempt + 1
        if "[" in name and not name.endswith("~undo"):
            self.instances[name.partition("[")[0]].again.append(name)
        for item in one.items or ():
            if item in self.instances and self.instances[item].status in ("failed", "cancelled"):
                self._reopen(item)

    def _begin_again(self, name: str) -> None:
        step = name_of(name)
        if name not in self.instances:
            for parent in self.steps[step]["after"]:
                self._edge(parent, step)
            self._look(step)
            if not self._is_past(step) and self._join(step) == "does not run":
                self._does_not_run([step])
        elif self.instances[name].items is not None:
            self._next_items(name)
        elif "[" in name and not name.endswith("~undo") and self._is_open(name.partition("[")[0]):
            self._next_items(name.partition("[")[0])
        elif self.instances[name].status == "open" and not name.endswith("~undo"):
            self._takes_its_turn(name)
            self._begin_item(name)

    def _takes_its_turn(self, name: str) -> None:
        """An item that waited for its turn waits for it no more."""
        entry = self.instances.get(name.partition("[")[0])
        if entry is not None and name in entry.again:
            entry.again.remove(name)

    def failures(self) -> Iterator[str]:
        """Return what failed and holds the task up, in the order in which it failed; items behind it."""
        if self.to_undo:
            yield from (
                name for name, one in self.instances.items() if name.endswith("~undo") and one.status == "failed"
            )
            return
        failed = [self.node(step) for step in self.steps if self._is(step, "failed") and self._holds_up(step)]
        yield from sorted(failed, key=lambda name: self.instances[name].failed_as)
        for node, one in self.instances.items():
            if one.items is not None and one.status == "open" and self._policy(name_of(node)) == "isolate":
                yield from (i for i in one.items if i in self.instances and self.instances[i].status == "failed")

    # ---------------------------------------------------------------- waits

    def signal(self, name: str, value: Any) -> bool:
        """Take a signal; False: it is refused."""
        if self.ending or self.is_over or all(step.get("signal") != name for step in self.steps.values()):
            return False
        self.inbox.append(Signal(name, value))
        self._hand_out()
        self._rest()
        return True

    def _hand_out(self) -> None:
        """Give what is kept to who waits, the oldest to who waits longest."""
        if self.holds:
            return
        for signal in list(self.inbox):
            waiting = [name for name, one in self.instances.items() if one.wait is not None and one.status == "open"]
            for name in sorted(waiting, key=self._since):
                if signal in self.inbox and self.instances[name].status == "open":
                    self._offer(name, signal)

    def _since(self, name: str) -> int:
        wait = self.instances[name].wait
        return 0 if wait is None else wait.since

    def _wants(self, name: str, signal: Signal) -> bool:
        """Return whether a signal is meant for an instance.

        Raises:
            LookupError: that has no value.
        """
        step = self.steps[name_of(name)]
        if step.get("signal") != signal.name:
            return False
        return "signal_when" not in step or self._value(step["signal_when"], name, signal=signal.value)

    def _offer(self, name: str, signal: Signal) -> None:
        one, step = self.instances[name], self.steps[name_of(name)]
        assert one.wait is not None
        try:
            if not self._wants(name, signal):
                return
        except LookupError:
            self._use_up(signal)
            self._failed(name)
            return
        self._use_up(signal)
        one.wait.came.append(signal.value)
        if step.get("signal_take") != "all":
            self._done(name, signal.value)
        elif len(one.wait.came) == step["signal_count"]:
            self._done(name, list(one.wait.came))

    def _use_up(self, signal: Signal) -> None:
        self.inbox = [one for one in self.inbox if one is not signal]

    def _look_into_inbox(self, name: str) -> None:
        """Let an instance that begins to wait take what was kept."""
        if self.steps[name_of(name)].get("signal_take") != "last":
            for signal in list(self.inbox):
                if self.instances[name].status == "open":
                    self._offer(name, signal)
            return
        last: Signal | None = None
        for signal in list(self.inbox):
            try:
                if self._wants(name, signal):
                    self._use_up(signal)
                    last = signal
            except LookupError:
                self._use_up(signal)
                self._failed(name)
                return
        if last is not None:
            self._done(name, last.value)

    def answer(self, name: str, by: str, decision: str, roles: tuple[str, ...] = ()) -> bool:
        """Take what somebody answers; False: they may not."""
        asked = self._asked(name)
        before = asked.decision()
        if not asked.answer(by, decision, roles):
            return False
        decided = asked.decision()
        if decided is not None and before is None:
            self._done(name, {"decision": decided, "by": by})
            self._rest()
        return True

    def delegate(self, name: str, by: str, to: str, roles: tuple[str, ...] = ()) -> bool:
        """Let somebody hand it to another; False: they may not."""
        return self._asked(name).delegate(by, to, roles)

    def escalate(self, name: str) -> None:
        """From now on others may answer as well."""
        self._asked(name).is_escalated = True

    def _asked(self, name: str) -> Asked:
        wait = self.instances[name].wait
        assert wait is not None
        assert wait.asked is not None
        return wait.asked

    def event(self, name: str, event: Any) -> None:
        """Show an event of another task to an instance that waits for such."""
        step = self.steps[name_of(name)]
        try:
            if "event_when" in step and not self._value(step["event_when"], name, event=event):
                return
        except LookupError:
            self._failed(name)
        else:
            self._done(name, event)
        self._rest()

    def wait_is_over(self, name: str) -> None:
        """A wait has come to its deadline."""
        match self.steps[name_of(name)].get("on_wait_deadline", "fail"):
            case "fail":
                self._failed(name)
            case "escalate":
                self.escalate(name)
            case _:
                self._done(name, self._what_it_has(name, "expired"))
        self._rest()

    def _what_it_has(self, name: str, decision: str) -> Any:
        step, wait = self.steps[name_of(name)], self.instances[name].wait
        if "approval" in step:
            return {"decision": decision, "by": None}
        return list(wait.came) if wait is not None and step.get("signal_take") == "all" else None

    # ---------------------------------------------------------------- places

    def take(self, name: str) -> None:
        """Give the task, or an instance, the place that it waits for."""
        if name:
            self.instances[name].has_place = True
        else:
            self._begin_first()

    def deny(self, name: str) -> None:
        """There is no place, or it is wanted back: make room."""
        if not name:
            self.cancel(graceful=True)
            return
        self._cancelled(name)
        if "[" in name and not self.ending:
            self._next_items(name.partition("[")[0])
        self._rest()

    # ---------------------------------------------------------------- what people do

    def resolve(self, name: str, result: Any, routes: Sequence[str] | None = None, *, is_skipped: bool = False) -> None:
        """A person says what came of an instance, whether or not it has begun; or skips it."""
        self._goes_on()
        self._enter(name).is_by_hand = is_skipped or self._enter(name).items is not None
        for item in self._enter(name).items or ():
            if item in self.instances and self.instances[item].status == "open":
                self._cancelled(item)
        self.instances[name].items = None
        self.accepted.discard(name)
        self.complete(name, result, routes)

    def release(self, name: str) -> None:
        """A person ends a wait, or lets a step begin whatever its parents say."""
        self._goes_on()
        if name not in self.instances:
            self._begin(name_of(name))
        else:
            self._done(name, self._what_it_has(name, "released"))
        self._rest()

    def reset(self, name: str) -> bool:
        """A person lets failures count no more; False: it is refused, there are none."""
        one, step = self.instances[name], self.steps[name_of(name)]
        is_other = one.items is not None or one.wait is not None or not one.has_place
        if self.ending or one.status != "open" or is_other or "child" in step or "delay_s" in step:
            return False
        one.first_attempt = one.attempt
        return True

    def edit(self, name: str, result: Any) -> None:
        """A person gives what is done another result."""
        self.instances[name].result = result

    def _goes_on(self) -> None:
        if self.status == "blocked":
            self.status = "compensating" if self.to_undo else "running"

    def pause(self) -> None:
        """A person holds the task."""
        self._hold("paused")

    def resume(self) -> None:
        """A person lets it go on."""
        if "paused" in self.holds and "budget" in self.holds and self.budget.fails and not self._is_done():
            self._stop("failed")
            self._rest()
        else:
            self._lift("paused")

    def deadline(self) -> None:
        """The task's deadline has passed."""
        self.given.has_deadline = False
        match self.document.get("on_timeout", "fail"):
            case "fail":
                self._stop("failed")
                self._rest()
            case "block":
                self._hold("late")
            case _:
                pass

    def give_time(self, within_s: float | None) -> None:
        """A person gives the task another deadline, or none."""
        self.given.has_deadline = within_s is not None
        self._lift("late")

    def allow(self, more: Mapping[str, Any]) -> bool:
        """A person lets it use more; False: it is refused."""
        if self.ending or self.is_over or not self.budget.allow(more):
            return False
        self._lift("budget")
        return True

    def _hold(self, why: str) -> None:
        self.holds.add(why)
        self._rest()

    def _lift(self, why: str) -> None:
        if why not in self.holds:
            return
        self.holds.discard(why)
        if not self.has_begun and not self.ending:
            self.status = "pending"
        if self.holds or self.ending or not self.has_begun:
            self._rest()
            return
        self.status = "running"
        while not self.ending:
            before = self._what_stands()
            self._look_at_all()
            if self._what_stands() == before:
                break
        self._rest()

    def _look_at_all(self) -> None:
        """Follow up what came to rest while the task was held."""
        for step in self._in_order():
            for parent in self.steps[step]["after"]:
                self._edge(parent, step)
        self._hand_out()
        for name in [name for name, one in self.instances.items() if one.is_to_begin]:
            self.instances[name].is_to_begin = False
            self._begin_again(name)
        for step in self._in_order():
            one = self._at(step)
            if not self.steps[step]["after"]:
                self._look(step)
            is_out = step in self.not_run or self._is(step, "cancelled") or self.node(step) in self.accepted
            if is_out or self._is(step, "done"):
                self._after(step)
            elif one is not None and one.items is not None:
                self._next_items(self.node(step))
        for name in [name for name, one in self.instances.items() if one.status == "failed"]:
            if "[" in name or name == self.node(name_of(name)):
                self._look_at_failure(name)

    def _what_stands(self) -> tuple[object, ...]:
        return (len(self.inbox), frozenset(self.not_run), *((name, one.status) for name, one in self.instances.items()))

    # ---------------------------------------------------------------- the end

    def cancel(self, *, graceful: bool = False) -> None:
        """A person cancels the task, with or without a grace for what runs."""
        self._stop("cancelled", graceful=graceful)
        self._rest()

    def force(self, ending: Literal["completed", "failed"], result: Any = None) -> None:
        """A person ends the task as they say, without a grace."""
        self.forced = result
        self._stop(ending, graceful=False)
        self._rest()

    def _stop(self, ending: str, *, graceful: bool = True) -> None:
        self.ending, self.status = ending, "running"
        self.holds.clear()
        for name in [name for name, one in self.instances.items() if one.status == "open"]:
            self._cancel_one(name, graceful=graceful)

    def _cancel_one(self, name: str, *, graceful: bool) -> None:
        one = self.instances[name]
        if graceful and one.is_running:
            one.is_stopping = True
        elif self._has_child_to_stop(name):
            one.stops_with_child = True
        else:
            self._cancelled(name)

    def _rest(self) -> None:
        """Say what is to be said when nothing moves by itself: a loop turns, or the task ends, undoes or is blocked."""
        if self.status in ("completed", "failed", "cancelled"):
            return
        if self.ending:
            if not any(one.status == "open" for one in self.instances.values()):
                self._end()
            return
        if self.status != "running" and not self.holds:
            return
        if "paused" in self.holds:
            self.status = "paused"
            return
        if not self.has_begun:
            self.status = "blocked" if "late" in self.holds else "pending"
            return
        if self.holds:
            self.status = "blocked"
            if self._is_done():
                self.status, self.result = "completed", self._task_result()
            return
        for by, one in self.steps.items():
            if "back_to" in one and self._is(by, "done") and self._turn(one["back_to"]):
                self._rest()
                return
        waiting = list(self.failures())
        is_open = any(one.status == "open" and one.items is None for one in self.instances.values())
        if is_open:
            return
        if all(self._is_settled(step) for step in self.steps):
            self.status, self.result = "completed", self._task_result()
        elif waiting:
            self.status = "blocked"
        else:
            raise AssertionError("by the documentation this task can neither go on nor end")

    def _is_done(self) -> bool:
        """Return whether nothing is left to begin."""
        turns = any("back_to" in one and self._is(by, "done") for by, one in self.steps.items())
        return (
            all(
                step in self.not_run
                or self._is(step, "done")
                or self._is(step, "cancelled")
                or self.node(step) in self.accepted
                for step in self.steps
            )
            and not turns
        )

    def _is_settled(self, step: str) -> bool:
        if step in self.not_run or self._is(step, "done") or self._is(step, "cancelled"):
            return True
        return self._is(step, "failed") and not self._holds_up(step)

    def _task_result(self) -> Any:
        last = [step for step in self.steps if not self._children(step) and "back_to" not in self.steps[step]]
        named = self.document.get("result", last[0] if len(last) == 1 else None)
        if named is not None:
            return self.result_of(self.node(named)) if self._is(named, "done") else None
        return {
            step: self.result_of(self.node(step)) if self._is(step, "done") else None
            for step in last
            if step not in self.not_run
        }

    def _turn(self, target: str) -> bool:
        body = [step for step in self.steps if step == target or target in self._ahead(step)]
        if any(self._is(step, "open") for step in body):
            return False
        if self.visits[target] > self.steps[target].get("max_visits", 100) and self.node(target) in self.accepted:
            return False
        self.shared.turned[target] += 1
        for step in body:
            if step in self.not_run:
                self.not_run.discard(step)
            elif self._at(step) is not None:
                self.visits[step] += 1
        self.not_chosen = {(parent, child) for parent, child in self.not_chosen if parent not in body}
        needed_again = [
            self.node(parent)
            for child in body
            for parent in self.steps[child]["after"]
            if parent not in body and self._is(parent, "failed") and self._needs(child, parent) != "no"
        ]
        self.accepted -= set(needed_again)
        if self.visits[target] > self.steps[target].get("max_visits", 100):
            self._enter(self.node(target))
            self._failed(self.node(target))
        elif self._join(target) == "does not run":
            self._does_not_run([target])
        else:
            self._look(target)
        for name in needed_again:
            self._look_at_failure(name)
        return True

    # ---------------------------------------------------------------- undoing

    def _end(self) -> None:
        on = {"failed": "failure", "cancelled": "cancel", "completed": "nothing"}[self.ending]
        if self.ending == "completed":
            self.status, self.result = "completed", self.forced
            return
        if not self.to_undo and self.document.get("compensate_on", "both") in ("both", on):
            done = [
                (one.done_as, name)
                for name, one in self.instances.items()
                if one.status == "done"
                and not one.is_by_hand
                and one.items is None
                and "compensate" in self.steps[name_of(name)]
            ]
            self.to_undo = [f"{name}~undo" for _, name in sorted(done, reverse=True)]
            if self.to_undo:
                self.status = "compensating"
                self._undo_next()
                return
        left = [name for name in self.to_undo if name not in self.instances or self.instances[name].status != "done"]
        self.status = "blocked" if left else self.ending

    def _undo_next(self) -> None:
        for name in self.to_undo:
            if name not in self.instances:
                self._enter(name).was_offered = True
            if self.instances[name].status != "done":
                return
