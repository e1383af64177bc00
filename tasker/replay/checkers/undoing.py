"""A part of I8: what a task undoes is what it did, the last first, one after the other, and all of it before it ends.

Told by the events and the template alone, not by the service's own state.
"""

from __future__ import annotations

from collections.abc import Iterator

from tasker.events.task_events import TaskStopping
from tasker.templates import CompiledTemplate
from tasker.templates.instances import is_undo, name_of, undo_of


class Undoing:
    """What is known of a task's compensations. Each method yields what is wrong with the event it is told of."""

    __slots__ = ("_completed", "_expanded", "_open", "_plan", "_stopping", "_template")

    def __init__(self, template: CompiledTemplate) -> None:
        self._template = template
        self._completed: dict[str, None] = {}
        self._expanded: set[str] = set()
        self._stopping: TaskStopping | None = None
        self._plan: list[str] | None = None
        self._open: str | None = None

    def expands(self, name: str) -> None:
        """Take note that a step runs for a list: its items are undone, not it."""
        self._expanded.add(name)

    def completes(self, name: str) -> Iterator[str]:
        """Take note that an instance completed, a compensation or what may need one."""
        if not is_undo(name):
            if name_of(name) in self._template.undos and name not in self._expanded:
                self._completed[name] = None
            return
        if name != self._open:
            yield f"compensation {name} completes, and was not the one under way"
        self._open = None

    def stops(self, stopping: TaskStopping) -> None:
        """Take note that the task stops."""
        self._stopping = stopping

    def compensates(self, steps: tuple[str, ...], instances: int) -> Iterator[str]:
        """Take note of what the task says that it undoes; the order is that of the completions."""
        owed = self._owed()
        self._plan = list(reversed(owed))
        if self._stopping is None or not self._template.compensates(self._stopping.ending):
            yield "the task compensates, and its template does not say so"
        if set(steps) != {name_of(name) for name in owed} or instances != len(owed):
            yield f"the task undoes {instances} of {', '.join(steps[:5])}, and completed are {', '.join(owed[:5])}"

    def dispatches(self, name: str, attempt: int) -> Iterator[str]:
        """Take note that an attempt begins while the task stops."""
        if not is_undo(name):
            yield f"step {name} is dispatched while the task stops"
        elif self._plan is None:
            yield f"compensation {name} is dispatched before the task says what it undoes"
        elif attempt > 1:
            if name != self._open:
                yield f"compensation {name} is tried again, and is not the one under way"
        elif self._open is not None:
            yield f"compensation {name} is dispatched while {self._open} is open"
        elif not self._plan or undo_of(self._plan[-1]) != name:
            wanted = undo_of(self._plan[-1]) if self._plan else "none"
            yield f"compensation {name} is dispatched, and the next is {wanted}"
        else:
            self._plan.pop()
            self._open = name

    def ends(self) -> Iterator[str]:
        """Take note that the task fails or is cancelled."""
        left = self._plan
        if left is None:
            owes = self._stopping is not None and self._template.compensates(self._stopping.ending)
            left = self._owed() if owes else []
        if self._open is not None:
            left = [*left, self._open]
        if left:
            yield f"the task ends before it has undone {', '.join(left[:5])}"

    def _owed(self) -> list[str]:
        return list(reversed(self._completed))
