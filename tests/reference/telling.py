"""What both are told: the parts that every kind of telling uses."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from tasker.errors import CommandRejected
from tasker.events.envelope import US_PER_S
from tasker.events.task_events import ErrorInfo
from tasker.service.domain.obligations import Kind, obligations_of, parse_obligation
from tasker.templates import CompiledTemplate
from tests.reference.documents import INPUT, MEANINGS
from tests.reference.model import Company, Reference
from tests.runs import Run

ERROR = ErrorInfo(type="OSError", message="no route")


class Telling:
    """One task, twice.

    Attributes:
        run: the task in the real core. said: in the model. data: what hypothesis draws from.
    """

    def __init__(
        self,
        template: CompiledTemplate,
        document: dict[str, Any],
        data: st.DataObject,
        *,
        task_id: UUID | None = None,
        company: Company | None = None,
    ) -> None:
        self.run = Run(template, task_id=task_id)
        self.said = Reference(document, INPUT, MEANINGS, task_id=str(self.run.task_id), company=company)
        self.data = data
        self._signals = 0
        self._written = 0

    # ---------------------------------------------------------------- time

    def _pass(self) -> None:
        """Let time pass."""
        self.pass_until(self.run.now_us + self.data.draw(st.sampled_from([1, 5, 30]), label="seconds") * US_PER_S)

    def pass_until(self, at_us: int) -> None:
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
        self.pass_until(obligations_of(self.run.state)[obligation])
        if obligation not in obligations_of(self.run.state):
            return False
        self.run.fire(obligation)
        return True

    def _let_retry(self) -> None:
        """Let what waits for its next attempt have it."""
        for obligation in list(obligations_of(self.run.state)):
            if parse_obligation(obligation)[0] is Kind.RETRY and obligation in obligations_of(self.run.state):
                self._fire(obligation)

    # ---------------------------------------------------------------- draws

    @staticmethod
    def _takes(command: Any) -> bool:
        try:
            command()
        except CommandRejected:
            return False
        return True

    def _pick(self, names: list[str], label: str) -> str | None:
        return self.data.draw(st.sampled_from(names), label=label) if names else None
