"""How steps begin, and what does not run because of it."""

from __future__ import annotations

from collections.abc import Sequence

from tests.reference.model.lists import Lists


class Beginnings(Lists):
    """Steps whose parents say that they begin, or that they do not run."""

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

    def _does_not_run(self, steps: Sequence[str]) -> None:
        steps = [step for step in steps if not self._is_past(step)]
        self.not_run |= set(steps)
        for step in steps:
            self._after(step)
            self._look_at_failures_ahead(step)
