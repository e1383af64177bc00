"""By class and by HTTP status: whether another attempt may help, and when."""

import asyncio
import email.message
import inspect
import itertools
import urllib.error
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from tasker.errors import ConfigurationError
from tasker.events.task_events import ErrorInfo
from tasker.handlers import PermanentError, StepContext, Template, errors_are
from tasker.handlers.classification import http_status_of, is_retryable_status
from tasker.handlers.outcome import STACK_CHARS_MAX, error_info
from tasker.times import from_rfc3339

NOW_US = from_rfc3339("2026-11-21T10:00:00Z")


class CardDeclined(Exception):
    pass


class BankClosed(PermanentError):
    pass


class StatusError(Exception):
    """As httpx and requests raise it."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"answered {status}")
        self.response = SimpleNamespace(status_code=status, headers=headers or {})


def info(function: Any) -> ErrorInfo:
    try:
        asyncio.run(function()) if inspect.iscoroutinefunction(function) else function()
    except Exception as error:  # noqa: BLE001 - any
        return error_info(error, now_us=NOW_US)
    raise AssertionError


def raising(error: Exception, **said: Any) -> ErrorInfo:
    """What a report says of a handler that raises `error`; sync and async alike."""

    @errors_are(**said)
    def sync_one() -> None:
        raise error

    @errors_are(**said)
    async def async_one() -> None:
        raise error

    one, other = info(sync_one), info(async_one)
    assert (one.type, one.message, one.retryable, one.retry_after_s) == (
        other.type,
        other.message,
        other.retryable,
        other.retry_after_s,
    )
    return one


@pytest.mark.parametrize(
    ("status", "expected"),
    [(408, True), (425, True), (429, True), (500, True), (503, True), (599, True)]
    + [(status, False) for status in (304, 400, 401, 403, 404, 409, 410, 422, 451)],
)
def test_the_table_of_statuses(status: int, expected: bool) -> None:  # noqa: FBT001 - the table
    assert is_retryable_status(status) is expected
    assert is_retryable_status(status, {status: "permanent"}) is False
    assert is_retryable_status(status, {status: "retryable"}) is True


def test_a_class_is_permanent_and_keeps_its_name() -> None:
    found = raising(CardDeclined("no funds"), permanent=CardDeclined)
    assert (found.type.rpartition(".")[2], found.message, found.retryable) == ("CardDeclined", "no funds", False)
    assert raising(ValueError("odd"), permanent=CardDeclined).retryable


def test_a_permanent_error_may_be_repeated_all_the_same() -> None:
    assert not raising(BankClosed("x"), permanent=CardDeclined).retryable
    assert raising(BankClosed("x"), retryable=(BankClosed,)).retryable


def test_permanent_is_looked_at_first() -> None:
    class Gone(CardDeclined):
        pass

    assert not raising(Gone("x"), permanent=Gone, retryable=CardDeclined).retryable
    assert raising(CardDeclined("x"), permanent=Gone, retryable=CardDeclined).retryable


def test_a_status_decides_where_that_is_asked_for() -> None:
    assert raising(StatusError(404)).retryable
    assert not raising(StatusError(404), by_status=True).retryable
    assert raising(StatusError(404), statuses={404: "retryable"}).retryable
    assert raising(StatusError(503), by_status=True).retryable


def chain(*errors: Exception) -> Callable[[], None]:
    """What raises the last of `errors`, each of them from the one before."""
    for cause, error in itertools.pairwise(errors):
        error.__cause__ = cause

    def fail() -> None:
        raise errors[-1]

    return fail


def test_a_status_of_a_cause_decides_too_and_the_wait_that_came_with_it() -> None:
    fail = chain(StatusError(429, {"Retry-After": "7"}), RuntimeError("the bank did not take it"))
    found = info(errors_are(by_status=True)(fail))
    assert (found.retryable, found.retry_after_s) == (True, 7.0)


def test_a_date_to_come_again_is_a_wait() -> None:
    found = raising(StatusError(503, {"Retry-After": "Sat, 21 Nov 2026 10:00:30 GMT"}), by_status=True)
    assert found.retry_after_s == 30.0


def test_the_statuses_of_the_usual_libraries_are_found() -> None:
    request: Any = SimpleNamespace(real_url="x")
    assert http_status_of(aiohttp.ClientResponseError(request, (), status=502)) == 502
    assert http_status_of(urllib.error.HTTPError("x", 410, "gone", email.message.Message(), None)) == 410
    assert http_status_of(StatusError(404)) == 404
    assert http_status_of(ValueError("404")) is None
    assert http_status_of(SystemExit(1)) is None


@pytest.mark.parametrize(
    "said",
    [
        {"permanent": CardDeclined, "retryable": (CardDeclined,)},
        {"statuses": {200: "permanent"}},
        {"statuses": {404: "never"}},
        {"statuses": {True: "permanent"}},
    ],
)
def test_what_makes_no_sense_is_refused(said: Any) -> None:
    with pytest.raises(ConfigurationError):
        errors_are(**said)


def test_a_handler_is_bound_as_without_it() -> None:
    shop = Template("shop")

    @shop.step
    @errors_are(permanent=CardDeclined)
    async def reserve(ctx: StepContext, input: dict) -> dict:
        return {"n": input["n"]}

    @shop.step
    @errors_are(permanent=CardDeclined)
    def charge(reserve: dict) -> dict:
        return reserve

    first, second = (one.spec for one in shop.handlers())
    assert (first.is_async, second.is_async) == (True, False)
    assert second.steps == ("reserve",)
    assert asyncio.run(first.bind(None, b'{"n":1}', {})()) == {"n": 1}
    assert second.bind(None, b"null", {"reserve": b'{"n":1}'})() == {"n": 1}


def test_secrets_are_in_neither_message_nor_stack() -> None:
    first = ConnectionError("https://ada:hunter2@bank/x?key=hunter3 answers nothing")
    found = info(chain(first, ValueError("Authorization: Bearer hunter4hunter4")))
    assert found.message == "Authorization: Bearer ***"
    assert found.stack is not None
    assert "hunter" not in found.stack
    assert "https://ada:***@bank/x?***" in found.stack


def test_causes_are_told_also_where_the_traceback_is_cut() -> None:
    long = RuntimeError("x" * (STACK_CHARS_MAX + 10))
    found = info(chain(KeyError("first"), ValueError("second, token=abc"), long))
    assert found.stack is not None
    assert len(found.stack) == STACK_CHARS_MAX
    assert found.stack.startswith("caused by ValueError: second, token=***\ncaused by KeyError: 'first'\n")


def test_a_short_traceback_has_the_chain_by_itself() -> None:
    found = info(chain(KeyError("first"), ValueError("second")))
    assert found.stack is not None
    assert found.stack.index("KeyError: 'first'") < found.stack.index("direct cause") < found.stack.index("second")


@pytest.mark.parametrize("classes", [CardDeclined, (CardDeclined,), [CardDeclined]])
def test_classes_may_stand_in_a_list(classes: Any) -> None:
    """Planted bug: a list made of each error a TypeError of its own, when the handler had failed."""
    found = raising(CardDeclined("no"), permanent=classes)
    assert not found.retryable


def test_statuses_that_are_a_list_are_refused_where_they_are_declared() -> None:
    statuses: Any = [409]
    with pytest.raises(ConfigurationError, match=r"test_classification.py:\d+: statuses is an object, .* not a list"):
        errors_are(statuses=statuses)


@pytest.mark.parametrize("classes", ["CardDeclined", [409], int, None])
def test_what_is_no_class_of_exceptions_is_refused_where_it_is_declared(classes: Any) -> None:
    with pytest.raises(ConfigurationError, match="permanent is a class of exceptions, or a list of them, not"):
        errors_are(permanent=classes)
