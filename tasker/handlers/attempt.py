"""One attempt that a worker holds: what it is made of, and where it stands."""

from __future__ import annotations

import enum
import threading
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from tasker.bus.pull import Delivery
from tasker.events.messages import EmittedEvent, Progress, UsageLine, Work
from tasker.events.usage import TOKENS_IN, TOKENS_OUT, added, amount_text
from tasker.failpoints import failpoint
from tasker.handlers.direct import Source
from tasker.handlers.live import LiveFeed
from tasker.handlers.metering import SharedMetering
from tasker.handlers.reports import Outgoing
from tasker.handlers.runner import Invocable, Job
from tasker.handlers.served_queues import ServedQueue
from tasker.tracing import SpanKind, Tracing

NEVER: Final = float("inf")

YOUNG_US: Final = 2_000_000
"""A first delivery older than this asks before it runs: it may have been offered again meanwhile. The owner counts on
it, so it is the protocol's and no setting."""

IN_PROGRESS_S: Final = 10.0
"""How often a message without an answer from the owner is kept from being delivered again."""

TOKEN_ATTRIBUTES: Final = {TOKENS_IN: "gen_ai.usage.input_tokens", TOKENS_OUT: "gen_ai.usage.output_tokens"}

Key = tuple[str, str, int]
"""Task, step, number of the attempt."""


class Stop(enum.StrEnum):
    """Why an attempt was asked to stop."""

    TIMEOUT = enum.auto()
    CANCELLED = enum.auto()
    DROPPED = enum.auto()  # its outcome is of no interest
    LOST = enum.auto()  # the worker goes


_beginning = threading.Lock()


class Attempt(Job):
    """One attempt that this worker holds.

    Attributes:
        delivery, source: the work message, or where a node counts what it sent itself.
        recorded: the owner knows that it runs here.
        acked: the owner has answered, so the work message is done with, if there is one: from a node comes none, but a
            copy of it may come from the stream.
        started, claim, beat: the report on its way, or the last one.
        submitted: it is with the runner, so it ends there.
        emitted, metering: the domain events and the usage (None: none) that go with its outcome.
        live: what it says while it runs; None: nothing so far.
        written: what it wrote to the state.
        is_over: its owner has said that it has ended, so its outcome changes nothing; what it used counts.
        reported: its outcome is on its way or answered. holds_slot: something of it may still run.
        since_s: when it came, or, where its owner was asked, when it began.
        deadline_s, beat_s, kill_s, touch_s: when it is over; when a heartbeat is due; when it is reported, ended or
            not; when its message is kept from being delivered again.
    """

    __slots__ = (
        "acked",
        "beat",
        "beat_s",
        "claim",
        "deadline_s",
        "delivery",
        "emitted",
        "holds_slot",
        "is_over",
        "key",
        "kill_s",
        "live",
        "metering",
        "progress",
        "progress_told",
        "queue",
        "recorded",
        "reported",
        "running",
        "since_s",
        "source",
        "started",
        "stop",
        "submitted",
        "touch_s",
        "work",
        "written",
    )

    def __init__(  # noqa: PLR0917 - what an attempt is made of
        self,
        work: Work,
        delivery: Delivery | None,
        source: Source | None,
        queue: ServedQueue,
        handler: Invocable,
        key: Key,
        now_s: float,
    ) -> None:
        super().__init__(handler, None, bytes(work.input), work.results, is_async=queue.is_async(handler))
        self.work = work
        self.delivery = delivery
        self.source = source
        self.queue = queue
        self.key = key
        self.recorded = False
        self.acked = False
        self.running = False
        self.reported = False
        self.holds_slot = True
        self.submitted = False
        self.beat: Outgoing | None = None
        self.progress: Progress | None = None
        self.progress_told = True
        self.emitted: list[EmittedEvent] = []
        self.metering: SharedMetering | None = None
        self.live: LiveFeed | None = None
        self.written: dict[str, msgspec.Raw] = {}
        self.stop: Stop | None = None
        self.is_over = False
        self.started: Outgoing | None = None
        self.claim: Outgoing | None = None
        self.deadline_s = self.beat_s = self.kill_s = NEVER
        self.since_s = now_s
        self.touch_s = self.since_s + IN_PROGRESS_S

    @property
    def goes_on(self) -> bool:
        """Whether it runs, and its outcome is still to come."""
        return self.running and not self.reported

    @property
    def ids(self) -> Mapping[str, str | int]:
        """What names it in a line of the log."""
        return {"task_id": self.work.task_id, "step": self.work.step, "attempt": self.work.attempt}

    def begin_metering(self) -> SharedMetering:
        """Return where its usage is added up, from whichever thread: made for the first that asks."""
        with _beginning:
            if self.metering is None:
                self.metering = SharedMetering()
            return self.metering

    def begin_live(self) -> LiveFeed:
        """Return what waits to be told of it, from whichever thread: made for the first that asks."""
        with _beginning:
            if self.live is None:
                self.live = LiveFeed()
            return self.live

    def due_s(self) -> float:
        """Return when something of it is due."""
        touch_s = NEVER if self.acked or self.delivery is None else self.touch_s
        return min(self.deadline_s, self.beat_s, self.kill_s, touch_s)

    def ack(self) -> None:
        """Be done with the work message, if there is one."""
        if self.acked:
            return
        self.acked = True
        if self.delivery is not None:
            failpoint("before_ack")
            self.queue.open_pull.ack(self.delivery)
            failpoint("after_ack")

    def nak(self, delay_s: float) -> None:
        """Give the work message back to the queue, if there is one that is ours."""
        if not self.acked and self.delivery is not None:
            self.acked = True
            self.queue.open_pull.nak(self.delivery, delay_s=delay_s)

    def keep(self) -> None:
        """Keep the work message from being delivered again."""
        if not self.acked and self.delivery is not None:
            self.queue.open_pull.in_progress(self.delivery)

    def begin_span(self, tracing: Tracing, worker: str) -> str:
        """Begin its span; returns what names it."""
        work = self.work
        self.tracing = tracing
        self.span = tracing.start(
            f"tasker.handler {work.handler}",
            SpanKind.CONSUMER,
            parent=work.traceparent,
            attributes={"task_id": work.task_id, "step": work.step, "attempt": work.attempt, "worker": worker},
        )
        return tracing.traceparent(self.span)

    def end_span(self, failed: str | None) -> None:
        """End its span, if there is one; `failed` is a type of error."""
        if self.span is not None and self.tracing is not None:
            if self.metering is not None:
                self.span.set_attributes(usage_attributes(self.metering.lines()))
            if failed is not None:
                self.tracing.fail(self.span, failed)
            self.span.end()
            self.span = None


def usage_attributes(lines: Sequence[UsageLine]) -> dict[str, str | int]:
    """Return what a span tells of usage: tokens by the names of OpenTelemetry's conventions, told costs by currency."""
    sums: dict[str, Decimal] = {}
    models: dict[str, None] = {}
    for line in lines:
        if line.model:
            models[line.model] = None
        if line.meter in TOKEN_ATTRIBUTES:
            name = TOKEN_ATTRIBUTES[line.meter]
            sums[name] = added(sums.get(name, Decimal(0)), Decimal(line.amount))
        if line.cost is not None:
            name = f"tasker.usage.cost.{line.currency.lower()}"
            sums[name] = added(sums.get(name, Decimal(0)), Decimal(line.cost))
    told: dict[str, str | int] = {
        name: int(amount) if name in TOKEN_ATTRIBUTES.values() else amount_text(amount) for name, amount in sums.items()
    }
    if models:
        told["gen_ai.request.model"] = ", ".join(models)
    return told


def may_run(work: Work, age_us: int | None) -> bool:
    """Return whether first delivered work may run without its owner's word: a first offer that is young.

    Args:
        work: what was offered.
        age_us: how old the offer is; None: it cannot be told.
    """
    return work.offer == 0 and age_us is not None and age_us <= YOUNG_US
