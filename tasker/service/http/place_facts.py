"""Who holds the places that tasks and steps wait for: asked of the owners of their concurrency keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Final, TypeVar
from uuid import UUID

import msgspec
import structlog

from tasker.bus.bus import Bus
from tasker.errors import TaskerError
from tasker.events.codec import encode_message
from tasker.events.places import LOOK_AT, KeyName, LookWords, request_of
from tasker.events.reads import PlaceFacts, StepView, TaskView, Wait
from tasker.events.subjects import Subjects
from tasker.ids import concurrency_stream_id
from tasker.projections.views.words import words_of, words_of_task
from tasker.service.http.services import Services
from tasker.templates.instances import name_of

ANSWER_S: Final = 0.5
"""A read does not wait longer for what it can do without."""

KEYS_ASKED: Final = 10
"""Most keys that one read asks after."""

_log = structlog.get_logger(__name__)
_facts: Callable[[bytes], PlaceFacts | None] = msgspec.json.Decoder(PlaceFacts | None).decode

_Name = TypeVar("_Name", bound=Hashable)

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
    waits = [*view.waiting_facts[:1], *(step.waiting_facts for step in steps)]
    asked = {wait.step or "": _asked(view, wait) for wait in waits if wait is not None and wait.kind == "place"}
    return await _ask(services, asked)


async def add_to_steps(services: Services, view: TaskView, steps: Iterable[StepView]) -> None:
    """Say of steps that wait for a place who holds it."""
    by_name = {step.step: step for step in steps}
    for name, facts in (await of_steps(services, view, by_name.values())).items():
        step = by_name.get(name)
        if step is not None and step.waiting_facts is not None:
            step.waiting_facts.place = facts
            step.waiting_on = words_of(step.waiting_facts)


async def add_to_tasks(services: Services, tasks: Iterable[TaskView]) -> None:
    """Say of tasks that wait for a place, or whose open steps do, who holds it."""
    waiting: dict[tuple[str, str], tuple[TaskView, Wait]] = {}
    for task in tasks:
        for wait in task.waiting_facts:
            if wait.kind == "place":
                waiting[task.task_id, wait.step or ""] = (task, wait)
    told = await _ask(services, {name: _asked(task, wait) for name, (task, wait) in waiting.items()})
    for name, facts in told.items():
        task, wait = waiting[name]
        wait.place = facts
        task.waiting_on = words_of_task(task.waiting_facts)


async def _ask(services: Services, asked: Mapping[_Name, Asked]) -> dict[_Name, PlaceFacts]:
    """Return the answers by the same names; of more than a few keys the first are asked."""
    if services.place_of is None or not asked:
        return {}
    some = dict(list(asked.items())[:KEYS_ASKED])
    told = await asyncio.gather(*(services.place_of(name, request) for name, request in some.values()))
    return {name: facts for name, facts in zip(some, told, strict=True) if facts is not None}


def _asked(view: TaskView, wait: Wait) -> Asked:
    """Return the key that is waited for, and the request for a place under it."""
    step = wait.step or ""
    name = KeyName(
        tenant=view.tenant,
        namespace=view.namespace,
        template=view.template,
        step=step and name_of(step),
        key=wait.key or "",
    )
    return name, request_of(view.task_id, step, wait.attempt or 1) if step else view.task_id
