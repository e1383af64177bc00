"""Reads with bytes in path, query and headers that mean nothing: each gets a problem with a stable code, no 5xx."""

import base64
import json
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasker.errors import TaskerError
from tasker.projections.queries import encode_cursor
from tests.histories import completed_task
from tests.integration.http.conftest import SHARES_SITE, Site
from tests.properties.bad_bytes import FRAGMENTS, bad_bytes
from tests.raw_http import RawResponse, raw_request

EXAMPLES = settings.default.max_examples if settings.default is not None else 100

PATHS = [
    b"/v1/tasks",
    b"/v1/tasks/%b",
    b"/v1/tasks/%b/steps",
    b"/v1/tasks/%b/events",
    b"/v1/templates",
    b"/v1/templates/%b/t",
    b"/v1/templates/shop/t/%b",
    b"/v1/events",
    b"/v1/refusals",
    b"/v1/stats",
    b"/v1/%b",
]
CURSORS = [
    encode_cursor("-created_at", 1, "016edfe9-8e3a-819c-918d-70443cb40fea"),
    encode_cursor("-created_at", 2**63, "016edfe9-8e3a-819c-918d-70443cb40fea"),
    encode_cursor("-created_at", -1, "\0"),
    encode_cursor("shop", "t", 1, "1.0.0"),
    encode_cursor("shop\0", "t", 2**70, "\0"),
    base64.urlsafe_b64encode(b'["shop","t",1,"\\ud800"]').decode(),
    base64.urlsafe_b64encode(b"[" * 3000).decode(),
]
GOOD = [b"0:1", b"3:999999999999999999", b"latest", b"1", b"500", b"a:b", b"pending", b"task_created", b"created_at"]
NAMES = [
    *(
        b"after",
        b"cursor",
        b"limit",
        b"at_least",
        b"tag",
        b"state",
        b"sort",
        b"type",
        b"task",
        b"namespace",
        b"template",
    ),
    *(b"name", b"created_after", b"wait_s", b"nonsense"),
]

odd = (st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=6), min_size=1, max_size=2).map(b"".join)).map(
    lambda text: bytes(byte for byte in text[:3000] if byte not in b"\r\n\0 #")
)
values = (
    odd
    | st.sampled_from(GOOD)
    | bad_bytes(tuple(map(str.encode, CURSORS))).map(lambda text: text.hex("%")[:3000].encode())
)
percent = st.binary(min_size=1, max_size=8).map(lambda text: b"".join(b"%%%02X" % byte for byte in text))


def query(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"?" + b"&".join(name + b"=" + value for name, value in pairs) if pairs else b""


async def port_of(site: Site) -> int:
    """Return the port of a site, which now has a task."""
    await site.task(completed_task("s1", "s2"))
    return int(site.url.rpartition(":")[2])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_port(shared_site: Site) -> int:
    return await port_of(shared_site)


def check(answer: RawResponse) -> None:
    if answer.media_type == "application/problem+json":
        leaf = TaskerError.leaves[answer.body["code"]]
        assert answer.status == answer.body["status"] == leaf.status
        assert answer.status < 500 or answer.body["code"] == "behind", answer
    elif answer.status >= 400:
        assert (answer.status, answer.media_type) == (400, "text/plain"), answer  # no HTTP: the server's own answer


async def ask_all(port: int, requests: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
    for target, headers in requests:
        check(await raw_request(port, b"GET", target, headers))


def _requests() -> st.SearchStrategy[tuple[bytes, dict[bytes, bytes]]]:
    pairs = st.lists(st.tuples(st.sampled_from(NAMES), values | percent), max_size=3)
    header = st.sampled_from([b"Last-Event-ID", b"Tasker-Tenant", b"Accept", b"If-None-Match"])
    return st.builds(
        lambda path, part, found, told: ((path % part if b"%b" in path else path) + query(found), told),
        st.sampled_from(PATHS),
        odd | percent,
        pairs,
        st.dictionaries(header, odd, max_size=2),
    )


REQUESTS: list[tuple[bytes, dict[bytes, bytes]]] = []


@settings(max_examples=EXAMPLES * 3, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(_requests())
def _collect(request: tuple[bytes, dict[bytes, bytes]]) -> None:
    REQUESTS.append(request)


@SHARES_SITE
async def test_random_reads(shared_port: int) -> None:
    """Drawn first, since a server in this loop cannot answer while an example is drawn."""
    _collect()
    await ask_all(shared_port, REQUESTS)


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/templates"])
@pytest.mark.parametrize("cursor", CURSORS[1:], ids=range(len(CURSORS) - 1))
@SHARES_SITE
async def test_a_forged_cursor(shared_port: int, path: str, cursor: str) -> None:
    """Numbers and texts in it that no store compares with are refused before it is asked."""
    answer = await raw_request(shared_port, b"GET", f"{path}?after={cursor}".encode())
    if answer.status != 200:
        assert (answer.status, answer.body["code"]) == (400, "parameter_invalid")
    assert answer.status == 400 or "shop" in base64.urlsafe_b64decode(cursor + "==").decode()


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (b"/v1/%FF%FE", "endpoint_unknown"),
        (b"/v1/tasks/%FF", "task_unknown"),
        (b"/v1/templates/shop/t/%FF", "template_unknown"),
        (b"/v1/templates/shop/t/%ED%A0%80", "template_unknown"),
        (b"/v1/templates/shop/%FF", "name_invalid"),
        (b"/v1/tasks?after=%FF", "parameter_invalid"),
        (b"/v1/events?after=%FF", "position_invalid"),
        (b"/v1/tasks?at_least=" + b"k" * 4000 + b"/1:1", "position_invalid"),
    ],
)
@SHARES_SITE
async def test_bytes_of_no_text_in_the_address(shared_port: int, target: bytes, code: str) -> None:
    answer = await raw_request(shared_port, b"GET", target)
    check(answer)
    assert answer.body["code"] == code
    assert len(json.dumps(answer.body)) < 2000


@pytest.mark.parametrize("header", [b"Tasker-Tenant", b"Last-Event-ID"])
@SHARES_SITE
async def test_bytes_of_no_text_in_a_header(shared_port: int, header: bytes) -> None:
    answers: list[Any] = [
        await raw_request(shared_port, b"GET", b"/v1/events", {header: value}) for value in (b"\xff", b"a" * 4000)
    ]
    assert [answer.status for answer in answers] in ([422, 422], [400, 400])


async def test_a_key_of_no_text_is_refused_before_it_is_sent(site: Site) -> None:
    port = await port_of(site)
    answer = await raw_request(port, b"POST", b"/v1/tasks", {b"Idempotency-Key": b"k\xff"}, b'{"template":"t"}')
    assert (answer.status, answer.body["code"]) == (400, "parameter_invalid")
    assert site.gateway.sent == []
    site.gateway.answers.append({"ok": True, "task_id": "x", "position": "0:1"})
    answer = await raw_request(port, b"POST", b"/v1/tasks", {b"traceparent": b"\xff"}, b'{"template":"t"}')
    assert answer.status == 201
    assert [sent[3] for sent in site.gateway.sent] == [{}]
