"""I13: what is metered equals a recount from the log.

The log: usage stands in the unit of its attempt's outcome and before it, or by itself once that attempt is over; each
attempt tells it once, a meter at a time, behind those before it. A cost that prices gave is the amount times the price.
The view: each row is the sum of the log's lines. The recount shares no arithmetic with what it
checks: it adds up fractions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from tasker.events.envelope import RecordedEvent
from tasker.events.task_events import (
    ENDING_TYPES,
    DomainEventRaised,
    ProgressRecorded,
    StepAttemptFailed,
    StepCompleted,
    StepRouted,
    StepYielded,
    UsageRecorded,
)
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report

_OUTCOMES: Final = (StepCompleted, StepAttemptFailed, StepYielded)
_BETWEEN: Final = (ProgressRecorded, DomainEventRaised, StepRouted)
"""What may stand between usage and its outcome."""


_NO_NUMBER: Final = Fraction(-1)


class Line(NamedTuple):
    """What is added up by itself."""

    step: str
    meter: str
    unit: str
    model: str
    currency: str
    prices: str


class Sum(NamedTuple):
    """What was used of a line."""

    amount: Fraction = Fraction(0)
    cost: Fraction = Fraction(0)
    attempts: int = 0


class MeteredRow(Protocol):
    """A row of the view, as far as it is compared."""

    task_id: UUID
    step: str
    meter: str
    unit: str
    model: str
    currency: str
    prices: str
    amount: str
    cost: str | None
    attempts: int


class MeteredChecker:
    """Checks one shard.

    Args:
        checkpoint: the position up to which the view has folded the shard; None: no view is compared.
    """

    def __init__(self, shard: int, report: Report, *, checkpoint: int | None = None) -> None:
        self._shard = shard
        self._report = report
        self._checkpoint = checkpoint
        self._sums: dict[UUID, dict[Line, Sum]] = {}
        self._pending: dict[UUID, tuple[UsageRecorded, set[Line]]] = {}
        self._newest: dict[UUID, dict[str, int]] = {}
        """Of each step the newest attempt whose usage is told."""

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Check the next event of the shard."""
        stream_id = recorded.stream_id
        if type(event) is UsageRecorded:  # an event of another class is told sooner so
            self._take_usage(recorded, event)
        elif stream_id in self._pending and not isinstance(event, _BETWEEN):
            used, _ = self._pending.pop(stream_id)
            outcome = (event.step, event.attempt) if isinstance(event, _OUTCOMES) else None
            if outcome != (used.step, used.attempt) and not used.late:
                self._find(recorded, f"usage of attempt {used.attempt} of step {used.step} is not before its outcome")
        if recorded.type in ENDING_TYPES:
            self._newest.pop(stream_id, None)
            if self._checkpoint is None:
                self._sums.pop(stream_id, None)

    def close(self) -> None:
        """Take note that the shard ends here: no usage may be left without its outcome."""
        for stream_id, (used, _) in self._pending.items():
            if used.late:
                continue
            detail = f"usage of attempt {used.attempt} of step {used.step} has no outcome"
            self._report(Finding(invariant=Invariant.METERED, shard=self._shard, task_id=str(stream_id), detail=detail))
        self._pending.clear()

    def compare(self, stream_ids: Iterable[UUID], rows: Iterable[MeteredRow]) -> None:
        """Compare the rows that the view has of some streams with the recount, and forget those streams."""
        found: dict[UUID, dict[Line, Sum]] = {}
        for row in rows:
            line = Line(row.step, row.meter, row.unit, row.model, row.currency, row.prices)
            sums = found.setdefault(row.task_id, {})
            before = sums.get(line, Sum())
            sums[line] = Sum(
                before.amount + _number(row.amount),
                before.cost + _number(row.cost or "0"),
                before.attempts + row.attempts,
            )
        for stream_id in stream_ids:
            self._compare(stream_id, self._sums.pop(stream_id, {}), found.get(stream_id, {}))

    def _take_usage(self, recorded: RecordedEvent, used: UsageRecorded) -> None:
        line = Line(used.step, used.meter, used.unit, used.model, used.currency, used.prices or "")
        stream_id = recorded.stream_id
        first, lines = self._pending.get(stream_id, (None, set()))
        if first is None or (first.late and (first.step, first.attempt) != (used.step, used.attempt)):
            first, lines = self._pending[stream_id] = (used, set())
            newest = self._newest.setdefault(stream_id, {})
            if used.attempt <= newest.get(used.step, 0):
                self._find(recorded, f"usage of attempt {used.attempt} of step {used.step} is told again")
            newest[used.step] = used.attempt
        elif (first.step, first.attempt, first.late) != (used.step, used.attempt, used.late):
            self._find(recorded, f"usage of {used.step} stands among that of {first.step}")
        if line in lines:
            self._find(recorded, f"{used.meter} of attempt {used.attempt} of step {used.step} is told twice")
        lines.add(line)
        amount, cost = _number(used.amount), _number(used.cost or "0")
        if amount < 0 or cost < 0:
            self._find(recorded, f"{used.amount!r} {used.meter} that cost {used.cost!r} are no amounts")
        if used.price is not None and cost != amount * _number(used.price):
            self._find(recorded, f"{used.amount} {used.meter} at {used.price} do not cost {used.cost}")
        if (used.price is None) != (used.prices is None):
            self._find(recorded, f"{used.meter} has a price without the version of its table, or the other way round")
        if self._checkpoint is None or recorded.position <= self._checkpoint:
            sums = self._sums.setdefault(recorded.stream_id, {})
            before = sums.get(line, Sum())
            sums[line] = Sum(before.amount + amount, before.cost + cost, before.attempts + 1)

    def _compare(self, stream_id: UUID, counted: Mapping[Line, Sum], found: Mapping[Line, Sum]) -> None:
        for line in counted.keys() | found.keys():
            wanted, shown = counted.get(line, Sum()), found.get(line, Sum())
            if wanted != shown:
                detail = f"{line.meter} of step {line.step}: the log has {_told(wanted)}, the view {_told(shown)}"
                self._report(
                    Finding(invariant=Invariant.METERED, shard=self._shard, task_id=str(stream_id), detail=detail)
                )

    def _find(self, recorded: RecordedEvent, detail: str) -> None:
        self._report(
            Finding(
                invariant=Invariant.METERED,
                shard=self._shard,
                position=recorded.position,
                task_id=str(recorded.stream_id),
                detail=detail,
            )
        )


def _number(text: str) -> Fraction:
    """Return an amount; -1, which no amount is, where the text spells none."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return _NO_NUMBER


def _told(one: Sum) -> str:
    return f"{float(one.amount):g} at {float(one.cost):g} in {one.attempts} attempts"
