"""I1: an acknowledged command is in the log exactly once."""

import uuid

from tasker.events.envelope import RecordedEvent
from tasker.replay.checkers.acknowledged import AcknowledgedChecker, Acknowledgement
from tasker.replay.checkers.checker import feed
from tasker.replay.findings import Finding
from tests.unit.replay.good_log import completed, good_log, index_of, renumbered, repaired


def acknowledged(key: str = "order-1") -> Acknowledgement:
    run = completed(key)
    return Acknowledgement(idempotency_key=key, task_id=run.task_id, shard=0, position=20)


def find(events: list[RecordedEvent], *record: Acknowledgement) -> list[str]:
    findings: list[Finding] = []
    checker = AcknowledgedChecker(record, findings.append)
    feed(events, [checker])
    checker.close_log()
    return [one.detail for one in findings]


REPAIR = Acknowledgement(command_id="command-1", task_id=repaired().task_id, shard=0, position=60)


def test_a_good_log_has_no_findings() -> None:
    assert find(good_log(), acknowledged(), acknowledged(), REPAIR) == []


def test_a_command_without_an_answer_may_be_there_or_not() -> None:
    lost = Acknowledgement(idempotency_key="never-arrived")
    arrived = Acknowledgement(idempotency_key="order-1")
    assert find(good_log(), lost, arrived, Acknowledgement(command_id="command-1")) == []


def test_an_acknowledged_task_that_is_not_there_is_found() -> None:
    """Planted bug: the reply comes before the commit, which then fails."""
    assert find(good_log(), acknowledged("order-9")) == [
        "task.create with key order-9 was acknowledged and is not in the log"
    ]


def test_a_task_that_is_there_twice_is_found() -> None:
    """Planted bug: no dedupe, two tasks for one key; also of a command whose answer was lost."""
    events = good_log()
    created = events[index_of(events, "task_created", task=completed())]
    again = [*events, *renumbered([created])]
    expected = f"task.create with key order-1 is in the log 2 times: 0:{created.position}, 0:1"
    assert find(again, acknowledged()) == [expected]
    assert find(again, Acknowledgement(idempotency_key="order-1")) == [expected]


def test_an_answer_with_another_task_is_found() -> None:
    other = Acknowledgement(idempotency_key="order-1", task_id=uuid.UUID(int=1), shard=0, position=20)
    found = find(good_log(), acknowledged(), other)
    assert [f"was answered with task {other.task_id}" in detail for detail in found[:1]] == [True]
    assert found[1] == f"key order-1 was answered with task {completed().task_id} as well"


def test_an_answer_with_a_position_before_the_event_is_found() -> None:
    early = Acknowledgement(idempotency_key="order-1", task_id=completed().task_id, shard=0, position=1)
    (detail,) = find(good_log(), early)
    assert detail.startswith("task.create with key order-1 was answered with 0:1, the log has it at 0:")


def test_a_command_that_was_decided_twice_or_never_is_found() -> None:
    """Planted bug: the repeat of a command id is decided on again."""
    events = good_log()
    resumed = events[index_of(events, "task_resumed")]
    twice = [*events, *renumbered([resumed])]
    twice[-1] = type(resumed)(**{**{n: getattr(resumed, n) for n in resumed.__struct_fields__}, "at_us": 1})
    assert "command command-1 is in the log 2 times" in find(twice, REPAIR)[0]
    lost = [one for one in events if b"command-1" not in one.meta]
    assert find(lost, REPAIR) == ["command command-1 was acknowledged and is not in the log"]
