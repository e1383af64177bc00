"""Endpoints that explain: what a task or a step waits for, from the views, the template and NATS."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final
from uuid import UUID

import msgspec
from aiohttp import web

from tasker.errors import StepUnknown
from tasker.events.reads import QueueFacts, StepView, TaskView, WaitKind
from tasker.projections.explaining import Around, explain_step, explain_task
from tasker.service.http import holds, place_facts, turn_facts
from tasker.service.http.recorded_facts import told_of
from tasker.service.http.requests import Parameters, json_response, task_id_of, tenant_of
from tasker.service.http.services import SERVICES, Services
from tasker.service.http.tasks import content_of
from tasker.service.http.waiting import reach, task_view
from tasker.templates import TemplateSpec
from tasker.templates.instances import is_item, name_of, node_of, parse_instance
from tasker.templates.model import undo_step

INSTANCES_LOOKED_AT: Final = 500
"""Most open visits and items that an explanation looks at: those that have stood longest."""

QUEUES_ASKED: Final = 10


async def of_task(request: web.Request) -> web.Response:
    """GET /v1/tasks/{task_id}/explain."""
    services = request.app[SERVICES]
    tenant, task_id = tenant_of(request), task_id_of(request)
    await reach(services, Parameters(request).text("at_least"))
    view = await task_view(services, tenant, task_id)
    spec = await content_of(request.app, view.template_hash)
    steps = await _begun(services, view, task_id, spec, "")
    around = await _around(services, view, spec, steps, "")
    told = await told_of(services, view, spec, None)
    return json_response(explain_task(view, steps, around._replace(told=told)))


async def of_step(request: web.Request) -> web.Response:
    """GET /v1/tasks/{task_id}/steps/{step}/explain."""
    services = request.app[SERVICES]
    tenant, task_id = tenant_of(request), task_id_of(request)
    instance = parse_instance(request.match_info["step"])
    await reach(services, Parameters(request).text("at_least"))
    view = await task_view(services, tenant, task_id)
    spec = await content_of(request.app, view.template_hash)
    name = str(instance)
    steps = await _begun(services, view, task_id, spec, name)
    is_known = name == instance.name and spec is not None and name in {step.name for step in spec.steps}
    # What a list has is not in the views: of one that goes on any item may still come.
    may_come = is_item(name) and any(one.step == node_of(name) and _waits_for(one, "items") for one in steps)
    if not (is_known or may_come) and all(one.step != name for one in steps):
        raise StepUnknown(f"the task has no step {name[:80]!r}", step=name)
    around = await _around(services, view, spec, steps, name)
    told = await told_of(services, view, spec, next((one for one in steps if one.step == name), None))
    return json_response(explain_step(view, name, spec, steps, around._replace(told=told)))


def _waits_for(step: StepView, kind: WaitKind) -> bool:
    return step.waiting_facts is not None and step.waiting_facts.kind == kind


async def _around(
    services: Services, view: TaskView, spec: TemplateSpec | None, steps: Sequence[StepView], asked: str
) -> Around:
    """Return what is to be known of the queues, keys and rate limits that they wait for."""
    queues, places, turns = await asyncio.gather(
        _queues(services, view, spec, steps),
        place_facts.of_steps(services, view, steps),
        turn_facts.of_steps(services, view, steps, asked),
    )
    return Around(queues, places, turns=turns)


async def _begun(
    services: Services, view: TaskView, task_id: UUID, spec: TemplateSpec | None, asked: str
) -> Sequence[StepView]:
    """Return what may hold a task up, or the step asked for: what is open or failed, and each step's newest visit."""
    tenant, queries = view.tenant, services.queries
    names = [] if spec is None else [step.name for step in spec.steps]
    named = [*names, *([asked] if asked and asked not in names else [])]
    open_ones = partial(queries.open_instances, tenant, task_id, beside=named, limit=INSTANCES_LOOKED_AT)
    declared, visits, items, others = await asyncio.gather(
        queries.steps(tenant, task_id, named),
        queries.newest_visits(tenant, task_id),
        open_ones(within=f"{node_of(asked)}[") if asked else _nothing(),
        open_ones(within=""),
    )
    by_name = {one.step: one for one in (*declared, *visits, *items, *others)}
    found = [one for one in by_name.values() if one.step == asked or _counts(one, spec)]
    await holds.add_to_steps(services, view, spec, found)
    return found


async def _nothing() -> list[StepView]:
    return []


def _counts(one: StepView, spec: TemplateSpec | None) -> bool:
    """Return whether it can hold anything up: not an item that failed and that its step goes on without."""
    if one.state != "failed" or not is_item(one.step) or spec is None:
        return True
    return any(step.isolates for step in spec.steps if step.name == name_of(one.step))


async def _queues(
    services: Services, view: TaskView, spec: TemplateSpec | None, steps: Sequence[StepView]
) -> dict[str, QueueFacts]:
    """Return how the queues stand of steps that wait for a worker."""
    if services.queue_of is None or spec is None:
        return {}
    declared = {step.name: step for step in spec.steps}
    queue_of: dict[str, str] = {}
    handler_of: dict[str, str | None] = {}
    for one in steps:
        if _waits_for(one, "worker"):
            instance = parse_instance(one.step)
            step = declared[instance.name]
            work = undo_step(step) if instance.undoes else step
            queue_of[one.step], handler_of[one.step] = spec.work_queue_of(work), work.handler
    asked = list(dict.fromkeys(queue_of.values()))[:QUEUES_ASKED]
    told = await asyncio.gather(*(services.queue_of(view.tenant, view.namespace, queue) for queue in asked))
    facts = dict(zip(asked, told, strict=True))
    return {
        step: msgspec.structs.replace(found, handler=handler_of[step])
        for step, queue in queue_of.items()
        if (found := facts.get(queue)) is not None
    }
