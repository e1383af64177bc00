"""How readers ask the owner of a task whose turn it is under rate limits."""

from __future__ import annotations

from typing import Final

import msgspec

LOOK_AT: Final = "turn_look"
"""How the question when attempts have their turn is called between nodes."""


class TurnWords(msgspec.Struct, kw_only=True):
    """Somebody wants to know when attempts of a task have their turn.

    `attempts`: step -> number. The answer is an object of `TurnFacts` by step, of those that wait for one.
    """

    task_id: str
    attempts: dict[str, int]
