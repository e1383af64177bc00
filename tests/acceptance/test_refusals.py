"""Whatever is malformed gets a typed refusal, over NATS and HTTP alike, and leaves nothing in the log."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from nats.aio.client import Client

from examples.hello import hello
from examples.user_registration import user_registration
from tests.acceptance.conftest import Service


def create(**fields: Any) -> bytes:
    return json.dumps({"template": "user_registration", "input": {"email": "a@b", "name": "A"}} | fields).encode()


def with_input(text: str) -> bytes:
    return b'{"template": "hello", "input": %s}' % text.encode("utf-8", "surrogatepass")


MALFORMED = [
    pytest.param(b"", "body_invalid", id="nothing"),
    pytest.param(b"hello", "body_invalid", id="not JSON"),
    pytest.param(b'{"template": "hello"', "body_invalid", id="cut off"),
    pytest.param(b'"hello"', "body_invalid", id="a text"),
    pytest.param(b"17", "body_invalid", id="a number"),
    pytest.param(b"{}", "body_invalid", id="no template"),
    pytest.param(create(template=7), "body_invalid", id="a template of a wrong type"),
    pytest.param(create(temlpate="x"), "body_invalid", id="an unknown field"),
    pytest.param(create(tags={"a": 1}), "body_invalid", id="a tag of a wrong type"),
    pytest.param(create(timeout_s=-1), "body_invalid", id="a negative timeout"),
    pytest.param(create(not_before="tomorrow"), "body_invalid", id="a time that is none"),
    pytest.param(create(idempotency_key=""), "body_invalid", id="an empty key"),
    pytest.param(create(idempotency_key="k" * 513), "body_invalid", id="a key too long"),
    pytest.param(create(requested_by="x" * 5000), "body_invalid", id="too much about who asks"),
    pytest.param(create(template="No Such Name"), "name_invalid", id="a template's name"),
    pytest.param(create(namespace="a.b"), "name_invalid", id="a namespace's name"),
    pytest.param(create(template="nothing"), "template_unknown", id="an unknown template"),
    pytest.param(create(version="9.9.9"), "template_unknown", id="an unknown version"),
    pytest.param(create(input={"email": "nobody", "name": "A"}), "input_invalid", id="an input against the schema"),
    pytest.param(create(input=None), "input_invalid", id="no input"),
    pytest.param(create(input="x" * 70_000), "body_too_large", id="an input too large"),
    pytest.param(b" " * 600_000 + b"{}", "body_too_large", id="a body too large"),
    pytest.param(with_input("NaN"), "body_invalid", id="NaN"),
    pytest.param(with_input("1e999"), "body_invalid", id="a number without end"),
    pytest.param(with_input('"\\u0000"'), "value_invalid", id="U+0000"),
    pytest.param(with_input('"\\ud800"'), "value_invalid", id="half a character"),
    pytest.param(b'{"template": "hello", "input": "\xff"}', "body_invalid", id="bad UTF-8"),
    pytest.param(with_input('{"a": 1, "a": 2}'), "value_invalid", id="a key twice"),
    pytest.param(with_input("[" * 65 + "]" * 65), "value_invalid", id="too deep"),
    pytest.param(with_input("[" * 100_000), "value_invalid", id="absurdly deep"),
    pytest.param(with_input("1" * 1001), "value_invalid", id="a number too long"),
]


@pytest.fixture(scope="module")
def registered(service: Service) -> Service:
    """The service, with templates and without a worker: whatever appears in the log comes from the tests."""

    async def register() -> None:
        async with service.client() as client:
            for template in (hello, user_registration):
                await client.register(template.document())

    asyncio.run(register())
    return service


@pytest.fixture
async def connection(registered: Service) -> AsyncIterator[Client]:
    nats = Client()
    await nats.connect(registered.nats_url)
    yield nats
    await nats.close()


@pytest.fixture
def unchanged_log(registered: Service) -> Iterator[None]:
    """Hold that the log does not grow."""
    before = events_of(registered)
    yield
    assert events_of(registered) == before


def events_of(service: Service) -> int:
    return int(exchange(service, "GET", "/v1/stats", b"")[1]["events"])


def post(service: Service, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    return exchange(service, "POST", path, body, headers)


def exchange(
    service: Service, method: str, path: str, body: bytes, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        kind = "application/problem+json" if answer.status >= 400 else "application/json"
        assert str(answer.headers["Content-Type"]).partition(";")[0] == kind
        return answer.status, json.load(answer)
    finally:
        connection.close()


async def ask(
    connection: Client, service: Service, verb: str, body: bytes, headers: dict[str, str] | None = None
) -> Any:
    subject = f"{service.nats_prefix}.default.cmd.{verb}"
    return json.loads((await connection.request(subject, body, timeout=10, headers=headers)).data)


@pytest.mark.parametrize(("body", "code"), MALFORMED)
@pytest.mark.usefixtures("unchanged_log")
async def test_a_malformed_command_is_refused_alike_on_both_ways(
    registered: Service, connection: Client, body: bytes, code: str
) -> None:
    reply = await ask(connection, registered, "task.create", body)
    status, problem = await asyncio.to_thread(post, registered, "/v1/tasks", body)
    assert (reply["ok"], reply["error"]["code"]) == (False, code)
    assert (status, problem["code"]) == (reply["error"]["status"], code)
    assert problem["type"] == f"urn:tasker:error:{code}"
    assert problem["detail"]


@pytest.mark.parametrize("verb", ["task.destroy", "task", "create", "task.create.now"])
@pytest.mark.usefixtures("unchanged_log")
async def test_an_unknown_verb_is_refused(registered: Service, connection: Client, verb: str) -> None:
    assert (await ask(connection, registered, verb, create()))["error"]["code"] == "verb_unknown"


@pytest.mark.usefixtures("unchanged_log")
async def test_two_carriers_of_a_key_that_differ_are_refused(registered: Service, connection: Client) -> None:
    body = create(idempotency_key="one")
    reply = await ask(connection, registered, "task.create", body, {"Idempotency-Key": "two"})
    status, problem = await asyncio.to_thread(post, registered, "/v1/tasks", body, **{"Idempotency-Key": "two"})
    assert reply["error"]["code"] == problem["code"] == "key_ambiguous"
    assert status == 400


@pytest.mark.parametrize("verb", ["task.cancel", "task.retry"])
@pytest.mark.usefixtures("unchanged_log")
async def test_a_command_to_what_does_not_exist_is_refused(registered: Service, connection: Client, verb: str) -> None:
    for task_id in ("016edfe9-8e3a-819c-918d-70443cb40fea", "no-id"):
        body = json.dumps({"task_id": task_id}).encode()
        assert (await ask(connection, registered, verb, body))["error"]["code"] == "task_unknown"
        path = f"/v1/tasks/{task_id}/{verb.removeprefix('task.')}"
        assert (await asyncio.to_thread(post, registered, path, b"{}"))[0] == 404


async def test_the_same_key_with_another_input_is_a_conflict_that_names_the_task(
    registered: Service, connection: Client
) -> None:
    first = await ask(connection, registered, "task.create", create(idempotency_key="taken"))
    again = await ask(connection, registered, "task.create", create(idempotency_key="taken"))
    assert (again["ok"], again["duplicate"], again["task_id"]) == (True, True, first["task_id"])
    before = events_of(registered)
    other = create(idempotency_key="taken", input={"email": "c@d", "name": "C"})
    reply = await ask(connection, registered, "task.create", other)
    status, problem = await asyncio.to_thread(post, registered, "/v1/tasks", other)
    assert reply["error"]["code"] == problem["code"] == "key_conflict"
    assert status == 409
    assert reply["error"]["context"]["task_id"] == problem["context"]["task_id"] == first["task_id"]
    assert events_of(registered) == before


async def test_in_an_array_each_item_has_a_verdict_of_its_own(registered: Service, connection: Client) -> None:
    before = events_of(registered)
    items = [create(idempotency_key="good"), create(temlpate="x"), create(input=None), create(template="nothing")]
    replies = await ask(connection, registered, "task.create", b"[" + b",".join(items) + b"]")
    codes = [reply["ok"] or reply["error"]["code"] for reply in replies]
    assert codes == [True, "body_invalid", "input_invalid", "template_unknown"]
    assert events_of(registered) == before + 2  # created, and its first step dispatched
