"""What every store of views promises, over memory and PostgreSQL."""

import asyncio
import itertools
import random
import string
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tasker.clock import SystemClock
from tasker.errors import ConfigurationError
from tasker.events.dead_letter_events import (
    DeadLetterInvestigated,
    DeadLetterNoted,
    DeadLetterReopened,
    DeadLetterResolved,
)
from tasker.events.envelope import Meta, RecordedEvent
from tasker.events.schedule_events import ScheduleDeleted
from tasker.events.task_events import StepDispatched, TaskCancelled, TaskCompleted, UsageRecorded
from tasker.events.template_events import TemplateRegistered
from tasker.ids import investigation_stream_id, schedule_stream_id, template_stream_id
from tasker.projections.checkpoints import CheckpointMoved
from tasker.projections.folding import Folding
from tasker.projections.memory_store import MemoryTail, MemoryViewStore
from tasker.projections.postgres_store import PostgresRebuildStore, open_pool
from tasker.projections.rebuild import Progress, Rebuilder
from tasker.projections.runner import Runner
from tasker.projections.store import RebuildStore
from tasker.projections.views import PROJECTIONS
from tests.compat.record_histories import RECORDED
from tests.compat.record_histories import history as history_of
from tests.histories import HASH, Recorder, blocked_task, completed_task, created, damaged, ran, raw, scheduled
from tests.servers import SharedCluster
from tests.view_rows import folded, stored

SHARDS = 4
VERSIONS = [(one, 1) for one in PROJECTIONS]
LONG = "".join(random.Random(1).choices(string.ascii_letters, k=9000))
"""No index of PostgreSQL takes it, compressed or not."""


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest, cluster: SharedCluster) -> AsyncIterator[RebuildStore]:
    if request.param == "memory":
        yield MemoryViewStore(PROJECTIONS)
        return
    dsn = await cluster.create_database()
    pool = await open_pool(dsn)
    yield PostgresRebuildStore(pool)
    await pool.close()
    await cluster.drop_database(dsn)


def history() -> Recorder:
    recorder = Recorder(shards=SHARDS)
    for number in range(40):
        recorder.task(completed_task("s1", "s2", tags={"team": "core", "n": str(number)}))
        dead = recorder.task(blocked_task())
        at: dict[str, Any] = {"task_id": str(dead), "step": "charge", "attempt": 2}
        recorder.record(
            investigation_stream_id("default", dead),
            [
                DeadLetterInvestigated(**at),
                DeadLetterNoted(note='a "note" ☕', **at),
                (DeadLetterResolved if number % 2 else DeadLetterReopened)(**at),
            ],
            meta=Meta(requested_by="ada", reason="paid by hand"),
        )
        if number % 3 == 0:
            recorder.record(dead, [TaskCancelled()])
        used = [UsageRecorded(step="s1", attempt=attempt, meter="pages", amount="0.1") for attempt in (1, 2)]
        recorder.task([created(), *used])
    recorder.record(
        template_stream_id("default", "shop", "orders"),
        [TemplateRegistered(namespace="shop", name="orders", version=f"{n}.0.0", hash=HASH) for n in (1, 2)],
    )
    recorder.record(schedule_stream_id("default", "shop", "nightly"), scheduled())
    recorder.record(schedule_stream_id("default", "shop", "gone"), [*scheduled(), ScheduleDeleted()])
    return recorder


def each_story() -> list[RecordedEvent]:
    """The recorded stories side by side, one event of each at a time: together they hold every event of a task."""
    stories = [history_of(name) for name in RECORDED]
    lines = [line for moment in itertools.zip_longest(*stories) for line in moment if line is not None]
    positions = itertools.count(1)
    return [msgspec.structs.replace(line, position=next(positions)) for line in lines]


async def opened(store: RebuildStore) -> Folding:
    folding = Folding(store)
    await folding.open(VERSIONS, shards=SHARDS)
    return folding


async def test_what_is_written_is_read_back_exactly(store: RebuildStore) -> None:
    recorder = history()
    await (await opened(store)).take(recorder.events)
    assert await stored(store) == folded(recorder.events)
    assert await store.positions() == recorder.positions


async def test_rows_are_updated_whether_they_were_kept_or_have_to_be_read(store: RebuildStore) -> None:
    recorder = history()
    for at in range(0, len(recorder.events), 37):
        await (await opened(store)).take(recorder.events[at : at + 37])
    assert await stored(store) == folded(recorder.events)


async def test_every_kind_of_event_moves_rows_that_are_stored(store: RebuildStore) -> None:
    """Each event by another process: no row is kept, and what mostly begins one may find it there."""
    events = each_story()
    for seq in sorted({one.seq for one in events}):
        await (await opened(store)).take([one for one in events if one.seq == seq])
    assert await stored(store) == folded(events)


async def test_a_second_writer_changes_nothing_and_learns_it(store: RebuildStore) -> None:
    recorder = history()
    first, second = await opened(store), await opened(store)
    await first.take(recorder.events[:200])
    before = await stored(store)
    with pytest.raises(CheckpointMoved):
        await second.take(recorder.events[:300])
    assert await stored(store) == before


async def test_two_writers_at_once_have_one_winner(store: RebuildStore) -> None:
    recorder = history()
    foldings = [await opened(store) for _ in range(4)]
    outcomes = await asyncio.gather(*(one.take(recorder.events) for one in foldings), return_exceptions=True)
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, CheckpointMoved) for outcome in outcomes) == 3
    assert await stored(store) == folded(recorder.events)


async def test_an_unknown_view_is_a_matter_of_migration(store: RebuildStore) -> None:
    with pytest.raises(ConfigurationError):
        await store.active(["task", "nothing"])


async def test_poison_marks_its_task_and_stops_nobody(store: RebuildStore) -> None:
    recorder = Recorder(shards=SHARDS)
    bad, good = recorder.task([created(), *ran("a")]), recorder.task([created()])
    recorder.record(bad, [TaskCompleted(result=raw(1))], change=damaged)
    recorder.record(bad, [created()], change=lambda event: msgspec.structs.replace(event, type="from_the_future"))
    recorder.record(good, [TaskCompleted(result=raw(1))])
    await (await opened(store)).take(recorder.events)
    rows = (await stored(store))["task"]
    assert (rows[bad, ""].state, rows[bad, ""].blocked_reason, rows[bad, ""].seq) == ("blocked", "poison", 6)
    assert rows[good, ""].state == "completed"


async def test_an_investigation_of_no_task_stops_nobody(store: RebuildStore) -> None:
    recorder = Recorder(shards=SHARDS)
    good = recorder.task([created()])
    of_nobody = DeadLetterInvestigated(task_id="nobody", step="s", attempt=1)
    recorder.record(investigation_stream_id("default", good), [of_nobody])
    await (await opened(store)).take(recorder.events)
    assert await store.positions() == recorder.positions
    assert await stored(store) == folded(recorder.events)


async def test_a_rebuild_gives_the_same_rows_under_the_next_version(store: RebuildStore) -> None:
    recorder = history()
    folding = await opened(store)
    await folding.take(recorder.events)
    seen: list[Progress] = []
    rebuilder = Rebuilder(MemoryTail(recorder.events), store, PROJECTIONS, shards=SHARDS)
    rebuilt = await rebuilder.rebuild("task", seen.append)
    assert (rebuilt.version, rebuilt.events) == (2, len(recorder.events))
    assert seen[-1].events == len(recorder.events)
    assert await store.active(["task", "step"]) == {"task": 2, "step": 1}
    assert await stored(store) == folded(recorder.events)
    recorder.task([created()])
    with pytest.raises(CheckpointMoved):
        await folding.take(recorder.events[-1:])
    assert (await rebuilder.rebuild("task")).version == 3


async def test_a_rebuild_waits_until_it_is_nowhere_behind(store: RebuildStore) -> None:
    recorder = history()
    await (await opened(store)).take(recorder.events)
    version = await store.begin("step", SHARDS)
    assert await store.switch("step", version) == recorder.positions
    assert await store.active(["step"]) == {"step": 1}


async def test_a_version_that_is_gone_does_not_come_back(store: RebuildStore) -> None:
    """A process that learned of it just before a rebuild switched would fold the whole log into it."""
    recorder = history()
    await (await opened(store)).take(recorder.events)
    await Rebuilder(MemoryTail(recorder.events), store, PROJECTIONS, shards=SHARDS).rebuild("step")
    with pytest.raises(CheckpointMoved, match="version 1 of view step is gone"):
        await store.checkpoints("step", 1, SHARDS)
    assert await store.checkpoints("step", 2, SHARDS) == recorder.positions
    assert await store.positions() == recorder.positions


async def test_an_abandoned_rebuild_is_in_nobodys_way(store: RebuildStore) -> None:
    recorder = history()
    await (await opened(store)).take(recorder.events)
    abandoned = Folding(store)
    step = next(one for one in PROJECTIONS if one.name == "step")
    await abandoned.open([(step, await store.begin("step", SHARDS))], shards=SHARDS)
    await abandoned.take(recorder.events[:100])
    await Rebuilder(MemoryTail(recorder.events), store, PROJECTIONS, shards=SHARDS).rebuild("step")
    assert await stored(store) == folded(recorder.events)
    assert await store.active(["step"]) == {"step": 2}


async def test_a_rebuild_under_load_loses_nothing(store: RebuildStore) -> None:
    """The runner goes on during the rebuild, finds its version gone, and goes on with the next."""
    recorder = history()
    tail = MemoryTail(recorder.events)
    runner = Runner(tail, store, PROJECTIONS, shards=SHARDS, clock=SystemClock(), standby_s=0.01)
    await runner.catch_up()
    running = asyncio.create_task(runner.run())
    for name in ("task", "step", "template", "dlq", "usage"):
        rebuild = asyncio.create_task(Rebuilder(tail, store, PROJECTIONS, shards=SHARDS).rebuild(name))
        for number in itertools.count():
            if rebuild.done():
                break
            if number < 100:  # for ever would be too much for a machine that is busy with other things
                recorder.task(completed_task("s1"))
            runner.wake()
            await asyncio.sleep(0.001)
        await rebuild
    recorder.task([created(), StepDispatched(step="a", attempt=1)])
    while await store.positions() != recorder.positions:
        runner.wake()
        await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await stored(store) == folded(recorder.events)


@pytest.mark.parametrize("is_born", [True, False], ids=["new", "there"])
@pytest.mark.parametrize(
    ("column", "value"), [("state", "a\0b"), ("state", "\ud800"), ("state", LONG), ("retries", 2**40)]
)
async def test_a_row_that_cannot_be_stored_poisons_its_task(
    store: RebuildStore, column: str, value: object, monkeypatch: pytest.MonkeyPatch, *, is_born: bool
) -> None:
    if isinstance(store, MemoryViewStore):
        pytest.skip("memory stores every value")
    recorder = history()
    good = recorder.task([created()])
    bad = recorder.task([created(input=raw("much " * 20_000))])
    for _ in range(3):  # so that more is on its way when the server refuses the row
        recorder.task([created(input=raw("more " * 20_000))])
    seen = 0
    if not is_born:
        await (await opened(store)).take(recorder.events)
        seen = len(recorder.events)
        recorder.record(bad, [StepDispatched(step="a", attempt=1)])
    task: Any = PROJECTIONS[0]
    apply = task.apply

    def spoiled(row: Any, recorded: Any, event: Any) -> Any:
        row = apply(row, recorded, event)
        if recorded.stream_id == bad:
            setattr(row, column, value)
        return row

    monkeypatch.setattr(type(task), "apply", lambda _self, *given: spoiled(*given))
    await (await opened(store)).take(recorder.events[seen:])
    rows = (await stored(store))["task"]
    assert rows[bad, ""].blocked_reason == "poison"
    assert rows[good, ""].state == "running"
    assert len(rows) == 125
