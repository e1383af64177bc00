"""A dry run tells what a command would cause, and what is decided afterwards does not know of it."""

from collections.abc import Iterator
from typing import Any

from tasker.events.task_events import ErrorInfo
from tasker.service.domain.commands import RetryTask
from tasker.service.domain.dry_run import copied, would_cause
from tests.runs import Run, template

NEVER = ErrorInfo(type="ValueError", message="never", retryable=False)

FIXED = {"items", "_index", "of"}
"""Attributes with lists and dicts that never change once they are made, or that are met elsewhere."""


def failed_items(others: dict[str, Any] | None = None, **keys: Any) -> Run:
    """A task with three failed items of its step `a`, of which one runs at a time; `others`: steps beside it."""
    steps = {"a": {"each": "[1, 2, 3]", "on_item_failure": "isolate", "max_parallel": 1}} | (others or {})
    run = Run(template({name: [] for name in steps}, steps=steps, **keys))
    run.create()
    for index in range(3):
        run.fail(f"a[{index}]", error=NEVER)
    return run


def test_items_whose_turn_would_come_later_are_left_alone() -> None:
    """They were put in the line of the task itself: the next retry of one of them began others, unrecorded as such."""
    run = failed_items()
    foreseen = would_cause(run.state, run.template, RetryTask(at_us=run.now_us))
    expansion = run.state.steps["a"].expansion
    assert expansion is not None
    assert (list(expansion.again), list(expansion.failed)) == ([], ["a[0]", "a[1]", "a[2]"])
    run.retry("a[2]")
    assert run.offered() == ["a[2]"]
    run.complete("a[2]", 2)
    assert (run.offered(), list(expansion.failed)) == ([], ["a[0]", "a[1]"])

    run = failed_items()
    assert tuple(foreseen) == run.retry()


def test_a_copy_shares_nothing_that_changes() -> None:
    others = {
        "votes": {"signal": "vote", "signal_take": "all", "signal_count": 2},
        "ask": {"approval": {"assignees": ["ada", "bob"], "approvals": 2}},
    }
    run = failed_items(others, budget={"running_s_max": 60}, stale_after={"waiting_s": 60})
    run.signal("vote", "yes", command_id="v1")
    run.approve("ask", "ada")
    run.retry()
    ours = {id(one): path for path, one in containers("state", run.state)}
    theirs = dict(containers("state", copied(run.state)))
    assert {path for path, one in theirs.items() if id(one) in ours} == set()
    assert set(theirs) == set(ours.values())
    assert {"state.steps['a'].expansion.again", "state.steps['votes'].wait.numbers"} <= set(theirs)


def containers(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what can change within a state, by where it stands."""
    if isinstance(value, dict):
        yield path, value
        for key, one in value.items():
            yield from containers(f"{path}[{key!r}]", one)
    elif isinstance(value, (list, set)):
        yield path, value
    elif type(value).__module__.startswith("tasker.service.domain"):
        for slot in getattr(type(value), "__slots__", ()):
            if slot not in FIXED:
                yield from containers(f"{path}.{slot}", getattr(value, slot))
