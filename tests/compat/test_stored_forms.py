"""What was ever stored is still read, and what is stored today is what was recorded."""

from uuid import UUID

import pytest

from tasker.events.envelope import NewEvent
from tasker.events.stored import TYPE_OF, VERSION_OF, from_recorded, to_new_event
from tasker.events.upcast import UPCASTS
from tests.compat.forms import FORMS
from tests.compat.record import golden

GOLDEN = golden()


def stored(payload: bytes, kind: str, name: str, version: int) -> NewEvent:
    return NewEvent(
        stream_id=UUID(int=1),
        kind=kind,
        seq=1,
        type=name,
        version=version,
        tenant="default",
        at_us=1,
        meta=b"{}",
        payload=payload,
    )


def test_every_form_that_is_written_or_upcast_is_recorded() -> None:
    recorded = {(name, version) for name, version, _ in GOLDEN}
    assert recorded >= {(name, VERSION_OF[name]) for name in TYPE_OF.values()}
    assert recorded >= set(UPCASTS)
    assert set(FORMS) == recorded


@pytest.mark.parametrize("key", GOLDEN, ids=lambda key: f"{key[0]}-v{key[1]}-{key[2]}")
def test_a_recorded_event_decodes_to_what_it_said(key: tuple[str, int, int]) -> None:
    line = GOLDEN[key]
    name, version, number = key
    event = from_recorded(stored(line.payload.encode(), line.kind, name, version))
    assert event == FORMS[name, version][number]


@pytest.mark.parametrize("key", [key for key in GOLDEN if VERSION_OF.get(key[0]) == key[1]])
def test_todays_struct_has_the_recorded_bytes(key: tuple[str, int, int]) -> None:
    name, version, number = key
    new = to_new_event(
        FORMS[name, version][number], stream_id=UUID(int=1), seq=1, tenant="default", at_us=1, meta=b"{}"
    )
    assert (new.type, new.version, new.kind) == (name, version, GOLDEN[key].kind)
    assert new.payload == GOLDEN[key].payload.encode()


def test_every_field_is_set_in_some_recorded_event() -> None:
    """A field that no line holds could be renamed unseen."""
    for (name, version), events in FORMS.items():
        fields = {field for event in events for field in event.__struct_fields__}
        held = {field for event in events for field in fields if f'"{field}":'.encode() in _payload(event)}
        assert held == fields, (name, version)


def _payload(event: object) -> bytes:
    return to_new_event(
        event,  # type: ignore[arg-type]
        stream_id=UUID(int=1),
        seq=1,
        tenant="default",
        at_us=1,
        meta=b"{}",
    ).payload
