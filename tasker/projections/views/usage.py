"""The `usage` view: one row a meter of a step, with what all its attempts used together."""

from __future__ import annotations

from decimal import Decimal
from typing import cast
from uuid import UUID

import msgspec

from tasker.events.codec import canonical
from tasker.events.envelope import RecordedEvent, StreamKind
from tasker.events.stored import DomainEvent
from tasker.events.task_events import UsageRecorded
from tasker.events.usage import added, amount_text
from tasker.projections.projection import NO_TYPES, Key


class UsageRow(msgspec.Struct):
    """A meter of a step as stored.

    Attributes:
        line: names the row within its task: step, meter, unit, model, currency, prices, whether a cost is known.
        prices: version of the price table that gave the cost; "": none did.
        amount, cost: decimal text, exact. cost: None: nobody knows it.
        attempts: how many used something of it.
    """

    task_id: UUID
    line: str
    tenant: str
    shard: int
    step: str
    meter: str
    unit: str
    model: str
    currency: str
    prices: str
    amount: str = "0"
    cost: str | None = None
    attempts: int = 0
    position: int = 0


class UsageProjection:
    """Adds up what the attempts of each step used, a meter at a time."""

    name = "usage"
    kinds: tuple[str, ...] = (StreamKind.TASK.value,)
    types: frozenset[str] | None = frozenset({"usage_recorded"})
    closing = NO_TYPES
    row_type = UsageRow
    keys = 2
    facts = UsageRow.__struct_fields__.index("amount")

    def key_at(self, recorded: RecordedEvent, event: DomainEvent) -> Key | None:
        """Return the task and the line that `event` adds to."""
        return recorded.stream_id, _line_of(cast("UsageRecorded", event))

    def key_of(self, row: UsageRow) -> Key:
        """Return the key of `row`."""
        return row.task_id, row.line

    def is_birth(self, _recorded: RecordedEvent, event: DomainEvent) -> bool:
        """Return whether this is a step's first attempt, which uses each line once."""
        return cast("UsageRecorded", event).attempt == 1

    def is_worth_caching(self, _row: UsageRow) -> bool:
        """Return False: only another attempt touches it."""
        return False

    def apply(self, row: UsageRow | None, recorded: RecordedEvent, event: DomainEvent) -> UsageRow:
        """Return the line's row with what `event` tells added."""
        used = cast("UsageRecorded", event)
        if row is None:
            row = UsageRow(
                task_id=recorded.stream_id,
                line=_line_of(used),
                tenant=recorded.tenant,
                shard=recorded.shard,
                step=used.step,
                meter=used.meter,
                unit=used.unit,
                model=used.model,
                currency=used.currency,
                prices=used.prices or "",
            )
        row.amount = amount_text(added(Decimal(row.amount), Decimal(used.amount)))
        if used.cost is not None:
            row.cost = amount_text(added(Decimal(row.cost or "0"), Decimal(used.cost)))
        row.attempts += 1
        row.position = recorded.position
        return row

    def poisoned(self, _row: UsageRow | None, _recorded: RecordedEvent, _detail: str) -> None:
        """Return None: an event that cannot be read names no meter; the task's own view marks the task."""
        return


def _line_of(used: UsageRecorded) -> str:
    named = (used.step, used.meter, used.unit, used.model, used.currency, used.prices or "")
    return canonical((*named, used.cost is not None)).decode()
