"""What the end of an attempt says of what its handler asks."""

from __future__ import annotations

import pytest

from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    ErrorInfo,
    StepAttemptFailed,
    StepCancelled,
    StepCompleted,
    StepStarted,
    StepTimedOut,
)
from tasker.service.actors.dispatch.outcomes import Outcome, outcome_of
from tasker.service.domain.obligations import Kind


def failed(type: str = "Down", *, retryable: bool = True) -> StepAttemptFailed:
    return StepAttemptFailed(step="a", attempt=1, error=ErrorInfo(type=type, message="x" * 500, retryable=retryable))


STARTED = StepStarted(step="a", attempt=1, worker="w", finish_by_us=1, heartbeat_s=1.0)
COMPLETED = StepCompleted(step="a", attempt=1, result=NULL)
TIMED_OUT = StepTimedOut(step="a", attempt=1, limit="start_to_close", then="continue")
DOWN = Outcome(failed=True, error=f"Down: {'x' * 200}")
LATE = Outcome(failed=True, error=f"timeout: {'x' * 200}")
NOTHING = Outcome(None)


@pytest.mark.parametrize(
    ("events", "limit", "outcome"),
    [
        ([STARTED, COMPLETED], None, Outcome(failed=False)),
        ([STARTED, failed()], None, DOWN),
        ([failed("timeout")], Kind.FINISH_BY, LATE),
        ([failed("timeout"), TIMED_OUT, COMPLETED], Kind.FINISH_BY, LATE),
        ([failed(retryable=False)], None, NOTHING),
        ([failed("worker_lost")], Kind.HEARTBEAT, NOTHING),
        ([failed("worker_lost")], None, NOTHING),
        ([failed("timeout")], Kind.START_BY, NOTHING),
        ([failed("timeout", retryable=False)], Kind.CLOSE_BY, NOTHING),
        ([StepCancelled(step="a", attempt=1, reason="r")], Kind.GRACE, NOTHING),
        ([STARTED], None, None),
        ([StepCompleted(step="b", attempt=1, result=NULL)], None, None),
        ([StepCompleted(step="a", attempt=2, result=NULL)], None, None),
    ],
)
def test_only_what_the_handler_asks_counts(
    events: list[AnyTaskEvent], limit: Kind | None, outcome: Outcome | None
) -> None:
    assert outcome_of(events, "a", 1, limit=limit) == outcome
