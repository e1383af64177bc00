"""I4: the published stream, deduplicated, equals the log up to the cursor."""

from collections.abc import Sequence
from typing import Any

import msgspec

from tasker.events.envelope import RecordedEvent
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.published import PublishedChecker
from tasker.replay.findings import Finding
from tasker.times import to_rfc3339
from tests.runs import Run, Shelf, template
from tests.unit.replay.good_log import good_log

LOG = "k3xw9q"


def body(one: RecordedEvent, *, log_id: str = LOG) -> bytes:
    """The message of an event, as a CloudEvents document spells it."""
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": f"{log_id}:{one.shard}:{one.position}",
            "source": f"/tasker/{log_id}",
            "type": f"tasker.{one.type}.v{one.version}",
            "subject": str(one.stream_id),
            "time": to_rfc3339(one.at_us),
            "datacontenttype": "application/json",
            "tenant": one.tenant,
            "shard": one.shard,
            "position": str(one.position),
            "seq": one.seq,
            "data": msgspec.Raw(one.payload),
        }
    )


def published(events: Sequence[RecordedEvent]) -> list[bytes]:
    return [body(one) for one in events]


def find(
    events: Sequence[RecordedEvent], bodies: Sequence[bytes], *, cursor: int, window: int = 1
) -> list[tuple[int | None, str]]:
    findings: list[Finding] = []
    checker = PublishedChecker(LOG, bodies, findings.append, cursors={0: cursor}, window={0: window})
    feed(events, [checker])
    checker.close_log()
    return [(one.position, one.detail) for one in findings]


def test_the_whole_log_with_repetitions_in_any_order_is_good() -> None:
    events = good_log()
    bodies = published(events)
    assert find(events, [*reversed(bodies), *bodies[3:7]], cursor=len(events)) == []


def test_events_behind_the_cursor_may_come_later_or_be_there_already() -> None:
    events = good_log()
    assert find(events, published(events[:20]), cursor=15) == []


def test_what_the_window_has_dropped_is_not_asked_for() -> None:
    events = good_log()
    assert find(events, published(events[10:]), cursor=len(events), window=11) == []


def test_an_event_that_was_never_published_is_found() -> None:
    """Planted bug: the cursor is advanced before the stream acknowledged."""
    events = good_log()
    bodies = published(events)
    assert find(events, bodies[:5] + bodies[6:], cursor=10) == [
        (6, f"{events[5].type} at 0:6 is behind the cursor and was not published")
    ]


def test_an_event_that_is_not_in_the_log_is_found() -> None:
    """Planted bug: published before the commit, which failed."""
    events = good_log()
    assert find(events[:-1], published(events), cursor=5) == [
        (len(events), f"event {LOG}:0:{len(events)} was published and is not in the log")
    ]


def test_a_body_that_is_not_the_logs_is_found() -> None:
    events = good_log()
    bodies = published(events)
    bodies[4] = bodies[4].replace(b'"tenant":"default"', b'"tenant":"other"')
    assert find(events, bodies, cursor=5) == [(5, f"{events[4].type} at 0:5 was published with another tenant")]


def test_one_id_with_two_bodies_is_found() -> None:
    events = good_log()
    bodies = published(events)
    found = find(events, [bodies[4].replace(b'"seq":', b'"seq": '), *bodies], cursor=5)
    assert found == [(5, f"event {LOG}:0:5 was published with two bodies")]


def test_a_body_of_another_log_or_of_no_event_is_found() -> None:
    """Planted bug: a stream that outlived a restore; a message of a stranger on our subject."""
    events = good_log()
    other = body(events[0], log_id="other")
    found = [detail for _, detail in find(events, [*published(events), other, b"{"], cursor=0)]
    assert len(found) == 2
    assert found[0].startswith("an unreadable body was published")
    assert found[1] == "event other:0:1 was published and is not in the log"


def test_a_cursor_beyond_the_log_is_found() -> None:
    events = good_log()
    assert find(events, published(events), cursor=len(events) + 1) == [
        (len(events) + 1, f"the cursor of shard 0 stands at {len(events) + 1}, beyond the log's end at {len(events)}")
    ]


# ---- domain events

TELLING = template({"a": []}, steps={"a": {"emits": [{"name": "order.paid", "auto": True}]}})


def telling_log() -> list[RecordedEvent]:
    run = Run(TELLING)
    run.create()
    run.finish()
    shelf = Shelf(1)
    shelf.put(run.units)
    return shelf.events[0]


def domain_body(one: RecordedEvent, **changed: Any) -> bytes:
    """The message of a domain event, as a CloudEvents document spells it."""
    raised = msgspec.json.decode(one.payload)
    document = {
        "specversion": "1.0",
        "id": f"{LOG}:{one.shard}:{one.position}:domain",
        "source": f"/tasker/{LOG}",
        "type": raised["name"],
        "subject": str(one.stream_id),
        "time": to_rfc3339(one.at_us),
        "tenant": one.tenant,
        "namespace": "default",
        "template": "t",
        "step": raised["step"],
        "attempt": raised["attempt"],
        "outcome": raised["outcome"],
        "shard": one.shard,
        "position": str(one.position),
        "seq": one.seq,
        "data": raised["data"],
    }
    return msgspec.json.encode(document | changed)


def find_domain(events: Sequence[RecordedEvent], domain: Sequence[bytes]) -> list[str]:
    findings: list[Finding] = []
    cursors = {0: len(events)}
    checker = PublishedChecker(LOG, published(events), findings.append, cursors=cursors, domain=domain)
    feed(events, [checker])
    checker.close_log()
    return [one.detail for one in findings]


def test_a_domain_event_is_published_under_its_own_subject_as_well() -> None:
    events = telling_log()
    (raised,) = [one for one in events if one.type == "domain_event_raised"]
    assert find_domain(events, [domain_body(raised)]) == []


def test_a_domain_event_that_is_missing_changed_or_invented_is_found() -> None:
    """Planted bugs: the cursor moves without it; it is told of another attempt; it was never raised."""
    events = telling_log()
    (raised,) = [one for one in events if one.type == "domain_event_raised"]
    assert ["was not published" in one for one in find_domain(events, [])] == [True]
    assert find_domain(events, [domain_body(raised, attempt=2)]) == [
        "domain event order.paid was published with another attempt"
    ]
    stray = domain_body(raised, id=f"{LOG}:0:99:domain")
    assert ["is not in the log" in one for one in find_domain(events, [domain_body(raised), stray])] == [True]
