"""A task's state as its events say: the one place where the CLI folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasker.events.reads import EventView


def state_after(events: Sequence[EventView]) -> Any:
    """Return the state of a task after `events`, its first ones, as JSON values."""
    from tasker.replay.state_at import state_at

    return state_at(events)
