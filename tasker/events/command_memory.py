"""What a stream remembers of the commands that changed it, so that a repeat of one is answered and not done again."""

from __future__ import annotations

from typing import Final

COMMANDS_REMEMBERED: Final = 128
"""A repeat of one of the last so many commands is answered from the state."""


def remember(commands: dict[str, int], command_id: str, seq: int) -> None:
    """Note that `command_id` caused the event `seq`, as the newest of `commands`; the oldest goes."""
    commands.pop(command_id, None)
    commands[command_id] = seq
    if len(commands) > COMMANDS_REMEMBERED:
        del commands[next(iter(commands))]
