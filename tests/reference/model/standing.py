"""What is known of a task, and what can be asked of it at any time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.reference.model.budget import Budget
from tests.reference.model.company import Company
from tests.reference.model.domain_events import DomainEvents
from tests.reference.model.given import Given
from tests.reference.model.instances import Instance, Status
from tests.reference.model.shared import SharedState
from tests.reference.model.waits import Signal
from tests.reference.names import visit_of

Meaning = Callable[[Any, Mapping[str, Any], Mapping[str, Any]], Any]
"""What an expression of a document means, as Python over the input, the results, and what else there is (`item`,
`signal`, `event`, `state`); `LookupError`: no value.
"""


class Standing:
    """One task.

    Attributes:
        instances: what has begun, by name, in order. not_run: the steps of which this visit does not run.
        status: pending, running, paused, blocked, compensating, completed, failed or cancelled.
        holds: why nothing begins: `paused`, `late` (its deadline has passed), `budget`.
        task_id: its name among the tasks of `company`, which run beside it.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        value: Any,
        meanings: Mapping[str, Meaning],
        *,
        task_id: str = "",
        company: Company | None = None,
    ) -> None:
        self.document = document
        self.task_id = task_id
        self.company = company or Company()
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

    def _key(self, of: Mapping[str, Any], name: str = "") -> Any:
        return self._value(of["concurrency"]["key"], name) if "concurrency" in of else None

    def _in_order(self) -> list[str]:
        """Return the steps, parents first; else as declared."""
        found: list[str] = []
        while len(found) < len(self.steps):
            found.append(next(s for s, one in self.steps.items() if s not in found and set(one["after"]) <= set(found)))
        return found
