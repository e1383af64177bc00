"""I13: what is metered equals a recount of the log."""

from collections.abc import Sequence
from typing import Any

import msgspec

from tasker.events.envelope import RecordedEvent
from tasker.events.messages import UsageLine
from tasker.projections.views.usage import UsageProjection, UsageRow
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.metered import MeteredChecker
from tasker.replay.findings import Finding, Invariant
from tasker.service.domain.commands import CompleteAttempt, FailAttempt, RecordUsage
from tests.runs import ERROR, Run, Shelf, linear, raw
from tests.view_rows import fold_into

TOKENS = UsageLine(
    meter="tokens_in",
    amount="1000",
    unit="token",
    model="m",
    cost="0.015",
    currency="USD",
    price="0.000015",
    prices="v1",
)
PAGES = UsageLine(meter="pages", amount="0.1", unit="page")


def metered_log(count: int = 3) -> list[RecordedEvent]:
    """Tasks whose first attempt failed; what both attempts used is in the log."""
    shelf = Shelf(1)
    for _ in range(count):
        run = Run(linear(1, retry={"backoff": "none"}))
        run.create()
        usage = (TOKENS, PAGES)
        failed = FailAttempt(step="s1", attempt=1, worker="w1", error=ERROR, jitter=0.5, at_us=run.now_us, usage=usage)
        run.do(failed)
        run.do(CompleteAttempt(step="s1", attempt=2, worker="w1", result=raw(1), at_us=run.now_us, usage=usage))
        shelf.put(run.units)
    return shelf.events[0]


def rows_of(events: Sequence[RecordedEvent], projection: Any = None) -> list[UsageRow]:
    rows: dict[Any, UsageRow] = {}
    for one in events:
        fold_into(rows, projection or UsageProjection(), one)
    return list(rows.values())


def find(
    events: Sequence[RecordedEvent], rows: Sequence[UsageRow] | None = None, *, checkpoint: int | None = None
) -> list[str]:
    findings: list[Finding] = []
    checker = MeteredChecker(0, findings.append, checkpoint=len(events) if checkpoint is None else checkpoint)
    feed(events, [checker])
    checker.compare({one.stream_id for one in events}, rows_of(events) if rows is None else rows)
    assert {one.invariant for one in findings} <= {Invariant.METERED}
    return [one.detail for one in findings]


def test_a_view_that_is_the_sum_of_the_log_is_right_wherever_it_is() -> None:
    events = metered_log()
    for checkpoint in range(len(events) + 1):
        assert find(events, rows_of(events[:checkpoint]), checkpoint=checkpoint) == []


def test_usage_of_failed_attempts_that_is_left_out_is_found() -> None:
    """Planted bug: the view takes only what the first attempt used."""

    class Forgetful(UsageProjection):
        def apply(self, row: UsageRow | None, recorded: RecordedEvent, event: Any) -> UsageRow:
            return super().apply(row, recorded, event) if row is None else row

    events = metered_log(1)
    assert find(events, rows_of(events, Forgetful())) != []


def test_sums_that_are_made_of_floats_are_found() -> None:
    """Planted bug: 0.1 and 0.2 are 0.30000000000000004."""
    events = metered_log(1)
    rows = rows_of(events)
    for row in rows:
        if row.meter == "pages":
            row.amount = repr(0.1 + 0.1 + 0.1 - 0.1)
    assert [detail.partition(":")[0] for detail in find(events, rows)] == ["pages of step s1"]


def test_a_row_that_is_missing_and_one_that_no_event_made_are_found() -> None:
    events = metered_log(1)
    rows = rows_of(events)
    assert len(find(events, rows[1:])) == 1
    stray = msgspec.structs.replace(rows[0], meter="gpu_s")
    assert len(find(events, [*rows, stray])) == 1


def altered(events: list[RecordedEvent], **changed: Any) -> list[RecordedEvent]:
    """The log with the first usage in it changed."""
    index = next(index for index, one in enumerate(events) if one.type == "usage_recorded")
    payload = msgspec.json.decode(events[index].payload) | changed
    events[index] = msgspec.structs.replace(events[index], payload=msgspec.json.encode(payload))
    return events


def test_a_cost_that_is_not_the_amount_times_the_price_is_found() -> None:
    assert find(altered(metered_log(1), cost="0.016")) == ["1000 tokens_in at 0.000015 do not cost 0.016"]
    assert find(altered(metered_log(1), prices=None))[0].startswith("tokens_in has a price without")


def late_log() -> list[RecordedEvent]:
    """A task whose first attempt timed out and told its usage late, in one unit of two lines."""
    shelf = Shelf(1)
    run = Run(linear(1, retry={"backoff": "none"}))
    run.create()
    run.start("s1")
    run.fire_at("finish_by:s1:1")
    run.do(RecordUsage(step="s1", attempt=1, usage=(TOKENS, PAGES), at_us=run.now_us))
    run.do(CompleteAttempt(step="s1", attempt=2, worker="w1", result=raw(1), at_us=run.now_us, usage=(TOKENS,)))
    shelf.put(run.units)
    return shelf.events[0]


def test_usage_that_is_told_late_needs_no_outcome_and_is_told_once() -> None:
    events = late_log()
    assert find(events, rows_of(events)) == []
    used = [one for one in events if one.type == "usage_recorded"]
    assert [msgspec.json.decode(one.payload).get("late", False) for one in used] == [True, True, False]
    at = events.index(used[1]) + 1
    again = find([*events[:at], events[at], *used[:1], *events[at + 1 :]])
    assert "usage of attempt 1 of step s1 is told again" in again


def test_usage_that_is_not_before_the_outcome_of_its_attempt_is_found() -> None:
    events = altered(metered_log(1), attempt=2)
    assert any("is not before its outcome" in detail for detail in find(events))
    events = metered_log(1)
    used = [one for one in events if one.type == "usage_recorded"]
    assert any("told twice" in detail for detail in find([*events[:4], used[0], *events[4:]]))
    findings: list[Finding] = []
    feed(events[:4], [MeteredChecker(0, findings.append)])
    assert [one.detail for one in findings] == ["usage of attempt 1 of step s1 has no outcome"]
