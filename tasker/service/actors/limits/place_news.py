"""What the actor of a task is told about a place that it, or a step of it, asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tasker.errors import TaskerError, TaskUnknown
from tasker.service.domain.advance import advance
from tasker.service.domain.commands import DenyPlace, TakePlace
from tasker.service.domain.limits.places import place_of
from tasker.service.runtime.actor import Turn

if TYPE_CHECKING:
    from tasker.service.actors.task_actor import TaskActor


class PlaceNews:
    """The place is there, or there is none; `answered` gets whether the request still stands, once that is durable."""

    __slots__ = ("answered", "attempt", "command", "fail", "step", "tenant")

    def __init__(  # noqa: PLR0917 - the facts of a word
        self,
        tenant: str,
        step: str,
        attempt: int,
        command: Callable[[int], TakePlace | DenyPlace],
        answered: Callable[[bool], None],
        fail: Callable[[TaskerError], None],
    ) -> None:
        self.tenant = tenant
        self.step = step
        self.attempt = attempt
        self.command = command
        self.answered = answered
        self.fail = fail


def take_place(actor: TaskActor, news: PlaceNews, now_us: int) -> Turn:
    """Record that the place is there, or that there is none."""
    try:
        template = actor.template_for(news.tenant)
    except TaskUnknown as refusal:
        return Turn.refusal(refusal, news.fail)
    events = advance(actor.state, template, news.command(now_us))
    stands = place_of(actor.state, news.step, news.attempt) is not None
    if not events:
        return Turn.answer(lambda _: news.answered(stands), news.fail)
    return actor.record(events, now_us, news.fail, lambda _: news.answered(stands))
