"""Answers to an array of reports fit into one message."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.events.messages import ReportReply
from tasker.service.actors.entrances.reports import fitted

BYTES_MAX = 4_000


def with_value(size: int) -> bytes:
    return msgspec.json.encode({"ok": True, "recorded": False, "result": "x" * size})


def decoded(answers: list[bytes]) -> list[ReportReply]:
    return msgspec.json.decode(b"[" + b",".join(answers) + b"]", type=list[ReportReply])


def test_what_fits_is_as_it_was() -> None:
    answers = [with_value(900)] * 4
    assert fitted(answers, BYTES_MAX) is answers


def test_what_does_not_is_to_be_asked_for_again_and_small_answers_stand() -> None:
    recorded = b'{"ok":true,"recorded":true}'
    found = decoded(fitted([with_value(1_500), with_value(1_500), recorded, with_value(1_500)], BYTES_MAX))
    assert [reply.ok for reply in found] == [True, True, True, False]
    error = found[3].error
    assert error is not None
    assert error.status == 429, "a worker asks again"


def test_what_no_message_carries_is_refused_for_good() -> None:
    found = decoded(fitted([with_value(5_000), with_value(10)], BYTES_MAX))
    error = found[0].error
    assert error is not None
    assert (error.status, found[1].ok) == (413, True)


@given(st.lists(st.integers(0, 4_500), min_size=1, max_size=10))
def test_they_always_fit_and_something_is_answered(sizes: list[int]) -> None:
    answers = fitted([with_value(size) for size in sizes], BYTES_MAX)
    assert sum(map(len, answers)) + len(answers) + 1 <= BYTES_MAX
    assert any(reply.ok or (reply.error is not None and reply.error.status == 413) for reply in decoded(answers))


@pytest.mark.parametrize("size", [BYTES_MAX - 2, BYTES_MAX - 3])
def test_a_value_that_just_fits_is_answered_alone(size: int) -> None:
    answer = with_value(size - len(with_value(0)))
    assert len(answer) == size
    assert fitted([answer], BYTES_MAX) == [answer]
