"""Every error is a problem document with a stable code."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tasker.events.codec import BODY_BYTES_MAX
from tasker.service.http import parameters as p
from tasker.service.http.operations import Operation
from tasker.service.http.routes import OPERATIONS
from tests.histories import created
from tests.integration.http.conftest import SHARES_SITE, Client, Site


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/taskz", "/v2/tasks", "/v1/tasks/a/b", "/v1/tasks/"])
@SHARES_SITE
async def test_an_unknown_endpoint(shared_client: Client, path: str) -> None:
    await shared_client.problem("GET", path, 404, "endpoint_unknown")


@pytest.mark.parametrize(
    ("method", "path", "allow"), [("DELETE", "/v1/tasks", "GET, HEAD, POST"), ("POST", "/v1/stats", "GET, HEAD")]
)
@SHARES_SITE
async def test_a_method_that_is_not_taken(shared_client: Client, method: str, path: str, allow: str) -> None:
    await shared_client.problem(method, path, 405, "method_not_allowed")
    response, _ = await shared_client.ask(method, path)
    assert response.headers["Allow"] == allow


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("stat=completed", "did you mean state?"),
        ("nonsense=1", "there are after"),
        ("state=done", "state is one of pending, running"),
        ("state=completed,", "state is one of"),
        ("limit=0", "whole number from 1 to 500"),
        ("limit=501", "whole number"),
        ("limit=1e2", "whole number"),
        ("limit=%D9%A1", "whole number"),
        ("limit=1&limit=2", "given 2 times"),
        ("sort=name", "sort is one of created_at"),
        ("created_after=yesterday", "RFC 3339"),
        ("created_after=2026-11-21T10:00:00", "RFC 3339"),
        ("created_after=2026-02-30T00:00:00Z", "RFC 3339"),
        ("tag=team", "tag is key=value"),
        ("tag=team:core", "tag is key=value"),
        ("cursor=x", "there is no parameter 'cursor'; did you mean after?"),
        ("tag=a=%00", "tag is key=value"),
        ("tag=a=1&tag=a=2", "no task has two values"),
        ("after=%00", "characters that no value has"),
    ],
)
@SHARES_SITE
async def test_a_bad_parameter(shared_client: Client, query: str, told: str) -> None:
    problem = await shared_client.problem("GET", f"/v1/tasks?{query}", 400, "parameter_invalid")
    assert told in problem["detail"]


@SHARES_SITE
async def test_a_tenant_that_is_named_twice(shared_client: Client) -> None:
    """As behind a proxy that adds the tenant it has found out to the one that the caller claims to be."""
    for named in (("acme", "default"), ("acme", "acme")):
        headers = [("Tasker-Tenant", name) for name in named]
        for method, path in (("GET", "/v1/tasks"), ("POST", "/v1/tasks"), ("GET", "/v1/events")):
            problem = await shared_client.problem(method, path, 400, "parameter_invalid", headers=headers)
            assert problem["detail"] == "the header Tasker-Tenant is given 2 times"


@SHARES_SITE
async def test_keys_that_differ(shared_client: Client) -> None:
    headers = [("Idempotency-Key", key) for key in ("one", "other")]
    await shared_client.problem("POST", "/v1/tasks", 400, "key_ambiguous", headers=headers, data=b'{"template": "t"}')


@pytest.mark.parametrize("value", ["-1", "soon", "NaN", "1e3", "inf"])
@SHARES_SITE
async def test_a_bad_wait(shared_client: Client, value: str) -> None:
    await shared_client.problem("GET", f"/v1/tasks/{uuid4()}?wait_s={value}", 400, "parameter_invalid")


@SHARES_SITE
async def test_a_parameter_of_an_endpoint_that_takes_none(shared_client: Client) -> None:
    problem = await shared_client.problem("GET", "/v1/stats?x=1", 400, "parameter_invalid")
    assert "the endpoint takes none" in problem["detail"]


@pytest.mark.parametrize("query", ["namespace=Shop", "template=%00", "template=a.b"])
@SHARES_SITE
async def test_a_bad_name_in_a_filter(shared_client: Client, query: str) -> None:
    response, body = await shared_client.ask("GET", f"/v1/tasks?{query}")
    assert (response.status, body["code"]) in [(422, "name_invalid"), (400, "parameter_invalid")]


@pytest.mark.parametrize("tenant", ["", "Acme", "a.b", "a>", "*", "x" * 64, "_node"])
@SHARES_SITE
async def test_a_bad_tenant(shared_client: Client, tenant: str) -> None:
    await shared_client.problem("GET", "/v1/tasks", 422, "name_invalid", headers={"Tasker-Tenant": tenant})
    await shared_client.problem("POST", "/v1/tasks", 422, "name_invalid", headers={"Tasker-Tenant": tenant}, json={})


@pytest.mark.parametrize("token", ["x", "3", "3:", "99999:1", "1:1,1:2", "other/1:1", "1:1234567890123456789"])
@SHARES_SITE
async def test_a_bad_position(shared_site: Site, shared_client: Client, token: str) -> None:
    task_id = await shared_site.task([created()])
    await shared_client.problem("GET", f"/v1/tasks/{task_id}?at_least={token}", 400, "position_invalid")
    await shared_client.problem("GET", f"/v1/events?after={token}", 400, "position_invalid")
    if token != "3":
        await shared_client.problem("GET", f"/v1/tasks/{task_id}/events?after={token}", 400, "position_invalid")


def bad_value(schema: dict[str, Any]) -> str | None:
    """Return a text that a parameter of this schema cannot be; None: it may be any."""
    if "enum" in schema:
        return "nonsense"
    if schema["type"] != "string" or "format" in schema:
        return "yesterday"
    return "A B" if "pattern" in schema else None


QUERIES = [
    pytest.param(operation, parameter.name, bad, id=f"{operation.id}-{parameter.name}")
    for operation in OPERATIONS
    for parameter in operation.parameters
    if parameter.place == "query"
    and operation.method == "GET"
    and operation.id != "listScheduleEvents"  # it asks for its schedule first, which is not here
    and (bad := bad_value(parameter.schema)) is not None
]


@pytest.mark.parametrize(("operation", "name", "bad"), QUERIES)
@SHARES_SITE
async def test_whatever_a_query_may_have_is_looked_at(
    shared_site: Site, shared_client: Client, operation: Operation, name: str, bad: str
) -> None:
    """Planted bug: a parameter that is declared, and passed over."""
    path = path_of(operation, str(await shared_site.task([created()])))
    response, body = await shared_client.ask("GET", path, params={name: bad})
    assert (response.status, body["code"]) in {
        (400, "parameter_invalid"),
        (400, "position_invalid"),
        (422, "name_invalid"),
    }


def path_of(operation: Operation, task_id: str) -> str:
    return operation.path.format(task_id=task_id, step="s1", namespace="shop", name="orders", version="1.0.0")


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if p.AT_LEAST in one.parameters], ids=lambda one: one.id
)
@SHARES_SITE
async def test_who_takes_a_position_looks_at_it(shared_site: Site, shared_client: Client, operation: Operation) -> None:
    path = path_of(operation, str(await shared_site.task([created()])))
    await shared_client.problem("GET", f"{path}?at_least=nonsense", 400, "position_invalid")
    await shared_client.problem("GET", f"{path}?at_least=0:123456789", 503, "behind")


@SHARES_SITE
async def test_an_oversize_body(shared_site: Site, shared_client: Client) -> None:
    for method, path in (("POST", "/v1/tasks"), ("PUT", "/v1/templates"), ("POST", f"/v1/tasks/{uuid4()}/cancel")):
        body = b'{"a":"' + b"x" * BODY_BYTES_MAX + b'"}'
        await shared_client.problem(method, path, 413, "body_too_large", data=body)
    assert shared_site.gateway.sent == []


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        (b"{", "body_invalid", 400),
        (b"\xff{}", "body_invalid", 400),
        (b"1", "body_invalid", 400),
        (b'{"reason": NaN}', "body_invalid", 400),
        (b'{"reason":"a","reason":"b"}', "value_invalid", 422),
        (b'{"reason":"\\ud800"}', "value_invalid", 422),
        (b'{"reason":' + b"[" * 100 + b"]" * 100 + b"}", "value_invalid", 422),
    ],
)
@SHARES_SITE
async def test_a_bad_body_of_a_command(
    shared_site: Site, shared_client: Client, body: bytes, code: str, status: int
) -> None:
    await shared_client.problem("POST", f"/v1/tasks/{uuid4()}/cancel", status, code, data=body)
    assert shared_site.gateway.sent == []


async def test_a_bug_is_told_without_its_internals(site: Site, client: Client) -> None:
    site.gateway.answers.append(ZeroDivisionError("secret"))
    problem = await client.problem("POST", "/v1/tasks", 500, "internal_error", json={})
    assert "secret" not in str(problem)


async def test_an_answer_that_is_none_is_told(site: Site, client: Client) -> None:
    site.gateway.answers.append(b"\xff")
    await client.problem("POST", "/v1/tasks", 500, "undecodable", json={})


async def test_a_database_that_hangs_or_is_gone_is_unavailable(
    site: Site, client: Client, database: str, cluster: Any
) -> None:
    await site.task([created()])
    await cluster.drop_database(database)
    await client.problem("GET", "/v1/tasks", 503, "unavailable")


async def test_many_at_once_are_all_answered(site: Site, client: Client) -> None:
    task_id = await site.task([created()])
    answers = await asyncio.gather(*(client.get(f"/v1/tasks/{task_id}") for _ in range(100)))
    assert all(answer["task_id"] == str(task_id) for answer in answers)


async def test_connections_that_the_server_ended_are_replaced_unnoticed(
    site: Site, client: Client, database: str
) -> None:
    task_id = await site.task([created()])
    other = await asyncpg.connect(database)
    for _ in range(5):
        await asyncio.gather(*(client.get(f"/v1/tasks/{task_id}") for _ in range(8)))
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'tasker-reads'"
        )
        await client.get(f"/v1/tasks/{task_id}")
    await other.close()
