"""How far a running attempt says that it is: carried with heartbeats, never recorded."""

from __future__ import annotations

import math
from typing import Final

from tasker.errors import ValueInvalid
from tasker.events.messages import Progress
from tasker.handlers.outcome import safe_text

MESSAGE_CHARS_MAX: Final = 200
TELL_S: Final = 1.0
"""How often a worker tells an attempt's progress at most; the last value wins."""


def progress_of(done: float, total: float | None, message: str) -> Progress:
    """Return the progress that a handler tells, with its message cut.

    Raises:
        ValueInvalid: a number is negative or not finite.
    """
    for name, number in (("done", done), ("total", total)):
        if number is not None and not (math.isfinite(number) and number >= 0):
            raise ValueInvalid(f"progress: {name} is {number!r}; give a finite number of at least 0")
    text = safe_text(message)
    return Progress(done=done, total=total, message=text[:MESSAGE_CHARS_MAX])
