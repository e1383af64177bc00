"""The signals of a task: those that nobody has taken yet, and what waits for more.

A signal is kept, in the order in which it came, until a step takes it; each is taken once. What the limits of
`signals` allow stays in memory and in every fold of the task.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tasker.events.task_events import SignalReceived, StepAwaited
from tasker.service.domain.waits.wait_state import SignalWait, Wait


class Inbox:
    """What came, and who waits.

    Attributes:
        received: how many signals have come.
        commands: which commands brought them -> what each asked for: a signal is known for as long as the task is.
        kept: name -> number -> value of those that nobody has taken.
        size: bytes of these values.
        waiting: name -> the step instances that wait for such a signal, in the order in which they began to.
    """

    __slots__ = ("commands", "kept", "received", "size", "waiting")

    def __init__(self) -> None:
        self.received = 0
        self.commands: dict[str, str | None] = {}
        self.kept: dict[str, dict[int, msgspec.Raw]] = {}
        self.size = 0
        self.waiting: dict[str, dict[str, None]] = {}

    def receive(self, event: SignalReceived, command_id: str | None, request: str | None) -> None:
        """Keep a signal."""
        self.received = event.number
        self.kept.setdefault(event.name, {})[event.number] = event.value
        self.size += len(bytes(event.value))
        if command_id is not None:
            self.commands[command_id] = request

    def await_signal(self, step: str, event: StepAwaited) -> SignalWait:
        """Let a step wait."""
        self.waiting.setdefault(event.signal, {})[step] = None
        return SignalWait(event)

    def take(self, wait: Wait | None, numbers: Iterable[int]) -> None:
        """Hand signals over to a wait."""
        if not isinstance(wait, SignalWait):
            return
        kept = self.kept.get(wait.signal, {})
        for number in numbers:
            value = kept.pop(number, None)
            if value is not None:
                size = len(bytes(value))
                self.size -= size
                wait.size += size
                wait.numbers.append(number)
                wait.values.append(value)

    def forget(self, step: str, wait: Wait) -> None:
        """Let a step wait no more."""
        if isinstance(wait, SignalWait):
            self.waiting.get(wait.signal, {}).pop(step, None)

    def copy(self) -> Inbox:
        """Return one that moves by itself."""
        made = Inbox()
        made.received, made.size = self.received, self.size
        made.commands = dict(self.commands)
        made.kept = {name: dict(kept) for name, kept in self.kept.items()}
        made.waiting = {name: dict(steps) for name, steps in self.waiting.items()}
        return made

    def document(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        requests = {name: request for name, request in self.commands.items() if request is not None}
        return {
            **({"requests": requests} if requests else {}),
            "received": self.received,
            "commands": list(self.commands),
            "kept": {
                name: {str(number): msgspec.json.decode(value) for number, value in kept.items()}
                for name, kept in self.kept.items()
                if kept
            },
            "waiting": {name: list(steps) for name, steps in self.waiting.items() if steps},
        }
