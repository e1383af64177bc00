"""A field of a recorded event that says something else: a verification finds it, the views go on with other tasks."""

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from tasker.events.chain import GENESIS, digest_of_batch, leaf_of
from tasker.events.concurrency_events import (
    ConcurrencyKeyOpened,
    PlacesAsked,
    PlacesEvicted,
    PlacesGranted,
    PlacesMoved,
    PlacesReturned,
    StartsMet,
)
from tasker.events.control_events import (
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    RateLimitSet,
    WorkPaused,
    WorkResumed,
)
from tasker.events.dead_letter_events import DeadLetterInvestigated, DeadLetterNoted, DeadLetterResolved
from tasker.events.envelope import RecordedEvent
from tasker.events.memory_log import MemoryLog
from tasker.events.stored import DomainEvent
from tasker.events.template_events import TemplateRegistered, TemplateUsed
from tasker.ids import (
    concurrency_stream_id,
    control_stream_id,
    investigation_stream_id,
    schedule_stream_id,
    template_stream_id,
)
from tasker.projections.folding import Folding
from tasker.projections.memory_store import MemoryViewStore
from tasker.projections.views import PROJECTIONS
from tasker.replay.findings import Finding, Invariant
from tasker.replay.verifier import Verifier
from tests.compat.record_histories import RECORDED, history
from tests.histories import HASH, Recorder, completed_task, scheduled
from tests.properties.examples import examples

TASK = UUID(int=1)
STORIES = (*RECORDED, "template", "schedule", "investigation", "key", "circuit")


def story(name: str) -> list[RecordedEvent]:
    """One stream, in a shard of its own."""
    recorder = Recorder(shards=1)
    of = {"namespace": "shop", "name": "orders"}
    told: list[DomainEvent]
    match name:
        case "template":
            used = TemplateUsed(version="1", hash=HASH, **of)
            told = [*(TemplateRegistered(version=one, hash=HASH, **of) for one in "12"), used]
            recorder.record(template_stream_id("default", "shop", "orders"), told)
        case "schedule":
            recorder.record(schedule_stream_id("default", "shop", "nightly"), scheduled())
        case "investigation":
            at: dict[str, Any] = {"task_id": str(TASK), "step": "s1", "attempt": 1}
            told = [DeadLetterInvestigated(**at), DeadLetterNoted(note="n", **at), DeadLetterResolved(**at)]
            recorder.record(investigation_stream_id("default", TASK), told)
        case "key":
            a, b, c = (str(UUID(int=one)) for one in (1, 2, 3))
            told = [
                ConcurrencyKeyOpened(namespace="shop", template="t", key="7"),
                PlacesAsked(requests=(a, b), limit=1),
                PlacesGranted(requests=(a,)),
                PlacesAsked(requests=(c,), limit=1, priority=3, share="x"),
                PlacesMoved(requests=(c,), priority=4),
                StartsMet(requests=(b,), holder=a),
                PlacesEvicted(requests=(b,)),
                PlacesReturned(requests=(a, b)),
                PlacesGranted(requests=(c,)),
            ]
            recorder.record(concurrency_stream_id("default", "shop", "t", "", "7"), told)
        case "circuit":
            handler: dict[str, Any] = {"scope": "handler", "namespace": "shop", "name": "h"}
            told = [
                RateLimitSet(per_s=3.0, key="input.customer", **handler),
                WorkPaused(**handler),
                WorkResumed(**handler),
                CircuitOpened(attempts=10, failures=8, open_s=0.0, open_s_max=60.0, probes=1, **handler),
                CircuitHalfOpened(**handler),
                CircuitClosed(**handler),
            ]
            recorder.record(control_stream_id(), told)
        case _:
            return chained(history(name))
    return chained(recorder.events)


def chained(events: list[RecordedEvent]) -> list[RecordedEvent]:
    """The events as one batch of a log."""
    leaves = [leaf_of(one, shard=0, position=one.position, epoch=1) for one in events]
    return [*events[:-1], msgspec.structs.replace(events[-1], chain=digest_of_batch(GENESIS, leaves))]


class Damage(NamedTuple):
    """What an event of a story says instead."""

    story: str
    position: int
    payload: bytes


def others(value: object) -> Iterator[object]:
    """Yield what may stand in place of a value: mostly of its type, since another type is refused by the decoder."""
    match value:
        case bool():
            yield not value
        case int() | float():
            yield from (-1, 0, 2**31, 2**70, -1.5)
        case str():
            yield from ("", "nobody", "a\0b", "x" * 9000, "-1", "[0]", "s1[", "~undo")
        case list():
            yield from ([], [*value, *value])
        case dict():
            yield {}
        case _:
            yield from (0, "nobody", [], {})
    yield None


def changed(value: Any) -> Iterator[Any]:
    """Yield a JSON value with one part of it changed, for each part."""
    yield from others(value)
    if isinstance(value, dict):
        for key, part in value.items():
            yield from ({**value, key: other} for other in changed(part))
    elif isinstance(value, list):
        for at, part in enumerate(value):
            yield from ([*value[:at], other, *value[at + 1 :]] for other in changed(part))


def damages(name: str) -> list[Damage]:
    """Return each damage to one part of one event."""
    return [
        Damage(name, recorded.position, json.dumps(other).encode())
        for recorded in story(name)
        for other in changed(json.loads(recorded.payload))
        if other != json.loads(recorded.payload)
    ]


async def check(damage: Damage) -> None:
    events = story(damage.story)
    events[damage.position - 1] = msgspec.structs.replace(events[damage.position - 1], payload=damage.payload)
    log = MemoryLog(shards=1)
    log._shards[0].events += events
    log._shards[0].epoch = 1
    for event in events:
        log._streams.setdefault(event.stream_id, []).append(event)
    store = MemoryViewStore(PROJECTIONS)
    folding = Folding(store)
    await folding.open([(one, 1) for one in PROJECTIONS], shards=1)
    recorder = Recorder(shards=1)
    other = recorder.task(completed_task("s1"))
    behind = [
        msgspec.structs.replace(one, position=position) for position, one in enumerate(recorder.events, len(events) + 1)
    ]
    await folding.take([*events, *behind])
    assert store._tables["task", 1][other, ""].state == "completed"
    findings: list[Finding] = []
    async with Verifier(log, store, findings.append) as verifier:
        await verifier.verify(0)
    assert [one for one in findings if one.invariant is Invariant.COMPLETE and "the chain does not hold" in one.detail]


@pytest.mark.parametrize("name", STORIES)
async def test_a_part_of_an_event_that_is_damaged(name: str) -> None:
    found = damages(name)
    for damage in random.sample(found, min(len(found), examples(40))):
        await check(damage)


def test_every_kind_of_event_is_among_them() -> None:
    kinds = {one.kind for one in itertools.chain.from_iterable(map(story, STORIES))}
    assert kinds == {"task", "template", "schedule", "investigation", "concurrency", "control"}
