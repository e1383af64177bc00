"""What another run of a task takes from it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tasker.errors import StateForbids
from tasker.events.task_events import TemplateRef
from tasker.service.domain.commands import CreateTask, PostponeTask
from tasker.service.domain.limits.debounce import waiting
from tasker.service.domain.repairs.restart import Original, original_of
from tests.runs import Run, linear, raw


def original(run: Run) -> Original:
    return original_of(run.state, run.template)


def begun(**more: Any) -> Run:
    run = Run(linear(1))
    run.create(timeout_s=60.0, **more)
    return run


def test_a_task_that_has_not_ended_has_none() -> None:
    with pytest.raises(StateForbids, match="cancel"):
        original(begun())


def test_it_takes_what_the_task_had_last() -> None:
    run = begun(tags={"team": "core", "old": "yes"}, metadata=raw({"guest": "ada"}), priority=3)
    run.update(tags={"old": None, "new": "yes"}, metadata={"guests": 2}, priority=9)
    run.complete("s1")
    found = original(run)
    assert (found.tags, found.priority) == ({"team": "core", "new": "yes"}, 9)
    assert msgspec.json.decode(found.metadata or b"") == {"guest": "ada", "guests": 2}
    assert found.input == raw({"n": 6})


@pytest.mark.parametrize(
    "given",
    [
        lambda run: run.deadline(within_s=0.0),
        lambda run: run.deadline(within_s=7200.0),
        lambda run: run.deadline(),
    ],
    ids=["at once", "later", "none"],
)
def test_a_deadline_that_a_person_gave_is_no_timeout_of_the_next_run(given: Callable[[Run], object]) -> None:
    """A task that was ended by a deadline after two seconds had two seconds the next time, too."""
    run = begun()
    run.wait(2)
    given(run)
    if not run.state.ended:
        run.cancel(0.0)
    assert original(run).timeout_s == 60.0


def test_a_task_without_a_timeout_has_none_the_next_time() -> None:
    run = Run(linear(1))
    run.create()
    run.deadline(within_s=0.0)
    run.cancel(0.0)
    assert original(run).timeout_s is None


@pytest.mark.parametrize("starts", [1, 2])
def test_the_wait_for_other_starts_is_no_part_of_a_timeout(starts: int) -> None:
    template = linear(1, debounce={"key": "input.n", "for_s": 10, "max_s": 100})
    assert template.spec.debounce is not None
    run = Run(template)
    ref = TemplateRef(template.spec.namespace, template.spec.name, "1.0.0", template.hash)
    first = CreateTask(template=ref, input=raw({"n": 6}), request_hash="cd" * 32, timeout_s=60.0, at_us=run.now_us)
    run.do(waiting(template.spec.debounce, first))
    if starts == 2:
        run.wait(4)
        run.do(PostponeTask(start="b", request_hash="ef" * 32, input=raw({"n": 7}), timeout_s=30.0, at_us=run.now_us))
    run.wait(100)
    run.fire("not_before")
    run.complete("s1")
    found = original(run)
    assert (found.timeout_s, found.input) == ((60.0, raw({"n": 6})) if starts == 1 else (30.0, raw({"n": 7})))
