"""I2: the checker of positions, seqs and the chain, on good logs and on damaged ones."""

import uuid
from typing import Any

import pytest

from tasker.events.envelope import RecordedEvent
from tasker.replay.checkers.complete import CompleteChecker
from tasker.replay.findings import Finding, Invariant
from tests.unit.replay.good_log import changed, found, good_log


def find(events: list[RecordedEvent]) -> list[Finding]:
    return found(lambda report: CompleteChecker(0, report), events)


def batch_of(events: list[RecordedEvent], index: int) -> tuple[int, int]:
    """First and last position of the batch that holds the event."""
    ends = [one.position for one in events if one.chain is not None]
    last = next(end for end in ends if end >= events[index].position)
    return max((end for end in ends if end < events[index].position), default=0) + 1, last


def test_a_good_log_has_no_findings() -> None:
    assert find(good_log()) == []
    assert find([]) == []


FLIPS: dict[str, Any] = {
    "position": lambda value: value ^ 1 << 40,
    "epoch": lambda value: value ^ 2,
    "stream_id": lambda value: uuid.UUID(int=value.int ^ 1),
    "shard": lambda value: value ^ 1,
    "seq": lambda value: value ^ 16,
    "version": lambda value: value ^ 2,
    "kind": lambda value: "u" + value[1:],
    "type": lambda value: value[:-1] + "e",
    "tenant": lambda value: "e" + value[1:],
    "at_us": lambda value: value ^ 1,
    "meta": lambda value: value[:-1] + b"|",
    "payload": lambda value: bytes([value[0] ^ 1]) + value[1:],
    "encoding": lambda value: "jsom",
    "chain": lambda value: None if value is None else bytes([value[0] ^ 1]) + value[1:],
}


@pytest.mark.parametrize("column", RecordedEvent.__struct_fields__)
def test_one_changed_byte_in_any_column_names_its_batch_alone(column: str) -> None:
    """F38: the batch is named from its first to its last position, and no other one is."""
    events = good_log()
    for index, event in enumerate(events):
        value = FLIPS[column](getattr(event, column))
        if value == getattr(event, column):
            continue
        damaged = changed(events, index, **{column: value})
        batches = [one for one in find(damaged) if one.last_position is not None]
        first, last = batch_of(events, index)
        assert len(batches) == 1, (column, index)
        # A changed position is itself the end (or the beginning) of what can be named.
        if column != "position":
            assert (batches[0].position, batches[0].last_position) == (first, last)
        assert batches[0].invariant is Invariant.COMPLETE
        assert "changed" in batches[0].detail


def test_a_digest_that_was_wiped_out_joins_two_batches() -> None:
    events = good_log()
    ends = [index for index, one in enumerate(events) if one.chain is not None]
    (finding,) = find(changed(events, ends[1], chain=None))
    assert (finding.position, finding.last_position) == (ends[0] + 2, ends[2] + 1)


def test_a_lost_event_is_a_gap_in_positions_in_its_stream_and_in_the_chain() -> None:
    events = good_log()
    findings = find([one for one in events if one.position != 7])
    assert len(findings) == 3
    assert any("follows 6" in one.detail for one in findings)
    assert any("in its stream" in one.detail for one in findings)
    assert any("chain" in one.detail for one in findings)


def test_a_lost_tail_of_a_batch_is_noticed() -> None:
    """The last event carries the digest; without it the log ends within a batch."""
    events = good_log()
    (finding,) = find(events[:-1])
    assert (finding.position, finding.last_position) == (batch_of(events, len(events) - 1)[0], len(events) - 1)
    assert finding.detail.endswith("no digest ends the batch")


def test_an_event_recorded_twice_is_a_finding() -> None:
    events = good_log()
    assert find([*events, events[-1]])[0].detail.startswith(f"position {len(events)} of shard 0 follows {len(events)}")


def test_a_number_no_event_can_have_is_a_finding_and_no_crash() -> None:
    assert find(changed(good_log(), 3, version=-1))


def test_a_stream_long_after_its_end_is_found_by_its_seq() -> None:
    """Ended streams are forgotten after a while; what then follows has no beginning."""
    events = good_log()
    last = events[-1]
    late = changed([last], 0, position=last.position + 1, seq=last.seq + 1, type="task_resumed")
    details = [
        one.detail for one in found(lambda report: CompleteChecker(0, report, ended_remembered=0), [*events, *late])
    ]
    assert f"seq {last.seq + 1} begins its stream, or follows its end long after" in details
