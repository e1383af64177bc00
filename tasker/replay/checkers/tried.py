"""A part of I8: while a circuit is open no new attempt of its handler begins, and what it opened for was recorded.

The circuits stand in one stream, the attempts in those of all tasks. So each shard is checked beside what the circuits
were (`Openings`, read first), and the failures that it has are added to those of the others (`unexplained`).

An attempt that was dispatched before a circuit opened may begin behind it: a worker had it, or a node did not know yet.
One that was dispatched `KNOWN_WITHIN_S` later met a node that knew, and waits until the circuit is tried or closed.
Which attempts are the trial, nodes agree on nowhere; so a circuit that is half open is not held to anything here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple
from uuid import UUID

from tasker.errors import Undecodable
from tasker.events.control_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from tasker.events.envelope import US_PER_S, RecordedEvent
from tasker.events.log import EventLog
from tasker.events.stored import from_recorded
from tasker.events.task_events import (
    ENDING_TYPES,
    StepAttemptFailed,
    StepCancelled,
    StepDispatched,
    StepStarted,
    TaskCreated,
)
from tasker.ids import control_stream_id
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report
from tasker.templates import CompiledTemplate

KNOWN_WITHIN_S: Final = 10.0
"""Each node looks at the controls every second; one that cannot read the log for long appends nothing either."""

CLOCKS_S: Final = 1.0
"""So far two nodes may be apart: both carry the database's time."""

PAGE_EVENTS: Final = 1_000
_KNOWN_WITHIN_US: Final = round(KNOWN_WITHIN_S * US_PER_S)
_CLOCKS_US: Final = round(CLOCKS_S * US_PER_S)

Of = tuple[str, str, str]
"""A handler: tenant, namespace and name."""

TemplateOf = Callable[[str], CompiledTemplate | None]


class Opening(NamedTuple):
    """One time that a circuit opened.

    Attributes:
        since_us: when the event before this one was, of the same circuit; 0: it is the first.
        at_us: when it opened. until_us: when the next event was; None: there is none.
        failures: so many at least were recorded in between; 0: it was opened by hand.
    """

    shard: int
    position: int
    seq: int
    since_us: int
    at_us: int
    until_us: int | None
    failures: int

    def explains(self, at_us: int) -> bool:
        """Return whether a failure of that time may be one that it opened for."""
        return self.since_us - _KNOWN_WITHIN_US <= at_us <= self.at_us + _CLOCKS_US

    def holds(self, at_us: int) -> bool:
        """Return whether every node holds what is new at that time."""
        return at_us > self.at_us + _KNOWN_WITHIN_US and (self.until_us is None or at_us < self.until_us - _CLOCKS_US)


class Openings:
    """Each time that a circuit opened, by handler, in order."""

    def __init__(self) -> None:
        self.by_handler: dict[Of, list[Opening]] = {}
        self._last: dict[Of, int] = {}

    def __bool__(self) -> bool:
        return bool(self.by_handler)

    def take(self, recorded: RecordedEvent) -> None:
        """Take the next event of the stream of controls."""
        try:
            event = from_recorded(recorded)
        except Undecodable:
            return  # the fold of it says so
        if not isinstance(event, CircuitOpened | CircuitHalfOpened | CircuitClosed):
            return
        of = (recorded.tenant, event.namespace, event.name)
        before = self.by_handler.get(of, [])
        if before and before[-1].until_us is None:
            before[-1] = before[-1]._replace(until_us=recorded.at_us)
        if isinstance(event, CircuitOpened):
            failures = event.failures if event.attempts else int(event.error is not None)
            since_us = self._last.get(of, 0)
            opening = Opening(recorded.shard, recorded.position, recorded.seq, since_us, recorded.at_us, None, failures)
            self.by_handler.setdefault(of, before).append(opening)
        self._last[of] = recorded.at_us

    def near(self, of: Of, at_us: int) -> Iterator[Opening]:
        """Yield those that a failure of that time may be for."""
        found = self.by_handler.get(of, [])
        first = bisect_left(found, at_us - _CLOCKS_US, key=lambda one: one.at_us)
        for opening in found[first:]:
            if not opening.explains(at_us):
                return
            yield opening

    def holding(self, of: Of, at_us: int) -> Opening | None:
        """Return the one that holds what is new at that time."""
        found = self.by_handler.get(of, [])
        place = bisect_left(found, at_us, key=lambda one: one.at_us) - 1
        return found[place] if place >= 0 and found[place].holds(at_us) else None


async def read_openings(log: EventLog) -> Openings:
    """Return when circuits opened, as the log says now.

    Raises:
        Unavailable: the log cannot be read.
    """
    openings, after = Openings(), 0
    while page := await log.load_stream(control_stream_id(), after_seq=after, limit=PAGE_EVENTS):
        for recorded in page:
            openings.take(recorded)
        after = page[-1].seq
    return openings


def unexplained(openings: Openings, failures: Iterable[Mapping[int, int]]) -> Iterator[Finding]:
    """Yield a finding for each circuit that opened for failures which are not in the log.

    `failures`: of each shard, all of them: as `TriedChecker.failures`.
    """
    counted: dict[int, int] = {}
    for found in failures:
        for seq, count in found.items():
            counted[seq] = counted.get(seq, 0) + count
    for (_, namespace, name), times in openings.by_handler.items():
        for one in times:
            recorded = counted.get(one.seq, 0)
            if recorded < one.failures:
                yield Finding(
                    invariant=Invariant.ORDER,
                    shard=one.shard,
                    position=one.position,
                    detail=f"the circuit of handler {namespace}/{name} opens for {one.failures} failures, "
                    f"of which {recorded} are recorded",
                )


class _Task(NamedTuple):
    """What is known of a task with a handler whose circuit has opened."""

    tenant: str
    template: CompiledTemplate


class TriedChecker:
    """Checks one shard.

    Attributes:
        failures: seq of an opening -> how many failures here it may have opened for.
        is_blind: the content of a template was not there, so that failures may be missing from these.
    """

    def __init__(self, shard: int, report: Report, template_of: TemplateOf, openings: Openings) -> None:
        self._shard = shard
        self._report = report
        self._template_of = template_of
        self._openings = openings
        self._handlers = {(tenant, namespace) for tenant, namespace, _ in openings.by_handler}
        self._tasks: dict[UUID, _Task] = {}
        self._held: dict[tuple[UUID, str, int], Opening] = {}
        self.failures: dict[int, int] = {}
        self.is_blind = False

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Check the next event of the shard."""
        stream_id = recorded.stream_id
        if type(event) is TaskCreated:
            template = self._template_of(event.template.hash)
            if template is None:
                self.is_blind = True
            elif (recorded.tenant, template.spec.namespace) in self._handlers:
                self._tasks[stream_id] = _Task(recorded.tenant, template)
            return
        task = self._tasks.get(stream_id)
        if task is None:
            return
        match event:
            case StepDispatched(step=step, attempt=attempt):
                opening = self._openings.holding(_handler_of(task, step), recorded.at_us)
                if opening is not None:
                    self._held[stream_id, step, attempt] = opening
            case StepStarted(step=step, attempt=attempt):
                opening = self._held.pop((stream_id, step, attempt), None)
                if opening is not None and opening.holds(recorded.at_us):
                    self._find(recorded, opening, _handler_of(task, step), f"attempt {attempt} of step {step}")
            case StepAttemptFailed(step=step, attempt=attempt, error=error):
                self._held.pop((stream_id, step, attempt), None)
                if error.retryable:
                    for opening in self._openings.near(_handler_of(task, step), recorded.at_us):
                        self.failures[opening.seq] = self.failures.get(opening.seq, 0) + 1
            case StepCancelled(step=step, attempt=attempt):
                self._held.pop((stream_id, step, attempt), None)
            case _ if recorded.type in ENDING_TYPES:
                del self._tasks[stream_id]
            case _:
                pass

    def close(self) -> None:
        """Do nothing: what still waits, waits."""

    def _find(self, recorded: RecordedEvent, opening: Opening, of: Of, what: str) -> None:
        since_s = (recorded.at_us - opening.at_us) / US_PER_S
        self._report(
            Finding(
                invariant=Invariant.ORDER,
                shard=self._shard,
                position=recorded.position,
                task_id=str(recorded.stream_id),
                detail=f"{what} begins {since_s:.1f} s after the circuit of handler {of[1]}/{of[2]} opened, "
                "and nothing of it was tried yet",
            )
        )


def _handler_of(task: _Task, step: str) -> Of:
    try:
        handler = task.template.step(step).handler
    except KeyError:
        handler = ""  # the fold says that there is no such step
    return task.tenant, task.template.spec.namespace, handler
