"""What holds of the signals of one task: they are counted without a gap, and each is taken once."""

from __future__ import annotations

from collections.abc import Iterator

from tasker.events.task_events import SignalReceived, StepSignalled


class Signals:
    """The signals of one task, as its events tell."""

    __slots__ = ("_kept", "_received")

    def __init__(self) -> None:
        self._received = 0
        self._kept: dict[int, str] = {}

    def faults(self, event: SignalReceived | StepSignalled) -> Iterator[str]:
        """Take up the next event and yield what is wrong with it."""
        if isinstance(event, SignalReceived):
            if event.number != self._received + 1:
                yield f"signal {event.number} follows signal {self._received}"
            self._received = event.number
            self._kept[event.number] = event.name
            return
        for number in event.numbers:
            if self._kept.pop(number, None) is None:
                yield f"step {event.step} takes signal {number}, which is not there to be taken"
