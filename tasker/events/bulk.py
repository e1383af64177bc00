"""What a task of the template `tasker/bulk` takes and gives: its order, how far it is, what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tasker.events.messages import BULK_RATE_PER_S, BulkDeadLetters, BulkTasks, BulkVerb
from tasker.events.reads import TaskStatus

PREVIEW: Final = "bulk"
"""How the question what a bulk would be for is called, to whoever reads the views."""

REFUSALS_MAX: Final = 100
"""Refusals that are listed; all are counted."""

_OPEN: Final[tuple[TaskStatus, ...]] = ("pending", "running", "blocked", "paused", "compensating")

_ENDED: Final[tuple[TaskStatus, ...]] = ("completed", "failed", "cancelled")

STATES_OF: Final[Mapping[BulkVerb, tuple[TaskStatus, ...]]] = {
    "task.cancel": _OPEN,
    "task.fail": _OPEN,
    "task.retry": ("blocked",),
    "task.pause": ("pending", "running", "blocked", "compensating"),
    "task.resume": ("paused",),
    "task.update": _OPEN,
    "task.deadline": _OPEN,
    "task.restart": ("failed", "cancelled"),
}
"""Of which tasks a command is for, where its bulk names no states."""

REFUSED_IN: Final[Mapping[BulkVerb, tuple[TaskStatus, ...]]] = {
    **dict.fromkeys(STATES_OF, _ENDED),
    "task.cancel": ("completed", "failed"),  # one that is cancelled has it already
    "task.restart": _OPEN,
}
"""In which states every task refuses a command. One in another state may refuse it as well, for what it has done."""

REASONS_OF: Final[Mapping[BulkVerb, tuple[str, ...]]] = {
    "dlq.retry": ("retries_exhausted", "permanent_error", "no_worker"),  # what a fresh set of attempts may repair
    "dlq.resolve": (),
}
"""The same of dead letters and their reasons; (): all."""

OPEN_STATUSES: Final = ("open", "investigating")
"""Of dead letters, where a bulk names no statuses."""


def is_of_letters(verb: BulkVerb) -> bool:
    """Return whether a command of a bulk is for dead letters; else it is for tasks."""
    return verb.startswith("dlq.")


class BulkOrder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The input of such a task; the fields are those of `BulkCreate`."""

    verb: BulkVerb
    requested_by: str
    reason: str
    arguments: dict[str, Any] = {}
    tasks: BulkTasks | None = None
    dead_letters: BulkDeadLetters | None = None
    rate_per_s: float = BULK_RATE_PER_S


class BulkRefusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One that did not take the command, and why; `step` is that of a dead letter."""

    task_id: str
    code: str
    detail: str
    step: str = ""


class BulkOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of such a task.

    Attributes:
        matched: how many there were at its start.
        done: how many took the command.
        refused: how many did not; refused_by_code: the same by the code of the refusal.
        refusals: the first of them.
        position: reads at or after it show all of that; None when nothing was done.
    """

    verb: BulkVerb
    matched: int
    done: int = 0
    refused: int = 0
    refused_by_code: dict[str, int] = {}
    refusals: tuple[BulkRefusal, ...] = ()
    position: str | None = None
