"""Counts what was committed: events by type, retries by reason. A batch costs one pass in C over its types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from tasker.events.envelope import NewEvent
from tasker.events.stored import TYPE_OF
from tasker.events.task_events import StepAttemptFailed, StepRetryScheduled, UsageRecorded
from tasker.events.usage import TOKENS_IN, TOKENS_OUT
from tasker.metrics.catalogue import RETRY_REASONS

_FAILED: Final = TYPE_OF[StepAttemptFailed]
_RETRY: Final = TYPE_OF[StepRetryScheduled]


_USED: Final = TYPE_OF[UsageRecorded]
_decode_used = msgspec.json.Decoder(UsageRecorded).decode
DIRECTIONS: Final = {TOKENS_IN: "in", TOKENS_OUT: "out"}
CURRENCIES_MAX: Final = 16
OTHER_CURRENCY: Final = "XXX"
"""Counts for the currencies beyond the first few: handlers may name any."""


class _Error(msgspec.Struct):
    type: str


class _Failed(msgspec.Struct):
    error: _Error


_decode_failed = msgspec.json.Decoder(_Failed).decode


class CommitCounts:
    """A `CommitListener` that counts."""

    def __init__(self) -> None:
        self.types: Counter[str] = Counter()
        self.retries: dict[str, int] = dict.fromkeys(RETRY_REASONS, 0)
        self.tokens: dict[str, float] = dict.fromkeys(DIRECTIONS.values(), 0.0)
        self.costs: dict[str, float] = {}

    def on_committed(self, shard: int, first_position: int, events: Sequence[NewEvent]) -> None:  # noqa: ARG002 - the protocol's
        """Count a batch."""
        before, used_before = self.types[_RETRY], self.types[_USED]
        self.types.update([event.type for event in events])
        if self.types[_USED] != used_before:
            self._count_usage(events)
        if self.types[_RETRY] != before:
            self._count_retries(events)

    def on_fenced(self, shard: int) -> None:
        """Do nothing: what was committed stays counted."""

    def _count_usage(self, events: Sequence[NewEvent]) -> None:
        for event in events:
            if event.type != _USED:
                continue
            used = _decode_used(event.payload)
            direction = DIRECTIONS.get(used.meter)
            if direction is not None:
                self.tokens[direction] += float(used.amount)
            if used.cost is not None:
                known = used.currency in self.costs or len(self.costs) < CURRENCIES_MAX
                currency = used.currency if known else OTHER_CURRENCY
                self.costs[currency] = self.costs.get(currency, 0.0) + float(used.cost)

    def _count_retries(self, events: Sequence[NewEvent]) -> None:
        """Count each retry by the failure that stands before it in its unit."""
        reason = "error"
        for event in events:
            if event.type == _FAILED:
                kind = _decode_failed(event.payload).error.type
                reason = kind if kind in self.retries else "error"
            elif event.type == _RETRY:
                self.retries[reason] += 1
