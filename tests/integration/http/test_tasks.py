import asyncio
import hashlib
import json
from typing import Any
from uuid import uuid4

import pytest

from tasker.errors import KeyConflict, OutcomeUnknown, TaskEnded, Unavailable
from tasker.events.task_events import StepDispatched, TaskCancelled, TaskCompleted
from tasker.templates import StepSpec, TemplateSpec, canonical_bytes
from tests.histories import blocked_task, completed_task, created, ran, raw
from tests.integration.http.conftest import SHARES_SITE, Client, Site

BODY = {"template": "linear4", "namespace": "shop", "input": {"n": 6}}


# ---------------------------------------------------------------- create


async def test_a_created_task_is_201_with_its_location(site: Site, client: Client) -> None:
    task_id = str(uuid4())
    site.gateway.answers.append({"ok": True, "task_id": task_id, "position": "3:812"})
    response, body = await client.ask("POST", "/v1/tasks", json=BODY, status=201)
    assert response.headers["Location"] == f"/v1/tasks/{task_id}"
    assert body == {"ok": True, "task_id": task_id, "position": "3:812"}
    tenant, verb, sent, headers = site.gateway.sent[0]
    assert (tenant, verb, json.loads(sent), headers) == ("default", "task.create", BODY, {})


async def test_a_duplicate_is_200(site: Site, client: Client) -> None:
    site.gateway.answers.append({"ok": True, "task_id": str(uuid4()), "position": "3:812", "duplicate": True})
    _, body = await client.ask("POST", "/v1/tasks", json=BODY, status=200)
    assert body["duplicate"] is True


async def test_a_conflict_is_409_and_names_the_task(site: Site, client: Client) -> None:
    site.gateway.refuse(KeyConflict("the key belongs to another request", task_id="t"))
    problem = await client.problem("POST", "/v1/tasks", 409, "key_conflict", json=BODY)
    assert problem["context"] == {"task_id": "t"}


async def test_a_dry_run_creates_nothing_and_is_200(site: Site, client: Client) -> None:
    told = {"ok": True, "position": "3:812", "dry_run": True, "would": [{"event": "task_created"}]}
    site.gateway.answers.append(told)
    response, body = await client.ask("POST", "/v1/tasks?wait_s=30", json=BODY | {"dry_run": True}, status=200)
    assert "Location" not in response.headers
    assert body == told


async def test_key_tenant_and_trace_go_along(site: Site, client: Client) -> None:
    site.gateway.answers.append({"ok": True, "task_id": str(uuid4())})
    headers = {"Idempotency-Key": "k", "traceparent": "00-1-2-01", "Tasker-Tenant": "acme", "Other": "x"}
    await client.ask("POST", "/v1/tasks", json=BODY, headers=headers, status=201)
    tenant, _, _, sent = site.gateway.sent[0]
    assert (tenant, sent) == ("acme", {"Idempotency-Key": "k", "traceparent": "00-1-2-01"})


async def test_a_body_reaches_the_owner_byte_by_byte(site: Site, client: Client) -> None:
    site.gateway.answers.append({"ok": True, "task_id": str(uuid4())})
    body = b'{"template":"t", "input": 1' + b"0" * 60 + b"}"
    await client.ask("POST", "/v1/tasks", data=body, status=201)
    assert site.gateway.sent[0][2] == body


async def test_a_batch_is_answered_item_by_item(site: Site, client: Client) -> None:
    answer = [{"ok": True, "task_id": str(uuid4())}, {"ok": False, "error": {"code": "template_unknown"}}]
    site.gateway.answers.append(answer)
    _, body = await client.ask("POST", "/v1/tasks", json=[BODY, BODY], status=200)
    assert body == answer
    await client.problem("POST", "/v1/tasks?wait_s=1", 400, "parameter_invalid", json=[BODY])


async def test_a_refused_batch_is_a_problem(site: Site, client: Client) -> None:
    site.gateway.refuse(Unavailable("no"))
    await client.problem("POST", "/v1/tasks", 503, "unavailable", json=[BODY])


async def test_create_waits_for_the_end_when_asked(site: Site, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the views take to learn of it, within the time that is waited."""
    reach = site.services.positions.reach
    monkeypatch.setattr(site.services.positions, "reach", lambda wanted, *, timeout_s: reach(wanted, timeout_s=30.0))
    task_id = site.recorder.task(completed_task("s1"))
    await site.append()
    site.gateway.answers.append({"ok": True, "task_id": str(task_id), "position": site_position(site, task_id, 1)})
    asking = asyncio.create_task(client.ask("POST", "/v1/tasks?wait_s=30", json=BODY, status=201))
    await asyncio.sleep(0)
    await site.runner.catch_up()
    _, body = await asking
    assert body["task_id"] == str(task_id)
    assert (body["task"]["state"], body["task"]["result"]) == ("completed", 36)


async def test_an_accepted_task_is_told_even_when_the_views_are_behind(site: Site, client: Client) -> None:
    site.gateway.answers.append({"ok": True, "task_id": str(uuid4()), "position": "0:9"})
    _, body = await client.ask("POST", "/v1/tasks?wait_s=1", json=BODY, status=201)
    assert "task" not in body


@pytest.mark.parametrize("error", [Unavailable("x", retry_after_s=2.5), OutcomeUnknown("x")])
async def test_what_the_gateway_meets_is_told(site: Site, client: Client, error: Any) -> None:
    site.gateway.answers.append(error)
    response, body = await client.ask("POST", "/v1/tasks", json=BODY, status=503)
    assert body["code"] == error.code
    assert response.headers["Retry-After"] == ("3" if error.retry_after_s else "1")


def site_position(site: Site, task_id: Any, seq: int) -> str:
    event = site.recorder.of(task_id)[seq - 1]
    return f"{event.shard}:{event.position}"


# ---------------------------------------------------------------- get


async def test_a_task_is_shown_as_the_view_has_it(site: Site, client: Client) -> None:
    task_id = await site.task([created(input=raw({"big": 10**40})), StepDispatched(step="s1", attempt=1)])
    async with client.session.get(f"{client.url}/v1/tasks/{task_id}") as response:
        text = await response.text()
    assert '"input":{"big":1' + "0" * 40 + "}" in text
    task = json.loads(text)
    assert (task["task_id"], task["state"], task["waiting_on"]) == (str(task_id), "running", "a worker for step s1")


async def test_nobody_sees_a_task_of_another_tenant(site: Site, client: Client) -> None:
    task_id = await site.task(completed_task("s1"), tenant="acme")
    for path in ("", "/steps", "/events"):
        await client.problem("GET", f"/v1/tasks/{task_id}{path}", 404, "task_unknown")
        await client.get(f"/v1/tasks/{task_id}{path}", headers={"Tasker-Tenant": "acme"})
    assert (await client.get("/v1/tasks"))["items"] == []
    assert (await client.get("/v1/events"))["items"] == []
    assert (await client.get("/v1/stats"))["tasks"] == {}


async def test_a_read_waits_for_the_position_it_names(site: Site, client: Client) -> None:
    task_id = site.recorder.task([created()])
    await site.append()
    token = site_position(site, task_id, 1)
    problem = await client.problem("GET", f"/v1/tasks/{task_id}?at_least={token}", 503, "behind")
    assert problem["retry_after_s"] == 1.0
    asking = asyncio.create_task(client.get(f"/v1/tasks/{task_id}?at_least={token}"))
    await site.runner.catch_up()
    assert (await asking)["position"] == token
    assert len((await client.get(f"/v1/tasks?at_least={token}"))["items"]) == 1


async def test_a_wait_ends_with_the_task(site: Site, client: Client) -> None:
    task_id = await site.task([created()])
    asking = asyncio.create_task(client.get(f"/v1/tasks/{task_id}?wait_s=5"))
    await asyncio.sleep(0.1)
    assert not asking.done()
    site.recorder.record(task_id, [TaskCompleted(result=raw(1))])
    await site.append()
    site.publish()
    await site.runner.catch_up()
    assert (await asking)["state"] == "completed"


async def test_a_wait_ends_when_the_task_blocks_and_without_live_news(site: Site, client: Client) -> None:
    blocked = blocked_task()
    task_id = await site.task(blocked[:-1])
    asking = asyncio.create_task(client.get(f"/v1/tasks/{task_id}?wait_s=5"))
    site.recorder.record(task_id, blocked[-1:])
    await site.settle()
    assert (await asking)["state"] == "blocked"


async def test_a_wait_that_is_over_shows_the_task_as_it_is(site: Site, client: Client) -> None:
    task_id = await site.task([created()])
    assert (await client.get(f"/v1/tasks/{task_id}?wait_s=0.1"))["state"] == "running"
    await client.problem("GET", f"/v1/tasks/{uuid4()}?wait_s=5", 404, "task_unknown")


# ---------------------------------------------------------------- steps


async def test_steps_come_in_declared_order_with_those_to_come(site: Site, client: Client) -> None:
    steps = (
        StepSpec(name="zeta", handler="h"),
        StepSpec(name="alpha", handler="h", after=("zeta",)),
        StepSpec(name="beta", handler="h", after=("zeta", "alpha")),
    )
    content = canonical_bytes(TemplateSpec(name="t", namespace="shop", steps=steps))
    digest = hashlib.sha256(content)
    await site.log.put_blob(digest.digest(), content)
    task_id = await site.task([created(hash=digest.hexdigest()), *ran("zeta")])
    page = await client.get(f"/v1/tasks/{task_id}/steps")
    assert [(step["step"], step["state"], step.get("waiting_on")) for step in page["items"]] == [
        ("zeta", "completed", None),
        ("alpha", "pending", None),
        ("beta", "pending", "step alpha"),
    ]
    assert (page["next"], page["position"]) == (None, site_position(site, task_id, 4))


# ---------------------------------------------------------------- commands to tasks

STEP_VERBS = ("retry", "skip", "resolve", "reset", "edit", "release", "approve", "reject", "delegate")


@pytest.mark.parametrize(
    ("path", "verb", "named"),
    [
        ("cancel", "task.cancel", {}),
        ("retry", "task.retry", {}),
        ("pause", "task.pause", {}),
        ("resume", "task.resume", {}),
        ("signals/order.paid", "task.signal", {"name": "order.paid"}),
        *((verb, f"task.{verb}", {}) for verb in ("complete", "fail", "update", "deadline", "restart", "budget")),
        *((f"steps/charge/{verb}", f"step.{verb}", {"step": "charge"}) for verb in STEP_VERBS),
    ],
)
@SHARES_SITE
async def test_operators_commands(
    shared_site: Site, shared_client: Client, path: str, verb: str, named: dict[str, str]
) -> None:
    task_id = str(uuid4())
    shared_site.gateway.sent.clear()
    for body in ({}, {"json": {"reason": "because", "task_id": task_id}}):
        shared_site.gateway.answers.append({"ok": True, "task_id": task_id, "position": "1:2"})
        _, answer = await shared_client.ask("POST", f"/v1/tasks/{task_id}/{path}", status=200, **body)
        assert answer["position"] == "1:2"
    sent = [(verb_sent, json.loads(body)) for _, verb_sent, body, _ in shared_site.gateway.sent]
    assert sent == [(verb, {"task_id": task_id, **named}), (verb, {"task_id": task_id, **named, "reason": "because"})]
    shared_site.gateway.refuse(TaskEnded("it has ended"))
    await shared_client.problem("POST", f"/v1/tasks/{task_id}/{path}", 409, "task_ended")
    await shared_client.problem("POST", f"/v1/tasks/{task_id}/{path}", 400, "body_invalid", json={"task_id": "other"})
    await shared_client.problem("POST", f"/v1/tasks/{task_id}/{path}", 400, "body_invalid", json=[1])
    await shared_client.problem("POST", f"/v1/tasks/{task_id}/{path}?why=x", 400, "parameter_invalid")
    await shared_client.problem("POST", f"/v1/tasks/nobody/{path}", 404, "task_unknown")


# ---------------------------------------------------------------- lists


async def ids(client: Client, query: str) -> list[str]:
    return [task["task_id"] for task in (await client.get(f"/v1/tasks?{query}"))["items"]]


async def test_lists_take_filters_together(site: Site, client: Client) -> None:
    one = str(await site.task(completed_task("s1", tags={"team": "core", "a:b": "c=d"})))
    two = str(await site.task(blocked_task(template="orders", tags={"team": "core"})))
    three = str(await site.task([created(namespace="lab", tags={"team": "lab"})]))
    four = str(await site.task([created(), TaskCancelled()]))
    times = {task["task_id"]: task["created_at"] for task in (await client.get("/v1/tasks"))["items"]}
    assert await ids(client, "") == [four, three, two, one]
    assert await ids(client, "sort=created_at") == [one, two, three, four]
    assert await ids(client, "state=completed") == [one]
    assert await ids(client, "state=completed,blocked") == [two, one]
    assert await ids(client, "state=completed&state=cancelled") == [four, one]
    assert await ids(client, "namespace=lab") == [three]
    assert await ids(client, "template=orders&namespace=shop") == [two]
    assert await ids(client, "tag=team=core") == [two, one]
    assert await ids(client, "tag=team=core&state=blocked") == [two]
    assert await ids(client, "tag=team=core&tag=nothing=x") == []
    assert await ids(client, f"created_after={times[three]}") == [four, three]
    assert await ids(client, f"created_before={times[three]}") == [two, one]
    assert await ids(client, f"created_after={times[two]}&created_before={times[three]}&sort=updated_at") == [two]


async def test_pages_end_where_they_are_large_enough(
    site: Site, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before they have as many items as they may: with inputs and results each item may have more than 128 KB."""
    for module in ("tasker.projections.queries", "tasker.service.http.tasks"):
        monkeypatch.setattr(f"{module}.PAGE_BYTES_MAX", 30_000)
    large = "x" * 10_000
    spec = TemplateSpec(namespace="shop", name="t", steps=tuple(StepSpec(name=f"s{n}", handler="h") for n in range(4)))
    content = canonical_bytes(spec)
    digest = hashlib.sha256(content).digest()
    await site.log.put_blob(digest, content)
    names = [*(f"s{n}" for n in range(4)), *(f"s0#{n}" for n in range(2, 8))]
    done = [event for name in names for event in ran(name, result=large)]
    task_id = await site.task([created("t", hash=digest.hex()), *done])
    tasks = [
        task_id,
        *[await site.task([created(input=raw(large)), TaskCompleted(result=raw(large))]) for _ in range(5)],
    ]
    for path, key, wanted, most in (
        ("/v1/tasks?limit=100&sort=created_at", "task_id", list(map(str, tasks)), 2),
        (f"/v1/tasks/{task_id}/steps?limit=100", "step", names, 2),
    ):
        found, sizes, after = list[str](), list[int](), ""
        while True:
            page = await client.get(path + after)
            found += [item[key] for item in page["items"]]
            sizes.append(len(page["items"]))
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert (found, max(sizes)) == (wanted, most)


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "updated_at", "-updated_at"])
async def test_pages_have_no_gap_and_no_repeat(site: Site, client: Client, sort: str) -> None:
    """Tasks that come meanwhile do not disturb those that were there."""
    there = {str(site.recorder.task([created(), TaskCompleted(result=raw(number))])) for number in range(25)}
    await site.settle()
    seen: list[str] = []
    cursor = ""
    while True:
        page = await client.get(f"/v1/tasks?sort={sort}&limit=4{cursor}")
        seen.extend(task["task_id"] for task in page["items"])
        await site.task([created()])
        if page["next"] is None or len(seen) > 100:
            break
        cursor = f"&after={page['next']}"
    assert len(seen) == len(set(seen))
    assert there <= set(seen)


async def test_a_cursor_belongs_to_its_list(site: Site, client: Client) -> None:
    for _ in range(3):
        site.recorder.task([created()])
    await site.settle()
    page = await client.get("/v1/tasks?limit=1")
    for cursor in (page["next"][:-3], "x", "WzFd", "%00"):
        await client.problem("GET", f"/v1/tasks?after={cursor}", 400, "parameter_invalid")
    await client.problem("GET", f"/v1/tasks?sort=created_at&after={page['next']}", 400, "parameter_invalid")
    assert len((await client.get(f"/v1/tasks?limit=1&after={page['next']}"))["items"]) == 1


async def test_any_tag_can_be_asked_for(site: Site, client: Client) -> None:
    """Commas, quotes, braces and other scripts are plain characters of a tag."""
    odd = {"a": 'x,"y"', "b,": "}", "{c": "\\", "ü": "日本\t", "e": "", "f": "1,2,3"}
    one = str(await site.task([created(tags=odd)]))
    await site.task([created(tags={"a": "x", "b": "}", "f": "1,3"})])
    await site.task([created()])
    for key, value in odd.items():
        page = await client.get("/v1/tasks", params={"tag": f"{key}={value}"})
        assert [task["task_id"] for task in page["items"]] == [one]
        assert page["items"][0]["tags"] == odd
    for wrong in ("f=1,3,2", "f=2", "a=y", "e=x", "a=X"):
        assert (await client.get("/v1/tasks", params={"tag": wrong}))["items"] == []
