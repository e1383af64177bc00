"""The result of a task has a bound: one that would be larger does not complete, and says why."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasker.errors import StateForbids
from tasker.events.codec import canonical
from tasker.events.task_events import StepCompleted, TaskBlocked, TaskCompleted, TaskFailed
from tasker.service.domain.state import TaskStatus
from tasker.service.domain.task_result import RESULT_LIMIT
from tests.runs import Run, raw, template

FORK = {"a": [], "b": ["a"], "c": ["a"]}
LIMIT = "tasker.service.domain.task_result.TASK_RESULT_BYTES_MAX"


def fork(**keys: Any) -> Run:
    """One step is left."""
    run = Run(template(FORK, **keys))
    run.create()
    run.complete("a")
    run.complete("b", result="bb")
    return run


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As large as the result with "cc" of the last step."""
    monkeypatch.setattr(LIMIT, len(canonical({"b": "bb", "c": "cc"})))


def test_a_result_as_large_as_allowed_completes_the_task() -> None:
    run = fork()
    assert run.complete("c", result="cc")[-1] == TaskCompleted(result=raw({"b": "bb", "c": "cc"}))


def test_a_byte_more_blocks_the_task_and_keeps_what_its_steps_did() -> None:
    run = fork()
    _, completed, blocked = run.complete("c", result="ccc")
    assert completed == StepCompleted(step="c", attempt=1, result=raw("ccc"))
    assert isinstance(blocked, TaskBlocked)
    assert (blocked.reason, run.state.status, run.owes()) == (RESULT_LIMIT, TaskStatus.BLOCKED, {})
    assert f"{len(canonical({'b': 'bb', 'c': 'ccc'}))} bytes" in (blocked.detail or "")
    assert run.state.result_of("c") == raw("ccc")


def test_no_step_of_it_can_be_retried_and_it_can_be_cancelled() -> None:
    run = fork()
    run.complete("c", result="ccc")
    with pytest.raises(StateForbids):
        run.retry()
    run.cancel()
    assert run.state.status is TaskStatus.CANCELLED


def test_the_template_may_let_it_fail() -> None:
    run = fork(on_failure="fail")
    ending = run.complete("c", result="ccc")[-1]
    assert isinstance(ending, TaskFailed)
    assert (ending.cause, ending.error and ending.error.type) == (RESULT_LIMIT, RESULT_LIMIT)
    assert (run.state.status, run.owes()) == (TaskStatus.FAILED, {})


def test_the_result_of_the_items_of_a_step_counts_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"a": {"each": "input.list"}}
    for more, status in ((0, TaskStatus.COMPLETED), (-1, TaskStatus.BLOCKED)):
        monkeypatch.setattr(LIMIT, len(canonical(["x" * 9, "y", "z"])) + more)
        run = Run(template({"a": []}, steps=steps))
        run.create(input=raw({"list": [1, 2, 3]}))
        for item, result in zip(("a[0]", "a[1]", "a[2]"), ("x" * 9, "y", "z"), strict=True):
            run.complete(item, result=result)
        assert run.state.status is status


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True), st.text(max_size=9), min_size=2, max_size=5)
)
def test_the_size_is_known_before_it_is_made(results: dict[str, str]) -> None:
    """So that 1,000 results of 64 KiB are refused without 64 MiB of memory."""
    for more, status in ((0, TaskStatus.COMPLETED), (-1, TaskStatus.BLOCKED)):
        run = Run(template({name: [] for name in results}))
        run.create()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LIMIT, len(canonical(results)) + more)
            for name, result in results.items():
                run.complete(name, result=result)
        assert run.state.status is status
