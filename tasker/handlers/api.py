"""Calls of HTTP services from handlers, on aiohttp: what may be repeated is, and nothing secret is told.

| what happens                                     | raised            | another attempt             |
|--------------------------------------------------|-------------------|-----------------------------|
| 408, 425, 429, 5xx (`classification`)            | `ApiUnavailable`  | after the `Retry-After`     |
| no answer in time, no connection, one that broke | `ApiUnavailable`  | as the step's `retry` says  |
| any other status from 300                        | `ApiRefused`      | none                        |
| an answer that is too large, or no JSON          | `ApiRefused`      | none                        |
| a URL that is none, a certificate that is wrong  | `ApiRefused`      | none                        |
| a request that cannot be sent as it is           | `ApiRefused`      | none                        |

A request that may have an effect carries the step's idempotency key, the same over all its attempts, so that the
target can do it once. An error names method, host, path and status; never a query, a header or a user.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from tasker.callers import place_of_caller
from tasker.errors import ConfigurationError
from tasker.handlers.classification import Statuses, check_statuses, is_retryable_status
from tasker.handlers.keywords import keywords_told
from tasker.handlers.outcome import PermanentError, RetryableError
from tasker.scrubbing import masked_error
from tasker.telemetry import current_attempt

if TYPE_CHECKING:
    import aiohttp

TIMEOUT_S: Final = 10.0
RESPONSE_BYTES_MAX: Final = 1024 * 1024
HEADER_IDEMPOTENCY_KEY: Final = "Idempotency-Key"
TOLD_CHARS_MAX: Final = 300
_CHUNK_BYTES: Final = 64 * 1024
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_BAD_STATUS_MIN: Final = 300

Method = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request to make.

    Attributes:
        json: sent as JSON when it is given; data: sent as it is. One of them, or neither.
        headers: beside those of `call_api`; an `Idempotency-Key` here is kept.
        result: what becomes of the body: decoded JSON (None when it is empty), text, or bytes.
    """

    method: Method
    url: str
    _: KW_ONLY
    json: Any = msgspec.UNSET
    data: bytes | str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    result: Literal["json", "text", "bytes"] = "json"


class ApiUnavailable(RetryableError):
    """The service could not answer now.

    Attributes:
        status: of its answer; None: there was none.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: str | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status


class ApiRefused(PermanentError):
    """The service does not do it, however often it is asked.

    Attributes:
        status: of its answer; None: it was not asked.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


async def call_api(
    request: ApiRequest,
    *,
    session: aiohttp.ClientSession | None = None,
    timeout_s: float = TIMEOUT_S,
    statuses: Statuses | None = None,
    response_bytes_max: int = RESPONSE_BYTES_MAX,
    idempotency_header: str | None = HEADER_IDEMPOTENCY_KEY,
) -> Any:
    """Return what a service answers to `request`, from within a handler.

    Args:
        request: what to ask.
        session: of your own, such as a `@resource`, so that connections are kept; None: one for this call.
        timeout_s: for all of it.
        statuses: HTTP status -> `retryable` or `permanent`, where the table is not right for the service.
        response_bytes_max: a larger answer is refused, unread.
        idempotency_header: carries the step's idempotency key with a method that may have an effect; None: none.

    Raises:
        ApiUnavailable, ApiRefused: see the table of this module.
    """
    import aiohttp

    what = f"{request.method} {url_text(request.url)}"
    headers = _headers(request, idempotency_header)
    body = _body(request, what)
    own = aiohttp.ClientSession() if session is None else None
    try:
        async with (
            asyncio.timeout(timeout_s),
            (own or session).request(  # type: ignore[union-attr] # one of them is there
                request.method, request.url, params=dict(request.params) or None, data=body, headers=headers
            ) as answer,
        ):
            data = await _read(answer, response_bytes_max, what)
            if answer.status >= _BAD_STATUS_MIN:
                raise _error_of(answer, data, what, statuses)
    except TimeoutError as error:
        raise ApiUnavailable(f"{what}: no answer within {timeout_s:g} s") from error
    except (
        aiohttp.InvalidURL,
        aiohttp.NonHttpUrlClientError,
        aiohttp.TooManyRedirects,
        aiohttp.ClientConnectorCertificateError,
    ) as error:
        raise ApiRefused(f"{what}: {_words(error)}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ApiUnavailable(f"{what}: {_words(error)}") from error
    except (TypeError, ValueError) as error:  # of headers or parameters
        raise ApiRefused(f"{what}: the request cannot be sent: {_words(error)}") from error
    finally:
        if own is not None:
            await own.close()
    return _result(request, data, what)


@keywords_told
def api_step(
    *,
    timeout_s: float = TIMEOUT_S,
    statuses: Statuses | None = None,
    response_bytes_max: int = RESPONSE_BYTES_MAX,
    idempotency_header: str | None = HEADER_IDEMPOTENCY_KEY,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function that returns an `ApiRequest` a handler that makes it; below `@step` or `@handler`.

    ```python
    @orders.step(retry=Retry(max_attempts=5))
    @api_step(statuses={409: "retryable"})
    def charge(input: dict) -> ApiRequest:
        return ApiRequest("POST", "https://bank.example/charges", json={"amount": input["total"]})
    ```

    The step's result is the answer. The arguments are those of `call_api`.

    Raises:
        ConfigurationError: a bound or a status is none.
    """
    if not (_is_number(timeout_s) and timeout_s > 0 and _is_number(response_bytes_max) and response_bytes_max >= 1):
        raise ConfigurationError(f"{place_of_caller()}api_step: timeout_s and response_bytes_max are numbers above 0")
    check_statuses(statuses)

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def step(*args: Any, **named: Any) -> Any:
            made = function(*args, **named)
            request = await made if inspect.isawaitable(made) else made
            if not isinstance(request, ApiRequest):
                raise PermanentError(f"{function.__qualname__} returned {type(request).__name__}, not an ApiRequest")
            return await call_api(
                request,
                timeout_s=timeout_s,
                statuses=statuses,
                response_bytes_max=response_bytes_max,
                idempotency_header=idempotency_header,
            )

        return step

    return wrap


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def url_text(url: str) -> str:
    """Return scheme, host, port and path of a URL: what of it may be told."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
        told = f"{parts.scheme}://{parts.hostname}{port}{parts.path}"
    except ValueError:
        return "a URL that is none"
    return told[:TOLD_CHARS_MAX]


def _headers(request: ApiRequest, idempotency_header: str | None) -> dict[str, str]:
    headers = dict(request.headers)
    known = {name.lower() for name in headers}
    attempt = current_attempt.get()
    key: str | None = getattr(attempt, "idempotency_key", None)
    if key and idempotency_header and idempotency_header.lower() not in known and request.method not in _SAFE_METHODS:
        headers[idempotency_header] = key
    traceparent: str | None = getattr(attempt, "traceparent", None)
    if traceparent and "traceparent" not in known:
        headers["traceparent"] = traceparent
    if request.json is not msgspec.UNSET and "content-type" not in known:
        headers["Content-Type"] = "application/json"
    return headers


def _body(request: ApiRequest, what: str) -> bytes | str | None:
    if request.json is msgspec.UNSET:
        return request.data
    if request.data is not None:
        raise ApiRefused(f"{what}: the request has json and data; one of them can be sent")
    try:
        return msgspec.json.encode(request.json)
    except Exception as error:  # encoding runs the user's own properties
        raise ApiRefused(f"{what}: the request cannot be sent: {_words(error)}") from error


async def _read(answer: aiohttp.ClientResponse, bytes_max: int, what: str) -> bytes:
    """Return the body, as far as it is no larger than allowed; of a failure only what is told of it."""
    data = bytearray()
    is_failure = answer.status >= _BAD_STATUS_MIN
    async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
        data += chunk
        if is_failure and len(data) > TOLD_CHARS_MAX * 4:
            break
        if len(data) > bytes_max:
            raise ApiRefused(f"{what}: the answer has more than {bytes_max} bytes", status=answer.status)
    return bytes(data)


def _error_of(
    answer: aiohttp.ClientResponse, data: bytes, what: str, statuses: Statuses | None
) -> ApiUnavailable | ApiRefused:
    status = answer.status
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    said = masked_error(" ".join(data.decode(errors="replace").split()))[:TOLD_CHARS_MAX]
    message = f"{what} answered {status}{phrase}" + (f": {said}" if said else "")
    if is_retryable_status(status, statuses):
        return ApiUnavailable(message, status=status, retry_after=answer.headers.get("Retry-After"))
    return ApiRefused(message, status=status)


def _result(request: ApiRequest, data: bytes, what: str) -> Any:
    if request.result == "bytes":
        return data
    if request.result == "text":
        return data.decode(errors="replace")
    if not data.strip():
        return None
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiRefused(f"{what}: the answer is no JSON: {error}") from error


def _words(error: BaseException) -> str:
    """Return what an exception of aiohttp says, without what may be secret."""
    os_error = getattr(error, "os_error", None)
    text = str(os_error if os_error is not None else error) or type(error).__name__
    return masked_error(f"{type(error).__name__}: {text}")[:TOLD_CHARS_MAX]
