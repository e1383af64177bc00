"""What a stream remembers of the commands that changed it, so that a repeat of one is answered and not done again."""

from __future__ import annotations

from typing import Final

import msgspec

from tasker.errors import KeyConflict

COMMANDS_REMEMBERED: Final = 128
"""A repeat of one of the last so many commands is answered from the state."""

_ID_TOLD_CHARS_MAX: Final = 80


class CommandMemory(msgspec.Struct):
    """The last commands that changed a stream. Part of its state, and kept with it.

    Attributes:
        seqs: id of a command -> the seq of its last event, the newest last.
        requests: id of a command -> what it asked for (`Meta.request`), where its events say that.
    """

    seqs: dict[str, int] = {}
    requests: dict[str, str] = {}

    def remember(self, command_id: str | None, request: str | None, seq: int) -> None:
        """Note that a command caused the event `seq`, as the newest; the oldest goes. None: no command did."""
        if command_id is None:
            return
        seqs = self.seqs
        seqs.pop(command_id, None)
        seqs[command_id] = seq
        if request is not None:
            self.requests[command_id] = request
        if len(seqs) > COMMANDS_REMEMBERED:
            oldest = next(iter(seqs))
            del seqs[oldest]
            self.requests.pop(oldest, None)

    def knows(self, command_id: str | None, request: str | None) -> bool:
        """Return whether it is a repeat of one of the commands.

        Raises:
            KeyConflict: one with its id asked for something else.
        """
        if command_id is None or command_id not in self.seqs:
            return False
        check_repeat(command_id, request, self.requests.get(command_id))
        return True

    def copy(self) -> CommandMemory:
        """Return one that moves by itself."""
        return CommandMemory(dict(self.seqs), dict(self.requests))


def check_repeat(command_id: str, request: str | None, before: str | None) -> None:
    """Return when a command asks for what an earlier one with its id asked for; None: that is not known.

    Raises:
        KeyConflict: it asks for something else.
    """
    if request is not None and before is not None and request != before:
        raise KeyConflict(
            f"the command id {command_id[:_ID_TOLD_CHARS_MAX]!r} is that of a command that was done before, "
            "with another verb, other fields or by somebody else; this one changes nothing"
        )
