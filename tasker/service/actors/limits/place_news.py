"""What the actor of a task is told about a place that it, or a step of it, asked for."""

from __future__ import annotations

from collections.abc import Callable

from tasker.errors import TaskerError
from tasker.service.domain.commands import DenyPlace, TakePlace


class PlaceNews:
    """The place is there, or there is none; `answered` gets whether the request still stands, once that is durable."""

    __slots__ = ("answered", "attempt", "command", "fail", "step", "tenant")

    def __init__(  # noqa: PLR0917 - the facts of a word
        self,
        tenant: str,
        step: str,
        attempt: int,
        command: Callable[[int], TakePlace | DenyPlace],
        answered: Callable[[bool], None],
        fail: Callable[[TaskerError], None],
    ) -> None:
        self.tenant = tenant
        self.step = step
        self.attempt = attempt
        self.command = command
        self.answered = answered
        self.fail = fail
