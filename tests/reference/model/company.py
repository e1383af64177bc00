"""Tasks beside each other, and what they say: the events that other tasks may wait for.

Written from docs/howto/wait-for-people-and-events.md. What is modelled of an event is its type, whose it is, and its
data; of lifecycle events there are the ends of tasks, with the result for data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Said:
    """An event of a task; another with the same data is another one."""

    task_id: str
    name: str
    data: Any
    step: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as an expression sees it, and as the result of a step that waited for it."""
        found = {"type": self.name, "task_id": self.task_id, "data": self.data}
        return found if self.step is None else {**found, "step": self.step}


class Company:
    """The tasks of a tenant.

    Attributes:
        said: by all of them, in order.
    """

    def __init__(self) -> None:
        self.said: list[Said] = []

    def of(self, task_id: str) -> list[Said]:
        """Return what one of them said."""
        return [one for one in self.said if one.task_id == task_id]
