"""A process that does not outlive its owner, also when that is killed.

Its stdin is a pipe whose other end only the owner holds. When the pipe ends, the process drains as if SIGTERM had
come; when that takes too long it is killed. Works on every POSIX system.
"""

from __future__ import annotations

import os
import signal
import threading
import time

DRAIN_S = 30.0
"""How long an orphan may drain: its servers are going down at the same time."""


def end_with_owner(drain_s: float = DRAIN_S) -> None:
    """Drain this process when the pipe on its stdin ends, for at most `drain_s`; returns at once."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(drain_s)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="owner", daemon=True).start()
