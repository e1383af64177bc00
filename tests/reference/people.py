"""What people do to a task, told to the real core and to the model."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tasker.events.task_events import Decision
from tasker.service.domain.commands import SetBudget
from tasker.service.domain.obligations import Kind
from tests.reference.documents import PEOPLE, SIGNALS
from tests.reference.names import name_of
from tests.reference.telling import ERROR, Telling

OBJECTS = st.dictionaries(
    st.sampled_from(["m", "n"]),
    st.recursive(st.sampled_from([None, 1, [None]]), lambda one: st.dictionaries(st.sampled_from(["m", "n"]), one)),
)
"""What may be merged into a task's metadata."""


class People(Telling):
    """Their commands, signals and answers."""

    def _pause(self) -> None:
        self.run.pause()
        self.said.pause()

    def _resume(self) -> None:
        self.run.resume()
        self.said.resume()
        self._let_retry()

    def _more(self) -> None:
        """Give it more of what it lacks."""
        if "late" in self.said.holds:
            self._give_time()
        elif "budget" in self.said.holds:
            self._allow()
        self._let_retry()

    def _give_time(self) -> None:
        """Give it another deadline, or none."""
        within_s = self.data.draw(st.sampled_from([None, None, 200_000.0, 200_000.0, 0.0]), label="within")
        self.run.deadline(within_s=within_s)
        self.said.give_time(within_s)
        if within_s == 0.0 and self._fire(str(Kind.DEADLINE)):
            self.said.deadline()
        self._let_retry()

    def _update(self) -> None:
        """Change what people say of the task."""
        draw = self.data.draw
        value = st.sampled_from([None, "1", "2"])
        tags = draw(st.dictionaries(st.sampled_from(["a", "b"]), value), label="tags")
        metadata = draw(st.one_of(st.none(), OBJECTS), label="metadata")
        priority = draw(st.sampled_from([None, None, -100, 0, 7]), label="priority")
        self.run.update(tags, metadata, priority)
        self.said.given.update(tags, metadata, priority)

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
