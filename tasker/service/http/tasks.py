"""Endpoints of tasks and their steps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec
from aiohttp import web

from tasker.errors import NameInvalid, ParameterInvalid, TaskerError
from tasker.events.codec import decode_message, encode_message
from tasker.events.messages import Accepted, Reply
from tasker.events.position import format_position
from tasker.events.reads import TASK_STATUSES, StepPage, StepView, TaskPage, TaskView, Wait
from tasker.ids import is_event_name
from tasker.projections.explaining import newest_visits, unmet_parents, unmet_words
from tasker.projections.queries import (
    PAGE_BYTES_MAX,
    TASK_SORTS,
    TaskQuery,
    count_within,
    decode_cursor,
    encode_cursor,
)
from tasker.service.http import holds, place_facts
from tasker.service.http.operations import Endpoint
from tasker.service.http.problems import problem_response
from tasker.service.http.requests import (
    Parameters,
    bytes_response,
    json_response,
    object_body,
    passed_headers,
    task_id_of,
    tenant_of,
)
from tasker.service.http.services import SERVICES, Services
from tasker.service.http.waiting import reach, task_view, task_when_over
from tasker.templates import StepSpec, TemplateSpec, from_canonical
from tasker.templates.instances import parse_instance

_CONTENTS_MAX: Final = 256

CONTENTS: Final = web.AppKey("contents", OrderedDict[str, TemplateSpec])
"""Contents of templates by hash; they never change."""


class CreatedTask(Accepted, kw_only=True, omit_defaults=True):
    """A task was recorded (or, `duplicate`, had been).

    Attributes:
        task: how the task was when `wait_s` was over or the task was; absent when the views could not say.
    """

    task: TaskView | None = None


async def create(request: web.Request) -> web.Response:
    """POST /v1/tasks: one task, or an array of them."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    parameters = Parameters(request)
    wait_s = parameters.seconds("wait_s", most=services.settings.wait_s_max)
    body = await request.read()
    is_batch = body.lstrip()[:1] == b"["
    if is_batch and parameters.text("wait_s") is not None:
        raise ParameterInvalid("a batch does not wait; create its tasks, then wait for each")
    answer = await _send(services, request, tenant, "task.create", body)
    if is_batch and answer.lstrip()[:1] == b"[":
        return bytes_response(answer)
    reply = decode_message(answer, Reply)
    if reply.error is not None:
        return problem_response(reply.error)
    headers = {} if reply.task_id is None else {"Location": f"/v1/tasks/{reply.task_id}"}
    status = 200 if reply.duplicate or reply.dry_run else 201
    if wait_s > 0 and reply.task_id is not None:
        answer = await _with_task(services, tenant, answer, reply, wait_s)
    return bytes_response(answer, status=status, headers=headers)


async def list_tasks(request: web.Request) -> web.Response:
    """GET /v1/tasks: a page of tasks."""
    services = request.app[SERVICES]
    tenant = tenant_of(request)
    parameters = Parameters(request)
    query = TaskQuery(
        states=parameters.choices("state", TASK_STATUSES),
        namespace=parameters.name("namespace"),
        template=parameters.name("template"),
        tags=parameters.tags(),
        created_from_us=parameters.time_us("created_after"),
        created_to_us=parameters.time_us("created_before"),
        sort=parameters.choice("sort", TASK_SORTS) or "-created_at",
        limit=parameters.limit(),
        after=parameters.after(),
    )
    await reach(services, parameters.text("at_least"))
    page = await services.queries.tasks(tenant, query)
    await holds.add_to_tasks(services, page.items)
    await place_facts.add_to_tasks(services, page.items)
    return json_response(TaskPage(items=page.items, next=page.next, position=format_position(page.positions)))


async def get(request: web.Request) -> web.Response:
    """GET /v1/tasks/{task_id}: the task, with `wait_s` once it is over."""
    services = request.app[SERVICES]
    tenant, task_id = tenant_of(request), task_id_of(request)
    parameters = Parameters(request)
    wait_s = parameters.seconds("wait_s", most=services.settings.wait_s_max)
    await reach(services, parameters.text("at_least"))
    if wait_s > 0:
        view = await task_when_over(services, tenant, task_id, wait_s=wait_s)
    else:
        view = await task_view(services, tenant, task_id)
    await holds.add_to_tasks(services, (view,))
    await place_facts.add_to_tasks(services, (view,))
    return json_response(view)


async def steps(request: web.Request) -> web.Response:
    """GET /v1/tasks/{task_id}/steps: a page of the declared steps in their order, then of visits and items."""
    services = request.app[SERVICES]
    tenant, task_id = tenant_of(request), task_id_of(request)
    parameters = Parameters(request)
    limit = parameters.limit()
    part, name = ("declared", "")
    cursor = parameters.after()
    if cursor is not None:
        part, name = (str(one) for one in decode_cursor(cursor, tuple[str, str]))
    await reach(services, parameters.text("at_least"))
    view = await task_view(services, tenant, task_id)
    spec = await content_of(request.app, view.template_hash)
    names = [] if spec is None else [step.name for step in spec.steps]
    items: list[StepView] = []
    if part == "declared" and spec is not None:
        ahead = spec.steps[names.index(name) + 1 :] if name in names else spec.steps
        begun = await services.queries.steps(tenant, task_id, names)
        loops = any(step.back_to is not None for step in spec.steps)
        visits = await services.queries.newest_visits(tenant, task_id) if loops else []
        await _add_progress(services, tenant, task_id, begun)
        await holds.add_to_steps(services, view, spec, begun)
        await place_facts.add_to_steps(services, view, begun)
        newest = newest_visits((*begun, *visits))
        first = {step.step: step for step in begun}
        items = [first.get(step.name) or _not_begun(view, step, newest) for step in ahead[:limit]]
        fitting = count_within(map(_step_bytes, items), PAGE_BYTES_MAX)
        if len(ahead) > fitting:
            return _step_page(view, items[:fitting], ("declared", items[fitting - 1].step))
        name = ""
    room = limit - len(items)
    further = await services.queries.instances(tenant, task_id, beside=names, after=name, limit=room + 1)
    await _add_progress(services, tenant, task_id, further)
    await holds.add_to_steps(services, view, spec, further)
    await place_facts.add_to_steps(services, view, further)
    shown = further[: min(room, count_within(map(_step_bytes, (*items, *further)), PAGE_BYTES_MAX) - len(items))]
    last = ("further", shown[-1].step if shown else name) if len(further) > len(shown) else None
    return _step_page(view, [*items, *shown], last)


def _step_bytes(step: StepView) -> int:
    return 0 if step.result is None else len(bytes(step.result))


def _step_page(view: TaskView, items: list[StepView], last: tuple[str, str] | None) -> web.Response:
    following = None if last is None else encode_cursor(*last)
    return json_response(StepPage(items=items, next=following, position=view.position))


def task_command(verb: str) -> Endpoint:
    """Return the endpoint of an operator's command to a task."""

    async def endpoint(request: web.Request) -> web.Response:
        body = await object_body(request, task_id=str(task_id_of(request)))
        return await command(request, verb, body)

    return endpoint


async def signal(request: web.Request) -> web.Response:
    """POST /v1/tasks/{task_id}/signals/{name}."""
    name = request.match_info["name"]
    if not is_event_name(name):
        raise NameInvalid(f"signal {name[:80]!a} is no name such as 'approved' or 'order.paid'")
    body = await object_body(request, task_id=str(task_id_of(request)), name=name)
    return await command(request, "task.signal", body)


def step_command(verb: str) -> Endpoint:
    """Return the endpoint of an operator's command to a step."""

    async def endpoint(request: web.Request) -> web.Response:
        step = str(parse_instance(request.match_info["step"]))
        body = await object_body(request, task_id=str(task_id_of(request)), step=step)
        return await command(request, verb, body)

    return endpoint


async def command(request: web.Request, verb: str, body: bytes) -> web.Response:
    """Send an operator's command and answer its verdict."""
    Parameters(request)
    answer = await _send(request.app[SERVICES], request, tenant_of(request), verb, body)
    reply = decode_message(answer, Reply)
    return bytes_response(answer) if reply.error is None else problem_response(reply.error)


async def _send(services: Services, request: web.Request, tenant: str, verb: str, body: bytes) -> bytes:
    return await services.gateway.send(
        tenant, verb, body, passed_headers(request), timeout_s=services.settings.command_s
    )


async def _with_task(services: Services, tenant: str, answer: bytes, reply: Reply, wait_s: float) -> bytes:
    """Return the verdict with the task as it is when over; the verdict alone when the views cannot say.

    The task is created: whatever the wait meets, the answer says so.
    """
    members = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
    try:
        await reach(services, reply.position)
        view = await task_when_over(services, tenant, UUID(reply.task_id), wait_s=wait_s)
    except TaskerError:
        return answer
    members["task"] = msgspec.Raw(encode_message(view))
    return encode_message(members)


async def _add_progress(services: Services, tenant: str, task_id: UUID, steps: Sequence[StepView]) -> None:
    """Add to running steps what their attempts told of their progress, and to lists how many items are over."""
    going_on = [step for step in steps if step.state == "running" or _waits_for_items(step)]
    if services.progress_of is None or not going_on:
        return
    told_of = await services.progress_of(tenant, task_id)
    for step in going_on:
        told = told_of.get(step.step)
        if told is not None and step.attempt == told.attempt:
            step.progress = told


def _waits_for_items(step: StepView) -> bool:
    return step.waiting_facts is not None and step.waiting_facts.kind == "items"


async def content_of(app: web.Application, digest: str) -> TemplateSpec | None:
    """Return a template's content; None when the task does not say which (its creation cannot be read)."""
    if not digest:
        return None
    contents = app[CONTENTS]
    spec = contents.get(digest)
    if spec is None:
        blob = await app[SERVICES].log.get_blob(bytes.fromhex(digest))
        if blob is None:
            return None
        spec = contents[digest] = from_canonical(blob)
        if len(contents) > _CONTENTS_MAX:
            contents.popitem(last=False)
    return spec


def _not_begun(view: TaskView, step: StepSpec, newest: Mapping[str, StepView]) -> StepView:
    why_not = view.not_chosen.get(step.name)
    if why_not is not None:
        return StepView(task_id=view.task_id, step=step.name, state="not_chosen", waiting_on=why_not)
    unmet = unmet_parents(view, step, newest.get)
    return StepView(
        task_id=view.task_id,
        step=step.name,
        state="pending",
        waiting_on=unmet_words(step, unmet),
        waiting_facts=Wait(kind="parents", step=step.name, steps=tuple(unmet)) if unmet else None,
    )
