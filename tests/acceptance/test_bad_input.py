"""Every malformed command gets the same typed error over NATS and over HTTP, and leaves nothing in the log."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import asyncpg
import nats
import pytest
from nats.aio.client import Client as Nats

from tests.acceptance.conftest import Service

pytestmark = pytest.mark.linux

NOBODY = "0190a0c0-0000-7000-8000-000000000000"
CHECKED = {
    "name": "checked",
    "version": "1.0.0",
    "input_schema": {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    },
    "steps": [{"name": "only"}],
}


def create(**more: Any) -> bytes:
    return json.dumps({"template": "open", "input": {}, **more}).encode()


def given(value: bytes) -> bytes:
    """A creation with raw bytes as its input."""
    return b'{"template": "open", "input": ' + value + b"}"


CREATIONS = [
    ("nothing", b"", "body_invalid"),
    ("not JSON", b"template: open", "body_invalid"),
    ("cut off", b'{"template": "open"', "body_invalid"),
    ("two values", b'{"template": "open"} {}', "body_invalid"),
    ("bad UTF-8", b'{"template": "op\xffen"}', "body_invalid"),
    ("bad UTF-8 in the input", given(b'"\xff"'), "body_invalid"),
    ("NaN", given(b"NaN"), "body_invalid"),
    ("infinity", given(b'{"a": -Infinity}'), "body_invalid"),
    ("a number that is none", given(b"1e999"), "body_invalid"),
    ("a lone surrogate", given(rb'"\ud800"'), "value_invalid"),
    ("U+0000", given(rb'"\u0000"'), "value_invalid"),
    ("a key twice", given(b'{"a": 1, "a": 2}'), "value_invalid"),
    ("too many digits", given(b"1" * 1001), "value_invalid"),
    ("too deep", given(b"[" * 10_000 + b"]" * 10_000), "value_invalid"),
    ("oversize input", given(b'"' + b"x" * 70_000 + b'"'), "body_too_large"),
    ("oversize body", given(b'"' + b"x" * 600_000 + b'"'), "body_too_large"),
    ("a string", b'"open"', "body_invalid"),
    ("null", b"null", "body_invalid"),
    ("no template", b'{"input": {}}', "body_invalid"),
    ("wrong type", create(tags=["a"]), "body_invalid"),
    ("wrong type of a value", create(tags={"a": 1}), "body_invalid"),
    ("a number for a name", create(template=7), "body_invalid"),
    ("unknown field", create(inptu={}), "body_invalid"),
    ("bad name", create(template="Open"), "name_invalid"),
    ("a name with a dot", create(template="a.b"), "name_invalid"),
    ("a name with a wildcard", create(template=">"), "name_invalid"),
    ("an empty name", create(template=""), "name_invalid"),
    ("a long name", create(template="a" * 64), "name_invalid"),
    ("bad namespace", create(namespace="a b"), "name_invalid"),
    ("unknown template", create(template="missing"), "template_unknown"),
    ("unknown namespace", create(namespace="missing"), "template_unknown"),
    ("unknown version", create(version="9.9.9"), "template_unknown"),
    ("an empty key", create(idempotency_key=""), "body_invalid"),
    ("a long key", create(idempotency_key="k" * 1000), "body_invalid"),
    ("a zero timeout", create(timeout_s=0), "body_invalid"),
    ("a time that is none", create(not_before="tomorrow"), "body_invalid"),
    ("a time without a zone", create(not_before="2026-11-21T10:00:00"), "body_invalid"),
    ("too many tags", create(tags={f"t{number}": "" for number in range(33)}), "body_invalid"),
    ("a long tag", create(tags={"a": "x" * 129}), "body_invalid"),
    ("too much meta", create(reason="x" * 5000), "body_invalid"),
    ("input against the schema", create(template="checked", input={"n": "one"}), "input_invalid"),
    ("input beside the schema", create(template="checked", input={"n": 1, "m": 2}), "input_invalid"),
    ("a key with another input", create(template="checked", input={"n": 2}, idempotency_key="first"), "key_conflict"),
    (
        "a key with another version",
        create(template="checked", input={"n": 1}, version="1.0.0", idempotency_key="first"),
        "key_conflict",
    ),
    ("an array that is cut off", b"[" + create() + b",", "body_invalid"),
    ("501 items", b"[" + b",".join([create()] * 501) + b"]", "body_too_large"),
    ("an array that is oversize", b"[" + given(b'"' + b"x" * 600_000 + b'"') + b"]", "body_too_large"),
]

COMMANDS = [
    ("cancel of nobody", "task.cancel", {"task_id": NOBODY}, "task_unknown"),
    ("cancel of no id", "task.cancel", {"task_id": "seventeen"}, "task_unknown"),
    ("cancel with a negative grace", "task.cancel", {"task_id": "", "grace_s": -1}, "body_invalid"),
    ("cancel with an endless grace", "task.cancel", {"task_id": "", "grace_s": 1e9}, "body_invalid"),
    ("cancel with an unknown field", "task.cancel", {"task_id": "", "grace": 1}, "body_invalid"),
    ("cancel with an empty command id", "task.cancel", {"task_id": "", "command_id": ""}, "body_invalid"),
    ("retry of a running task", "task.retry", {"task_id": ""}, "state_forbids"),
    ("retry of nobody", "task.retry", {"task_id": NOBODY}, "task_unknown"),
    ("retry of an unknown step", "step.retry", {"task_id": "", "step": "missing"}, "step_unknown"),
    ("retry of a bad step", "step.retry", {"task_id": "", "step": "Bad"}, "name_invalid"),
    (
        "retry of an attempt of the wrong type",
        "step.retry",
        {"task_id": "", "step": "only", "attempt": "1"},
        "body_invalid",
    ),
    ("template that is none", "template.register", {"template": {"name": "t"}}, "template_invalid"),
    ("template of the wrong type", "template.register", {"template": []}, "body_invalid"),
    (
        "template with a cycle",
        "template.register",
        {"template": {"name": "t", "steps": [{"name": "a", "after": ["b"]}, {"name": "b", "after": ["a"]}]}},
        "template_invalid",
    ),
    (
        "other content under the same version",
        "template.register",
        {"template": {**CHECKED, "steps": [{"name": "other"}]}},
        "template_conflict",
    ),
    ("use of an unknown version", "template.use", {"name": "checked", "version": "2.0.0"}, "template_unknown"),
    ("use of an unknown template", "template.use", {"name": "missing", "version": "1"}, "template_unknown"),
]


class Doors:
    """The two ways in, and what the log holds."""

    def __init__(self, service: Service, bus: Nats, http: aiohttp.ClientSession, task_id: str) -> None:
        self.service = service
        self._bus = bus
        self._http = http
        self.task_id = task_id

    async def nats(
        self, verb: str, body: bytes, headers: dict[str, str] | None = None, *, tenant: str = "default"
    ) -> Any:
        """Return the reply to a command message."""
        subject = f"{self.service.nats_prefix}.{tenant}.cmd.{verb}"
        return json.loads((await self._bus.request(subject, body, timeout=20, headers=headers)).data)

    async def http(
        self, method: str, path: str, body: bytes, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, str]:
        """Return status, body and content type of an answer."""
        async with self._http.request(method, self.service.http_url + path, data=body, headers=headers) as answer:
            return answer.status, json.loads(await answer.read()), answer.content_type

    async def command_over_http(self, verb: str, body: dict[str, Any]) -> tuple[int, Any, str]:
        """Return the answer to a command whose ids stand in the path."""
        rest = {key: value for key, value in body.items() if key not in {"task_id", "step"}}
        method, path = {
            "task.cancel": ("POST", f"/v1/tasks/{body.get('task_id')}/cancel"),
            "task.retry": ("POST", f"/v1/tasks/{body.get('task_id')}/retry"),
            "step.retry": ("POST", f"/v1/tasks/{body.get('task_id')}/steps/{body.get('step')}/retry"),
            "template.register": ("PUT", "/v1/templates"),
            "template.use": ("POST", f"/v1/templates/default/{body.get('name')}/use"),
        }[verb]
        return await self.http(method, path, json.dumps(rest).encode())

    async def log(self) -> list[Any]:
        """Return everything that events, streams and due rows hold."""
        connection = await asyncpg.connect(self.service.database_url)
        try:
            events = await connection.fetch("SELECT shard, position, stream_id, type FROM event ORDER BY 1, 2")
            streams = await connection.fetch("SELECT stream_id FROM stream ORDER BY 1")
            return [*map(tuple, events), *map(tuple, streams)]
        finally:
            await connection.close()


@pytest.fixture
async def doors(service: Service) -> AsyncIterator[Doors]:
    bus = await nats.connect(service.nats_url)
    async with aiohttp.ClientSession() as http:
        doors = Doors(service, bus, http, "")
        for template in (CHECKED, {"name": "open", "steps": [{"name": "only"}]}):
            registered = await doors.nats("template.register", json.dumps({"template": template}).encode())
            assert registered["ok"], registered
        made = await doors.nats("task.create", create(template="checked", input={"n": 1}, idempotency_key="first"))
        doors.task_id = made["task_id"]
        yield doors
    await bus.close()


def check_problem(problem: dict[str, Any], code: str) -> None:
    """Check that it is a whole problem document with the code, and tells no insides."""
    assert problem["code"] == code, problem
    assert {"type", "title", "status", "detail"} <= problem.keys()
    assert problem["type"].endswith(code)
    assert len(json.dumps(problem)) < 8_000
    assert "Traceback" not in problem["detail"]


@pytest.mark.parametrize(("body", "code"), [case[1:] for case in CREATIONS], ids=[case[0] for case in CREATIONS])
async def test_a_malformed_creation(doors: Doors, body: bytes, code: str) -> None:
    before = await doors.log()
    over_nats = await doors.nats("task.create", body)
    status, over_http, content_type = await doors.http("POST", "/v1/tasks", body)
    assert over_nats["ok"] is False, over_nats
    check_problem(over_nats["error"], code)
    check_problem(over_http, code)
    assert status == over_http["status"] == over_nats["error"]["status"]
    assert content_type == "application/problem+json"
    assert await doors.log() == before


@pytest.mark.parametrize(
    ("verb", "body", "code"), [case[1:] for case in COMMANDS], ids=[case[0].replace(" ", "-") for case in COMMANDS]
)
async def test_a_malformed_command(doors: Doors, verb: str, body: dict[str, Any], code: str) -> None:
    before = await doors.log()
    if body.get("task_id") == "":
        body = {**body, "task_id": doors.task_id}
    over_nats = await doors.nats(verb, json.dumps(body).encode())
    status, over_http, _ = await doors.command_over_http(verb, body)
    assert over_nats["ok"] is False, over_nats
    check_problem(over_nats["error"], code)
    check_problem(over_http, code)
    assert status == over_http["status"] == over_nats["error"]["status"]
    assert await doors.log() == before


@pytest.mark.parametrize("verb", ["task.start", "task", "task.create.now", "a.b", "task.Create"])
async def test_an_unknown_verb(doors: Doors, verb: str) -> None:
    before = await doors.log()
    refusal = await doors.nats(verb, create())
    check_problem(refusal["error"], "verb_unknown")
    assert await doors.log() == before


@pytest.mark.parametrize("tenant", ["Acme", "_node", "a b".replace(" ", "\u00e4"), "x" * 64])
async def test_a_bad_tenant(doors: Doors, tenant: str) -> None:
    before = await doors.log()
    refusal = await doors.nats("task.create", create(), tenant=tenant)
    check_problem(refusal["error"], "name_invalid")
    if tenant.isascii():
        _, problem, _ = await doors.http("POST", "/v1/tasks", create(), {"Tasker-Tenant": tenant})
        check_problem(problem, "name_invalid")
    assert await doors.log() == before


async def test_two_carriers_of_keys(doors: Doors) -> None:
    before = await doors.log()
    headers = {"Idempotency-Key": "one"}
    refusal = await doors.nats("task.create", create(idempotency_key="two"), headers)
    check_problem(refusal["error"], "key_ambiguous")
    _, problem, _ = await doors.http("POST", "/v1/tasks", create(idempotency_key="two"), headers)
    check_problem(problem, "key_ambiguous")
    refusal = await doors.nats(
        "task.cancel", json.dumps({"task_id": doors.task_id, "command_id": "two"}).encode(), headers
    )
    check_problem(refusal["error"], "key_ambiguous")
    assert await doors.log() == before


async def test_another_tenant_finds_nothing(doors: Doors) -> None:
    before = await doors.log()
    body = json.dumps({"task_id": doors.task_id}).encode()
    check_problem((await doors.nats("task.cancel", body, tenant="other"))["error"], "task_unknown")
    _, problem, _ = await doors.http("POST", f"/v1/tasks/{doors.task_id}/cancel", b"{}", {"Tasker-Tenant": "other"})
    check_problem(problem, "task_unknown")
    assert await doors.log() == before


@pytest.mark.parametrize("door", ["nats", "http"])
async def test_one_bad_item_of_an_array_harms_no_other(doors: Doors, door: str) -> None:
    """Each item has a verdict of its own, in the order of the array."""
    keys = [f"{door}-{uuid.uuid4()}" for _ in range(3)]
    items = [
        create(idempotency_key=keys[0]),
        b'{"template": 7}',
        create(idempotency_key=keys[1]),
        given(b"[" * 100 + b"]" * 100),
        create(template="missing"),
        b"17",
        create(idempotency_key=keys[2]),
    ]
    body = b"[" + b",".join(items) + b"]"
    before = await doors.log()
    verdicts = (
        await doors.nats("task.create", body) if door == "nats" else (await doors.http("POST", "/v1/tasks", body))[1]
    )
    told = [verdict["error"]["code"] if not verdict["ok"] else "ok" for verdict in verdicts]
    assert told == ["ok", "body_invalid", "ok", "value_invalid", "template_unknown", "body_invalid", "ok"]
    new = {row[2] for row in await doors.log() if len(row) == 4} - {row[2] for row in before if len(row) == 4}
    assert {str(one) for one in new} == {verdict["task_id"] for verdict in verdicts if verdict["ok"]}


async def test_a_repeated_command_is_answered_from_the_log(doors: Doors) -> None:
    made = await doors.nats("task.create", create(idempotency_key=str(uuid.uuid4())))
    body = json.dumps({"task_id": made["task_id"], "command_id": "stop-it"}).encode()
    first = await doors.nats("task.cancel", body)
    assert (first["ok"], first.get("duplicate", False)) == (True, False)
    before = await doors.log()
    again = await doors.nats("task.cancel", body)
    assert (again["ok"], again["duplicate"]) == (True, True)
    status, over_http, _ = await doors.http(
        "POST", f"/v1/tasks/{made['task_id']}/cancel", b"{}", {"Idempotency-Key": "stop-it"}
    )
    assert (status, over_http["duplicate"]) == (200, True)
    assert await doors.log() == before


def register(**more: Any) -> bytes:
    return json.dumps({"template": {"name": "limits", "steps": [{"name": "only"}], **more}}).encode()


def steps(count: int, edges: int = 0) -> list[dict[str, Any]]:
    """Return steps of which the later half waits for some of the earlier."""
    half = count // 2
    share, rest = divmod(edges, half) if half else (0, 0)
    return [
        {"name": f"s{number}"}
        if number < count - half
        else {"name": f"s{number}", "after": [f"s{p}" for p in range(share + (number - (count - half) < rest))]}
        for number in range(count)
    ]


def retrying(**retry: Any) -> bytes:
    return register(steps=[{"name": "only", "retry": retry}])


def nested(levels: int) -> bytes:
    return given(b"[" * levels + b"]" * levels)


def padded(size: int) -> bytes:
    return register() + b" " * (size - len(register()))


def keyed(count: int) -> bytes:
    return create(input=dict.fromkeys(map(str, range(count)), 0))


META_SPENT = len('{"reason":""}')
PATTERNS = [f"a{number}" for number in range(101)]

LIMITS = [
    ("bytes of a body", "template.register", padded(512 * 1024), "", padded(512 * 1024 + 1), "body_too_large"),
    ("items of an array", "task.create", b"[" + b"1," * 499 + b"1]", "", b"[" + b"1," * 500 + b"1]", "body_too_large"),
    ("bytes of an input", "task.create", create(input="x" * 65534), "", create(input="x" * 65535), "body_too_large"),
    ("depth", "task.create", nested(63), "", nested(64), "value_invalid"),
    ("digits", "task.create", given(b"7" * 1000), "", given(b"7" * 1001), "value_invalid"),
    ("keys of an object", "task.create", keyed(4096), "", keyed(4097), "value_invalid"),
    (
        "characters of a string",  # at its limit it is too large for an input still
        "task.create",
        create(input="x" * 131072),
        "body_too_large",
        create(input="x" * 131073),
        "value_invalid",
    ),
    (
        "bytes of meta",
        "task.create",
        create(reason="x" * (4096 - META_SPENT)),
        "",
        create(reason="x" * 4084),
        "body_invalid",
    ),
    (
        "characters of a key",
        "task.create",
        create(idempotency_key="k" * 512),
        "",
        create(idempotency_key="k" * 513),
        "body_invalid",
    ),
    (
        "tags",
        "task.create",
        create(tags={f"t{n}": "" for n in range(32)}),
        "",
        create(tags={f"t{n}": "" for n in range(33)}),
        "body_invalid",
    ),
    (
        "characters of a tag",
        "task.create",
        create(tags={"k" * 128: "v" * 128}),
        "",
        create(tags={"k": "v" * 129}),
        "body_invalid",
    ),
    (
        "a version asked for",
        "task.create",
        create(version="1" * 128),
        "template_unknown",
        create(version="1" * 129),
        "body_invalid",
    ),
    ("seconds of a task", "task.create", create(timeout_s=315360000), "", create(timeout_s=315360001), "body_invalid"),
    ("a name", "template.register", register(queue="q" * 63), "", register(queue="q" * 64), "template_invalid"),
    (
        "a version",
        "template.register",
        register(version="1.0.0-" + "a" * 122),
        "",
        register(version="1.0.0-" + "a" * 123),
        "template_invalid",
    ),
    ("steps", "template.register", register(steps=steps(1000)), "", register(steps=steps(1001)), "template_invalid"),
    (
        "dependencies",
        "template.register",
        register(steps=steps(400, 10_000)),
        "",
        register(steps=steps(400, 10_001)),
        "template_invalid",
    ),
    ("attempts", "template.register", retrying(max_attempts=1000), "", retrying(max_attempts=1001), "template_invalid"),
    (
        "seconds of a template",
        "template.register",
        register(timeout_s=2592000),
        "",
        register(timeout_s=2592001),
        "template_invalid",
    ),
    ("a factor", "template.register", retrying(factor=100), "", retrying(factor=100.1), "template_invalid"),
    (
        "error types",
        "template.register",
        retrying(non_retryable=["E"] * 100),
        "",
        retrying(non_retryable=["E"] * 101),
        "template_invalid",
    ),
    (
        "an error type",
        "template.register",
        retrying(non_retryable=["E" * 200]),
        "",
        retrying(non_retryable=["E" * 201]),
        "template_invalid",
    ),
    (
        "bytes of a schema",
        "template.register",
        register(input_schema={"title": "x" * 65524}),
        "",
        register(input_schema={"title": "x" * 65525}),
        "template_invalid",
    ),
    (
        "patterns of a schema",
        "template.register",
        register(input_schema={"allOf": [{"pattern": p} for p in PATTERNS[:100]]}),
        "",
        register(input_schema={"allOf": [{"pattern": p} for p in PATTERNS]}),
        "template_invalid",
    ),
    (
        "a version to use",
        "template.use",
        b'{"name":"checked","version":"%b"}' % (b"1" * 128),
        "template_unknown",
        b'{"name":"checked","version":"%b"}' % (b"1" * 129),
        "body_invalid",
    ),
]


@pytest.mark.parametrize("limit", [case[1:] for case in LIMITS], ids=[case[0] for case in LIMITS])
async def test_a_limit(doors: Doors, limit: tuple[str, bytes, str, bytes, str]) -> None:
    """At its limit a command is taken (or refused for another reason), one above it is not, through both doors."""
    verb, at, code_at, above, code = limit
    method, path = {
        "task.create": ("POST", "/v1/tasks"),
        "template.register": ("PUT", "/v1/templates"),
        "template.use": ("POST", "/v1/templates/default/checked/use"),
    }[verb]
    for answer in (await doors.nats(verb, at), (await doors.http(method, path, at))[1]):
        if isinstance(answer, list):
            assert len(answer) == 500
        elif code_at:
            check_problem(answer.get("error", answer), code_at)
        else:
            assert answer["ok"], answer
    before = await doors.log()
    check_problem((await doors.nats(verb, above))["error"], code)
    status, problem, _ = await doors.http(method, path, above)
    check_problem(problem, code)
    assert status == problem["status"]
    assert await doors.log() == before
