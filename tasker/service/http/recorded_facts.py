"""What the log says of what is over, beside the views: looked up for explanations, in few reads."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from tasker.events.envelope import RecordedEvent
from tasker.events.position import parse_position
from tasker.events.reads import TASK_ENDED, EndFacts, RouteFacts, StepView, TaskView
from tasker.projections.recorded import Told, cancelled_of, end_of, route_of
from tasker.service.http.histories import read_back
from tasker.service.http.services import Services
from tasker.templates import TemplateSpec
from tasker.templates.instances import name_of

LOOKED_AT_MAX: Final = 2_000
"""Most events of a task that are looked at, from its newest."""

_BESIDE: Final = 256
"""A step's end stands so near to what it chose: with it, what it used and emitted."""


async def told_of(services: Services, view: TaskView, spec: TemplateSpec | None, step: StepView | None) -> Told:
    """Return what the log says of a task that has ended or stops, and of a step (None: of none) that has ended."""
    return Told(
        route=None if step is None else await _route(services, view, spec, step),
        cancelled=await _cancelled(services, step) if step is not None and step.state == "cancelled" else None,
        end=await _end(services, view) if step is None or step.state == "cancelled" else None,
    )


async def _route(services: Services, view: TaskView, spec: TemplateSpec | None, step: StepView) -> RouteFacts | None:
    declared = () if spec is None else spec.steps
    if step.state != "completed" or not any(one.routes for one in declared if one.name == name_of(step.step)):
        return None
    near = route_of(reversed(await _before(services, step)), step.step)
    if near is not None:
        return near
    # Its result was edited since, so that the newest event of it is another one.
    found, _, _ = await read_back(
        services.log,
        UUID(view.task_id),
        view.seq + 1,
        1,
        lambda one: route_of((one,), step.step) is not None,
        looked_at_max=LOOKED_AT_MAX,
    )
    return route_of(found, step.step)


async def _cancelled(services: Services, step: StepView) -> str | None:
    return cancelled_of(reversed(await _before(services, step)), step.step)


async def _before(services: Services, step: StepView) -> list[RecordedEvent]:
    """Return the events of the task up to the newest of the step, in order."""
    if step.position is None:
        return []
    info = services.info
    [(shard, position)] = parse_position(step.position, log_id=info.log_id, shards=info.shards).items()
    after = max(0, position - _BESIDE)
    return [
        one
        for one in await services.log.read(shard, after=after, limit=position - after)
        if one.stream_id == UUID(step.task_id)
    ]


async def _end(services: Services, view: TaskView) -> EndFacts | None:
    stops = any(wait.ending is not None for wait in view.waiting_facts)
    if view.state not in TASK_ENDED and not stops:
        return None
    stream_id = UUID(view.task_id)
    found, _, _ = await read_back(
        services.log, stream_id, view.seq + 1, 1, lambda one: one.type == "task_stopping", looked_at_max=LOOKED_AT_MAX
    )
    before = [one for at in found for one in await services.log.load_stream(stream_id, after_seq=at.seq - 2, limit=1)]
    return end_of((*found, *before))
