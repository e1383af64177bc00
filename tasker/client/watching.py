"""A task seen through its lifecycle events alone: what `wait` returns where there is no HTTP.

The fields that only views know (counts of attempts, times of steps) stay at their defaults.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tasker.client.subscription import Subscription, type_of
from tasker.client.waiting import is_over
from tasker.errors import PositionInvalid
from tasker.events.messages import LifecycleEvent
from tasker.events.reads import TASK_ENDED, TaskView, blocked_error
from tasker.events.task_events import (
    NULL,
    ErrorInfo,
    StepFailed,
    TaskBlocked,
    TaskBudgetSet,
    TaskCompleted,
    TaskCreated,
    TaskDeadlineSet,
    TaskFailed,
    TaskPostponed,
    TaskUpdated,
)
from tasker.events.usage import budget_remedy, deadline_remedy
from tasker.templates.instances import is_undo
from tasker.times import to_rfc3339, to_rfc3339_if

WATCHED: Final = (
    "task_created",
    "task_started",
    "task_postponed",
    "step_failed",
    "task_blocked",
    "task_resumed",
    "task_paused",
    "task_unpaused",
    "task_compensating",
    "task_updated",
    "task_deadline_set",
    "task_budget_set",
    "task_completed",
    "task_failed",
    "task_cancelled",
)
"""The types that say how a task goes on."""

_SETTLE_S = 0.2


class Watch:
    """Follows one task through a subscription to its `WATCHED` events from their beginning."""

    def __init__(self, on_progress: Callable[[TaskView], None] | None = None) -> None:
        self.view: TaskView | None = None
        self._on_progress = on_progress

    async def until_over(self, events: Subscription) -> TaskView:
        """Return the task when it has ended, or is blocked and nothing that is recorded says that it went on.

        Raises:
            PositionInvalid: the events do not go back to its creation.
        """
        coming = asyncio.ensure_future(anext(events))
        try:
            while True:
                settled = self.view is not None and is_over(self.view)
                done, _ = await asyncio.wait({coming}, timeout=_SETTLE_S if settled else None)
                if done:
                    event = coming.result()
                    self._take(event)
                    if self.view is None and events.pending == 0:
                        raise PositionInvalid(
                            f"the event stream begins behind the creation of task {event.subject}: the service knows "
                            "how it is; give http_url (TASKER_HTTP_URL)",
                            task_id=event.subject,
                        )
                    coming = asyncio.ensure_future(anext(events))
                if self.view is not None and (
                    self.view.state in TASK_ENDED or (not done and is_over(self.view) and events.pending == 0)
                ):
                    return self.view
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    def _take(self, event: LifecycleEvent) -> None:
        self.view = watched(self.view, event)
        if self.view is not None and self._on_progress is not None:
            self._on_progress(self.view)


def watched(view: TaskView | None, event: LifecycleEvent) -> TaskView | None:
    """Return the task after `event`; None until its creation was seen."""
    kind = type_of(event)
    if kind == "task_created":
        return _created(event)
    if view is None:
        return None
    changes: dict[str, Any] = {
        "updated_at": event.time,
        "seq": event.seq,
        "position": f"{event.shard}:{event.position}",
    }
    match kind:
        case "task_compensating":
            changes |= {"state": "compensating"}
        case "task_paused":
            changes |= {"state": "paused", "remedy": f"tasker task resume {view.task_id}"}
        case "task_started" | "task_resumed" | "task_unpaused":
            state = "compensating" if any(map(is_undo, view.blocked_steps)) else "running"
            changes |= {"state": state, "blocked_steps": (), "error": None, "remedy": None}
        case "task_budget_set":
            if _data(event, TaskBudgetSet).goes_on:
                changes |= {"state": "running", "blocked_steps": (), "error": None, "remedy": None}
        case "step_failed":
            changes |= {"error": _data(event, StepFailed).error, "steps_failed": view.steps_failed + 1}
        case "task_blocked":
            changes |= _blocked(view, _data(event, TaskBlocked))
        case "task_completed":
            result = _data(event, TaskCompleted).result
            changes |= {"state": "completed", "result": result, "ended_at": event.time, "error": None}
        case "task_failed":
            failed = _data(event, TaskFailed)
            error = failed.error or view.error or ErrorInfo(type=failed.cause, message="the task failed")
            changes |= {"state": "failed", "error": error, "ended_at": event.time}
        case "task_updated":
            updated = _data(event, TaskUpdated)
            changes |= {} if updated.tags is None else {"tags": updated.tags}
            if updated.metadata is not None:
                changes |= {"metadata": None if updated.metadata == NULL else updated.metadata}
            changes |= {} if updated.priority is None else {"priority": updated.priority}
        case "task_postponed":
            postponed = _data(event, TaskPostponed)
            deadline_us = postponed.deadline_us
            changes |= {
                "input": postponed.input,
                "not_before": to_rfc3339(postponed.not_before_us),
                "deadline_at": to_rfc3339_if(deadline_us),
            }
        case "task_deadline_set":
            deadline_us = _data(event, TaskDeadlineSet).deadline_us
            changes |= {"deadline_at": to_rfc3339_if(deadline_us)}
        case "task_cancelled":
            changes |= {"state": "cancelled", "ended_at": event.time}
        case _:
            pass
    return msgspec.structs.replace(view, **changes)


def _blocked(view: TaskView, event: TaskBlocked) -> dict[str, Any]:
    remedy = f"tasker task retry {view.task_id}"
    if event.reason == "budget_exceeded":
        remedy = budget_remedy(view.task_id, event.detail)
    elif event.reason == "deadline_passed":
        remedy = deadline_remedy(view.task_id)
    error = blocked_error(event.reason, event.detail) or view.error
    return {"state": "blocked", "blocked_steps": event.steps, "remedy": remedy, "error": error}


def _created(event: LifecycleEvent) -> TaskView:
    created = _data(event, TaskCreated)
    return TaskView(
        task_id=event.subject,
        tenant=event.tenant,
        namespace=created.template.namespace,
        template=created.template.name,
        version=created.template.version,
        template_hash=created.template.hash,
        state="pending" if created.not_before_us is not None else "running",
        input=created.input,
        created_at=event.time,
        updated_at=event.time,
        seq=event.seq,
        position=f"{event.shard}:{event.position}",
        not_before=to_rfc3339_if(created.not_before_us),
        deadline_at=to_rfc3339_if(created.deadline_us),
        tags=created.tags,
        metadata=created.metadata,
        priority=created.priority,
        restarted_from=created.restarted_from,
        idempotency_key=created.idempotency_key,
        correlation_id=event.correlationid,
    )


def _data(event: LifecycleEvent, kind: type[Any]) -> Any:
    return msgspec.json.decode(bytes(event.data), type=kind)
