"""What comes of an open instance, told to the real core and to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from tasker.events.messages import EmittedEvent, Report, ReportKind, ReportReply, UsageLine
from tasker.events.task_events import Choice, ErrorInfo
from tasker.service.domain.obligations import Kind
from tasker.service.domain.reports import command_of
from tasker.service.domain.steps.outcome_facts import settle_facts
from tests.reference.documents import STATE
from tests.reference.model.budget import Used
from tests.reference.model.domain_events import Emitted
from tests.reference.names import name_of
from tests.reference.telling import ERROR, Telling
from tests.runs import raw

NEVER = ErrorInfo(type="ValueError", message="never", retryable=False)
LIMITS = {"heartbeat": Kind.HEARTBEAT, "start_to_close": Kind.FINISH_BY}


class Workers(Telling):
    """Attempts of workers."""

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
            is_for_good, used, emitted = draw(st.booleans(), label="for good"), self._used(), self._emitted(step)
            error = NEVER if is_for_good else ERROR
            self._report("failed", name, used, error=error, emitted=_events(emitted))
            said.fail(name, error.type, for_good=is_for_good, used=used, emitted=emitted)
            self._let_retry()
        elif what == "part" and not is_undo:
            writes, used = self._writes(), self._used()
            self._report("yielded", name, used, checkpoint=raw(1), writes=_raws(writes))
            said.give_back(name, writes, used)
        elif "routes" in step and not is_undo:
            routes = draw(st.lists(st.sampled_from(step["routes"]), unique=True), label=f"{name} chooses")
            emitted = self._emitted(step)
            self._report("completed", name, None, choice=Choice(routes=tuple(routes)), emitted=_events(emitted))
            said.succeed(name, None, routes, emitted=emitted)
        else:
            is_cut = any(other.get("batches") == name_of(name) for other in said.steps.values())
            result = draw(st.sampled_from([[], [1], [1, 2, 3]] if is_cut and not is_undo else [1, 2]), label=name)
            used, writes = self._used(), {} if is_undo else self._writes()
            emitted = self._emitted(step)
            self._report("completed", name, used, result=raw(result), writes=_raws(writes), emitted=_events(emitted))
            said.succeed(name, result, used=used, writes=writes, emitted=emitted)

    def _report(self, kind: ReportKind, name: str, used: Used | None, **fields: Any) -> None:
        """Tell the real core what a worker says of the attempt that an instance is at."""
        run = self.run
        attempt = run.state.steps[name].attempt
        report = Report(kind=kind, task_id="t", step=name, attempt=attempt, worker="w1", usage=_usage(used), **fields)
        settle_facts(run.template, report, None)
        command = command_of(run.state, report, at_us=run.now_us, jitter=0.5)
        assert not isinstance(command, ReportReply), command
        run.do(command)

    def _emitted(self, step: Mapping[str, Any]) -> list[Emitted]:
        """Emit some of what a step declares; seldom something that it may not."""
        declared = [one for one in step.get("emits", ()) if not one.get("auto")]
        if not declared:
            return []
        data = st.sampled_from([1, 1, 1, 2, {"a": 1}])
        found = [
            Emitted(one["name"], self.data.draw(data, label="data"))
            for one in self.data.draw(st.lists(st.sampled_from(declared), max_size=4), label="emitted")
        ]
        if self.data.draw(st.integers(0, 9), label="may not") == 0:
            found.append(Emitted(self.data.draw(st.sampled_from(["unknown", "auto.always"]), label="which")))
        return found

    def _writes(self) -> dict[str, Any]:
        """Write some keys, each time something else."""
        if "state" not in self.said.document:
            return {}
        self._written += 1
        number, is_rare = self._written, self.data.draw(st.integers(0, 3), label="writes") == 0
        keys = ["any", *STATE] if is_rare else [key for key in STATE if key != "odd"]
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


def _usage(used: Used | None) -> tuple[UsageLine, ...]:
    if used is None:
        return ()
    tokens = UsageLine(meter="tokens_in", amount=str(used.tokens), unit="token", model="m")
    if used.cost is None:
        return (tokens,)
    return (tokens, UsageLine(meter="pages", amount="1", unit="page", cost=used.cost, currency=used.currency))


def _events(emitted: Sequence[Emitted]) -> tuple[EmittedEvent, ...]:
    return tuple(EmittedEvent(name=one.name, data=raw(one.data)) for one in emitted)


def _raws(values: Mapping[str, Any]) -> dict[str, msgspec.Raw]:
    return {key: raw(value) for key, value in values.items()}
