"""Where in a user's code a call stands, to begin a message with that is told without a traceback."""

from __future__ import annotations

import inspect
from pathlib import Path

_HERE = Path(__file__).parent


def place_of_caller() -> str:
    """Return the first line outside of this package, such as "app.py:12: "; "" when there is none."""
    frame = inspect.currentframe()
    while frame is not None and Path(frame.f_code.co_filename).is_relative_to(_HERE):
        frame = frame.f_back
    return "" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}: "
