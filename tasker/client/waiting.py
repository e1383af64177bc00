"""Waiting for a task to be over: ended, or blocked until a person helps."""

from __future__ import annotations

from collections.abc import Callable

from tasker.client.attempts import RetryPolicy, attempt_until
from tasker.client.http import HttpApi
from tasker.client.requests import TaskRef, position_of, segment, task_id_of
from tasker.clock import Clock
from tasker.errors import DeadlineExceeded, TaskerError, is_passing
from tasker.events.reads import TASK_ENDED, TaskView

POLL_S = 20.0
"""How long one request may be held by the service; below what proxies allow an idle connection."""

_ANSWER_S = 10.0
_FOR_EVER_S = 10.0 * 365 * 86_400

OnProgress = Callable[[TaskView], None]


def is_over(task: TaskView) -> bool:
    """Say whether nothing will change by itself: the task has ended or is blocked."""
    return task.state in TASK_ENDED or task.state == "blocked"


async def over_http(
    api: HttpApi,
    task: TaskRef,
    *,
    timeout_s: float | None,
    policy: RetryPolicy,
    clock: Clock,
    on_progress: OnProgress | None = None,
) -> TaskView:
    """Return the task when it is over, by long polls that are repeated until then.

    Raises:
        DeadlineExceeded: `timeout_s` is over. TaskUnknown: there is no such task.
    """
    deadline_s = clock.monotonic_s() + (_FOR_EVER_S if timeout_s is None else timeout_s)
    path, at_least = f"/v1/tasks/{segment(task_id_of(task))}", position_of(task)

    async def poll(left_s: float) -> TaskView:
        held_s = min(POLL_S, left_s)
        parameters = {"wait_s": round(held_s, 3), "at_least": at_least}
        return await api.get(path, TaskView, timeout_s=held_s + _ANSWER_S, parameters=parameters)

    patient = RetryPolicy(attempt_s=POLL_S, delay_s_base=policy.delay_s_base, delay_s_max=policy.delay_s_max)
    while True:
        try:
            view = await attempt_until(poll, deadline_s=deadline_s, policy=patient, clock=clock)
        except TaskerError as error:
            if not is_passing(error):
                raise
            raise not_over(task, timeout_s, str(error)) from error
        if on_progress is not None:
            on_progress(view)
        if is_over(view):
            return view
        if clock.monotonic_s() >= deadline_s:
            raise not_over(task, timeout_s, f"it is {view.state}{_waiting(view)}")


def not_over(task: TaskRef, timeout_s: float | None, how: str) -> DeadlineExceeded:
    """Return the error of a wait that ended before the task did."""
    detail = f"task {task_id_of(task)} was not over within {timeout_s:g} s: {how}" if timeout_s is not None else how
    return DeadlineExceeded(detail, task_id=task_id_of(task))


def _waiting(view: TaskView) -> str:
    return f", waiting on {view.waiting_on}" if view.waiting_on else ""
