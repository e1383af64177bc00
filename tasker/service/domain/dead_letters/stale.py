"""What is recorded of a task, or a step, that stands still for too long; see `staleness`."""

from __future__ import annotations

from typing import Literal, cast

from tasker.events.task_events import AnyTaskEvent, StaleEnded, StaleLimits, WentStale
from tasker.service.domain.state import TaskState
from tasker.templates import CompiledTemplate


def limits_of(template: CompiledTemplate) -> StaleLimits | None:
    """Return the limits that a task of `template` is created with."""
    found = template.spec.stale_after
    if found is None:
        return None
    return StaleLimits(
        pending_s=found.pending_s, blocked_s=found.blocked_s, paused_s=found.paused_s, waiting_s=found.waiting_s
    )


def stale(state: TaskState, scope: str, attempt: int) -> tuple[AnyTaskEvent, ...]:
    """Return what says that a step ("": the task) is stale, once it stands still for longer than its limit."""
    staleness = state.staleness
    assert staleness is not None  # noqa: S101 - it was owed
    standing = staleness.standing[scope]
    after_s = staleness.after_s(standing.state)
    assert after_s is not None  # noqa: S101 - it was owed
    word = cast("Literal['pending', 'blocked', 'paused', 'waiting']", standing.state)
    return (WentStale(step=scope, attempt=attempt, state=word, after_s=after_s),)


def stale_ended(state: TaskState) -> AnyTaskEvent | None:
    """Return what says of one that was stale that it has moved; None: all that are stale stand still."""
    if state.staleness is None or not state.staleness.told:
        return None
    scope = state.staleness.over()
    return None if scope is None else StaleEnded(step=scope)
