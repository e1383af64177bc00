"""What the end of an attempt says of what its handler asks, as a circuit breaker counts it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tasker.events.task_events import AnyTaskEvent, StepAttemptFailed, StepCancelled, StepCompleted, StepYielded
from tasker.service.domain.obligations import Kind

SAYS_NOTHING: Final = frozenset({"worker_lost", "ProcessLost", "cancelled"})
"""Errors of attempts whose worker or process was lost, or that were told to stop."""

SILENT: Final = frozenset({Kind.START_BY, Kind.HEARTBEAT, Kind.CLOSE_BY, Kind.GRACE})
"""Limits that end an attempt and say nothing of its handler: no worker, a lost one, or time that others took."""

MESSAGE_CHARS_MAX: Final = 200


class Outcome(NamedTuple):
    """How an attempt ended.

    Attributes:
        failed: whether what it asks does not work; None: it says nothing of that.
        error: of one that failed.
    """

    failed: bool | None
    error: str = ""


def outcome_of(events: Sequence[AnyTaskEvent], step: str, attempt: int, *, limit: Kind | None = None) -> Outcome | None:
    """Return how an attempt ended by the events of the turn that it was told in; None: it did not.

    `limit`: the one that was over, where no worker told it.
    """
    for event in events:
        match event:
            case StepAttemptFailed(step=name, attempt=number, error=error) if (name, number) == (step, attempt):
                if limit in SILENT or not error.retryable or error.type in SAYS_NOTHING:
                    return Outcome(None)
                return Outcome(failed=True, error=f"{error.type}: {error.message[:MESSAGE_CHARS_MAX]}")
            case StepCompleted() | StepYielded() if (event.step, event.attempt) == (step, attempt):
                return Outcome(failed=False)
            case StepCancelled(step=name, attempt=number) if (name, number) == (step, attempt):
                return Outcome(None)
            case _:
                pass
    return None
