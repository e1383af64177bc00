"""Reads that wait: for a position, and for a task to be over."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from tasker.errors import Behind, TaskUnknown
from tasker.events.position import parse_position
from tasker.events.reads import TASK_ENDED, TaskView
from tasker.service.http.services import Services

POLL_S_FIRST: Final = 0.02


async def reach(services: Services, token: str | None) -> None:
    """Return once the views are at or after `token`; at once when it is None.

    Raises:
        PositionInvalid: it is no token of this log.
        Behind: the views did not get there in time.
    """
    if token is None:
        return
    wanted = parse_position(token, log_id=services.info.log_id, shards=services.info.shards)
    if not await services.positions.reach(wanted, timeout_s=services.settings.at_least_s):
        raise Behind(f"the views have not reached {token[:80]} yet; ask again", retry_after_s=1.0)


async def reach_log(services: Services, token: str | None) -> None:
    """Return when the log, which an answer is read from without the views, is at or after `token`, or that is None.

    Raises:
        PositionInvalid: it is no token of this log.
        Behind: the log has not so many events (yet).
    """
    if token is None:
        return
    wanted = parse_position(token, log_id=services.info.log_id, shards=services.info.shards)
    heads = {head.shard: head.position for head in await services.log.heads(list(wanted))}
    if any(heads.get(shard, 0) < position for shard, position in wanted.items()):
        raise Behind(f"the log has not reached {token[:80]} yet; ask again", retry_after_s=1.0)


async def task_view(services: Services, tenant: str, task_id: UUID) -> TaskView:
    """Return the task as the view shows it.

    Raises:
        TaskUnknown: the view has none.
    """
    view = await services.queries.task(tenant, task_id)
    if view is None:
        raise TaskUnknown(f"there is no task {task_id}", task_id=str(task_id))
    return view


async def task_when_over(services: Services, tenant: str, task_id: UUID, *, wait_s: float) -> TaskView:
    """Return the task once it has ended or is blocked, or as it is when `wait_s` is over (or the service stops).

    Raises:
        TaskUnknown: the view has none.
    """
    deadline_s = services.clock.monotonic_s() + wait_s
    # A quick task may be over before anybody watches it: so look often at first.
    poll_s = POLL_S_FIRST
    with services.watcher.task(tenant, str(task_id)) as watch:
        while True:
            view = await task_view(services, tenant, task_id)
            left_s = deadline_s - services.clock.monotonic_s()
            if is_over(view) or left_s <= 0 or services.stopping.is_set():
                return view
            await watch.news(min(left_s, poll_s))
            poll_s = min(2 * poll_s, services.settings.poll_s)
            if watch.ended_at is not None:
                await services.positions.reach(watch.ended_at, timeout_s=services.settings.at_least_s)


def is_over(view: TaskView) -> bool:
    """Return whether nothing more happens to the task by itself."""
    return view.state in TASK_ENDED or view.state == "blocked"
