"""Whole recorded histories still fold to the state that they folded to when they were recorded."""

from uuid import UUID

import msgspec
import pytest

from tasker.events.envelope import RecordedEvent
from tasker.events.stored import TYPE_OF
from tasker.events.task_events import TASK_EVENT_TYPES
from tasker.replay.state_at import state_at
from tests.compat.record_histories import FOLDER, HASHES, STORIES, Line

RECORDED: dict[str, str] = msgspec.json.decode(HASHES.read_bytes())


def history(name: str) -> list[RecordedEvent]:
    lines = [msgspec.json.decode(line, type=Line) for line in (FOLDER / f"{name}.jsonl").read_bytes().splitlines()]
    return [
        RecordedEvent(
            shard=0,
            position=line.seq,
            epoch=1,
            stream_id=UUID(int=1),
            kind="task",
            seq=line.seq,
            type=line.type,
            version=line.version,
            tenant="default",
            at_us=line.at_us,
            meta=line.meta.encode(),
            payload=line.payload.encode(),
            encoding="json",
            chain=None,
        )
        for line in lines
    ]


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_history_folds_to_its_frozen_state(name: str) -> None:
    assert state_at(history(name))["state_hash"] == RECORDED[name]


def test_every_story_is_recorded_and_every_event_but_the_limits_is_in_one() -> None:
    assert {story.__name__ for story in STORIES} <= set(RECORDED)
    types = {one.type for name in RECORDED for one in history(name)}
    assert types == {TYPE_OF[kind] for kind in TASK_EVENT_TYPES}
