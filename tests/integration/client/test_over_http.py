"""The client against a scripted HTTP service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from tasker.client import EVERY_TASK, NewTask, RetryPolicy, TaskerClient, TaskHandle
from tasker.errors import (
    AuthenticationFailed,
    Behind,
    ConfigurationError,
    DeadlineExceeded,
    InputInvalid,
    OutcomeUnknown,
    TaskerError,
    TaskUnknown,
    Unavailable,
    Undecodable,
)
from tests.integration.client.scripted import Endpoint, as_json, body_of, http_service, refused

HASTY = RetryPolicy(attempt_s=0.5, delay_s_base=0.01, delay_s_max=0.02)


def view(state: str = "running", **more: Any) -> dict[str, Any]:
    return {
        "task_id": "t-1",
        "tenant": "default",
        "namespace": "default",
        "template": "hello",
        "version": "v",
        "template_hash": "h",
        "state": state,
        "input": None,
        "created_at": "2026-11-21T10:00:00Z",
        "updated_at": "2026-11-21T10:00:00Z",
        "seq": 1,
        "position": "0:1",
    } | more


@asynccontextmanager
async def client_of(endpoint: Endpoint, **options: Any) -> AsyncIterator[TaskerClient]:
    given: dict[str, Any] = {"timeout_s": 5.0, "retry": HASTY} | options
    async with (
        http_service(endpoint) as url,
        TaskerClient("", url, environ={}, **given) as client,
    ):
        yield client


class Scripted:
    """Answers requests in turn; the last answer goes on. Remembers method, path, query and body."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.heard: list[tuple[str, str, dict[str, str], Any]] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.heard.append((request.method, request.path, dict(request.query), await body_of(request)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, TaskerError):
            return refused(answer)
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return as_json(answer)


ACCEPTED = {"ok": True, "task_id": "t-1", "position": "0:1"}


async def test_a_cut_connection_is_asked_again_with_the_same_key() -> None:
    script = Scripted(None, Unavailable("starting"), ACCEPTED)
    async with client_of(script) as client:
        handle = await client.create("hello", 1)
    assert isinstance(handle, TaskHandle)
    assert len(script.heard) == 3
    assert len({body["idempotency_key"] for _, _, _, body in script.heard}) == 1


async def test_a_connection_that_is_always_cut_leaves_a_doubt() -> None:
    async with client_of(Scripted(None), timeout_s=0.3) as client:
        with pytest.raises(OutcomeUnknown):
            await client.create("hello")


async def test_refusals_are_typed() -> None:
    async with client_of(Scripted(InputInvalid("no", retry_after_s=None))) as client:
        with pytest.raises(InputInvalid):
            await client.create("hello")


async def test_a_proxys_page_is_unavailable() -> None:
    async def proxy(_request: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>bad gateway")

    async with client_of(proxy, timeout_s=0.2) as client:
        with pytest.raises(Unavailable, match="502"):
            await client.get("t-1")


@pytest.mark.parametrize(("status", "text"), [(404, "<html>not\n\nfound"), (501, "POST?"), (405, "{}")], ids=str)
async def test_a_strangers_refusal_names_the_address_and_is_not_asked_again(status: int, text: str) -> None:
    asked: list[str] = []

    async def stranger(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, text=text)

    async with client_of(stranger) as client:
        for call in (client.get("t-1"), client.cancel("t-1")):
            with pytest.raises(ConfigurationError) as found:
                await call
            told = str(found.value)
            assert f"is answered with HTTP {status}, and not as Tasker does: {' '.join(text.split())}" in told
            assert f"{client.settings.http_url}/v1/tasks/t-1" in told
            assert "is it Tasker's address" in found.value.context["remedy"]
    assert len(asked) == 2


@pytest.mark.parametrize("status", [401, 407])
async def test_a_proxy_that_wants_to_know_who_asks_is_a_matter_of_authentication(status: int) -> None:
    async def proxy(_request: web.Request) -> web.Response:
        return web.Response(status=status, text="who are you?")

    async with client_of(proxy) as client:
        with pytest.raises(AuthenticationFailed, match=f"HTTP {status}, by a proxy before Tasker: who are you"):
            await client.get("t-1")


async def test_a_strangers_answer_names_the_address() -> None:
    async def stranger(_request: web.Request) -> web.Response:
        return as_json({"hello": 1})

    async with client_of(stranger) as client:
        with pytest.raises(Undecodable, match=r"GET http://.*/v1/tasks/t-1 is not answered as Tasker does") as found:
            await client.get("t-1")
        assert "is it Tasker's address" in found.value.context["remedy"]


async def test_a_strangers_answer_to_a_command_leaves_a_doubt_and_names_the_address() -> None:
    async def stranger(_request: web.Request) -> web.Response:
        return web.Response(text="<html>welcome")

    async with client_of(stranger, timeout_s=0.2) as client:
        with pytest.raises(OutcomeUnknown) as found:
            await client.cancel("t-1")
        (of_batch,) = await client.create_many([NewTask("hello")])
        assert isinstance(of_batch, OutcomeUnknown)
        for error in (found.value, of_batch):
            assert f"{client.settings.http_url} does not answer as Tasker does: " in error.detail
            assert "is it Tasker's address" in error.context["remedy"]


async def test_a_batch_goes_as_one_array() -> None:
    script = Scripted([ACCEPTED, {"ok": False, "error": msgspec.to_builtins(InputInvalid("no").problem())}])
    async with client_of(script) as client:
        found = await client.create_many([NewTask("hello", 1), NewTask("hello", 2)])
    assert [type(one) for one in found] == [TaskHandle, InputInvalid]
    assert [one["input"] for one in script.heard[0][3]] == [1, 2]


async def test_commands_have_their_endpoints() -> None:
    script = Scripted(ACCEPTED)
    async with client_of(script) as client:
        await client.cancel("t-1", reason="why", command_id="c")
        await client.retry("t-1", command_id="c")
        await client.step_retry("t-1", "charge", command_id="c")
        await client.pause("t-1", command_id="c", dry_run=True)
        await client.step_resolve("t-1", "a#2", {"n": 1}, routes=["b"], command_id="c")
        await client.signal("t-1", "order.paid", {"n": 1}, command_id="c")
        await client.approvals.delegate("t-1", "ask", requested_by="ada", to="bob", command_id="c")
        await client.register({"name": "t"}, command_id="c")
        await client.use("t", "1", command_id="c")
        await client.schedules.pause("s", "closed", command_id="c", dry_run=True)
        await client.schedules.delete("s", namespace="shop", reason="why", command_id="c", dry_run=True)
    assert [(method, path, body) for method, path, _, body in script.heard] == [
        ("POST", "/v1/tasks/t-1/cancel", {"reason": "why", "command_id": "c"}),
        ("POST", "/v1/tasks/t-1/retry", {"command_id": "c"}),
        ("POST", "/v1/tasks/t-1/steps/charge/retry", {"command_id": "c"}),
        ("POST", "/v1/tasks/t-1/pause", {"command_id": "c", "dry_run": True}),
        ("POST", "/v1/tasks/t-1/steps/a#2/resolve", {"command_id": "c", "result": {"n": 1}, "routes": ["b"]}),
        ("POST", "/v1/tasks/t-1/signals/order.paid", {"command_id": "c", "value": {"n": 1}}),
        ("POST", "/v1/tasks/t-1/steps/ask/delegate", {"command_id": "c", "requested_by": "ada", "to": "bob"}),
        ("PUT", "/v1/templates", {"template": {"name": "t"}, "command_id": "c"}),
        ("POST", "/v1/templates/default/t/use", {"version": "1", "command_id": "c"}),
        ("POST", "/v1/schedules/default/s/pause", {"note": "closed", "command_id": "c", "dry_run": True}),
        ("DELETE", "/v1/schedules/shop/s", {"reason": "why", "command_id": "c", "dry_run": True}),
    ]


async def test_a_preview_is_the_dry_run_of_a_creation() -> None:
    script = Scripted({"ok": True, "position": "0:1", "dry_run": True, "would": [{"event": "task_created"}]})
    async with client_of(script) as client:
        reply = await client.preview(NewTask("hello", 1, idempotency_key="k"))
    assert [one.event for one in reply.would] == ["task_created"]
    [(method, path, _, body)] = script.heard
    assert (method, path) == ("POST", "/v1/tasks")
    assert body == {"template": "hello", "input": 1, "idempotency_key": "k", "dry_run": True}


async def test_get_reads_its_own_create() -> None:
    script = Scripted(ACCEPTED, Behind("not yet", retry_after_s=0.0), view())
    async with client_of(script) as client:
        found = await client.get(await client.create("hello"))
    assert found.state == "running"
    assert [query for _, _, query, _ in script.heard[1:]] == [{"at_least": "0:1"}] * 2


async def test_list_goes_through_all_pages() -> None:
    script = Scripted(
        {"items": [view(), view()], "next": "c2", "position": "0:1"},
        {"items": [view()], "next": None, "position": "0:1"},
    )
    async with client_of(script) as client:
        found = [task async for task in client.list(states=["running", "blocked"], tags={"a": "b"}, page_items=2)]
    assert len(found) == 3
    assert script.heard[1][2] == {"state": "running", "tag": "a=b", "limit": "2", "after": "c2"}


@pytest.mark.parametrize(("limit", "shown", "asked"), [(None, 250, [100] * 3), (7, 7, [7]), (150, 150, [100] * 2)])
async def test_of_the_steps_of_a_task_no_more_are_asked_for_than_are_wanted(
    limit: int | None, shown: int, asked: list[int]
) -> None:
    heard: list[int] = []

    async def pages(request: web.Request) -> web.StreamResponse:
        first, count = int(request.query.get("after", 0)), int(request.query["limit"])
        heard.append(count)
        names = [f"s{number}" for number in range(first, min(250, first + count))]
        items = [{"task_id": "t-1", "step": name, "state": "pending"} for name in names]
        following = str(first + count) if first + count < 250 else None
        return as_json({"items": items, "next": following, "position": "0:1"})

    async with client_of(pages) as client:
        found = await client.steps("t-1", limit=limit)
    assert [step.step for step in found] == [f"s{number}" for number in range(shown)]
    assert heard == asked


async def test_wait_polls_until_the_task_is_over() -> None:
    seen: list[str] = []
    script = Scripted(view(), Unavailable("restart"), None, view(), view("completed", result=[1]))
    async with client_of(script) as client:
        done = await client.wait("t-1", timeout_s=10, on_progress=lambda task: seen.append(task.state))
    assert bytes(done.result or b"") == b"[1]"
    assert seen == ["running", "running", "completed"]
    assert all(0 < float(query["wait_s"]) <= 20 for _, _, query, _ in script.heard)


async def test_wait_returns_a_blocked_task() -> None:
    async with client_of(Scripted(view("blocked", blocked_steps=["charge"]))) as client:
        assert (await client.wait("t-1")).blocked_steps == ("charge",)


async def test_wait_ends_at_its_timeout() -> None:
    async with client_of(Scripted(view(waiting_on="step charge"))) as client:
        with pytest.raises(DeadlineExceeded, match=r"running.*step charge"):
            await client.wait("t-1", timeout_s=0.1)


async def test_wait_for_a_service_that_is_away_ends_at_its_timeout(unused_tcp_port: int) -> None:
    async with TaskerClient("", f"http://127.0.0.1:{unused_tcp_port}", environ={}, retry=HASTY) as client:
        with pytest.raises(DeadlineExceeded, match="nobody answers"):
            await client.wait("t-1", timeout_s=0.2)


async def test_wait_for_a_task_that_is_not_there() -> None:
    async with client_of(Scripted(TaskUnknown("no task t-1"))) as client:
        with pytest.raises(TaskUnknown):
            await client.wait("t-1", timeout_s=10)


async def test_create_with_wait_returns_the_task() -> None:
    async with client_of(Scripted(ACCEPTED, view("completed", result=7))) as client:
        handle = await client.create("hello", wait_s=5)
    assert handle.task is not None
    assert handle.task.state == "completed"


async def test_health_that_is_not_ready_is_an_answer() -> None:
    async def ready(_request: web.Request) -> web.Response:
        return as_json({"ready": False, "checks": {"nats": "no connection"}, "version": "1"}, status=503)

    async with client_of(ready) as client:
        health = await client.health()
    assert (health.ready, health.checks) == (False, {"nats": "no connection"})


async def test_the_tenant_travels_as_a_header() -> None:
    async def tenant(request: web.Request) -> web.Response:
        return as_json(view(tenant=request.headers["Tasker-Tenant"]))

    async with client_of(tenant, tenant="acme") as client:
        assert (await client.get("t-1")).tenant == "acme"


async def test_reads_without_http_say_what_to_set(nats_url: str) -> None:
    async with TaskerClient(nats_url, "", environ={}) as client:
        with pytest.raises(ConfigurationError, match="TASKER_HTTP_URL"):
            await client.get("t-1")


async def test_an_empty_command_id_is_sent_for_the_service_to_refuse_and_not_replaced() -> None:
    script = Scripted(ACCEPTED)
    why: dict[str, Any] = {"requested_by": "ada", "reason": "why", "command_id": ""}
    async with client_of(script) as client:
        await client.cancel("t", **why)
        await client.register({"name": "t"}, command_id="")
        await client.approvals.delegate("t", "a", requested_by="ada", to="bea", command_id="")
        await client.controls.pause("everything", **why)
        await client.schedules.pause("nightly", **why)
        await client.dlq.add("t", **why)
        await client.bulk.start("task.cancel", EVERY_TASK, **why)
    assert [body["command_id"] for _, _, _, body in script.heard] == [""] * 7
