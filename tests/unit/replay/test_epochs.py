"""I3: epochs and times of a shard never go back."""

from tasker.replay.checkers.epochs import EpochsChecker
from tests.unit.replay.good_log import changed, found, good_log


def test_a_good_log_has_no_findings() -> None:
    assert found(lambda report: EpochsChecker(0, report), good_log()) == []


def test_a_raised_epoch_is_a_takeover() -> None:
    events = [*good_log()]
    for index in range(9, len(events)):
        events = changed(events, index, epoch=5)
    assert found(lambda report: EpochsChecker(0, report), events) == []


def test_an_append_of_a_former_owner_is_found() -> None:
    """Planted bug: no fence. An event of epoch 1 lands behind one of epoch 2."""
    events = changed(good_log(), 9, epoch=2)
    (finding,) = found(lambda report: EpochsChecker(0, report), events)
    assert (finding.position, finding.detail) == (11, "epoch 1 follows 2")


def test_a_clock_that_goes_back_is_found() -> None:
    """Planted bug: the owner takes the wall clock as it is."""
    events = good_log()
    events = changed(events, 10, at_us=events[9].at_us - 1)
    (finding,) = found(lambda report: EpochsChecker(0, report), events)
    assert (finding.position, finding.detail) == (11, "its time lies 1 us before that of the event before it")
