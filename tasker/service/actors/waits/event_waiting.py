"""What the actor of a task does about steps that wait for events of other tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasker.events.envelope import US_PER_S
from tasker.service.actors.waits.event_news import EventNews, Watched
from tasker.service.domain.advance import advance
from tasker.service.domain.obligations import Kind, obligation_of
from tasker.service.domain.waits.event_waits import fits_of, waiting_for_event
from tasker.service.runtime.actor import Turn

if TYPE_CHECKING:
    from tasker.service.actors.task_actor import TaskActor

SAY_AGAIN_S: Final = 3600.0
"""How often a task says again what event it waits for: only a new owner of its shard does not know."""


def take_event(actor: TaskActor, news: EventNews, now_us: int) -> Turn | None:
    """Record an event that a step waits for; one that it does not want leaves it waiting."""
    if actor.template is None or waiting_for_event(actor.state, news.step, news.attempt) is None:
        return None
    events = advance(actor.state, actor.template, news.command(now_us))
    if not events:
        watch(actor, news.step, news.attempt)
        return None
    return actor.record(events, now_us, news.fail)


def watch(actor: TaskActor, step: str, attempt: int) -> None:
    """Have the log watched for the event that a step waits for."""
    wait = waiting_for_event(actor.state, step, attempt)
    if wait is None or actor.template is None or actor.state.stopping is not None:
        return
    ports = actor.ports
    at_us = ports.now_us() + round(SAY_AGAIN_S * US_PER_S)
    ports.later(actor, step, obligation_of(Kind.EVENT, step, attempt), at_us, keep=False)
    ports.events.watch(
        Watched(
            shard=actor.shard,
            stream_id=actor.stream_id,
            tenant=actor.tenant,
            step=step,
            attempt=attempt,
            event=wait.event,
            since_us=wait.since_us,
            fits=fits_of(actor.state, actor.template, step),
        )
    )
