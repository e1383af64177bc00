"""What a stream is folded from: a snapshot only where it fits and is known, and never more than a page at once."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from tasker.errors import Undecodable
from tasker.events import history as history_module
from tasker.events import memory_log
from tasker.events.history import History, read_history
from tasker.events.log import Snapshot
from tasker.events.memory_log import MemoryLog
from tasker.events.template_events import TemplateRegistered
from tasker.ids import template_stream_id
from tasker.service.domain.forms import FORMS
from tasker.service.domain.template_registry import TEMPLATE_FORM, TemplateRegistry
from tests.histories import Recorder

STREAM = template_stream_id("default", "shop", "orders")
VERSIONS = 12


@pytest.fixture
async def log() -> MemoryLog:
    """A template with twelve versions."""
    log, recorder = MemoryLog(shards=1), Recorder(shards=1)
    events = [
        TemplateRegistered(namespace="shop", name="orders", version=f"{number}", hash=f"h{number}")
        for number in range(1, VERSIONS + 1)
    ]
    recorder.record(STREAM, events)
    await recorder.append_to(log, (await log.acquire("o", [0], 60.0)).epochs)
    return log


async def kept(log: MemoryLog, up_to: int, **other: Any) -> Snapshot:
    """Keep the state as of an event, or one that differs in something."""
    events = (await log.load([STREAM]))[STREAM][:up_to]
    state = await History.of(events).folded(TEMPLATE_FORM)
    snapshot = Snapshot(
        shard=0,
        stream_id=STREAM,
        position=events[-1].position,
        seq=events[-1].seq,
        form=TEMPLATE_FORM.number,
        kind=TEMPLATE_FORM.kind,
        state=TEMPLATE_FORM.encode(state),
    )
    log.kept[STREAM] = msgspec.structs.replace(snapshot, **other)
    return log.kept[STREAM]


async def folded(log: MemoryLog) -> tuple[TemplateRegistry, History]:
    history = await read_history(log, STREAM)
    return await history.folded(TEMPLATE_FORM), history


async def test_a_fold_begins_with_the_snapshot(log: MemoryLog) -> None:
    whole, history = await folded(log)
    assert (history.snapshot, history.seq, len(whole.hashes)) == (None, VERSIONS, VERSIONS)
    for seq in (1, 7, VERSIONS):
        snapshot = await kept(log, seq)
        state, history = await folded(log)
        assert history.snapshot == snapshot
        assert (history.seq, history.position, history.tenant) == (VERSIONS, VERSIONS, "default")
        assert state == whole


async def test_only_what_lies_behind_the_snapshot_is_folded(log: MemoryLog) -> None:
    """Seen by a snapshot that is wrong, and of which the fold cannot know that."""
    await kept(log, 9, state=TEMPLATE_FORM.encode(TemplateRegistry(seq=9)))
    state, _ = await folded(log)
    assert list(state.hashes) == ["10", "11", "12"]


@pytest.mark.parametrize(
    "other",
    [
        {"form": TEMPLATE_FORM.number + 1},
        {"kind": "schedule"},
        {"state": b"{}x"},
        {"state": b'{"seq":"many"}'},
        {"seq": VERSIONS + 1, "position": VERSIONS + 1},
        {"seq": 8},
        {"position": 8},
        {"position": VERSIONS + 7},
    ],
)
async def test_a_snapshot_that_does_not_fit_is_discarded(log: MemoryLog, other: dict[str, Any]) -> None:
    """Another build's, a damaged one, one that is ahead of the stream, one of another event."""
    await kept(log, 7, **other)
    state, history = await folded(log)
    assert history.snapshot is None
    assert (state.seq, len(state.hashes)) == (VERSIONS, VERSIONS)


async def test_a_snapshot_whose_parts_do_not_fit_together_is_discarded(log: MemoryLog) -> None:
    """It is of its form by its types, and no state can be made of it."""

    def restore(_kept: TemplateRegistry) -> TemplateRegistry:
        raise KeyError("who waits")

    await kept(log, 7)
    history = await read_history(log, STREAM)
    state = await history.folded(msgspec.structs.replace(TEMPLATE_FORM, restore=restore))
    assert (history.snapshot, len(state.hashes)) == (None, VERSIONS)


@pytest.mark.parametrize("page", [1, 2, 5, VERSIONS, VERSIONS + 1])
@pytest.mark.parametrize("seq", [None, 1, 4, VERSIONS])
@pytest.mark.parametrize("form", [TEMPLATE_FORM.number, TEMPLATE_FORM.number + 1])
async def test_a_stream_is_read_in_pages(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, page: int, seq: int | None, form: int
) -> None:
    for module in (memory_log, history_module):
        monkeypatch.setattr(module, "HISTORY_PAGE_EVENTS", page)
    if seq is not None:
        await kept(log, seq, form=form)
    state, history = await folded(log)
    assert (state.seq, len(state.hashes), history.seq) == (VERSIONS, VERSIONS, VERSIONS)
    assert [one.seq for one in await (await read_history(log, STREAM)).events()] == [*range(1, VERSIONS + 1)]


async def test_a_stream_that_does_not_exist_has_no_kind() -> None:
    history = await read_history(MemoryLog(shards=1), UUID(int=1))
    assert (history.kind, history.seq, history.is_long) == (None, 0, False)
    assert await history.folded(TEMPLATE_FORM) == TemplateRegistry()
    assert await history.events() == []


async def test_the_kind_is_known_also_of_one_whose_snapshot_is_ahead(log: MemoryLog) -> None:
    await kept(log, 7, seq=99, position=99)
    history = await read_history(log, STREAM)
    assert (history.kind, history.is_long) == ("template", True)


async def test_an_event_that_cannot_be_read_is_told(log: MemoryLog) -> None:
    events = (await log.load([STREAM]))[STREAM]
    events[3] = msgspec.structs.replace(events[3], type="from_the_future")
    with pytest.raises(Undecodable):
        await History.of(events).folded(TEMPLATE_FORM)


def test_each_form_is_of_its_kind() -> None:
    assert {kind: form.kind for kind, form in FORMS.items()} == {kind: kind for kind in FORMS}
