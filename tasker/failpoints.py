"""Failpoints: named places where a test makes the process die, as a power cut would.

`TASKER_FAILPOINT=after_append:37` kills this process with SIGKILL at the 37th pass of that place. Without
the variable a pass costs one comparison. The names are in `NAMES`, so that a misspelt one is refused.

A process that is started again has the same environment: with `TASKER_FAILPOINT_HIT=<path>` the file at
that path is made at the kill, and while it exists the failpoint is off. It also proves the hit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tasker.errors import ConfigurationError

VARIABLE: Final = "TASKER_FAILPOINT"
HIT_VARIABLE: Final = "TASKER_FAILPOINT_HIT"

OF_WRITES: Final = (
    "before_append",
    "after_append",
    "before_reply",
    "after_reply",
    "before_submit_ack",
    "before_dispatch",
    "after_dispatch",
    "before_place_ask",
    "before_place_offer",
    "before_postpone",
    "before_place_leave",
    "before_timer",
    "after_timer",
    "before_due_write",
    "after_due_write",
    "before_snapshot_write",
    "after_snapshot_write",
    "before_publish",
    "after_publish",
    "before_cursor",
    "after_cursor",
    "before_renew",
    "after_renew",
    "after_take",
)
"""Places of the process that writes the log."""

OF_VIEWS: Final = ("before_view_write", "after_view_write")
"""Of the one that follows it."""

OF_WORKERS: Final = ("before_ack", "after_ack")
"""Of the one that runs handlers."""

NAMES: Final = (*OF_WRITES, *OF_VIEWS, *OF_WORKERS)


class _Armed:
    """The one failpoint of this process, if any."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.name, _, count = environ.get(VARIABLE, "").partition(":")
        if self.name and self.name not in NAMES:
            raise ConfigurationError(f"{VARIABLE}: there is no failpoint {self.name!r}; there are {', '.join(NAMES)}")
        if count and not count.isdecimal():
            raise ConfigurationError(f"{VARIABLE}: {count!r} is no number of passes")
        self.left = int(count or 1)
        hit = environ.get(HIT_VARIABLE)
        self.hit = Path(hit) if hit else None
        if self.hit is not None and self.hit.exists():
            self.name = ""

    def passed(self) -> None:
        """Count a pass of the place; the last one does not return."""
        self.left -= 1
        if self.left > 0:
            return
        if self.hit is not None:
            self.hit.touch()
        os.kill(os.getpid(), signal.SIGKILL)


_armed = _Armed(os.environ)


def failpoint(name: str) -> None:
    """Pass the place called `name`."""
    if _armed.name == name:
        _armed.passed()
