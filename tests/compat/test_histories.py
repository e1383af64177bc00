"""Whole recorded histories still fold to the state that they folded to when they were recorded."""

import pytest

from tasker.events.stored import TYPE_OF
from tasker.events.task_events import TASK_EVENT_TYPES
from tasker.replay.state_at import state_at
from tests.compat.record_histories import RECORDED, STORIES, history


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_history_folds_to_its_frozen_state(name: str) -> None:
    assert state_at(history(name))["state_hash"] == RECORDED[name]


def test_every_story_is_recorded_and_every_event_but_the_limits_is_in_one() -> None:
    assert {story.__name__ for story in STORIES} <= set(RECORDED)
    types = {one.type for name in RECORDED for one in history(name)}
    assert types == {TYPE_OF[kind] for kind in TASK_EVENT_TYPES}
