"""A state that was kept and taken up again goes on as if it had never been put down, for every kind and any history."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasker.events.envelope import US_PER_S, Meta, NewEvent, RecordedEvent
from tasker.events.history import History
from tasker.events.log import Loaded, Snapshot
from tasker.events.places import request_of
from tasker.events.stored import encode_meta, to_new_event
from tasker.service.domain.forms import FORMS
from tests.compat.forms import FORMS as STORED
from tests.properties.examples import examples
from tests.properties.test_log_model import now

T0_US = 1_790_000_000_000_000
STREAM = UUID(int=7)
TASKS = [str(UUID(int=number)) for number in range(1, 6)]

names = {
    "task_id": st.sampled_from(TASKS),
    "holder": st.sampled_from(TASKS).map(lambda task_id: request_of(task_id, "", 1)),
    "requests": st.lists(
        st.sampled_from(TASKS).map(lambda task_id: request_of(task_id, "", 1)), min_size=1, max_size=4, unique=True
    ).map(tuple),
    "task_ids": st.lists(st.sampled_from(TASKS), max_size=3, unique=True).map(tuple),
    "step": st.sampled_from(["", "charge", "ship[3]"]),
    "version": st.sampled_from(["1.0.0", "1.1.0", "é"]),
    "fire_us": st.integers(1, 4).map(lambda number: T0_US + number),
    "first_us": st.integers(1, 4).map(lambda number: T0_US + number),
    "ramp_s": st.sampled_from([0.0, 5.0, 1e6]),
}
"""What events of one stream share, from few values, so that they meet."""


@st.composite
def events_of(draw: Any, kind: str) -> list[RecordedEvent]:
    """Any events of a kind, in any order: a fold takes whatever was recorded."""
    samples = [one for forms in STORED.values() for one in forms if _new(one).kind == kind]
    found: list[RecordedEvent] = []
    at_us = T0_US
    for seq in range(1, draw(st.integers(1, 25)) + 1):
        event = draw(st.sampled_from(samples))
        fields = {name: draw(names[name]) for name in event.__struct_fields__ if name in names}
        at_us += draw(st.sampled_from([0, 1, US_PER_S, 3600 * US_PER_S]))
        meta = Meta(
            command_id=draw(st.sampled_from([None, "c1", "c2", f"c{seq}"])),
            requested_by="ada",
            reason="r",
            request=draw(st.sampled_from([None, "r1"])),
        )
        new = _new(msgspec.structs.replace(event, **fields), seq=seq, at_us=at_us, meta=encode_meta(meta))
        found.append(
            RecordedEvent(shard=0, position=10 * seq, epoch=1, chain=None, **msgspec.structs.asdict(new)),
        )
    return found


def _new(event: Any, *, seq: int = 1, at_us: int = T0_US, meta: bytes = b"{}") -> NewEvent:
    return to_new_event(event, stream_id=STREAM, seq=seq, tenant="acme", at_us=at_us, meta=meta)


@pytest.mark.parametrize("kind", sorted(FORMS))
@settings(max_examples=examples(0.4), deadline=None)
@given(data=st.data())
def test_a_snapshot_and_the_rest_fold_to_what_all_events_fold_to(kind: str, data: st.DataObject) -> None:
    form = FORMS[kind]
    events = data.draw(events_of(kind))
    cut = data.draw(st.integers(1, len(events)))
    state = now(History.of(events[:cut]).folded(form))
    kept = Snapshot(
        shard=0,
        stream_id=STREAM,
        position=events[cut - 1].position,
        seq=cut,
        form=form.number,
        kind=kind,
        state=form.encode(state),
    )
    history = History(STREAM, Loaded(kept, events[cut - 1 :]))
    resumed = now(history.folded(form))
    assert history.snapshot is kept
    assert history.seq == len(events)
    assert form.encode(resumed) == form.encode(now(History.of(events).folded(form)))
