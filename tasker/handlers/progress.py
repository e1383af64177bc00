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


def progress_of(done: float, total: float | str | None, message: str) -> Progress:
    """Return the progress that a handler tells, with its message cut.

    Args:
        done: so much.
        total: of so much; None: unknown; a text: the message, and `done` is a share, from 0 to 1.
        message: unless it came in place of `total`.

    Raises:
        ValueInvalid: a number is none, negative or not finite, a share is above 1, or the message is no text.
    """
    if isinstance(total, str):
        message, total = total, 1.0
        if _is_amount(done) and done > total:
            raise ValueInvalid(
                f"progress: a share is from 0 to 1, not {done!r}; without a total, give None before the message"
            )
    if not _is_amount(done):
        raise ValueInvalid(f"progress: done is {done!r}; give a finite number of at least 0")
    if total is not None and not _is_amount(total):
        raise ValueInvalid(f"progress: total is {total!r}; give a finite number of at least 0")
    if not isinstance(message, str):
        raise ValueInvalid(f"progress: the message is text, not {message!r:.80}")
    text = safe_text(message)
    return Progress(done=done, total=total, message=text[:MESSAGE_CHARS_MAX])


def _is_amount(number: object) -> bool:
    return isinstance(number, (int, float)) and 0 <= number < math.inf
