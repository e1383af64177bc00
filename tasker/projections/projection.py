"""What a projection is: a pure fold of the log into rows, one row a key.

The rule: a row is `fold(apply, events of its stream)` and nothing else, so the runner, a rebuild and
`log verify` use the same functions and must get the same rows. `apply` is total: a recorded event is
never refused. It owns the row it is given and may change it in place, as `evolve` does.

An event that cannot be decoded or folded is *poison*: it marks its own row and stops nobody else's.

A view's table is named `<name>_v<version>`; the SQL view `<name>` points at the version that is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

import msgspec

from tasker.events.envelope import RecordedEvent
from tasker.events.stored import DomainEvent

Row = TypeVar("Row", bound=msgspec.Struct)

Key = tuple[UUID, str]
"""A row's key: the stream, and the part of it ("" for a row that stands for the whole stream)."""

NO_TYPES: Final[frozenset[str]] = frozenset()


class Projection(Protocol[Row]):
    """One view of the log.

    Attributes:
        name: of the SQL view, and of the checkpoint.
        kinds: the kinds of streams that it folds (`StreamKind`). Streams that share a row lie in one slot.
        types: stored types that it folds; None: all of its kinds.
        closing: those of them that change every row of their stream at once.
        row_type: its rows; the fields are the table's columns, in order.
        keys: how many of the first fields are the table's primary key.
        facts: how many of the first fields never change once the row is born.
    """

    name: str
    kinds: tuple[str, ...]
    types: frozenset[str] | None
    closing: frozenset[str]
    row_type: type[Row]
    keys: int
    facts: int

    def key_at(self, recorded: RecordedEvent, event: DomainEvent, /) -> Key | None:
        """Return the key of the row that `event` tells of; None: it is of no interest. Not asked of `closing` ones."""
        ...

    def key_of(self, row: Row, /) -> Key:
        """Return the key of `row`."""
        ...

    def is_birth(self, recorded: RecordedEvent, event: DomainEvent, /) -> bool:
        """Return whether earlier events hardly ever have the same key, so that no stored row is looked for at first."""
        ...

    def apply(self, row: Row | None, recorded: RecordedEvent, event: DomainEvent, /) -> Row | None:
        """Return the row moved on by `event`; None is a row not born yet, and stays so when it says nothing."""
        ...

    def poisoned(self, row: Row | None, recorded: RecordedEvent, detail: str, /) -> Row | None:
        """Return the stream's own row marked as poisoned; None when this view has nowhere to say so."""
        ...

    def is_worth_caching(self, row: Row, /) -> bool:
        """Return whether more events of this key are expected soon and the row is small."""
        ...


def keys_of(
    projection: Projection[Any], recorded: RecordedEvent, event: DomainEvent, known: Iterable[Key]
) -> list[Key]:
    """Return the keys of the rows that `event` touches; a closing one those of its stream among `known`."""
    if recorded.type in projection.closing:
        return [key for key in known if key[0] == recorded.stream_id]
    key = projection.key_at(recorded, event)
    return [] if key is None else [key]


def moved_on(projection: Projection[Row], row: Row | None, recorded: RecordedEvent, event: DomainEvent) -> Row | None:
    """Return the row moved on by `event`, or marked as poisoned when the event crashes the fold."""
    try:
        return projection.apply(row, recorded, event)
    except Exception as error:  # noqa: BLE001 - whatever an event does to the fold stays with its own task
        return broken(projection, row, recorded, error)


def broken(projection: Projection[Row], row: Row | None, recorded: RecordedEvent, error: Exception) -> Row | None:
    """Return the row marked as poisoned by an event that crashed the fold."""
    return projection.poisoned(row, recorded, f"{type(error).__name__}: {error}") or row


def differences(expected: msgspec.Struct, found: msgspec.Struct) -> list[str]:
    """Return the names of the columns in which two rows of a view differ, in the table's order."""
    names = expected.__struct_fields__
    return [name for name in names if getattr(expected, name) != getattr(found, name)]
