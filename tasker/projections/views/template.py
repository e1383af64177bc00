"""The `template` view: one row a registered version of a template."""

from __future__ import annotations

from typing import assert_never, cast
from uuid import UUID

import msgspec

from tasker.events.envelope import RecordedEvent, StreamKind
from tasker.events.reads import TemplateView
from tasker.events.stored import DomainEvent
from tasker.events.template_events import AnyTemplateEvent, TemplateRegistered, TemplateUsed
from tasker.projections.projection import NO_TYPES, Key
from tasker.times import to_rfc3339


class TemplateRow(msgspec.Struct):
    """A version of a template as stored.

    Attributes:
        chosen_seq: the newest event of the template's stream that made this the version in use;
            the version with the greatest one is in use. So an event touches its own version's row only.
    """

    stream_id: UUID
    version: str
    tenant: str
    shard: int
    namespace: str
    name: str
    hash: str
    registered_at_us: int
    chosen_seq: int
    position: int


class TemplateProjection:
    """Folds a template's stream into a row for each version."""

    name = "template"
    kinds: tuple[str, ...] = (StreamKind.TEMPLATE.value,)
    closing = NO_TYPES
    types: frozenset[str] | None = None
    row_type = TemplateRow
    keys = 2
    facts = TemplateRow.__struct_fields__.index("chosen_seq")

    def key_at(self, recorded: RecordedEvent, event: DomainEvent) -> Key:
        """Return the version."""
        return recorded.stream_id, cast("AnyTemplateEvent", event).version

    def key_of(self, row: TemplateRow) -> Key:
        """Return the key of `row`."""
        return row.stream_id, row.version

    def is_birth(self, recorded: RecordedEvent, _event: DomainEvent) -> bool:
        """Return whether this is the first event of its template."""
        return recorded.seq == 1

    def is_worth_caching(self, _row: TemplateRow) -> bool:
        """Return False: templates change rarely."""
        return False

    def apply(self, row: TemplateRow | None, recorded: RecordedEvent, event: DomainEvent) -> TemplateRow:
        """Return the version's row moved on by `event`."""
        template_event = cast("AnyTemplateEvent", event)
        if row is None:
            row = TemplateRow(
                stream_id=recorded.stream_id,
                version=template_event.version,
                tenant=recorded.tenant,
                shard=recorded.shard,
                namespace=template_event.namespace,
                name=template_event.name,
                hash=template_event.hash,
                registered_at_us=recorded.at_us,
                chosen_seq=recorded.seq,
                position=recorded.position,
            )
        match template_event:
            case TemplateRegistered() | TemplateUsed():
                row.chosen_seq = recorded.seq
                row.position = recorded.position
            case _:
                assert_never(template_event)
        return row

    def poisoned(self, _row: TemplateRow | None, _recorded: RecordedEvent, _detail: str) -> None:
        """Return None: an event that cannot be read names no version."""
        return


def to_view(row: TemplateRow, *, in_use: bool) -> TemplateView:
    """Return `row` as reads show it."""
    return TemplateView(
        tenant=row.tenant,
        namespace=row.namespace,
        name=row.name,
        version=row.version,
        hash=row.hash,
        registered_at=to_rfc3339(row.registered_at_us),
        in_use=in_use,
    )
