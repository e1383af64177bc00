"""What the actor of a task does about the tasks that its steps start: it has each started, asked after, held and ended.

What is told may get lost, so the step's obligation has the child looked after again until it has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasker.service.actors.children.child_news import ChildHint, ChildNews
from tasker.service.domain.advance import advance
from tasker.service.domain.repairs.pause import child_to_tell
from tasker.service.domain.steps.children import waiting_child
from tasker.service.runtime.actor import Turn

if TYPE_CHECKING:
    from tasker.service.actors.task_actor import TaskActor


def take_news(actor: TaskActor, news: ChildNews, now_us: int) -> Turn | None:
    """Record how the child of a step stands."""
    if actor.template is None or waiting_child(actor.state, news.step, news.attempt) is None:
        return None
    events = advance(actor.state, actor.template, news.command(now_us))
    return actor.record(events, now_us, news.fail) if events else None


def take_hint(actor: TaskActor, hint: ChildHint) -> None:
    """Look after a child that may have ended."""
    if hint.tenant == actor.tenant and waiting_child(actor.state, hint.step, hint.attempt) is not None:
        look_after(actor, hint.step, hint.attempt)


def look_after(actor: TaskActor, step: str, attempt: int) -> None:
    """Start the child of a step, or ask how it stands; tell it to stop when its step is to."""
    entry = actor.state.steps[step]
    if entry.child is None:
        actor.ports.children.start(actor, step, attempt)
        return
    if entry.cancel_by_us is not None:
        cancel(actor, step, attempt)
    hold(actor, step, attempt)
    actor.ports.children.ask(actor, step, attempt)


def cancel(actor: TaskActor, step: str, attempt: int) -> None:
    """Have the child of a step cancelled, if it is there and goes with its parent."""
    assert actor.template is not None  # noqa: S101 - a task with steps has one
    if actor.state.steps[step].child and actor.template.step(step).on_parent_close == "cancel":
        actor.ports.children.cancel(actor, step, attempt)


def hold(actor: TaskActor, step: str, attempt: int) -> None:
    """Tell the child of a step that it is paused, or resumed, with its parent, unless it has heard."""
    if actor.state.children_told is None or actor.template is None:
        return
    told = child_to_tell(actor.state, actor.template, step, attempt)
    if told is not None and actor.children_told.get(step) != told:
        actor.ports.children.hold(actor, step, attempt, told)
