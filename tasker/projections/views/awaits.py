"""What a waiting step waits for from outside: kept as JSON text in its row, told in words."""

from __future__ import annotations

import msgspec

from tasker.events.codec import encode_message
from tasker.events.task_events import StepAwaited
from tasker.times import to_rfc3339


class Awaits(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a step waits for.

    Attributes:
        signal: its name.
        count, taken: how many signals it waits for, and has.
        deadline_us: until when; None: as long as it takes.
    """

    signal: str
    count: int = 1
    taken: int = 0
    deadline_us: int | None = None


def signal_awaited(event: StepAwaited) -> str:
    """Return what a step that waits for a signal keeps."""
    return _text(Awaits(signal=event.signal, count=event.count, deadline_us=event.deadline_us))


def signal_taken(awaits: str | None, count: int) -> str | None:
    """Return the same once it has taken so many more."""
    if awaits is None:
        return None
    found = _read(awaits)
    return _text(msgspec.structs.replace(found, taken=found.taken + count))


def awaited_words(awaits: str | None) -> str:
    """Return in words what a step waits for."""
    if awaits is None:
        return "a signal"
    found = _read(awaits)
    what = f"signal {found.signal}"
    if found.count > 1:
        what = f"{found.count} signals {found.signal} ({found.taken} have come)"
    return what + (f" until {to_rfc3339(found.deadline_us)}" if found.deadline_us is not None else "")


def _text(awaits: Awaits) -> str:
    return encode_message(awaits).decode()


def _read(text: str) -> Awaits:
    return msgspec.json.decode(text, type=Awaits)
