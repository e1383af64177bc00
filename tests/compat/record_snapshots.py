"""Record snapshots: `python -m tests.compat.record_snapshots`. What is recorded never changes.

A file is a history of a kind and what was kept of it by the form in its name. A form that is new here is recorded; one
that has its file is left alone.
"""

import hashlib
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec

from tasker.events.envelope import US_PER_S, Meta, RecordedEvent
from tasker.events.state_form import StateForm
from tasker.events.stored import encode_meta, to_new_event
from tasker.service.domain.forms import FORMS
from tests.compat.forms import FORMS as STORED
from tests.compat.record_histories import Line, recorded_of
from tests.runs import T0_US

FOLDER: Final = Path(__file__).with_name("snapshots")
STREAM: Final = UUID(int=7)


class Recorded(msgspec.Struct):
    """A history, the text of the state that was kept of it, and the hash of the texts after each event."""

    state: str
    states_hash: str
    events: list[Line]


def path_of(kind: str, form: int) -> Path:
    return FOLDER / f"{kind}.{form}.json"


def events_of(recorded: Recorded, kind: str) -> list[RecordedEvent]:
    """Return the history, as the log would give it."""
    return recorded_of(recorded.events, stream_id=STREAM, kind=kind)


def states_of(form: StateForm[Any], events: list[RecordedEvent]) -> tuple[str, str]:
    """Return what is kept after all events, and the hash of what would be after each."""
    state, digest = form.new(), hashlib.sha256()
    for event in events:
        form.fold(state, event)
        digest.update(form.encode(state))
    return form.encode(state).decode(), digest.hexdigest()


def lines_of(kind: str) -> list[Line]:
    """Return a history with every event of a kind, each in all its forms."""
    lines: list[Line] = []
    for event in (event for forms in STORED.values() for event in forms):
        seq = len(lines) + 1
        meta = encode_meta(Meta(command_id=f"c{seq}", requested_by="ada", reason="why", request=f"{seq:016x}"))
        at_us = T0_US + seq * US_PER_S
        new = to_new_event(event, stream_id=STREAM, seq=seq, tenant="default", at_us=at_us, meta=meta)
        if new.kind == kind:
            lines.append(Line(seq, new.type, new.version, at_us, meta.decode(), new.payload.decode()))
    return lines


def main() -> None:
    for kind, form in FORMS.items():
        path = path_of(kind, form.number)
        if path.exists():
            continue
        recorded = Recorded("", "", lines_of(kind))
        recorded.state, recorded.states_hash = states_of(form, events_of(recorded, kind))
        path.write_bytes(msgspec.json.format(msgspec.json.encode(recorded), indent=1) + b"\n")
        print(f"recorded {path.name}")  # noqa: T201 - a tool


if __name__ == "__main__":
    main()
