"""What a command would cause: decided on a copy of the state, which is thrown away."""

from __future__ import annotations

from copy import copy
from typing import Any

from tasker.events.task_events import AnyTaskEvent
from tasker.service.domain.advance import advance
from tasker.service.domain.commands import AnyTaskCommand
from tasker.service.domain.state import Expansion, TaskState
from tasker.templates import CompiledTemplate


def would_cause(state: TaskState, template: CompiledTemplate, command: AnyTaskCommand) -> list[AnyTaskEvent]:
    """Return the events that `command` would cause, and all that follows from them; `state` stays as it is.

    Raises:
        CommandRejected: the state forbids the command.
    """
    return advance(copied(state), template, command)


def copied(state: TaskState) -> TaskState:
    """Return a state that moves by itself. What never changes (events, results, items) is shared."""
    made = TaskState()
    for slot in TaskState.__slots__:
        setattr(made, slot, _own(getattr(state, slot)))
    expansions: dict[int, Expansion] = {}
    for name, entry in state.steps.items():
        step = made.steps[name] = copy(entry)
        step.expansion = _expansion(entry.expansion, expansions)
        step.of = _expansion(entry.of, expansions)
        step.wait = entry.wait and entry.wait.copy()
    made.commands = state.commands.copy()
    made.staleness = state.staleness and state.staleness.copy()
    made.running = state.running and state.running.copy()
    made.inbox = state.inbox and state.inbox.copy()
    made.places = {name: copy(place) for name, place in state.places.items()}
    made.places_left = list(state.places_left)
    made.shared = state.shared and state.shared.copy()
    return made


def _expansion(expansion: Expansion | None, known: dict[int, Expansion]) -> Expansion | None:
    if expansion is None:
        return None
    made = known.get(id(expansion))
    if made is None:
        made = known[id(expansion)] = copy(expansion)
        made.open, made.again = dict(made.open), dict(made.again)
        made.failed, made.cancelled = dict(made.failed), dict(made.cancelled)
    return made


def _own(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value
