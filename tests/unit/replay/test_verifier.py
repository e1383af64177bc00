"""Whole logs verified in memory: pages, views at any place, and bugs planted in log, blobs and views."""

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tasker.events.envelope import RecordedEvent
from tasker.events.history import History
from tasker.events.log import Head, Snapshot
from tasker.events.memory_log import MemoryLog
from tasker.events.stored import to_new_event
from tasker.events.template_events import TemplateRegistered
from tasker.ids import shard_of, template_stream_id
from tasker.projections.folding import Folding
from tasker.projections.memory_store import MemoryViewStore
from tasker.projections.views import PROJECTIONS
from tasker.replay.checkers.checker import Decoded
from tasker.replay.checkers.once import OnceChecker
from tasker.replay.findings import Finding, Invariant
from tasker.replay.shard import ShardResult
from tasker.replay.verifier import Verifier
from tasker.service.domain.template_registry import TEMPLATE_FORM
from tests.runs import T0_US, append_all, linear, linear4_units, put_template

SHARDS = 4
TASKS = 30


@pytest.fixture
async def log() -> MemoryLog:
    """Thirty linear4 tasks in four shards, in small batches."""
    log = MemoryLog(shards=SHARDS)
    await put_template(log, linear(4))
    await append_all(log, linear4_units(TASKS, open_tasks=7), batch_events=9)
    return log


async def views_of(log: MemoryLog, *, behind: int = 0) -> MemoryViewStore:
    """Views of the log, each shard `behind` its head."""
    store = MemoryViewStore(PROJECTIONS)
    folding = Folding(store)
    await folding.open([(one, 1) for one in PROJECTIONS], shards=SHARDS)
    for shard in range(SHARDS):
        events = await log.read(shard, after=0, limit=10_000)
        await folding.take(events[: len(events) - behind])
    return store


async def verified(
    log: MemoryLog, store: MemoryViewStore | None, *, page_events: int = 1000
) -> tuple[list[ShardResult], list[Finding]]:
    findings: list[Finding] = []
    async with Verifier(log, store, findings.append, page_events=page_events) as verifier:
        return [await verifier.verify(shard) for shard in range(SHARDS)], findings


def damage(log: MemoryLog, shard: int, position: int, **columns: Any) -> None:
    events = log._shards[shard].events
    events[position - 1] = msgspec.structs.replace(events[position - 1], **columns)


@pytest.mark.parametrize("page_events", [1, 7, 1000])
@pytest.mark.parametrize("behind", [0, 1, 20])
async def test_a_good_log_is_read_in_full_and_nothing_is_found(log: MemoryLog, page_events: int, behind: int) -> None:
    results, findings = await verified(log, await views_of(log, behind=behind), page_events=page_events)
    assert findings == []
    assert sum(one.events for one in results) == TASKS * 14
    assert sum(one.tasks for one in results) == TASKS
    assert [one.position for one in results] == [head.position for head in await log.heads(range(SHARDS))]
    if not behind:
        assert sum(one.rows for one in results) == TASKS * 5


async def test_an_empty_log_is_fine() -> None:
    results, findings = await verified(MemoryLog(shards=SHARDS), MemoryViewStore(PROJECTIONS))
    assert (sum(one.events for one in results), findings) == (0, [])


async def test_a_log_without_views_is_verified_too(log: MemoryLog) -> None:
    results, findings = await verified(log, None)
    assert (sum(one.rows for one in results), findings) == (0, [])


async def test_appends_meanwhile_do_not_disturb(log: MemoryLog) -> None:
    """The head is taken once; what comes behind it, perhaps half a batch of a page, is left for the next time."""
    read = log.read
    hours = itertools.count(1)

    async def read_and_append(shard: int, *, after: int, limit: int) -> Any:
        page = await read(shard, after=after, limit=limit)
        await append_all(log, linear4_units(1, from_us=T0_US + next(hours) * 3_600_000_000))
        return [*page, *await read(shard, after=after + len(page), limit=2)]

    log.read = read_and_append  # type: ignore[method-assign]
    results, findings = await verified(log, None, page_events=1000)
    assert findings == []
    assert results[0].events > 0


async def test_a_changed_event_is_found_by_batch_and_by_fold(log: MemoryLog) -> None:
    store = await views_of(log)
    head = max(await log.heads(range(SHARDS)), key=lambda head: head.position)
    position = head.position // 2
    damage(log, head.shard, position, payload=b"{")
    _, findings = await verified(log, store)
    assert {one.invariant for one in findings} >= {Invariant.COMPLETE, Invariant.FOLD, Invariant.PROJECTED}
    assert {one.shard for one in findings} == {head.shard}
    (batch,) = [one for one in findings if one.last_position is not None]
    assert batch.position is not None
    assert batch.last_position is not None
    assert batch.position <= position <= batch.last_position


async def test_the_end_of_a_log_without_its_digest_is_read_to_the_end(log: MemoryLog) -> None:
    head = (await log.heads([1]))[0].position
    damage(log, 1, head, chain=None)
    results, findings = await verified(log, None, page_events=7)
    assert results[1].position == head
    assert [one.detail.partition(": ")[2] for one in findings] == ["no digest ends the batch"]


async def test_events_behind_a_gap_are_read_where_no_digest_ends_the_log(log: MemoryLog) -> None:
    head = (await log.heads([1]))[0].position
    damage(log, 1, head, chain=None)
    events = log._shards[1].events
    events[-1] = msgspec.structs.replace(events[-1], position=head + 100)
    read = log.read

    async def by_position(shard: int, *, after: int, limit: int) -> list[RecordedEvent]:
        events = await read(shard, after=0, limit=10_000)
        return [one for one in events if after < one.position <= after + limit]

    async def heads(shards: Sequence[int]) -> list[Head]:
        return [msgspec.structs.replace(one, position=head + 100) for one in await real_heads(shards)]

    real_heads = log.heads
    log.read, log.heads = by_position, heads  # type: ignore[method-assign]
    findings: list[Finding] = []
    async with Verifier(log, None, findings.append, page_events=7) as verifier:
        assert (await verifier.verify(1)).position == head + 100
    assert f"position {head + 100} of shard 1 follows {head - 1}" in [one.detail for one in findings]


@pytest.mark.parametrize(
    ("plant", "invariant", "words"),
    [
        (lambda shard: setattr(shard, "epoch", 0), Invariant.EPOCHS, "its epoch is 0, below the 1 of its last event"),
        (lambda shard: setattr(shard, "checkpoint", 999), Invariant.COMPLETE, "owe is written up to 999, the log ends"),
        (lambda shard: setattr(shard, "cursor", 999), Invariant.PUBLISHED, "published up to 999, the log ends at"),
    ],
)
async def test_what_stands_beside_the_events_and_is_of_another_time_is_found(
    log: MemoryLog, plant: Callable[[Any], None], invariant: Invariant, words: str
) -> None:
    """As after a restore of one table without the others."""
    plant(log._shards[2])
    _, findings = await verified(log, None)
    assert [(one.invariant, one.shard) for one in findings] == [(invariant, 2)]
    assert words in findings[0].detail


async def test_a_shard_without_its_rows_beside_the_events_is_found(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can own it, and what is owed and published is not written: the updates meet no row."""

    async def no_heads(_shards: Sequence[int]) -> list[Head]:
        return []

    async def no_rows(_shards: Sequence[int]) -> dict[int, int]:
        return {}

    monkeypatch.setattr(log, "heads", no_heads)
    monkeypatch.setattr(log, "due_checkpoint", no_rows)
    monkeypatch.setattr(log, "publish_cursors", no_rows)
    results, findings = await verified(log, None)
    assert sum(one.events for one in results) == TASKS * 14
    assert [one.detail.partition(": it has ")[2].partition(",")[0] for one in findings] == [
        "no row in shard_head",
        "no row in due_checkpoint",
        "no row in publish_cursor",
    ] * SHARDS


async def test_a_checker_that_breaks_is_a_finding_and_goes_on(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(checker: OnceChecker, recorded: RecordedEvent, event: Decoded) -> None:
        if recorded.position == 3:
            raise ZeroDivisionError("damaged")
        real_take(checker, recorded, event)

    real_take = OnceChecker.take
    monkeypatch.setattr(OnceChecker, "take", take)
    for page_events in (1, 3, 1000):
        results, findings = await verified(log, None, page_events=page_events)
        assert sum(one.events for one in results) == TASKS * 14
        assert {(one.position, one.shard) for one in findings if "breaks on" in one.detail} == {
            (3, shard) for shard in range(SHARDS)
        }
        assert "OnceChecker breaks on" in findings[0].detail
        assert "ZeroDivisionError: damaged" in findings[0].detail


async def test_a_changed_row_is_found(log: MemoryLog) -> None:
    store = await views_of(log)
    row = next(iter(store._tables["task", 1].values()))
    row.state = "failed"
    _, findings = await verified(log, store)
    assert [(one.invariant, one.task_id) for one in findings] == [(Invariant.PROJECTED, str(row.task_id))]


async def test_a_row_of_no_task_is_found(log: MemoryLog) -> None:
    store = await views_of(log)
    table = store._tables["task", 1]
    row = next(iter(table.values()))
    table[UUID(int=1), ""] = msgspec.structs.replace(row, task_id=UUID(int=1))
    _, findings = await verified(log, store)
    assert [one.detail.partition(": ")[2] for one in findings] == ["1 rows are of streams that the shard does not have"]


async def test_a_view_that_folds_otherwise_than_the_domain_is_found(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted bug: the row equals the view's own fold, and both are wrong."""
    task: Any = PROJECTIONS[0]
    apply = task.apply

    def wrong(row: Any, recorded: Any, event: Any) -> Any:
        row = apply(row, recorded, event)
        row.state = "cancelled" if row.state == "completed" else row.state
        return row

    monkeypatch.setattr(type(task), "apply", lambda _self, *given: wrong(*given))
    _, findings = await verified(log, await views_of(log))
    assert len(findings) == TASKS
    assert findings[0].detail == "the fold ends as completed, the task view as cancelled, or with another result"


async def test_a_changed_blob_is_found_with_each_task_that_needs_it(log: MemoryLog) -> None:
    (digest,) = log._blobs
    log._blobs[digest] = log._blobs[digest] + b" "
    assert hashlib.sha256(log._blobs[digest]).digest() != digest
    _, findings = await verified(log, None)
    assert [one.invariant for one in findings] == [Invariant.ORDER] * TASKS


async def test_a_registered_version_whose_content_is_gone_is_found(log: MemoryLog) -> None:
    await with_snapshot(log)
    del log._blobs[bytes.fromhex(linear(2).hash)]
    _, findings = await verified(log, None)
    assert [(one.invariant, one.position) for one in findings] == [(Invariant.FOLD, log.kept.popitem()[1].position)]
    assert "of version 2 of template shop/orders cannot be read; delete its row of" in findings[0].detail


# -------------------------------------------------------------------- snapshots


async def with_snapshot(log: MemoryLog) -> Snapshot:
    """Keep the state of a template of three versions as of the second."""
    stream_id = template_stream_id("default", "shop", "orders")
    shard = shard_of(stream_id, SHARDS)
    contents = [linear(count) for count in (1, 2, 3)]
    for content in contents:
        await put_template(log, content)
    events = [
        TemplateRegistered(namespace="shop", name="orders", version=f"{number}", hash=content.hash)
        for number, content in enumerate(contents, 1)
    ]
    new = [
        to_new_event(event, stream_id=stream_id, seq=seq, tenant="default", at_us=T0_US * 2, meta=b"{}")
        for seq, event in enumerate(events, 1)
    ]
    await append_all(log, [new])
    stored = (await log.load([stream_id]))[stream_id][:2]
    state = await History.of(stored).folded(TEMPLATE_FORM)
    log.kept[stream_id] = Snapshot(
        shard=shard,
        stream_id=stream_id,
        position=stored[-1].position,
        seq=2,
        form=TEMPLATE_FORM.number,
        kind=TEMPLATE_FORM.kind,
        state=TEMPLATE_FORM.encode(state),
    )
    return log.kept[stream_id]


async def test_a_right_snapshot_is_no_finding_however_it_is_spelt(log: MemoryLog) -> None:
    snapshot = await with_snapshot(log)
    assert (await verified(log, None))[1] == []
    spelt = json.dumps({"of_another_build": 1, **json.loads(snapshot.state)}).encode()
    log.kept[snapshot.stream_id] = msgspec.structs.replace(snapshot, state=spelt)
    assert (await verified(log, None, page_events=1))[1] == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"state": b'{"seq":2,"hashes":{"1":"h1","2":"h9"},"in_use":"2"}'}, "of event 2 is not what the events give"),
        ({"state": b"nonsense"}, "cannot be read"),
        ({"seq": 4}, "of event 4, which the stream does not have"),
        ({"position": 1}, "at position 1, which is at"),
        ({"stream_id": UUID(int=3)}, "which the stream does not have"),
    ],
)
async def test_a_wrong_snapshot_is_found(log: MemoryLog, other: dict[str, Any], words: str) -> None:
    snapshot = await with_snapshot(log)
    log.kept[snapshot.stream_id] = msgspec.structs.replace(snapshot, **other)
    found = (await verified(log, None))[1]
    assert [one.invariant for one in found] == [Invariant.SNAPSHOT]
    assert words in found[0].detail
    assert "delete its row" in found[0].detail
    assert (found[0].shard, found[0].task_id) == (snapshot.shard, str(log.kept[snapshot.stream_id].stream_id))


@pytest.mark.parametrize("other", [{"form": 99}, {"kind": "of_a_newer_build"}])
async def test_what_another_build_keeps_is_passed_over(log: MemoryLog, other: dict[str, Any]) -> None:
    snapshot = await with_snapshot(log)
    log.kept[snapshot.stream_id] = msgspec.structs.replace(snapshot, state=b"?", **other)
    assert (await verified(log, None))[1] == []
