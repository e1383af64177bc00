"""What the actor of a task asks and is told of events of other tasks that its steps wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from tasker.errors import TaskerError
from tasker.service.domain.commands import NoteEvent
from tasker.service.domain.waits.event_waits import Fits


class Watched(NamedTuple):
    """A step that waits for an event: since when, and what tells whether one is meant for it."""

    shard: int
    stream_id: UUID
    tenant: str
    step: str
    attempt: int
    event: str
    since_us: int
    fits: Fits


class EventNews:
    """An event that a step waits for; `command` is given the time of the turn, `fail` why it was not recorded."""

    __slots__ = ("attempt", "command", "fail", "step")

    def __init__(
        self, step: str, attempt: int, command: Callable[[int], NoteEvent], fail: Callable[[TaskerError], None]
    ) -> None:
        self.step = step
        self.attempt = attempt
        self.command = command
        self.fail = fail
