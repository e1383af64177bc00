"""Every event is understood and folds; what is not is a finding and no crash."""

import pytest

from tasker.events.envelope import RecordedEvent
from tasker.replay.checkers.folded import FoldedChecker
from tasker.replay.findings import Invariant
from tasker.service.domain.state import TaskStatus
from tests.unit.replay.good_log import changed, completed, found, good_log, index_of


def find(events: list[RecordedEvent]) -> list[tuple[int | None, str]]:
    findings = found(lambda report: FoldedChecker(0, report), events)
    assert {one.invariant for one in findings} <= {Invariant.FOLD}
    return [(one.position, one.detail) for one in findings]


def test_a_good_log_folds_and_every_end_is_told() -> None:
    ended = []
    events = good_log()
    assert found(lambda report: FoldedChecker(0, report, on_ended=lambda _, state: ended.append(state)), events) == []
    assert sorted(state.status for state in ended) == [
        TaskStatus.CANCELLED,
        TaskStatus.COMPLETED,
        TaskStatus.COMPLETED,
        TaskStatus.FAILED,
    ]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"payload": b"{"}, "truncated"),
        ({"payload": b"\xff"}, ""),
        ({"payload": b'{"step":7}'}, "Expected `str`"),
        ({"type": "step_paused"}, "a form that this build does not know"),
        ({"version": 2}, "a form that this build does not know"),
        ({"encoding": "zstd"}, "the encoding 'zstd'"),
        ({"meta": b"["}, "Meta"),
        (
            {"type": "template_used", "payload": b'{"namespace":"","name":"","version":"","hash":""}'},
            "no event of a task",
        ),
        ({"kind": "cargo"}, "streams of kind 'cargo' are unknown"),
    ],
)
def test_an_event_that_this_build_does_not_understand_is_found_once(columns: dict[str, object], words: str) -> None:
    """Planted bug: poison. The task is followed no further, the others are."""
    events = good_log()
    index = index_of(events, "step_dispatched", task=completed())
    ((position, detail),) = find(changed(events, index, **columns))
    assert position == index + 1
    assert words in detail


def test_a_template_stream_is_folded_too() -> None:
    events = good_log()
    ((position, _),) = find(changed(events, 0, payload=b"{}"))
    assert position == 1


def test_an_event_that_breaks_the_fold_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted bug: an `evolve` that is not total."""

    def broken(state: object, event: object, **more: object) -> None:
        raise KeyError("a")

    monkeypatch.setattr("tasker.replay.checkers.folded.evolve", broken)
    assert [detail for _, detail in find(good_log())] == ["the fold breaks: KeyError: 'a'"] * 4
