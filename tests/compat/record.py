"""Add the golden lines of forms that have none: `python -m tests.compat.record`. Lines that are there never change."""

from pathlib import Path
from uuid import UUID

import msgspec

from tasker.events.stored import to_new_event
from tests.compat.forms import FORMS

GOLDEN = Path(__file__).with_name("stored_forms.jsonl")


class Line(msgspec.Struct):
    """One recorded event: `number` tells the structs of a form apart."""

    type: str
    version: int
    number: int
    kind: str
    payload: str


def golden() -> dict[tuple[str, int, int], Line]:
    """Return the recorded lines by type, version and number."""
    text = GOLDEN.read_bytes() if GOLDEN.exists() else b""
    lines = [msgspec.json.decode(line, type=Line) for line in text.splitlines()]
    return {(line.type, line.version, line.number): line for line in lines}


def main() -> None:
    """Append what is missing."""
    known = golden()
    with GOLDEN.open("ab") as file:
        for (name, version), events in FORMS.items():
            for number, event in enumerate(events):
                new = to_new_event(event, stream_id=UUID(int=1), seq=1, tenant="default", at_us=1, meta=b"{}")
                if (name, version, number) not in known:
                    line = Line(new.type, new.version, number, new.kind, new.payload.decode())
                    file.write(msgspec.json.encode(line) + b"\n")


if __name__ == "__main__":
    main()
