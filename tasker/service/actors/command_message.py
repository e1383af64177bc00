"""What a command is to the actor that it is for: who asks, for what, and how that is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from tasker.errors import TaskerError
from tasker.events.envelope import Meta
from tasker.service.actors.dry_runs import Planned

Failed = Callable[[TaskerError], None]
CommandT = TypeVar("CommandT")
AnsweredT = TypeVar("AnsweredT")


class CommandMessageBase(Generic[CommandT, AnsweredT]):
    """A command of a person or program, with the ways to answer it.

    Attributes:
        command: what is asked for; where it depends on the time, what makes it of the time of the turn.
        meta: who asks; its `command_id` is that by which a repetition is known, if there is one.
        planned: of a dry run: takes what the command would cause, in place of `answered`; nothing is recorded.
    """

    __slots__ = ("answered", "command", "fail", "meta", "planned", "tenant")

    def __init__(
        self,
        *,
        tenant: str,
        command: CommandT,
        meta: Meta,
        answered: AnsweredT,
        fail: Failed,
        planned: Planned | None = None,
    ) -> None:
        self.tenant = tenant
        self.command = command
        self.meta = meta
        self.answered = answered
        self.fail = fail
        self.planned = planned
