"""What a step waits for from outside, and what has come of it: signals, or the answers of people."""

from __future__ import annotations

from copy import copy
from typing import Any

import msgspec

from tasker.events.task_events import (
    ApprovalAnswered,
    ApprovalDelegated,
    ApprovalEscalated,
    ApprovalRequested,
    EventAwaited,
    StepAwaited,
)


class Wait:
    """What every wait has.

    Attributes:
        deadline_us: until when; None: as long as it takes.
        released: a person ended it.
    """

    __slots__ = ("deadline_us", "released")

    def __init__(self, deadline_us: int | None) -> None:
        self.deadline_us = deadline_us
        self.released = False

    def release(self, at_us: int) -> None:
        """Let the wait be over at `at_us`."""
        self.released = True
        self.deadline_us = at_us

    def copy(self) -> Wait:
        """Return one that moves by itself."""
        raise NotImplementedError

    def document(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        raise NotImplementedError


class SignalWait(Wait):
    """A wait for signals.

    Attributes:
        signal: their name.
        count: how many.
        numbers, values: of those that the step has taken, in their order.
        size: bytes of these values.
    """

    __slots__ = ("count", "numbers", "signal", "size", "values")

    def __init__(self, event: StepAwaited) -> None:
        super().__init__(event.deadline_us)
        self.signal = event.signal
        self.count = event.count
        self.numbers: list[int] = []
        self.values: list[msgspec.Raw] = []
        self.size = 0

    def copy(self) -> SignalWait:
        """Return one that moves by itself."""
        made = copy(self)
        made.numbers, made.values = list(self.numbers), list(self.values)
        return made

    def document(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {
            "signal": self.signal,
            "deadline_us": self.deadline_us,
            "count": self.count,
            "numbers": self.numbers,
            "values": [msgspec.json.decode(value) for value in self.values],
            "released": self.released,
        }


class EventWait(Wait):
    """A wait for an event of another task.

    Attributes:
        event: its type or name.
        since_us: when it began: earlier events do not count.
        matched: the event, once it came.
    """

    __slots__ = ("event", "matched", "since_us")

    def __init__(self, event: EventAwaited, since_us: int) -> None:
        super().__init__(event.deadline_us)
        self.event = event.event
        self.since_us = since_us
        self.matched: msgspec.Raw | None = None

    def copy(self) -> EventWait:
        """Return one that moves by itself."""
        return copy(self)

    def document(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {
            "event": self.event,
            "since_us": self.since_us,
            "deadline_us": self.deadline_us,
            "matched": None if self.matched is None else msgspec.json.decode(self.matched),
            "released": self.released,
        }


class ApprovalWait(Wait):
    """A wait for the answers of people.

    Attributes:
        asked: how they were asked.
        assignees, roles: who may answer now; both empty: everybody.
        handed_over: who had others answer instead -> whom.
        escalated: others may answer as well by now.
        answers: with the time of each, in their order.
        size: bytes of their values.
    """

    __slots__ = ("answers", "asked", "assignees", "escalated", "handed_over", "roles", "size")

    def __init__(self, event: ApprovalRequested) -> None:
        super().__init__(event.deadline_us)
        self.asked = event
        self.assignees = dict.fromkeys(event.assignees)
        self.roles = dict.fromkeys(event.roles)
        self.handed_over: dict[str, str] = {}
        self.escalated = False
        self.answers: list[tuple[ApprovalAnswered, int]] = []
        self.size = 0

    @property
    def escalate_us(self) -> int | None:
        """Return when others may answer as well; None: never, or they may."""
        return None if self.escalated else self.asked.escalate_us

    @property
    def rejected(self) -> ApprovalAnswered | None:
        """Return the answer that rejects; None when there is none."""
        return next((answer for answer, _ in self.answers if answer.decision == "rejected"), None)

    @property
    def is_decided(self) -> bool:
        """Return whether one rejects, or enough approve."""
        return self.rejected is not None or len(self.answers) >= self.asked.approvals

    def answer(self, event: ApprovalAnswered, at_us: int) -> None:
        """Take up an answer."""
        self.answers.append((event, at_us))
        self.size += len(bytes(event.values))

    def delegate(self, event: ApprovalDelegated) -> None:
        """Let somebody answer instead of another."""
        self.assignees.pop(event.by, None)
        self.assignees[event.to] = None
        self.handed_over[event.by] = event.to
        self.handed_over.pop(event.to, None)

    def escalate(self, event: ApprovalEscalated) -> None:
        """Let others answer as well; who is among them may, even if they had handed it over before."""
        self.escalated = True
        for one in event.assignees:
            self.handed_over.pop(one, None)
        self.assignees.update(dict.fromkeys(event.assignees))
        self.roles.update(dict.fromkeys(event.roles))

    def copy(self) -> ApprovalWait:
        """Return one that moves by itself."""
        made = copy(self)
        made.assignees, made.roles = dict(self.assignees), dict(self.roles)
        made.handed_over, made.answers = dict(self.handed_over), list(self.answers)
        return made

    def document(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {
            "approval": msgspec.json.decode(msgspec.json.encode(self.asked)),
            "deadline_us": self.deadline_us,
            "assignees": list(self.assignees),
            "roles": list(self.roles),
            "handed_over": self.handed_over,
            "escalated": self.escalated,
            "answers": [
                {**msgspec.json.decode(msgspec.json.encode(answer)), "at_us": at_us} for answer, at_us in self.answers
            ],
            "released": self.released,
        }
