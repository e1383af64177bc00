"""What of a command and of a report is bounded or mended before an actor sees it."""

from typing import Any

import msgspec
import pytest

from tasker.errors import BodyInvalid, KeyAmbiguous
from tasker.events.messages import Report
from tasker.service.actors.entrances.reports import MESSAGE_CHARS_MAX, STACK_CHARS_MAX, _checked
from tasker.service.actors.entrances.requests import key_of, traceparent_of

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def report(**more: Any) -> Report:
    told = {"kind": "started", "task_id": "t", "step": "s", "attempt": 1, "worker": "w-1", **more}
    return msgspec.convert(told, Report)


@pytest.mark.parametrize("key", ["a\0", "a\ud800", "\udcff", "", "k" * 513])
def test_a_key_in_a_header_is_text(key: str) -> None:
    """HTTP gives bytes that are no UTF-8 as lone surrogates; no store takes them."""
    with pytest.raises(BodyInvalid) as caught:
        key_of(None, key)
    assert [fault.pointer for fault in caught.value.errors] == ["/idempotency_key"]
    with pytest.raises(KeyAmbiguous):
        key_of("other", key)


def test_a_fault_of_a_key_names_the_field_that_the_command_has() -> None:
    with pytest.raises(BodyInvalid) as caught:
        key_of("", None, name="command_id")
    assert [fault.pointer for fault in caught.value.errors] == ["/command_id"]


@pytest.mark.parametrize("key", ["a", "\u00e9\U0001f600", "k" * 512])
def test_a_key_is_taken_from_either_place(key: str) -> None:
    assert key_of(None, key) == key_of(key, None) == key_of(key, key) == key


def test_a_trace_context_is_one_or_none() -> None:
    assert traceparent_of(TRACEPARENT) == TRACEPARENT
    for bad in (None, "", TRACEPARENT.upper(), TRACEPARENT + "\n", TRACEPARENT[:-1], "\udcff", "x" * 10_000):
        assert traceparent_of(bad) is None


@pytest.mark.parametrize("worker", ["", "a.b", "a b", "*", ">", "a\0", "w" * 129, "\u00e9"])
def test_a_worker_is_a_token_of_a_subject(worker: str) -> None:
    """Else nobody could tell it to stop: the id is a part of the subject."""
    with pytest.raises(BodyInvalid, match="/worker"):
        _checked(report(worker=worker))
    assert _checked(report(worker="w" * 128)).worker == "w" * 128


def test_an_error_is_kept_within_bounds_and_without_zeros() -> None:
    error = _checked(report(kind="failed", error={"type": "T\0", "message": "m\0" * 5000, "stack": "\0s" * 9000})).error
    assert error is not None
    assert error.type == "T\ufffd"
    assert error.message == "m\ufffd" * (MESSAGE_CHARS_MAX // 2)
    assert error.stack == "\ufffds" * (STACK_CHARS_MAX // 2)
