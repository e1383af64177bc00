"""Older stored forms to the newest, as pure functions on the decoded JSON.

`UPCASTS[(type, version)]` turns the payload of that form into the form of the next version: the new
type, the new version and its payload. Forms are chained until no upcast is left. There are none yet:
every form is at version 1. Each one added gets a recorded history in `tests/compat`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

Upcast = Callable[[dict[str, Any]], tuple[str, int, dict[str, Any]]]

UPCASTS: Final[dict[tuple[str, int], Upcast]] = {}
