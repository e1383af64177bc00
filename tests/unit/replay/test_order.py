"""I8: no step before its parents, nothing after the end."""

import msgspec

from tasker.events.envelope import RecordedEvent
from tasker.replay.checkers.order import OrderChecker
from tests.unit.replay.good_log import (
    LINEAR,
    changed,
    completed,
    found,
    good_log,
    index_of,
    renumbered,
    repaired,
    template_of,
)


def find(events: list[RecordedEvent]) -> list[str]:
    return [one.detail for one in found(lambda report: OrderChecker(0, report, template_of), events)]


def without(events: list[RecordedEvent], index: int) -> list[RecordedEvent]:
    return renumbered(events[:index] + events[index + 1 :])


def test_a_good_log_has_no_findings() -> None:
    assert find(good_log()) == []


def test_a_step_before_its_parent_is_found() -> None:
    """Planted bug: a join that looks at one parent alone."""
    events = good_log()
    b_completed = index_of(events, "step_completed", task=completed(), nth=1)
    assert find(without(events, b_completed)) == [
        "step d is dispatched before b completed",
        "the task completes without a result of b",
    ]


def test_a_step_the_template_does_not_have_is_found() -> None:
    events = good_log()
    index = index_of(events, "step_dispatched", task=completed())
    payload = msgspec.json.encode({"step": "x", "attempt": 1})
    found = find(changed(events, index, payload=payload))
    assert found == ["step x is not in the task's template", "step a completes without an attempt"]


def test_what_follows_an_ending_is_found() -> None:
    """Planted bug: an event is appended to a task that has ended."""
    events = good_log()
    late = events[index_of(events, "step_started", task=completed())]
    assert find(renumbered([*events, late])) == ["step_started follows task_completed, which ended the task"]


def test_a_second_ending_is_found() -> None:
    events = good_log()
    ending = events[index_of(events, "task_completed")]
    assert find(renumbered([*events, ending])) == ["task_completed follows task_completed, which ended the task"]


def test_a_task_that_completes_without_a_step_is_found() -> None:
    events = good_log()
    early = index_of(events, "step_dispatched", task=repaired(), nth=3)
    ending = index_of(events, "task_completed", task=repaired())
    assert find(renumbered([*events[:early], events[ending]])) == ["the task completes without a result of s2"]


def test_a_dispatch_of_a_stopping_task_is_found() -> None:
    """Planted bug: a retry is dispatched although the task stops."""
    events = good_log()
    stopping = index_of(events, "task_stopping")
    dispatch = next(
        one for one in events if one.stream_id == events[stopping].stream_id and one.type == "step_dispatched"
    )
    planted = [*events[: stopping + 1], dispatch, *events[stopping + 1 :]]
    assert find(renumbered(planted)) == ["step a is dispatched while the task stops"]


def test_a_task_that_is_created_twice_or_not_at_all_is_found() -> None:
    events = good_log()
    created = index_of(events, "task_created", task=completed())
    assert find(renumbered([*events[: created + 1], *events[created:]])) == ["the task is created twice"]
    assert find(without(events, created)) == ["the task begins with step_dispatched"]


def test_a_template_that_is_gone_is_found_once_a_task() -> None:
    """Planted bug: the blob was not written before the event that names it."""
    findings = found(
        lambda report: OrderChecker(0, report, lambda digest: None if digest == LINEAR.hash else template_of(digest)),
        good_log(),
    )
    assert [one.detail for one in findings] == [f"the content {LINEAR.hash[:16]} of the task's template cannot be read"]
    assert findings[0].task_id == str(repaired().task_id)
