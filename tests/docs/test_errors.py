"""The `type` of every problem names a place on the page of errors."""

import re
from typing import get_args

import pytest
from msgspec.structs import fields

from tasker import errors
from tasker.errors import PROBLEM_TYPE_PREFIX, CommandRejected, ConfigurationError, TaskerError
from tasker.events.task_events import FailureReason, TaskBlocked, TaskFailed
from tasker.remedies import next_step
from tasker.service.domain.task_result import RESULT_LIMIT, TASK_RESULT_BYTES_MAX
from tests.architecture.tree import ROOT

PAGE = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
LEAVES = {code: leaf for code, leaf in TaskerError.leaves.items() if leaf.__module__ == errors.__name__}


@pytest.mark.parametrize("code", [*LEAVES, TaskerError.code])
def test_an_error_has_its_anchor(code: str) -> None:
    """`urn:tasker:error:<code>` is `errors.md#<code>`."""
    error = TaskerError.leaves.get(code, TaskerError)()
    anchor = error.problem().type.removeprefix(PROBLEM_TYPE_PREFIX)
    assert anchor == code
    assert re.findall(rf"^### {anchor}$", PAGE, re.MULTILINE) == [f"### {code}"]


def test_no_anchor_is_of_an_error_that_is_gone() -> None:
    assert set(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)) <= {*LEAVES, TaskerError.code}


def test_what_blocks_a_task_for_its_size_has_its_place() -> None:
    assert re.findall(rf"^#### {RESULT_LIMIT}$", PAGE, re.MULTILINE)
    assert f"{TASK_RESULT_BYTES_MAX // 1024} KiB" in PAGE


def test_every_error_says_what_to_do_next() -> None:
    codes = {*LEAVES, TaskerError.code} - {CommandRejected.code, ConfigurationError.code}  # their detail alone can say
    assert {code for code in codes if next_step(code) is None} == set()


def test_whatever_fails_an_attempt_a_step_or_a_task_stands_on_the_page() -> None:
    literals = (FailureReason, *(field.type for field in fields(TaskBlocked) if field.name == "reason"))
    literals += tuple(field.type for field in fields(TaskFailed) if field.name == "cause")
    told = {value for literal in literals for value in get_args(literal)}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tasker").rglob("*.py")]
    for source in sources:
        told |= set(re.findall(r'ErrorInfo\(\s*type="(\w+)"', source)) - {"manual", "stale"}  # reasons of dead letters
        told |= set(re.findall(r'\b_(?:error|failed)\((?:\w+, )*"(\w+)", ', source))
    assert {"worker_lost", "state_too_large", "assertion_failed", "child_refused"} <= told
    assert {one for one in told if f"`{one}`" not in PAGE and f"#### {one}" not in PAGE} == set()


def test_codes_are_for_programs() -> None:
    for code, leaf in LEAVES.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", code)
        assert 400 <= leaf.status < 600
        assert 1 <= leaf.exit_code <= 9
