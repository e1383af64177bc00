"""Tags, metadata and the deadline of a task, changed by a person."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.errors import BodyTooLarge, HistoryLimit, StateForbids, TaskEnded, TaskUnknown
from tasker.events.task_events import NULL, StepCompleted, TaskDeadlineSet, TaskFailed, TaskStopping, TaskUpdated
from tasker.service.domain.decide import HISTORY_EVENTS_MAX
from tasker.service.domain.obligations import obligations_of
from tasker.service.domain.repairs.amend import METADATA_BYTES_MAX, TAGS_MAX, merge_patch
from tests.runs import T0_US, Run, linear, raw

S = 1_000_000


def created(**options: Any) -> Run:
    run = Run(linear(2))
    run.create(**options)
    return run


def test_tags_are_set_and_removed_one_by_one() -> None:
    run = created(tags={"team": "core", "urgent": "1"})
    assert run.update(tags={"team": "ops", "urgent": None, "new": ""}) == (
        TaskUpdated(tags={"team": "ops", "new": ""}),
    )
    assert run.state.tags == {"team": "ops", "new": ""}
    assert run.update(tags={"team": "ops", "gone": None}) == ()


def test_metadata_is_merged_and_vanishes_with_its_last_member() -> None:
    run = created()
    assert run.update(metadata={"ticket": {"id": 17, "by": "ada"}}) == (
        TaskUpdated(metadata=raw({"ticket": {"by": "ada", "id": 17}})),
    )
    run.update(metadata={"ticket": {"by": None}})
    assert json.loads(bytes(run.state.metadata or NULL)) == {"ticket": {"id": 17}}
    assert run.update(metadata={"ticket": None}) == (TaskUpdated(metadata=NULL),)
    assert run.state.metadata is None


def test_neither_grows_without_bound() -> None:
    run = created(tags={f"k{number}": "" for number in range(TAGS_MAX)})
    with pytest.raises(StateForbids, match=f"{TAGS_MAX + 1} tags"):
        run.update(tags={"one-more": ""})
    run.update(tags={"k0": None, "one-more": ""})
    with pytest.raises(BodyTooLarge):
        run.update(metadata={"a": "x" * METADATA_BYTES_MAX})


def test_a_deadline_moves_and_ends_the_task_when_it_comes() -> None:
    run = created(timeout_s=60)
    assert run.deadline(within_s=3600) == (TaskDeadlineSet(deadline_us=run.now_us + 3600 * S),)
    assert obligations_of(run.state)["deadline"] == run.now_us + 3600 * S
    stopping, *_, failed = run.fire_at("deadline")
    assert stopping == TaskStopping(ending="failed", cause="timeout")
    assert isinstance(failed, TaskFailed)


def test_a_deadline_goes_and_comes() -> None:
    run = created(timeout_s=60)
    assert run.deadline() == (TaskDeadlineSet(),)
    assert "deadline" not in obligations_of(run.state)
    assert run.deadline() == ()
    run.deadline(deadline_us=T0_US - S)
    assert obligations_of(run.state)["deadline"] == run.now_us + 1, "due at once, but not in the turn"


def test_a_deadline_that_fired_first_is_final_and_one_that_was_moved_first_does_not_fire() -> None:
    moved = created(timeout_s=60)
    moved.now_us = T0_US + 60 * S
    moved.deadline(within_s=60)
    assert "deadline" in obligations_of(moved.state)
    late = created(timeout_s=60)
    late.start("s1")
    late.fire_at("deadline")
    with pytest.raises(StateForbids, match="ending as failed"):
        late.deadline(within_s=60)


def test_nothing_is_changed_of_a_task_that_has_ended_or_is_full() -> None:
    run = Run(linear(1))
    for change in (lambda: run.update(tags={"a": "b"}), lambda: run.deadline(within_s=1)):
        with pytest.raises(TaskUnknown):
            change()
    run.create()
    run.state.seq = HISTORY_EVENTS_MAX
    for change in (lambda: run.update(tags={"a": "b"}), lambda: run.deadline(within_s=1)):
        with pytest.raises(HistoryLimit):
            change()
    run = created()
    run.complete("s1")
    assert StepCompleted in [type(event) for event in run.complete("s2")]
    for change in (lambda: run.update(tags={"a": "b"}), lambda: run.deadline(within_s=1)):
        with pytest.raises(TaskEnded):
            change()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(target=JSON, patch=JSON)
def test_a_merge_patch_is_that_of_rfc_7396(target: Any, patch: Any) -> None:
    merged = merge_patch(target, patch)
    if not isinstance(patch, dict):
        assert merged == patch
        return
    before = target if isinstance(target, dict) else {}
    assert merged.keys() == {key for key in before if key not in patch} | {
        key for key, value in patch.items() if value is not None
    }
    assert all(merged[key] == before[key] for key in merged if key not in patch)
    assert merge_patch(merged, patch) == merged
