"""Where callbacks of others are called: what one raises is logged and ends nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec

_P = ParamSpec("_P")

log = logging.getLogger("tasker.bus")


def call_guarded(callback: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> None:
    """Call; log what it raises."""
    try:
        callback(*args, **kwargs)
    except Exception:
        log.exception("a callback of the bus failed: %r", callback)
