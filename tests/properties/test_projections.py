"""However the log is cut into batches, whatever is cached, and wherever a runner dies: the rows are the fold."""

import asyncio
import uuid
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tasker.events.dead_letter_events import (
    DeadLetterAdded,
    DeadLetterAssigned,
    DeadLetterNoted,
    DeadLetterReopened,
    DeadLetterResolved,
)
from tasker.events.task_events import (
    StepRetried,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskResumed,
    TaskStopping,
)
from tasker.events.template_events import TemplateRegistered, TemplateUsed
from tasker.ids import investigation_stream_id, schedule_stream_id, template_stream_id
from tasker.projections.folding import Folding
from tasker.projections.memory_store import MemoryViewStore
from tasker.projections.views import PROJECTIONS
from tests.histories import HASH, Recorder, blocked_task, completed_task, created, damaged, failed, ran, raw, scheduled
from tests.properties.examples import examples
from tests.view_rows import folded, stored

SHARDS = 3
VERSIONS = [(one, 1) for one in PROJECTIONS]

histories = st.sampled_from(
    [
        completed_task("s1", "s2", "s3"),
        blocked_task(),
        [*blocked_task("a"), TaskResumed(), *ran("a", attempt=3), TaskCompleted(result=raw(None))],
        [created(not_before_us=5), TaskCancelled()],
        [created(tags={"team": "core"}), *failed("x"), *ran("y")],
        [*blocked_task("a"), TaskResumed(), StepRetried(step="a", attempt=3), *ran("a", attempt=3)],
        [*blocked_task("a"), *failed("b"), TaskStopping(ending="cancelled", cause="cancel"), TaskCancelled()],
        [created(), TaskBlocked(reason="history_limit", detail="100 events"), TaskCancelled()],
    ]
)


@st.composite
def logs(draw: Any) -> Recorder:
    """A log in which several tasks and a template move in turn; some events are damaged."""
    recorder = Recorder(shards=SHARDS)
    ids = draw(st.lists(st.integers(1, 2**128 - 1), min_size=1, max_size=6, unique=True))
    streams: list[tuple[uuid.UUID, list[Any]]] = [(uuid.UUID(int=one), list(draw(histories))) for one in ids]
    template = {"namespace": "shop", "name": "orders", "hash": HASH}
    versions: list[Any] = [TemplateRegistered(version="1.0.0", **template), TemplateUsed(version="1.0.0", **template)]
    streams.append((template_stream_id("default", "shop", "orders"), versions))
    streams.append((schedule_stream_id("default", "shop", "nightly"), list(scheduled())))
    for task_id in ids:
        about: dict[str, Any] = {"task_id": str(uuid.UUID(int=task_id)), "step": draw(st.sampled_from(["a", "", "x"]))}
        told: list[Any] = [
            DeadLetterAdded(attempt=0, **about),
            DeadLetterNoted(attempt=2, note="n", **about),
            DeadLetterAssigned(attempt=2, owner="ada", **about),
            DeadLetterResolved(attempt=2, **about),
            DeadLetterReopened(attempt=2, **about),
        ]
        events = draw(st.lists(st.sampled_from(told), max_size=4))
        if events:
            streams.append((investigation_stream_id("default", uuid.UUID(int=task_id)), events))
    while streams:
        at = draw(st.integers(0, len(streams) - 1))
        stream_id, left = streams[at]
        change = damaged if draw(st.integers(0, 30)) == 0 else lambda event: event
        recorder.record(stream_id, [left.pop(0)], change=change)
        if not left:
            del streams[at]
    return recorder


@settings(max_examples=examples(0.6), deadline=None)
@given(recorder=logs(), data=st.data())
def test_any_split_into_batches_gives_the_fold(recorder: Recorder, data: Any) -> None:
    sizes = st.lists(st.integers(1, 20), min_size=1, max_size=8)
    cuts, rows_max, dies = data.draw(sizes), data.draw(st.sampled_from([0, 1, 5, 1000])), data.draw(st.booleans())

    async def run() -> dict[str, Any]:
        store = MemoryViewStore(PROJECTIONS)
        folding = Folding(store, rows_max=rows_max)
        await folding.open(VERSIONS, shards=SHARDS)
        left, turn = recorder.events, 0
        while left:
            size = cuts[turn % len(cuts)]
            await folding.take(left[:size])
            left, turn = left[size:], turn + 1
            if dies:
                folding = Folding(store, rows_max=rows_max)
                await folding.open(VERSIONS, shards=SHARDS)
        return await stored(store)

    assert asyncio.run(run()) == folded(recorder.events)
