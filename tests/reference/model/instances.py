"""What has begun of a task: visits of steps, their items, and compensations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tests.reference.model.waits import Wait

Status = Literal["open", "done", "failed", "cancelled"]


@dataclass
class Instance:
    """One visit, item or compensation that has begun."""

    status: Status = "open"
    attempt: int = 1
    first_attempt: int = 1
    result: Any = None
    items: list[str] | None = None
    was_offered: bool = False
    is_running: bool = False
    is_stopping: bool = False
    is_left: bool = False
    is_by_hand: bool = False
    has_place: bool = False
    wait: Wait | None = None
    done_as: int = 0
    failed_as: int = 0
    again: list[str] = field(default_factory=list)
    stops_with_child: bool = False
    is_to_begin: bool = False
