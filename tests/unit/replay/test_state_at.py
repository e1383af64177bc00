"""A task as it was after one of its events, from the log and from what reads give."""

import msgspec
import pytest

from tasker.errors import Undecodable
from tasker.events.envelope import RecordedEvent
from tasker.events.reads import EventView
from tasker.replay.state_at import state_at
from tasker.service.domain.state_document import state_hash
from tasker.times import to_rfc3339
from tests.runs import Run
from tests.unit.replay.good_log import LINEAR, by_time, changed, repaired


def events_of(run: Run) -> list[RecordedEvent]:
    return [one for one in by_time([run]) if one.stream_id == run.task_id]


def viewed(one: RecordedEvent) -> EventView:
    """An event as the endpoint shows it, after its way over the wire."""
    view = EventView(
        task_id=str(one.stream_id),
        seq=one.seq,
        type=one.type,
        version=one.version,
        at=to_rfc3339(one.at_us),
        tenant=one.tenant,
        shard=one.shard,
        position=f"0:{one.position}",
        epoch=one.epoch,
        data=msgspec.Raw(one.payload),
        meta=msgspec.Raw(one.meta),
    )
    return msgspec.json.decode(msgspec.json.encode(view), type=EventView)


def test_the_last_event_leads_to_the_state_that_the_actor_has() -> None:
    run = repaired()
    document = state_at(events_of(run))
    assert document["state_hash"] == state_hash(run.state)
    assert document["state"] == "completed"
    assert document["commands"] == {"command-1": 13}


def test_an_earlier_event_leads_to_the_state_at_that_time() -> None:
    events = events_of(repaired())
    assert [state_at(events, seq)["state"] for seq in range(5)] == [
        "absent",
        "running",
        "running",
        "running",
        "running",
    ]
    blocked = next(one.seq for one in events if one.type == "task_blocked")
    assert state_at(events, blocked)["blocked_reason"] == "step_failed"
    assert state_at(events, blocked + 1)["blocked_reason"] is None


def test_events_as_reads_show_them_fold_to_the_same_state() -> None:
    events = events_of(repaired())
    for seq in range(len(events) + 1):
        assert state_at([viewed(one) for one in events], seq) == state_at(events, seq)


def test_the_document_is_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(state_at(events_of(repaired()), 7)))["seq"] == 7


def test_a_missing_or_unknown_event_is_refused() -> None:
    run = Run(LINEAR)
    run.create()
    events = events_of(run)
    with pytest.raises(Undecodable, match="event 2 of the task follows event 0"):
        state_at(events[1:])
    with pytest.raises(Undecodable, match="does not know"):
        state_at(changed(events, 1, type="step_paused"))
    with pytest.raises(Undecodable, match="no event of a task"):
        state_at(by_time([])[:1])
