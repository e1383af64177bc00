"""I2, the index of streams: it says of each stream where it begins."""

from uuid import UUID

from tasker.events.envelope import RecordedEvent
from tasker.replay.checkers.checker import decoded
from tasker.replay.checkers.indexed import IndexedChecker
from tests.runs import Run
from tests.unit.replay.good_log import LINEAR, by_time, completed

Index = dict[UUID, tuple[int, int]]


def open_task() -> Run:
    run = Run(LINEAR, task_id=UUID(int=7))
    run.create()
    return run


def find(index: Index, *, compare_at: tuple[int, ...] = ()) -> list[str]:
    """What is found in a log of an ended and an open task, compared after some events and at the end."""
    findings = []
    checker = IndexedChecker(0, lambda finding: findings.append(finding.detail))
    for number, one in enumerate(log()):
        if number in compare_at:
            checker.compare(index)
        checker.take(one, decoded(one))
    checker.compare(index)
    checker.close()
    return findings


def log() -> list[RecordedEvent]:
    return by_time([completed(), open_task()])


def right_index() -> Index:
    return {one.stream_id: (0, one.position) for one in log() if one.seq == 1}


def test_a_right_index_has_no_findings() -> None:
    assert find(right_index()) == []
    assert find(right_index(), compare_at=(2, 5)) == []


def test_a_task_that_ended_may_have_lost_its_row() -> None:
    index = right_index()
    del index[completed().task_id]
    assert find(index) == []
    assert find(index, compare_at=(4, 6)) == []


def test_a_task_that_goes_on_must_have_its_row() -> None:
    index = right_index()
    del index[UUID(int=7)]
    assert find(index, compare_at=(4, 9)) == ["the stream goes on and is not in the index of streams"]


def test_a_row_with_another_place_is_found() -> None:
    """Planted bug: a stream that was born twice; a load would begin in the middle of it."""
    index = right_index()
    index[completed().task_id] = (0, 9)
    (detail,) = find(index)
    assert detail.startswith("the index has the stream at 0:9, it begins at 0:")
