"""What happens when a limit of a step is over, where its template says that (`on_timeout`).

    retry     -> as with any failed attempt: another follows, while there is one left
    fail      -> the step fails at once
    block     -> it does, and the task goes on or waits for a person as with `on_failure: block`
    continue  -> the step completes with null

What is so by default leaves no event of its own.
"""

from __future__ import annotations

from typing import Final, Literal

from tasker.events.task_events import NULL, AnyTaskEvent, ErrorInfo, StepCompleted, StepFailed, StepTimedOut
from tasker.templates import OnTimeout

Limit = Literal["schedule_to_start", "start_to_close", "heartbeat", "schedule_to_close"]

TIMEOUT: Final = "timeout"
"""The type of the error of an attempt that took too long, also as its worker tells it."""

BLOCK: Final = "block"
_DEFAULT: Final = OnTimeout()


def over(on_timeout: OnTimeout, limit: Limit, step: str, attempt: int, error: ErrorInfo) -> tuple[AnyTaskEvent, ...]:
    """Return what follows when `limit` is over, behind the failed attempt; () where that is as by default."""
    then = getattr(on_timeout, limit)
    if then == getattr(_DEFAULT, limit):
        return ()
    said = StepTimedOut(step=step, attempt=attempt, limit=limit, then=then)
    if then == "continue":
        return (said, StepCompleted(step=step, attempt=attempt, result=NULL))
    return (said, StepFailed(step=step, attempt=attempt, reason="timed_out", error=error))
