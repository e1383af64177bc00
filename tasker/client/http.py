"""The service over HTTP: one request, a typed answer or a typed error."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from tasker.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DeadlineExceeded,
    OutcomeUnknown,
    Problem,
    TaskerError,
    Unavailable,
    Undecodable,
)
from tasker.events.codec import decode_message
from tasker.events.subjects import HEADER_TENANT
from tasker.remedies import one_line

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

Parameters = Mapping[str, str | int | float | list[str] | None]
_ERROR_STATUS = 400
_AUTHENTICATION = (401, 407)
"""What a proxy answers that wants to know who asks."""

_SERVER_STATUS = 500
_NOT_IMPLEMENTED = 501
OTHER: Final = (
    "is it Tasker's address, and its version ours? `tasker config show http` says where the address comes from"
)
"""What a person does where something answers that is not Tasker."""


class HttpApi:
    """The endpoints below one address; a session is opened by the first request."""

    def __init__(self, http_url: str, *, tenant: str) -> None:
        self.http_url = http_url
        self._headers = {HEADER_TENANT: tenant, "Accept": "application/json"}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the session. Twice is fine."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(self, path: str, kind: type[T], *, timeout_s: float, parameters: Parameters | None = None) -> T:
        """Return what GET answers, as `kind`."""
        data = await self.ask("GET", path, timeout_s=timeout_s, parameters=parameters)
        try:
            return decode_message(data, kind)
        except Undecodable as error:
            raise Undecodable(
                f"GET {self.http_url}{path} is not answered as Tasker does: {error.detail}", remedy=OTHER
            ) from error

    async def ask(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        parameters: Parameters | None = None,
        body: bytes | None = None,
        good: tuple[int, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the body of a good answer (also of the error statuses in `good`).

        Raises:
            Unavailable: nobody listens, or a GET was cut off.
            OutcomeUnknown: the answer to anything but a GET was lost.
            DeadlineExceeded: there was no answer in time.
            AuthenticationFailed: a proxy wants to know who asks.
            ConfigurationError: something answers that is not Tasker.
            TaskerError: the service's own refusal.
        """
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method,
                    self.http_url + path,
                    params=_query(parameters or {}),
                    data=body,
                    headers={**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})},
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(5.0, timeout_s)),
                ) as answer,
            ):
                data = await answer.read()
                if answer.status >= _ERROR_STATUS and answer.status not in good:
                    raise _error_of(f"{method} {self.http_url}{path}", answer.status, answer.headers, data)
                return data
        except TimeoutError as error:
            raise DeadlineExceeded(f"{method} {path}: no answer within {timeout_s:.3g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"nobody answers at {self.http_url}: {error.os_error.strerror or error}") from error
        except aiohttp.InvalidURL as error:
            raise ConfigurationError(f"{self.http_url!r} is no HTTP address") from error
        except (aiohttp.ClientError, OSError) as error:
            lost = f"{method} {path}: the connection was lost ({str(error) or type(error).__name__})"
            raise (Unavailable(lost) if method == "GET" else OutcomeUnknown(lost)) from error


def _query(parameters: Parameters) -> list[tuple[str, str]]:
    query: list[tuple[str, str]] = []
    for name, value in parameters.items():
        if isinstance(value, list):
            query.extend((name, item) for item in value)
        elif value is not None:
            query.append((name, str(value)))
    return query


def _error_of(asked: str, status: int, headers: Mapping[str, str], data: bytes) -> TaskerError:
    """Return the error of an answer; a page of a proxy that finds nobody is `unavailable`, and a stranger's is told."""
    try:
        return TaskerError.from_problem(decode_message(data, Problem))
    except Undecodable:
        text = one_line(data[:100].decode(errors="replace"))
    detail = f"{asked} is answered with HTTP {status}, and not as Tasker does: {text}"
    if status in _AUTHENTICATION:
        return AuthenticationFailed(f"{asked} is answered with HTTP {status}, by a proxy before Tasker: {text}")
    if status < _SERVER_STATUS or status == _NOT_IMPLEMENTED:
        return ConfigurationError(detail, remedy=OTHER)
    retry_after_s = None
    with contextlib.suppress(ValueError):
        retry_after_s = float(headers.get("Retry-After", ""))
    return Unavailable(detail, retry_after_s=retry_after_s)
