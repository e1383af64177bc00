"""Failpoints: named places where a test makes the process die, as a power cut would.

`TASKER_FAILPOINT=after_append:37` kills this process with SIGKILL at the 37th pass of that place. Without
the variable a pass costs one comparison. The names are in `NAMES`, so that a misspelt one is refused.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from tasker.errors import ConfigurationError

VARIABLE: Final = "TASKER_FAILPOINT"

NAMES: Final = (
    "before_append",
    "after_append",
    "before_reply",
    "before_dispatch",
    "after_dispatch",
    "before_due_write",
    "after_due_write",
    "before_publish",
    "before_cursor",
    "after_cursor",
    "before_renew",
    "after_take",
)


class _Armed:
    """The one failpoint of this process, if any."""

    def __init__(self, setting: str) -> None:
        self.name, _, count = setting.partition(":")
        if self.name and self.name not in NAMES:
            raise ConfigurationError(f"{VARIABLE}: there is no failpoint {self.name!r}; there are {', '.join(NAMES)}")
        self.left = int(count or 1) if self.name else 0


_armed = _Armed(os.environ.get(VARIABLE, ""))


def failpoint(name: str) -> None:
    """Pass the place called `name`."""
    if _armed.name == name:
        _armed.left -= 1
        if _armed.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
