"""Stored forms: what is not understood is `Undecodable` and names the event."""

from uuid import UUID

import msgspec
import pytest

from tasker.errors import Undecodable
from tasker.events import stored, upcast
from tasker.events.envelope import Meta
from tasker.events.stored import encode_meta, from_recorded, meta_of, to_new_event
from tasker.events.task_events import StepDispatched

STREAM = UUID(int=7)
EVENT = to_new_event(
    StepDispatched(step="charge", attempt=1), stream_id=STREAM, seq=3, tenant="acme", at_us=5, meta=b"{}"
)


def test_an_event_gets_its_place_and_comes_back() -> None:
    assert (EVENT.stream_id, EVENT.seq, EVENT.tenant, EVENT.at_us) == (STREAM, 3, "acme", 5)
    assert (EVENT.kind, EVENT.type, EVENT.version, EVENT.encoding) == ("task", "step_dispatched", 1, "json")
    assert from_recorded(EVENT) == StepDispatched(step="charge", attempt=1)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "step_teleported"},
        {"version": 2},
        {"version": 0},
        {"encoding": "zstd"},
        {"payload": b""},
        {"payload": b"{"},
        {"payload": b"[]"},
        {"payload": b'{"step":"charge"}'},
        {"payload": b'{"step":"charge","attempt":"1"}'},
        {"payload": b'{"step":"\xff","attempt":1}'},
    ],
)
def test_what_is_not_understood_names_the_event(change: dict) -> None:
    damaged = msgspec.structs.replace(EVENT, **change)
    with pytest.raises(Undecodable, match=f"seq 3 of task {STREAM}"):
        from_recorded(damaged)


def test_fields_of_a_newer_build_are_ignored() -> None:
    newer = msgspec.structs.replace(EVENT, payload=b'{"step":"charge","attempt":1,"later":[1]}')
    assert from_recorded(newer) == StepDispatched(step="charge", attempt=1)


def test_older_forms_are_lifted_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A type may be renamed on its way to the newest version."""
    monkeypatch.setitem(
        upcast.UPCASTS, ("step_sent", 1), lambda body: ("step_sent", 2, {"step": body["name"], "attempt": body["try"]})
    )
    monkeypatch.setitem(upcast.UPCASTS, ("step_sent", 2), lambda body: ("step_dispatched", 1, body))
    old = msgspec.structs.replace(EVENT, type="step_sent", payload=b'{"name":"charge","try":1}')
    assert from_recorded(old) == StepDispatched(step="charge", attempt=1)
    damaged = msgspec.structs.replace(old, payload=b'{"name":"charge"}')
    with pytest.raises(Undecodable):
        from_recorded(damaged)


def test_every_type_has_one_name() -> None:
    assert len(set(stored.TYPE_OF.values())) == len(stored.TYPE_OF)
    assert set(stored.VERSION_OF) == set(stored.TYPE_OF.values())


def test_meta_comes_back_and_empty_meta_is_two_bytes() -> None:
    meta = Meta(command_id="c", reason="because é")
    event = msgspec.structs.replace(EVENT, meta=encode_meta(meta))
    assert meta_of(event) == meta
    assert encode_meta(Meta()) == b"{}"
    assert meta_of(EVENT) == Meta()


@pytest.mark.parametrize("meta", [b"", b"{", b'{"command_id":1}', b'{"reason":"\xff"}'])
def test_damaged_meta_is_undecodable(meta: bytes) -> None:
    with pytest.raises(Undecodable, match="meta of"):
        meta_of(msgspec.structs.replace(EVENT, meta=meta))
