"""Labels of workers, and the names of the queues whose work requires some."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.errors import ConfigurationError
from tasker.events.subjects import Subjects
from tasker.ids import NAME_PATTERN
from tasker.labels import (
    LABEL_PATTERN,
    REQUIRED_CHARS_MAX,
    is_work_queue,
    labels_of,
    may_serve,
    plain_queue,
    required_by,
    spelled,
    work_queue,
)

names = st.from_regex(NAME_PATTERN, fullmatch=True)
labels = st.dictionaries(names, st.from_regex(LABEL_PATTERN, fullmatch=True), max_size=4).filter(
    lambda found: len(spelled(found)) <= REQUIRED_CHARS_MAX
)


@given(names, labels)
def test_the_name_of_a_queue_says_what_it_requires(queue: str, requires: dict[str, str]) -> None:
    name = work_queue(queue, requires)
    assert (plain_queue(name), required_by(name)) == (queue, requires)
    assert is_work_queue(name)
    subjects = Subjects("t")
    consumer = subjects.work_consumer("acme", "shop", name)
    assert subjects.parse_work_consumer(consumer) == ("acme", "shop", name)
    assert subjects.work("acme", "shop", name).count(".") == 4


def test_labels_have_one_spelling() -> None:
    assert work_queue("q", {"zone": "eu", "gpu": "a100"}) == "q~gpu=a100~zone=eu"
    assert work_queue("q", {}) == "q"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Q",
        "q~",
        "q~gpu",
        "q~gpu=",
        "q~gpu=a.b",
        "q~gpu=*",
        "q~z=1~a=1",
        "q~a=1~a=2",
        "q~a=1~",
        "~a=1",
        "q~" + "a" * 59 + "=1",
    ],
)
def test_what_is_no_queue(name: str) -> None:
    assert not is_work_queue(name)


def test_a_worker_serves_what_its_labels_allow() -> None:
    has = {"gpu": "a100", "zone": "eu"}
    assert [may_serve(has, f"q{one}") for one in ("", "~gpu=a100", "~gpu=a100~zone=eu")] == [True] * 3
    assert [may_serve(has, f"q{one}") for one in ("~gpu=h100", "~disk=ssd", "~disk=ssd~gpu=a100")] == [False] * 3


def test_labels_are_given_as_name_and_value() -> None:
    assert labels_of(["gpu=a100", "zone=eu", "gpu=a100"]) == {"gpu": "a100", "zone": "eu"}


@pytest.mark.parametrize("given", [["gpu"], ["gpu="], ["=a"], ["GPU=a"], ["gpu=a b"], ["gpu=a=b"], ["gpu=a", "gpu=b"]])
def test_what_is_no_label_is_refused(given: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        labels_of(given)
