"""How attempts end, and what then is settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.reference.model.budget import Used
from tests.reference.model.domain_events import Emitted, Outcome
from tests.reference.model.lists import Lists
from tests.reference.model.spending import Spending
from tests.reference.model.undoing import Undoing
from tests.reference.names import name_of


class Outcomes(Lists, Undoing, Spending):
    """What workers, child tasks and limits say of open instances."""

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
            one = self.instances[name]
            if one.status != "cancelled" or one.stops_with_child:  # else it is cancelled with its list
                self._next_items(name.partition("[")[0])
        elif name == self.node(name_of(name)):
            self._after(name_of(name))
            self._look_at_failures_ahead(name_of(name))
