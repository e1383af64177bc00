"""The way of messages in a test: which are lost, doubled, held up. A `Transit` of the bus in memory.

By name: the next so many messages of a kind, for one step or any. By chance: `loss`, `duplication` and `delay_s_max`
apply to every message from one client to another, drawn from the seed; what a client asks of the server itself
(streams, consumers) and acks to it pass.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from tasker.bus.bus import Message
from tasker.events.subjects import Subjects

MessageKind = Literal["work", "started", "completed", "failed", "heartbeat", "answer"]
"""Work on its way to a worker; a report on its way to the owner; the owner's answer to a report."""

SECOND_COPY_S = 0.02


class _Rule:
    """What happens to the next `times` messages of a kind."""

    def __init__(self, kind: MessageKind, step: str | None, times: int, delays_s: tuple[float, ...]) -> None:
        self.kind = kind
        self.step = step
        self.left = times
        self.delays_s = delays_s


class Network:
    """Decides on each message.

    Attributes:
        loss, duplication: how likely a message is lost, or comes twice.
        delay_s_max: messages are held up by up to so much, each by its own draw, so that they overtake.
    """

    def __init__(self, subjects: Subjects, tenant: str, draw: random.Random) -> None:
        self.loss = 0.0
        self.duplication = 0.0
        self.delay_s_max = 0.0
        self._draw = draw
        self._work = subjects.work(tenant, "", "").removesuffix(".")
        self._worker = subjects.worker_work(tenant, "", "").partition("..")[0] + "."
        self._report = subjects.report(tenant, 0).removesuffix("0")
        self._rules: list[_Rule] = []
        self._answers: dict[str, tuple[str, ...]] = {}
        """Where answers to reports go -> the steps reported on."""

    def lose(self, kind: MessageKind, *, step: str | None, times: int) -> None:
        """Lose the next `times` messages."""
        self._rules.append(_Rule(kind, step, times, ()))

    def duplicate(self, kind: MessageKind, *, step: str | None, times: int, apart_s: float = SECOND_COPY_S) -> None:
        """Deliver the next `times` messages twice."""
        self._rules.append(_Rule(kind, step, times, (0.0, apart_s)))

    def delay(self, kind: MessageKind, *, step: str | None, times: int, by_s: float) -> None:
        """Hold the next `times` messages up."""
        self._rules.append(_Rule(kind, step, times, (by_s,)))

    def calm(self) -> None:
        """Let everything pass from now on."""
        self.loss = self.duplication = self.delay_s_max = 0.0
        self._rules.clear()

    def __call__(self, message: Message) -> Sequence[float]:
        """Return the delay of each copy of a message on its way to one subscriber."""
        if self._rules:
            for kind, step in self._told(message):
                for rule in self._rules:
                    if rule.kind == kind and rule.step in (None, step):
                        rule.left -= 1
                        if not rule.left:
                            self._rules.remove(rule)
                        return rule.delays_s
        if not (self.loss or self.duplication or self.delay_s_max) or not _between_clients(message):
            return (0.0,)
        if self._draw.random() < self.loss:
            return ()
        copies = 2 if self._draw.random() < self.duplication else 1
        return [self._draw.random() * self.delay_s_max for _ in range(copies)]

    def _told(self, message: Message) -> list[tuple[str, str]]:
        """Return what a message says, of which steps."""
        if message.subject.startswith(self._worker) and ".work." in message.subject:
            return [("work", work["step"]) for work in msgspec.json.decode(message.data)["work"]]
        if message.subject.startswith(self._work):
            return [("work", msgspec.json.decode(message.data)["step"])]
        if message.subject.startswith(self._report):
            decoded: Any = msgspec.json.decode(message.data)
            reports = decoded if isinstance(decoded, list) else [decoded]
            self._answers[message.reply] = tuple(one["step"] for one in reports)
            return [(one["kind"], one["step"]) for one in reports]
        return [("answer", step) for step in self._answers.pop(message.subject, ())]


def _between_clients(message: Message) -> bool:
    """Return whether one client sent it to another, rather than the server for itself."""
    if message.subject.startswith("_INBOX"):
        return (
            not message.status and b'"stream"' not in message.data[:200] and not message.data.startswith(b'{"config"')
        )
    return not message.subject.startswith("$")
