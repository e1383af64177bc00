"""Which errors another attempt may repair: by class, and by the HTTP status that an error carries.

| status                              | another attempt |
|-------------------------------------|-----------------|
| 408, 425, 429, 500 to 599           | may help        |
| any other from 300 to 499           | does not        |

408 Request Timeout, 425 Too Early and 429 Too Many Requests are the caller's to repeat (RFC 9110, section 15.5.9;
RFC 8470, section 5.2; RFC 6585, section 4).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

from tasker.callers import place_of_caller
from tasker.errors import ConfigurationError
from tasker.handlers.keywords import keywords_told
from tasker.handlers.outcome import Verdict, cause_of, give_verdict
from tasker.templates.reading import kind_of

F = TypeVar("F", bound=Callable[..., Any])

Help = Literal["retryable", "permanent"]
Statuses = Mapping[int, Help]
ExceptionClasses = type[Exception] | Sequence[type[Exception]]

RETRYABLE_STATUSES: Final = frozenset({408, 425, 429, *range(500, 600)})
_STATUS_MIN: Final = 300
_STATUS_MAX: Final = 599
_CAUSES_LOOKED_AT: Final = 10


def is_retryable_status(status: int, overrides: Statuses | None = None) -> bool:
    """Return whether another attempt may help after an answer with `status`; `overrides` come before the table."""
    chosen = (overrides or {}).get(status)
    return status in RETRYABLE_STATUSES if chosen is None else chosen == "retryable"


def http_status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an exception of aiohttp, httpx, requests or urllib carries; None: it has none."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status", "status_code", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and not isinstance(status, bool) and _STATUS_MIN <= status <= _STATUS_MAX:
                return int(status)
    return None


def retry_after_of(error: BaseException) -> str | None:
    """Return the `Retry-After` header that came with such a status; None: there is none."""
    for holder in (error, getattr(error, "response", None)):
        headers = getattr(holder, "headers", None)
        get = getattr(headers, "get", None)
        if callable(get):
            value = get("Retry-After") or get("retry-after")
            if isinstance(value, str):
                return value
    return None


@keywords_told
def errors_are(
    *,
    permanent: ExceptionClasses = (),
    retryable: ExceptionClasses = (),
    statuses: Statuses | None = None,
    by_status: bool = False,
) -> Callable[[F], F]:
    """Say which exceptions of a handler another attempt may repair; it stands below `@step` or `@handler`.

    ```python
    @orders.step
    @errors_are(permanent=CardDeclined, retryable=BankClosed, statuses={409: "retryable"})
    async def charge(input: dict) -> dict: ...
    ```

    The exception itself goes on as it is: its class, message and causes are what is recorded. `permanent` is looked at
    first, then `retryable`, then the status; what is in none of them counts as ever.

    Args:
        permanent: classes after which no attempt follows.
        retryable: classes after which one may, also of `PermanentError`s.
        statuses: HTTP status -> what it is, where the table is not right for the target; implies `by_status`.
        by_status: judge exceptions that carry an HTTP status (those of aiohttp, httpx, requests, urllib, themselves or
            as a cause) by it, and wait for as long as their `Retry-After` says.

    Raises:
        ConfigurationError: a class is both, or none, or a status is none.
    """
    never, again = _classes("permanent", permanent), _classes("retryable", retryable)
    if both := [kind.__name__ for kind in never if kind in again]:
        raise ConfigurationError(f"errors_are: {both[0]} is both permanent and retryable")
    check_statuses(statuses)
    judged = by_status or statuses is not None

    def judge(error: Exception) -> None:
        if isinstance(error, never):
            give_verdict(error, Verdict(retryable=False))
        elif isinstance(error, again):
            give_verdict(error, Verdict(retryable=True))
        elif judged and (found := _with_status(error)) is not None:
            holder, status = found
            goes_on = is_retryable_status(status, statuses)
            give_verdict(error, Verdict(goes_on, retry_after_of(holder) if goes_on else None))

    def wrap(function: F) -> F:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def judged_async(*args: Any, **named: Any) -> Any:
                try:
                    return await function(*args, **named)
                except Exception as error:
                    judge(error)
                    raise

            return judged_async  # type: ignore[return-value]

        @functools.wraps(function)
        def judged_sync(*args: Any, **named: Any) -> Any:
            try:
                return function(*args, **named)
            except Exception as error:
                judge(error)
                raise

        return judged_sync  # type: ignore[return-value]

    return wrap


def check_statuses(statuses: Statuses | None) -> None:
    """Return when `statuses` may be used.

    Raises:
        ConfigurationError: one is no status of a failure, or is neither `retryable` nor `permanent`.
    """
    if not (statuses is None or isinstance(statuses, Mapping)):
        raise ConfigurationError(
            f"{place_of_caller()}statuses is an object, such as {{409: 'retryable'}}, not {kind_of(statuses)}"
        )
    for status, chosen in (statuses or {}).items():
        if type(status) is not int or not _STATUS_MIN <= status <= _STATUS_MAX:
            raise ConfigurationError(f"{status!r} is no HTTP status from {_STATUS_MIN} to {_STATUS_MAX}")
        if chosen not in ("retryable", "permanent"):
            raise ConfigurationError(f"status {status} is 'retryable' or 'permanent', not {chosen!r}")


def _with_status(error: BaseException) -> tuple[BaseException, int] | None:
    """Return the exception of a chain of causes that carries a status, and the status."""
    looked: BaseException | None = error
    for _ in range(_CAUSES_LOOKED_AT):
        if looked is None:
            return None
        status = http_status_of(looked)
        if status is not None:
            return looked, status
        looked = cause_of(looked)
    return None


def _classes(keyword: str, given: ExceptionClasses) -> tuple[type[Exception], ...]:
    """Return the classes; what is none is told now, not in place of the error that it was to judge."""
    classes = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, Exception)):
            raise ConfigurationError(
                f"{place_of_caller()}errors_are: {keyword} is a class of exceptions, or a list of them, "
                f"not {kind_of(one)}"
            )
    return classes
