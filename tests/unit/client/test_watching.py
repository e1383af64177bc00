"""A task as its events tell of it to who follows them."""

from uuid import UUID

import pytest

from tasker.client.watching import watched
from tasker.events.codec import decode_message
from tasker.events.envelope import event_id
from tasker.events.messages import LifecycleEvent
from tasker.events.reads import TaskView
from tasker.service.actors.publication.cloud_events import cloud_event
from tests.compat.record_histories import STORIES
from tests.runs import Run

STORY = {story.__name__: story for story in STORIES}


def states(run: Run) -> list[str]:
    """Return the states that a follower of the task's events sees, each once."""
    view: TaskView | None = None
    seen: list[str] = []
    for position, event in enumerate((event for unit in run.units for event in unit), 1):
        document = cloud_event(event_id("l", 0, position), "/tasker/l", 0, position, event, str(UUID(int=1)))
        view = watched(view, decode_message(document, LifecycleEvent))
        assert view is not None
        if [view.state] != seen[-1:]:
            seen.append(view.state)
    return seen


@pytest.mark.parametrize(
    ("story", "seen"),
    [
        ("completed", ["running", "completed"]),
        ("repaired", ["running", "blocked", "running", "completed"]),
        ("cancelled", ["pending", "running", "cancelled"]),
        ("compensated", ["running", "compensating", "blocked", "compensating", "failed"]),
    ],
)
def test_a_follower_sees_the_states_of_a_task(story: str, seen: list[str]) -> None:
    assert states(STORY[story]()) == seen
