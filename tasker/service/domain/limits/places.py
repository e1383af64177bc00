"""Places under concurrency keys, as a task and its steps ask for them, hold them and give them up.

    place requested -> (its key grants it) place taken -> the task, or the step, begins
                    -> (the key has none, or wants it back) place denied -> the task, or the step, is cancelled

A place is held from there until the task has ended, or the step instance has: retries and waits in between included.
Nothing is recorded when it is given up, since the end says so. The key lives in a shard of its own; a request is named
by the task, the instance and the attempt, so that however often it is told there is one.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tasker.events.places import request_words
from tasker.events.task_events import AnyTaskEvent, PlaceDenied, PlaceRequested, PlaceTaken
from tasker.service.domain.commands import DenyPlace, TakePlace
from tasker.service.domain.limits.input_keys import key_of_input, key_of_start
from tasker.service.domain.state import Place, TaskState
from tasker.service.domain.steps.bindings import item_of, value_of
from tasker.templates import CompiledTemplate, StepSpec
from tasker.templates.concurrency import key_text
from tasker.templates.model import Concurrency

_OF_TASK: Final = ""


# ---------------------------------------------------------------- requests


def check_key(concurrency: Concurrency, template: CompiledTemplate, task_input: msgspec.Raw) -> None:
    """Return when the input of a new task gives a key.

    Raises:
        InputInvalid: it gives none.
    """
    key_of_start("concurrency key", concurrency.key, template, task_input)


def request_for_task(state: TaskState, template: CompiledTemplate) -> PlaceRequested | None:
    """Return the request by which a task begins; None: no limit holds for it."""
    concurrency = template.spec.concurrency
    if concurrency is None:
        return None
    key = key_of_input(concurrency.key, template, state.input)
    if key is None:
        return None
    return PlaceRequested(key=key, limit=concurrency.limit, strategy=concurrency.strategy)


def request_for_step(
    state: TaskState, template: CompiledTemplate, spec: StepSpec, instance: str, attempt: int
) -> PlaceRequested | None:
    """Return the request by which a step instance begins; None: no limit holds for it.

    Raises:
        ExpressionFailed: its key has no value here.
    """
    concurrency = spec.concurrency
    if concurrency is None:
        return None
    more: dict[str, Any] = item_of(state, instance)
    key = key_text(value_of(state, template, spec.name, concurrency.key, **more), concurrency.key)
    if key is None:
        return None
    return PlaceRequested(
        step=instance, attempt=attempt, key=key, limit=concurrency.limit, strategy=concurrency.strategy
    )


# ---------------------------------------------------------------- answers


def place_of(state: TaskState, step: str, attempt: int) -> Place | None:
    """Return the place that this very request waits for or holds; None: the request is over."""
    place = state.places.get(step)
    return place if place is not None and place.request.attempt == attempt else None


def waits_as_a_whole(state: TaskState) -> bool:
    """Return whether the task waits for a place before anything of it may begin."""
    place = state.places.get(_OF_TASK) if state.places else None
    return place is not None and not place.held


def take_place(state: TaskState, command: TakePlace) -> tuple[AnyTaskEvent, ...]:
    """Return what it means that a place is there."""
    place = place_of(state, command.step, command.attempt)
    if place is None or place.held or place.denied or state.stopping is not None:
        return ()
    return (PlaceTaken(step=command.step, attempt=command.attempt),)


def deny_place(state: TaskState, command: DenyPlace) -> tuple[AnyTaskEvent, ...]:
    """Return what it means that there is no place, or none any more."""
    place = place_of(state, command.step, command.attempt)
    if place is None or place.denied or state.stopping is not None or (place.held and command.reason == "full"):
        return ()
    denied = PlaceDenied(step=command.step, attempt=command.attempt, reason=command.reason, taken_by=command.taken_by)
    return (denied,)


def denied_words(event: PlaceDenied) -> str:
    """Return why a step, or the task, is cancelled, for people."""
    what = f"step {event.step}" if event.step != _OF_TASK else "the task"
    other = None if event.taken_by is None else request_words(event.taken_by)
    if event.reason == "full":
        return f"no place was free under the concurrency key of {what}" + (f"; {other} has one" if other else "")
    return f"{what} makes room for {other or 'another'} under its concurrency key"
