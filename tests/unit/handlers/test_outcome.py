"""What a report says of an attempt that ended badly."""

import asyncio
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.errors import BodyTooLarge, ValueInvalid
from tasker.events.codec import encode_message, encode_value
from tasker.events.task_events import ErrorInfo
from tasker.handlers.outcome import (
    MESSAGE_CHARS_MAX,
    RETRY_AFTER_S_MAX,
    STACK_CHARS_MAX,
    PermanentError,
    RetryableError,
    error_info,
    result_invalid_info,
    timeout_info,
)
from tasker.times import from_rfc3339

NOW_US = from_rfc3339("2026-11-21T10:00:00Z")


class CardDeclinedError(PermanentError):
    """The bank said no."""


class GoneError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def info(error: BaseException) -> ErrorInfo:
    def raises() -> None:
        raise error

    try:
        raises()
    except BaseException as caught:  # noqa: BLE001 - any
        return error_info(caught, now_us=NOW_US)
    raise AssertionError


def test_any_exception_is_retryable_with_its_type() -> None:
    found = info(ValueError("odd"))
    assert (found.type, found.message, found.retryable, found.retry_after_s) == ("ValueError", "odd", True, None)
    assert found.stack is not None
    assert found.stack.endswith("ValueError: odd\n")


def test_a_type_of_a_module_has_its_name() -> None:
    assert info(json.JSONDecodeError("m", "d", 0)).type == "json.decoder.JSONDecodeError"
    found = info(CardDeclinedError("x"))
    assert found.type.endswith("test_outcome.CardDeclinedError")
    assert not found.retryable


def test_a_local_class_has_its_bare_name() -> None:
    class LocalError(Exception):
        pass

    assert "<locals>" not in info(LocalError()).type


@pytest.mark.parametrize(
    ("error", "type_", "words"),
    [
        (SystemExit(3), "SystemExit", "sys.exit(3)"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit", "no Exception"),
    ],
)
def test_what_is_no_exception_fails_the_step_with_a_clear_text(error, type_, words) -> None:
    found = info(error)
    assert (found.type, found.retryable) == (type_, False)
    assert words in found.message


def test_a_cancellation_by_the_handlers_own_code_is_an_error_like_others() -> None:
    found = info(asyncio.CancelledError())
    assert (found.type, found.retryable) == ("CancelledError", True)
    assert "own code" in found.message


@pytest.mark.parametrize(
    ("keywords", "wait_s"),
    [
        ({}, None),
        ({"retry_after_s": 7}, 7.0),
        ({"retry_after_s": -1}, 0.0),
        ({"retry_after_s": math.nan}, None),
        ({"retry_after_s": math.inf}, None),
        ({"retry_after_s": 1e9}, RETRY_AFTER_S_MAX),
        ({"retry_after": "120"}, 120.0),
        ({"retry_after": 5}, 5.0),
        ({"retry_after": "Sat, 21 Nov 2026 10:01:30 GMT"}, 90.0),
        ({"retry_after": "Sat, 21 Nov 2026 09:00:00 GMT"}, 0.0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": ""}, None),
        ({"retry_after_s": 1, "retry_after": "120"}, 1.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(keywords, wait_s) -> None:
    assert info(RetryableError("later", **keywords)).retry_after_s == wait_s


def test_a_group_with_one_error_is_told_as_that_error() -> None:
    found = info(ExceptionGroup("tasks", [RetryableError("busy", retry_after_s=3)]))
    assert (found.type, found.message, found.retry_after_s) == ("RetryableError", "busy", 3.0)


def test_a_permanent_error_in_a_group_makes_it_permanent() -> None:
    found = info(ExceptionGroup("tasks", [ValueError("a"), PermanentError("b")]))
    assert (found.type, found.retryable) == ("ExceptionGroup", False)


def test_an_exception_without_a_text_harms_nothing() -> None:
    found = info(GoneError())
    assert "RuntimeError" in found.message
    assert found.stack


def test_a_deep_recursion_has_a_bounded_stack() -> None:
    def down() -> None:
        down()

    with pytest.raises(RecursionError) as caught:
        down()
    found = error_info(caught.value, now_us=NOW_US)
    assert found.type == "RecursionError"
    assert found.stack is not None
    assert len(found.stack) <= STACK_CHARS_MAX


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_any_text_can_be_sent(text: str) -> None:
    """Lone surrogates, U+0000 and length do no harm."""
    for found in (info(ValueError(text * 50)), timeout_info(1.0, stack=text * 500)):
        data = encode_message(found)
        assert b"\\u0000" not in data
        assert len(found.message) <= MESSAGE_CHARS_MAX
        assert found.stack is None or len(found.stack) <= STACK_CHARS_MAX


@pytest.mark.parametrize(
    ("value", "words", "instead"),
    [
        ({"a": [1, float("nan")]}, "/a/1", "what JSON has"),
        ({"a": b"x"}, "/a", "what JSON has"),
        ({1: 2}, "key", "what JSON has"),
        ({"x": "y" * 70_000}, "bytes", "the key of what is large"),
        (object(), "no JSON form", "what JSON has"),
    ],
)
def test_a_result_without_a_json_form_is_named_with_its_place_and_what_to_do(value, words, instead) -> None:
    with pytest.raises((ValueInvalid, BodyTooLarge)) as caught:
        encode_value(value)
    found = result_invalid_info(caught.value)
    assert (found.type, found.retryable) == ("result_invalid", False)
    assert words in found.message
    assert f"; let the handler return {instead}" in found.message
    assert found.message.endswith("`tasker step retry` runs the step again, `tasker step resolve` gives it a result")
