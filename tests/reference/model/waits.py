"""What the documentation says of waiting for signals, people and events, as part of the reference model.

Written from docs/howto/wait-for-people-and-events.md alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OPERATOR = "ada"
"""Who created the task."""


@dataclass
class Asked:
    """What was asked of people, and what they said.

    Attributes:
        handed: who handed it over, and to whom. heirs: to whom it was ever handed.
    """

    spec: Mapping[str, Any]
    is_escalated: bool = False
    answers: dict[str, str] = field(default_factory=dict)
    handed: dict[str, str] = field(default_factory=dict)
    heirs: set[str] = field(default_factory=set)

    def may_answer(self, by: str, roles: tuple[str, ...]) -> bool:
        """Return whether somebody may."""
        spec = self.spec
        if (spec.get("four_eyes") and by == OPERATOR) or by in self.handed:
            return False
        if "assignees" not in spec and "roles" not in spec:
            return True
        return by in self.named() or bool(set(spec.get("roles", ())) & set(roles))

    def named(self) -> set[str]:
        """Return who may answer by name."""
        found = {*self.spec.get("assignees", ()), *self.heirs}
        if self.is_escalated:
            found |= set(self.spec.get("escalate_to", ()))
        return found - set(self.handed)

    def answer(self, by: str, decision: str, roles: tuple[str, ...]) -> bool:
        """Take an answer; False: it is refused."""
        if by in self.answers:
            return self.answers[by] == decision  # the same again changes nothing, another is no answer
        if not self.may_answer(by, roles):
            return False
        self.answers[by] = decision
        return True

    def decision(self) -> str | None:
        """Return what is decided; None: nothing yet."""
        if "rejected" in self.answers.values():
            return "rejected"
        return "approved" if len(self.answers) >= self.spec.get("approvals", 1) else None

    def delegate(self, by: str, to: str, roles: tuple[str, ...]) -> bool:
        """Let another answer instead; False: that is refused."""
        if self.handed.get(by) == to:
            return True
        if not self.may_answer(by, roles) or not self.spec.get("may_delegate", True) or to in self.named():
            return False
        if by in self.answers or to in self.answers or (self.spec.get("four_eyes") and to == OPERATOR):
            return False
        self.handed.pop(to, None)
        self.handed[by] = to
        self.heirs.add(to)
        return True


@dataclass
class Wait:
    """One wait of an instance.

    Attributes:
        heard: how much tasks had said when it began. kept: the event that came while the task was held.
    """

    since: int
    came: list[Any] = field(default_factory=list)
    asked: Asked | None = None
    heard: int = 0
    kept: Any = None


@dataclass(eq=False)
class Signal:
    """One that no step has taken yet; another with the same value is another one."""

    name: str
    value: Any
