"""What a checker of the log is, and how one shard is fed to several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from tasker.errors import Undecodable
from tasker.events.envelope import RecordedEvent
from tasker.events.stored import DomainEvent, from_recorded

K = TypeVar("K")
V = TypeVar("V")

Decoded = DomainEvent | Undecodable
"""An event's newest form, or why there is none."""


class LogChecker(Protocol):
    """Holds one shard of the log to an invariant."""

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Take the next event of the shard, as it is stored and decoded."""
        ...

    def close(self) -> None:
        """Take note that the shard ends here."""
        ...


def decoded(recorded: RecordedEvent) -> Decoded:
    """Return the event of a stored one, or why it cannot be read."""
    try:
        return from_recorded(recorded)
    except Undecodable as error:
        return error


def feed(events: Iterable[RecordedEvent], checkers: Sequence[LogChecker]) -> None:
    """Give a whole shard to `checkers`."""
    for recorded in events:
        event = decoded(recorded)
        for checker in checkers:
            checker.take(recorded, event)
    for checker in checkers:
        checker.close()


def forget_oldest(found: dict[K, V], *, kept_max: int) -> None:
    """Let `found` hold at most `kept_max` entries, the newest ones."""
    if len(found) > kept_max:
        del found[next(iter(found))]
