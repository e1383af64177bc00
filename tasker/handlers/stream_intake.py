"""What a worker makes of work that the work stream delivers: an attempt, a copy of one, or nothing.

Work whose handler is at its limit waits in hand, without a slot, as far as there is room for that; what comes beyond
goes back to the queue for a while. While handlers are quick, a backlog is asked for ahead of its slots (`ahead`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import structlog

from tasker.bus.pull import Delivery
from tasker.clock import Clock
from tasker.events.messages import Work
from tasker.handlers.ahead import Ahead
from tasker.handlers.attempt import IN_PROGRESS_S, YOUNG_US, Attempt, Key, may_run
from tasker.handlers.limits import Limits, return_s
from tasker.handlers.runner import Invocable
from tasker.handlers.served_queues import ServedQueue
from tasker.handlers.server_clock import ServerClock
from tasker.handlers.slots import Slots
from tasker.handlers.tick import Tick
from tasker.handlers.vitals import WorkerCounts

NAK_DELAY_S: Final = 1.0
"""For how long work without a handler here goes back: another worker may have one, or have a newer app soon."""

_log = structlog.get_logger(__name__)
_decode_work = msgspec.json.Decoder(Work).decode


class TakeUp(Protocol):
    """Holds a slot for an attempt."""

    def __call__(self, attempt: Attempt, *, may_run: bool) -> None:
        """Run it, or (where it may not run) ask its owner first."""
        ...


class StreamIntake:
    """Takes deliveries of a worker's queues.

    Attributes:
        closed: it keeps nothing in hand any more.

    Args:
        lookup: returns the handler of a namespace, a queue and a name; None: there is none.
        attempts: all that the worker holds.
        ahead: takes what is in hand before there is a slot.
        take_up: what becomes of an attempt.
        on_backlog: called when a queue begins or ceases to have a backlog in the stream.
    """

    def __init__(  # noqa: PLR0917 - what it steers
        self,
        lookup: Callable[[str, str, str], Invocable | None],
        attempts: dict[Key, Attempt],
        slots: Slots,
        limits: Limits[Attempt],
        tick: Tick,
        clock: Clock,
        server_clock: ServerClock,
        counts: WorkerCounts,
        ahead: Ahead,
        *,
        take_up: TakeUp,
        on_backlog: Callable[[], None],
    ) -> None:
        self.closed = False
        self._lookup = lookup
        self._attempts = attempts
        self._slots = slots
        self._limits = limits
        self._tick = tick
        self._clock = clock
        self._server_clock = server_clock
        self._counts = counts
        self._ahead = ahead
        self._take_up = take_up
        self._on_backlog = on_backlog

    def credit(self, queue: ServedQueue) -> int:
        """Return how many messages the queue may ask for: never more than its handlers have places."""
        room = self._limits.room((queue.namespace, queue.name))
        credit = queue.slots.credit()
        if room is not None:
            return min(credit, room)
        return credit + self._ahead.room(queue) if queue.slots.backlog and not self._slots.closed else credit

    def on_work(self, queue: ServedQueue, delivery: Delivery) -> None:
        """Take a delivery."""
        self._counts.delivered += 1
        if queue.slots.backlog != (delivery.pending > 0):
            queue.slots.backlog = not queue.slots.backlog
            self._on_backlog()
        try:
            work = _decode_work(delivery.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._counts.undecodable += 1
            _log.error("work_undecodable", subject=delivery.subject, error=str(error))
            queue.open_pull.term(delivery)
            return
        key = (work.task_id, work.step, work.attempt)
        known = self._attempts.get(key)
        if known is not None:
            self._take_copy(known, delivery)
            return
        now_s = self._clock.monotonic_s()
        handler = self._lookup(work.namespace, queue.name, work.handler)
        if handler is None:
            self._counts.unknown_handler += 1
            queue.open_pull.nak(delivery, delay_s=NAK_DELAY_S)
            queue.warn_of_unknown(work, now_s)
            return
        attempt = Attempt(work, delivery, None, queue, handler, key, now_s)
        may_run = self._may_run(delivery, work)
        if self._limits.holds(handler):
            if self._slots.busy < self._slots.total and self._limits.enter(handler):
                self._take_up(attempt, may_run=may_run)
            else:
                self._put_off(attempt, delivery)
        elif may_run:
            self._ahead.keep(attempt, now_s + max(0.0, YOUNG_US - (self._age_us(delivery) or 0)) / 1e6)
        elif self._ahead.room(queue):
            self._ahead.ask(attempt)
        else:
            self._take_up(attempt, may_run=False)

    def admit(self) -> None:
        """Take up what waits for a place, where there is one, and a slot."""
        while self._limits.waiting and self._slots.busy < self._slots.total and not self.closed:
            attempt = self._limits.next()
            if attempt is None:
                return
            attempt.since_s = self._clock.monotonic_s()
            delivery = attempt.delivery
            self._take_up(attempt, may_run=delivery is not None and self._may_run(delivery, attempt.work))

    def _may_run(self, delivery: Delivery, work: Work) -> bool:
        return delivery.num_delivered == 1 and may_run(work, self._age_us(delivery))

    def _age_us(self, delivery: Delivery) -> int | None:
        return self._server_clock.age_us(delivery.at_us)

    def _put_off(self, attempt: Attempt, delivery: Delivery) -> None:
        """Keep work whose handler is at its limit in hand, without a slot; or give it back for a while."""
        if not self.closed and self._limits.wait(attempt.handler, attempt):
            attempt.holds_slot = False
            self._attempts[attempt.key] = attempt
            self._tick.arm(attempt.touch_s)
            return
        attempt.queue.open_pull.nak(delivery, delay_s=return_s(delivery.num_delivered))

    def _take_copy(self, known: Attempt, delivery: Delivery) -> None:
        """Take another message of an attempt that we hold: only one of them waits for the owner's answer.

        What a node sent has had none. Were this one acked before it is begun, nobody would miss the work with us: the
        node that sent it may be gone as well.
        """
        stale = known.delivery
        known.delivery = delivery
        if known.acked:
            known.queue.open_pull.ack(delivery)
        elif stale is None:
            known.touch_s = self._clock.monotonic_s() + IN_PROGRESS_S
            self._tick.arm(known.touch_s)
        elif stale.stream_seq != delivery.stream_seq:
            # A further offer is another message: the older one is done with, this one waits for the answer.
            known.queue.open_pull.ack(stale)
