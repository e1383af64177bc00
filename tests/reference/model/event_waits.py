"""What a task hears of others, and lets them hear."""

from __future__ import annotations

from typing import Any

from tests.reference.model.company import Said
from tests.reference.model.moves import Moves
from tests.reference.model.waits import Wait
from tests.reference.names import name_of


class EventWaits(Moves):
    """Steps that wait for an event of another task."""

    def speak(self) -> None:
        """Let others know what has happened since this was called last."""
        told = self.company.of(self.task_id)
        raised = [one for one in told if one.step is not None]
        self.company.said += [
            Said(self.task_id, one.name, one.data, one.instance) for one in self.domain.raised[len(raised) :]
        ]
        if self.is_over and len(raised) == len(told):
            data = {"result": self.result} if self.status == "completed" else {}
            self.company.said.append(Said(self.task_id, f"task_{self.status}", data))

    def hear(self, name: str, said: Said) -> bool:
        """Tell a step that may wait of an event; False: it means nothing to it."""
        if self.first_for(name, said.task_id) is not said:
            return False
        self.event(name, said.document())
        return True

    def first_for(self, name: str, task_id: str) -> Said | None:
        """Return the first event of a task for which a step waits: recorded since it began to, and one that fits.

        One on which its expression has no value is such, too.
        """
        wait = self._event_wait(name)
        if wait is None or task_id == self.task_id:
            return None
        of_name = [one for one in self.company.said[wait.heard :] if one.name == self.steps[name_of(name)]["event"]]
        return next((one for one in of_name if one.task_id == task_id and self._may_be_meant(name, one)), None)

    def _event_wait(self, name: str) -> Wait | None:
        """Return the wait of an instance that still looks for its event."""
        one = self.instances.get(name)
        if one is None or one.status != "open" or one.wait is None or self.ending:
            return None
        return one.wait if "event" in self.steps[name_of(name)] and one.wait.kept is None else None

    def _may_be_meant(self, name: str, said: Said) -> bool:
        try:
            return self._is_meant(name, said.document())
        except LookupError:
            return True

    def _is_meant(self, name: str, event: Any) -> bool:
        """Return whether an event is meant for an instance.

        Raises:
            LookupError: that has no value.
        """
        step = self.steps[name_of(name)]
        return "event_when" not in step or bool(self._value(step["event_when"], name, event=event))

    def event(self, name: str, event: Any) -> None:
        """Show an event of another task to an instance that waits for such; while the task is held it is kept."""
        wait = self.instances[name].wait
        assert wait is not None
        try:
            if not self._is_meant(name, event):
                return
        except LookupError:
            self._failed(name)
        else:
            if self.holds:
                wait.kept = event
            else:
                self._done(name, event)
        self._rest()

    def _take_kept_events(self) -> None:
        """Let instances go on whose event came while the task was held."""
        for name, one in list(self.instances.items()):
            if one.status == "open" and one.wait is not None and one.wait.kept is not None:
                self._done(name, one.wait.kept)
