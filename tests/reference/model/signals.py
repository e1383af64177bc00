"""Which signal is taken by whom."""

from __future__ import annotations

from typing import Any

from tests.reference.model.moves import Moves
from tests.reference.model.waits import Signal
from tests.reference.names import name_of


class Signals(Moves):
    """Signals that are kept, and steps that wait for them."""

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
