"""Calls of a real HTTP server that answers as it is told."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tasker.clock import SystemClock
from tasker.errors import ConfigurationError
from tasker.handlers import ApiRefused, ApiRequest, ApiUnavailable, PermanentError, Template, api_step, call_api
from tasker.handlers.api import url_text
from tasker.handlers.outcome import error_info
from tasker.telemetry import current_attempt

ATTEMPT: Any = SimpleNamespace(
    task_id="t", step="charge", attempt=2, correlation_id=None, idempotency_key="t:charge", traceparent="00-1-2-01"
)


class Bank:
    """A server; `answer` is what it does next."""

    def __init__(self) -> None:
        self.url = ""
        self.heard: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: Callable[[web.Request], Any] = lambda _request: web.json_response({"ok": True})

    async def serve(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.heard.append((request.method, request.path_qs, headers, await request.read()))
        answer = self.answer(request)
        return await answer if asyncio.iscoroutine(answer) else answer

    def answers(self, status: int, text: str = "", **headers: str) -> None:
        self.answer = lambda _request: web.Response(status=status, text=text, headers=headers)


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    bank = Bank()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", bank.serve)
    runner = web.AppRunner(app, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bank.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield bank
    await runner.cleanup()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def attempt() -> Any:
    token = current_attempt.set(ATTEMPT)
    yield
    current_attempt.reset(token)


async def failure(url: str, method: Any = "POST", **more: Any) -> ApiUnavailable | ApiRefused:
    with pytest.raises((ApiUnavailable, ApiRefused)) as raised:
        await call_api(ApiRequest(method, url), **more)
    found = raised.value
    assert isinstance(found, (ApiUnavailable, ApiRefused))
    return found


async def test_json_goes_and_comes(bank: Bank) -> None:
    request = ApiRequest("POST", f"{bank.url}/charges", json={"amount": 5}, params={"page": "1"})
    assert await call_api(request) == {"ok": True}
    ((method, path, headers, body),) = bank.heard
    assert (method, path, headers["content-type"], body) == (
        "POST",
        "/charges?page=1",
        "application/json",
        b'{"amount":5}',
    )
    assert "idempotency-key" not in headers


async def test_what_may_have_an_effect_carries_the_steps_key(bank: Bank, attempt: None) -> None:
    for method, more, key in (
        ("POST", {}, "t:charge"),
        ("GET", {}, None),
        ("DELETE", {"idempotency_header": "X-Key"}, None),
        ("PUT", {"idempotency_header": None}, None),
    ):
        await call_api(ApiRequest(method, bank.url), **more)  # type: ignore[arg-type]
        headers = bank.heard[-1][2]
        assert headers.get("idempotency-key") == key
        assert headers["traceparent"] == "00-1-2-01"
        assert headers.get("x-key") == ("t:charge" if method == "DELETE" else None)
    await call_api(ApiRequest("POST", bank.url, headers={"idempotency-KEY": "mine"}))
    assert bank.heard[-1][2]["idempotency-key"] == "mine"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
async def test_what_may_be_repeated(bank: Bank, status: int) -> None:
    bank.answers(status, "later", **{"Retry-After": "7"})
    found = await failure(f"{bank.url}/x")
    assert isinstance(found, ApiUnavailable)
    assert found.status == status
    told = error_info(found, now_us=SystemClock().now_us())
    assert (told.type, told.retryable, told.retry_after_s) == ("ApiUnavailable", True, 7.0)
    assert isinstance(await failure(f"{bank.url}/x", statuses={status: "permanent"}), ApiRefused)


@pytest.mark.parametrize("status", [304, 400, 401, 404, 409, 422])
async def test_what_may_not(bank: Bank, status: int) -> None:
    bank.answers(status)
    found = await failure(bank.url)
    assert isinstance(found, ApiRefused)
    assert found.status == status
    assert isinstance(await failure(bank.url, statuses={status: "retryable"}), ApiUnavailable)


async def test_an_error_names_no_secret(bank: Bank) -> None:
    bank.answers(500, "bad token=hunter2 for https://ada:hunter2@db/x?y=hunter2")
    found = await failure(f"{bank.url.replace('//', '//ada:hunter2@')}/charges?key=hunter2")
    assert str(found) == (
        f"POST {bank.url}/charges answered 500 Internal Server Error: bad token=*** for https://ada:***@db/x?***"
    )


async def test_no_answer_in_time_may_be_repeated(bank: Bank) -> None:
    release = asyncio.Event()

    async def slow() -> web.Response:
        await release.wait()
        return web.Response()

    bank.answer = lambda _request: slow()
    found = await failure(bank.url, timeout_s=0.05)
    release.set()
    assert isinstance(found, ApiUnavailable)
    assert "no answer within 0.05 s" in str(found)


async def test_no_connection_and_a_broken_one_may_be_repeated(bank: Bank, unused_port: int) -> None:
    assert isinstance(await failure(f"http://127.0.0.1:{unused_port}/x?key=hunter2"), ApiUnavailable)

    async def torn(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.abort()
        return response

    bank.answer = torn
    found = await failure(f"{bank.url}/x?key=hunter2")
    assert isinstance(found, ApiUnavailable)
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("url", ["no url", "http://[", "ftp://host/x", "http://host:99999/x"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    assert isinstance(await failure(url), ApiRefused)


async def test_a_large_answer_is_refused(bank: Bank) -> None:
    bank.answers(200, "x" * 2000)
    found = await failure(bank.url, response_bytes_max=1000)
    assert isinstance(found, ApiRefused)
    assert "more than 1000 bytes" in str(found)


async def test_results_in_other_forms(bank: Bank) -> None:
    bank.answers(200, "no json")
    assert isinstance(await failure(bank.url), ApiRefused)
    assert await call_api(ApiRequest("GET", bank.url, result="text")) == "no json"
    assert await call_api(ApiRequest("GET", bank.url, result="bytes")) == b"no json"
    bank.answers(204)
    assert await call_api(ApiRequest("DELETE", bank.url)) is None


async def test_a_session_of_ones_own_is_used_and_left_open(bank: Bank) -> None:
    async with aiohttp.ClientSession(headers={"X-Mine": "1"}) as session:
        await call_api(ApiRequest("GET", bank.url), session=session)
        assert not session.closed
    assert bank.heard[0][2]["x-mine"] == "1"


async def test_a_step_that_returns_a_request_makes_it(bank: Bank, attempt: None) -> None:
    shop = Template("shop")

    @shop.step
    @api_step(statuses={409: "retryable"})
    def charge(input: dict) -> ApiRequest:
        return ApiRequest("POST", f"{bank.url}/charges", json=input)

    @shop.step
    @api_step()
    async def ship(charge: dict) -> str:
        return "no request"

    first, second = (one.spec for one in shop.handlers())
    assert first.is_async
    assert await first.bind(None, b'{"n":1}', {})() == {"ok": True}
    assert bank.heard[0][2]["idempotency-key"] == "t:charge"
    with pytest.raises(PermanentError, match="str, not an ApiRequest"):
        await second.bind(None, b"null", {"charge": b"{}"})()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"json": 1, "data": "x"}, "json and data; one of them can be sent"),
        ({"json": {1, 2, object()}}, "the request cannot be sent: TypeError"),
        ({"params": {"a": None}}, "the request cannot be sent: TypeError"),
        ({"headers": {"a": 5}}, "the request cannot be sent: TypeError"),
        ({"headers": {"a": "x\r\ny: z"}}, "the request cannot be sent: ValueError"),
    ],
    ids=["two-bodies", "no-json", "no-parameter", "no-header", "two-headers"],
)
async def test_a_request_that_cannot_be_sent_is_not_tried_again(bank: Bank, keys: Any, told: str) -> None:
    """Planted bugs: `data` that was dropped beside `json`; as many attempts as the step has, all alike."""
    with pytest.raises(ApiRefused, match=re.escape(told)):
        await call_api(ApiRequest("POST", bank.url, **keys))
    assert bank.heard == []


@pytest.mark.parametrize(
    "said", [{"timeout_s": 0}, {"timeout_s": "5"}, {"response_bytes_max": 0}, {"statuses": {1: "permanent"}}]
)
def test_bounds_that_make_no_sense_are_refused(said: Any) -> None:
    with pytest.raises(ConfigurationError):
        api_step(**said)


def test_an_address_is_told_without_its_secrets() -> None:
    assert url_text("https://ada:pw@bank.example:8443/v1/x?key=1#f") == "https://bank.example:8443/v1/x"
    assert url_text("http://[") == "a URL that is none"
