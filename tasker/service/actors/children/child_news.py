"""What the actor of a task is told of the tasks that its steps started."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tasker.errors import TaskerError
from tasker.service.domain.commands import NoteChild


class ChildNews:
    """How a step's child stands; `command` is given the time of the turn."""

    __slots__ = ("attempt", "command", "step")

    def __init__(self, step: str, attempt: int, command: Callable[[int], NoteChild]) -> None:
        self.step = step
        self.attempt = attempt
        self.command = command

    def fail(self, error: TaskerError) -> None:
        """Do nothing: it is asked again."""


class ChildHint(msgspec.Struct, kw_only=True):
    """The child of a step may have ended: ask."""

    tenant: str
    task_id: str
    step: str
    attempt: int

    def fail(self, error: TaskerError) -> None:
        """Do nothing: its step asks by itself, later."""
