"""Who holds the places that tasks and steps wait for: asked of the owners of their concurrency keys."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from uuid import UUID

import msgspec
import structlog

from tasker.bus.bus import Bus
from tasker.errors import TaskerError
from tasker.events.codec import encode_message
from tasker.events.places import LOOK_AT, KeyName, LookWords, request_of
from tasker.events.reads import PlaceFacts, StepView, TaskView
from tasker.events.subjects import Subjects
from tasker.ids import concurrency_stream_id
from tasker.projections.explaining import place_words
from tasker.projections.views.awaits import PLACE_WORDS
from tasker.service.http.services import Services
from tasker.templates.instances import name_of

ANSWER_S: Final = 0.5
"""A read does not wait longer for what it can do without."""

KEYS_ASKED: Final = 10
"""Most keys that one read asks after."""

_OF_STEP: Final = re.compile(rf"{re.escape(PLACE_WORDS)}(?P<key>.+) for step (?P<step>[^ ;]+)(?P<rest>;.*)?", re.DOTALL)

_log = structlog.get_logger(__name__)
_facts: Callable[[bytes], PlaceFacts | None] = msgspec.json.Decoder(PlaceFacts | None).decode

Asked = tuple[KeyName, str]
"""A key, and the request that it is asked for."""


class BusPlaces:
    """Asks owners over the bus (`PlaceOf`)."""

    def __init__(self, bus: Bus, subjects: Subjects, shard_of: Callable[[UUID], int]) -> None:
        self._bus = bus
        self._subjects = subjects
        self._shard_of = shard_of

    async def __call__(self, name: KeyName, request: str) -> PlaceFacts | None:
        """Return how a key stands for a request; None when its owner does not say in time."""
        stream_id = concurrency_stream_id(name.tenant, name.namespace, name.template, name.step, name.key)
        subject = self._subjects.node_shard(self._shard_of(stream_id), LOOK_AT)
        try:
            words = LookWords(name=name, request=request)
            answer = await self._bus.request(subject, encode_message(words), timeout_s=ANSWER_S)
            return _facts(answer.data)
        except (TaskerError, msgspec.DecodeError) as error:
            _log.debug("place_not_told", key=name.key, error=str(error))
            return None


async def of_steps(services: Services, view: TaskView, steps: Iterable[StepView]) -> dict[str, PlaceFacts]:
    """Return how the keys stand that a task and its steps wait for, by step; "" is the task."""
    asked: dict[str, Asked] = {}
    if view.state == "pending" and view.waiting_for == "place":
        asked[""] = (_key(view, "", _text(view.waiting_on)), view.task_id)
    for step in steps:
        if step.waiting_for == "place":
            request = request_of(view.task_id, step.step, step.attempt)
            asked[step.step] = (_key(view, name_of(step.step), _text(step.waiting_on)), request)
    return await _ask(services, asked)


async def add_to_steps(services: Services, view: TaskView, steps: Iterable[StepView]) -> None:
    """Say of steps that wait for a place who holds it."""
    by_name = {step.step: step for step in steps if step.waiting_for == "place"}
    for name, facts in (await of_steps(services, view, by_name.values())).items():
        if name in by_name:
            by_name[name].waiting_on = place_words(facts)


async def add_to_tasks(services: Services, tasks: Iterable[TaskView]) -> None:
    """Say of tasks that wait for a place, or whose first open step does, who holds it."""
    waiting: dict[str, tuple[TaskView, str]] = {}
    asked: dict[str, Asked] = {}
    for task in tasks:
        if task.waiting_for != "place":
            continue
        if task.state == "pending":
            waiting[task.task_id] = (task, "")
            asked[task.task_id] = (_key(task, "", _text(task.waiting_on)), task.task_id)
        elif (found := _OF_STEP.fullmatch(task.waiting_on or "")) is not None:
            step = found["step"]
            waiting[task.task_id] = (task, f" for step {step}{found['rest'] or ''}")
            asked[task.task_id] = (_key(task, name_of(step), found["key"]), request_of(task.task_id, step, 1))
    for task_id, facts in (await _ask(services, asked)).items():
        task, rest = waiting[task_id]
        task.waiting_on = place_words(facts) + rest


async def _ask(services: Services, asked: Mapping[str, Asked]) -> dict[str, PlaceFacts]:
    """Return the answers by the same names; of more than a few keys the first are asked."""
    if services.place_of is None or not asked:
        return {}
    some = dict(list(asked.items())[:KEYS_ASKED])
    told = await asyncio.gather(*(services.place_of(name, request) for name, request in some.values()))
    return {name: facts for name, facts in zip(some, told, strict=True) if facts is not None}


def _key(view: TaskView, step: str, key: str) -> KeyName:
    return KeyName(tenant=view.tenant, namespace=view.namespace, template=view.template, step=step, key=key)


def _text(words: str | None) -> str:
    """Return the key that stands in the words of a view."""
    return (words or "").removeprefix(PLACE_WORDS)
