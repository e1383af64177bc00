"""An attempt's way through a worker, from its slot to the answer on its outcome.

    with a slot, from an intake
               |
               +- first delivery, first offer, young ------> run; `started` beside it --+-> ended -> `completed` or
               |                                                                        |            `failed`
               +- reserved ahead of the slot --------------> the same                   |                 |
               +- redelivered, offered again, or old -> `claim` -- run: true ---------> +                 |
                                                           |                                          answered
                                                           +- gone: forgotten                             |
                                                                                                      forgotten
- The work message is acked when the owner has answered `started`, `claim` or the outcome, not before: until then a
  crash of this process gives it to another worker. From there on the owner's timers are the only lease. Work from a
  node has no such message: until it is begun, the node's own watch is the lease.
- A slot is held until nothing of the attempt runs any more. The outcome may still be on its way then; too many of
  those stop the claiming.
- What is due of an attempt meanwhile is the `watch`'s; how one is stopped, `stopping`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from tasker.bus.bus import Message
from tasker.clock import Clock
from tasker.errors import Undecodable
from tasker.events.codec import decode_message
from tasker.events.messages import CancelAttempt, RefusalReason, ReportKind, ReportReply, Work
from tasker.events.task_events import ErrorInfo
from tasker.handlers.attempt import NEVER, Attempt, Key, Stop
from tasker.handlers.attempt_reports import AttemptReports, why_not
from tasker.handlers.context import StepContext
from tasker.handlers.failure_log import FailureLog
from tasker.handlers.live import LivePublisher
from tasker.handlers.outcome import RESULT_INVALID, cancelled_info, cut_message, timeout_info, worker_lost_info
from tasker.handlers.runner import Runner
from tasker.handlers.server_clock import ServerClock
from tasker.handlers.shared_values import SharedValues
from tasker.handlers.slots import Slots
from tasker.handlers.starts import Starts
from tasker.handlers.stopping import Stopping
from tasker.handlers.tick import Tick
from tasker.handlers.vitals import WorkerCounts
from tasker.handlers.watch import BEATS_PER_TIMEOUT, Watch
from tasker.handlers.worker_port import WorkerDesk, WorkerPort
from tasker.tracing import tracing_of_process

UNANSWERED_MAX: Final = 5_000
"""Outcomes on their way above which nothing more is claimed: each holds its result in memory."""

_OVER: Final[frozenset[RefusalReason]] = frozenset({"stale_attempt", "not_open"})
"""By these an attempt is over, whoever had it. Only then is told what it used: else that were taken for the outcome of
what another worker runs."""

_log = structlog.get_logger(__name__)


class Course:
    """Takes a worker's attempts their way. Make it on the worker's loop.

    Attributes:
        attempts: all that the worker holds.
        unanswered: outcomes that are on their way.
        changed: set with each attempt that ends or is forgotten.
        runner, stopping, tick: what runs them, stops them, and looks at them in time.

    Args:
        tenant_of: returns whose work is.
        runner: makes what runs the handlers, from what is called when one ended.
        on_released: called with an attempt that holds its slot no more, and for how long it did.
        on_choked: called when `unanswered` reaches or leaves the most there may be.
        on_lost: called when only a new process helps.
        live: publishes what attempts say while they run.
    """

    def __init__(  # noqa: PLR0917 - what it steers
        self,
        worker: str,
        tenant_of: Callable[[Work], str],
        reports: AttemptReports,
        slots: Slots,
        counts: WorkerCounts,
        clock: Clock,
        server_clock: ServerClock,
        *,
        runner: Callable[[Callable[[Any], None]], Runner],
        on_released: Callable[[Attempt, float], None],
        on_choked: Callable[[], None],
        on_lost: Callable[[], None],
        live: LivePublisher,
    ) -> None:
        self.attempts: dict[Key, Attempt] = {}
        self.unanswered = 0
        self.changed = asyncio.Event()
        self.runner = runner(self._on_ended)
        self.tick = Tick(clock, self._on_due)
        self.stopping = Stopping(
            worker,
            self.attempts,
            slots,
            self.runner,
            self.tick,
            clock,
            report=self.report_outcome,
            drop=self._drop,
            end_unrun=self._end_unrun,
            on_lost=on_lost,
        )
        self._failure_log = FailureLog(clock)
        self._worker = worker
        self._tenant_of = tenant_of
        self._reports = reports
        self._counts = counts
        self._clock = clock
        self._on_released = on_released
        self._on_choked = on_choked
        self._watch = Watch(self.attempts, self.stopping, self.runner, reports, self.tick, clock, self._on_beat_answer)
        self._starts = Starts(clock, self._report_started)
        self._shared = SharedValues()
        self._live = live
        self._desk = WorkerDesk(reports, self._watch, server_clock, live)
        self._tracing = tracing_of_process()

    @property
    def is_choked(self) -> bool:
        """Whether too many outcomes wait for their answer."""
        return self.unanswered >= UNANSWERED_MAX

    def claims(self) -> list[Attempt]:
        """Return those whose owner is asked whether they may run."""
        return [attempt for attempt in self.attempts.values() if attempt.claim is not None]

    def going_on(self) -> list[Attempt]:
        """Return those that run and whose outcome is still to come."""
        return [attempt for attempt in self.attempts.values() if attempt.goes_on]

    def give_back_claims(self) -> None:
        """Let another worker ask for what the owner has not answered yet."""
        for attempt in self.claims():
            if attempt.claim is not None:
                attempt.claim.void = True
            self._reports.give_back(attempt, 0.0)
            self._release(attempt)
            self.forget(attempt)

    def end_all(self, why: str) -> None:
        """Report all that goes on as `worker_lost`, and ask it to stop."""
        for attempt in self.going_on():
            self.report_outcome(attempt, worker_lost_info(why))
            self.stopping.interrupt(attempt, Stop.LOST)

    def stop(self) -> None:
        """Do nothing more by itself. Twice is fine."""
        self.tick.stop()
        self._starts.stop()

    def _on_due(self, now_s: float) -> float:
        return self._watch.look(now_s)

    # -------------------------------------------------------- an attempt begins

    def take_up(self, attempt: Attempt, *, may_run: bool) -> None:
        """Hold a slot for an attempt, and run it or ask its owner first."""
        self.attempts[attempt.key] = attempt
        attempt.queue.slots.take()
        attempt.holds_slot = True
        if may_run:
            self._begin(attempt)
        else:
            attempt.claim = self._reports.send(attempt, "claim", lambda reply: self._on_claim_answer(attempt, reply))
            self.tick.arm(attempt.touch_s)

    def _begin(self, attempt: Attempt) -> None:
        attempt.running = True
        self._counts.run += 1
        work = attempt.work
        now_s = self._clock.monotonic_s()
        attempt.deadline_s = now_s + work.start_to_close_s
        attempt.beat_s = now_s + work.heartbeat_s / BEATS_PER_TIMEOUT
        traceparent = work.traceparent
        if self._tracing is not None:
            traceparent = attempt.begin_span(self._tracing, self._worker)
        ends_in_s = min(work.start_to_close_s, NEVER if work.deadline_in_s is None else work.deadline_in_s)
        attempt.context = StepContext(
            task_id=work.task_id,
            step=work.step,
            attempt=work.attempt,
            tenant=self._tenant_of(work),
            namespace=work.namespace,
            template=work.template,
            idempotency_key=work.idempotency_key,
            worker=self._worker,
            deadline_s=now_s + ends_in_s,
            port=WorkerPort(self._desk, attempt),
            correlation_id=work.correlation_id,
            traceparent=traceparent,
            clock=self._clock,
            item=work.item,
            index=work.index,
            checkpoint_bytes=work.checkpoint,
            emits=work.emits,
            state_bytes=work.state,
        )
        if work.results_ref or work.input_ref:
            self._fetch(attempt)
        else:
            self._submit(attempt)
        if not attempt.recorded:
            self._starts.report_soon(attempt, now_s)
        self.tick.arm(attempt.due_s())

    def _fetch(self, attempt: Attempt) -> None:
        """Ask the owner for the input and the results that did not come with the message, then run."""
        work = attempt.work
        wanted = [*work.results_ref, *([""] if work.input_ref else [])]
        found: dict[str, bytes] = {}

        def take(of: str, value: bytes) -> None:
            found[of] = value
            if len(found) < len(wanted):
                return
            if work.input_ref:
                attempt.input_bytes = found.pop("")
            if found:
                attempt.results = {**work.results, **{step: msgspec.Raw(data) for step, data in found.items()}}
            self._submit(attempt)

        def on_answer(of: str, reply: ReportReply) -> None:
            if attempt.reported or attempt.ended:
                return
            if not reply.ok or (reply.reason is not None and not reply.recorded):
                what = f"the result of {of}" if of else "the input"
                attempt.error = worker_lost_info(f"the owner did not give {what}: {why_not(reply)}")
                self._end_unrun(attempt)
                return
            value = bytes(reply.result)
            self._shared.put(work, of, value)
            take(of, value)

        for of in wanted:
            known = self._shared.get(work, of) if work.item is not None else None
            if known is not None:
                take(of, known)
                continue
            kind: ReportKind = "result" if of else "input"
            answered = self._shared.ask(work, of, partial(on_answer, of))
            if answered is not None:
                self._reports.send(attempt, kind, answered, of=of or None)

    def _submit(self, attempt: Attempt) -> None:
        attempt.submitted = True
        self.runner.submit(attempt)

    def _report_started(self, attempt: Attempt) -> None:
        attempt.started = self._reports.send(attempt, "started", lambda reply: self._on_started_answer(attempt, reply))

    # -------------------------------------------------------- the owner answers

    def _on_claim_answer(self, attempt: Attempt, reply: ReportReply) -> None:
        attempt.claim = None
        attempt.ack()
        if reply.ok and reply.run:
            attempt.recorded = True
            if reply.cancel:
                attempt.running = True
                self._end_unrun(attempt)
            else:
                attempt.since_s = self._clock.monotonic_s()
                self._begin(attempt)
            return
        if not reply.ok:
            _log.error("claim_refused", **attempt.ids, error=why_not(reply))
        self._counts.gone += 1
        self._release(attempt)
        self.forget(attempt)

    def _on_started_answer(self, attempt: Attempt, reply: ReportReply) -> None:
        attempt.started = None
        if not reply.ok:
            # The outcome will be answered; until then the message stays ours.
            _log.error("started_refused", **attempt.ids, error=why_not(reply))
            return
        attempt.ack()
        self._follow(attempt, reply)

    def _on_beat_answer(self, attempt: Attempt, reply: ReportReply) -> None:
        if reply.ok:
            self._follow(attempt, reply)

    def _follow(self, attempt: Attempt, reply: ReportReply) -> None:
        """Do what the owner's answer on a running attempt asks for."""
        if not attempt.goes_on:
            return
        if not reply.recorded and reply.reason is not None:
            self._counts.gone += 1
            attempt.is_over = reply.reason in _OVER
            _log.info("attempt_dropped", **attempt.ids, reason=reply.reason)
            self.stopping.stop(attempt, Stop.DROPPED, 0.0 if reply.grace_s is None else reply.grace_s)
            return
        attempt.recorded = True
        if reply.cancel:
            self.stopping.stop(attempt, Stop.CANCELLED, reply.grace_s or 0.0)

    def on_cancel_message(self, message: Message) -> None:
        """Stop the attempt that a cancel message names, if it runs here."""
        try:
            cancel = decode_message(message.data, CancelAttempt)
        except Undecodable as error:
            _log.error("cancel_undecodable", error=str(error))
            return
        attempt = self.attempts.get((cancel.task_id, cancel.step, cancel.attempt))
        if attempt is not None and attempt.goes_on:
            self.stopping.stop(attempt, Stop.CANCELLED, cancel.grace_s)

    # -------------------------------------------------------- an attempt ends

    def _on_ended(self, attempt: Attempt) -> None:
        """Nothing of the attempt runs any more."""
        self._release(attempt)
        self.stopping.stuck.discard(attempt)
        if attempt.reported:
            attempt.let_go()
            return
        if attempt.stop is Stop.DROPPED and not (attempt.is_over and attempt.metering is not None):
            self._drop(attempt)
            return
        self.report_outcome(attempt, _error_of(attempt))

    def _end_unrun(self, attempt: Attempt) -> None:
        """End an attempt that never came to its handler."""
        attempt.ended = True
        attempt.interrupted = attempt.error is None
        self._on_ended(attempt)

    def report_outcome(self, attempt: Attempt, error: ErrorInfo | None) -> None:
        """Report how an attempt ended, or has to count as ended; what it does from then on is of no interest."""
        attempt.reported = True
        attempt.deadline_s = attempt.beat_s = attempt.kill_s = NEVER
        if attempt.started is not None:
            attempt.started.void = True
            attempt.started = None
        if error is None:
            self._counts.completed += 1
        else:
            self._counts.failed += 1
            self._failure_log.tell(attempt, error)
        self.unanswered += 1
        if self.unanswered >= UNANSWERED_MAX:
            self._on_choked()
        if attempt.live is not None:
            self._live.end(attempt.work, attempt.live)
        self._send_outcome(attempt, error)
        if attempt.span is not None:
            attempt.end_span(None if error is None else error.type)

    def _send_outcome(self, attempt: Attempt, error: ErrorInfo | None) -> None:
        self._reports.send_outcome(attempt, error, lambda reply: self._on_outcome_answer(attempt, reply))

    def _on_outcome_answer(self, attempt: Attempt, reply: ReportReply) -> None:
        if not reply.ok and attempt.result is not None:
            _log.error("outcome_refused", **attempt.ids, error=why_not(reply))
            attempt.result = None
            error = ErrorInfo(type=RESULT_INVALID, message=cut_message(why_not(reply)), retryable=False)
            self._send_outcome(attempt, error)
            return
        if not reply.ok or not reply.recorded:
            self._counts.refused += 1
            _log.info("outcome_not_recorded", **attempt.ids, error=why_not(reply))
        if not attempt.acked:
            attempt.ack()
        self.unanswered -= 1
        if self.unanswered == UNANSWERED_MAX - 1:
            self._on_choked()
        self.forget(attempt)

    def _drop(self, attempt: Attempt) -> None:
        """Forget an attempt whose outcome nobody wants."""
        attempt.end_span("dropped")
        attempt.reported = True
        attempt.deadline_s = attempt.beat_s = attempt.kill_s = NEVER
        self.forget(attempt)

    def _release(self, attempt: Attempt) -> None:
        """Give its slot to others."""
        if attempt.holds_slot:
            attempt.holds_slot = False
            self._on_released(attempt, self._clock.monotonic_s() - attempt.since_s)
            self.changed.set()

    def forget(self, attempt: Attempt) -> None:
        """Hold it no more."""
        self.attempts.pop(attempt.key, None)
        if attempt.ended:
            attempt.let_go()
        self.changed.set()


def _error_of(attempt: Attempt) -> ErrorInfo | None:
    """Return how the attempt failed; None when it has a result."""
    if attempt.stop is Stop.TIMEOUT:
        attempt.result = None
        return timeout_info(attempt.work.start_to_close_s, stack=attempt.stack)
    if attempt.interrupted:
        return cancelled_info()
    return attempt.error
