"""A turn: a command, and everything that follows from it at once.

`decide` says what the command itself causes, `follow` what follows from each event, `conclude` what is to be said at
rest. All are pure functions of the state as it is at their time; `evolve` moves it on between them. The events of a
turn are one unit in the log: they are recorded together or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from tasker.events.task_events import AnyTaskEvent
from tasker.service.domain.commands import AnyTaskCommand
from tasker.service.domain.decide import decide
from tasker.service.domain.evolve import evolve
from tasker.service.domain.follow import FOLLOWS, FOLLOWS_WHILE_HELD, conclude
from tasker.service.domain.state import TASK_PENDING, TaskState
from tasker.templates import CompiledTemplate


def advance(
    state: TaskState,
    template: CompiledTemplate,
    command: AnyTaskCommand,
    *,
    command_id: str | None = None,
    request: str | None = None,
) -> list[AnyTaskEvent]:
    """Move `state` on by what `command` causes and return the events; [] when it changes nothing.

    The template is the one that the task started with or, for `CreateTask`, is to start with.

    Raises:
        CommandRejected: the state forbids the command; it has not moved.
    """
    at_us = command.at_us
    events: list[AnyTaskEvent] = []
    waiting: list[Iterator[AnyTaskEvent]] = []
    ahead = iter(decide(state, template, command))
    while True:
        for event in ahead:
            events.append(event)
            evolve(state, event, at_us=at_us, command_id=command_id, request=request)
            rests = state.held or state.status is TASK_PENDING
            follow = (FOLLOWS_WHILE_HELD if rests else FOLLOWS).get(type(event))
            if follow is not None:
                waiting.append(ahead)
                ahead = follow(state, template, event, at_us)
                break
        else:
            if waiting:
                ahead = waiting.pop()
                continue
            last = conclude(state, template) if events else None
            if last is None:
                return events
            ahead = iter((last,))
