"""The I/O side of a worker: takes work from its queues, has it run, and reports to the owners.

An attempt's way:

    delivered, by the work stream (`stream_intake`) or by a node itself (`direct_intake`)
               |
               +- first delivery, first offer, young ------> run; `started` beside it --+-> ended -> `completed` or
               |                                                                        |            `failed`
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
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec
import structlog

from tasker.bus.bus import Bus, Message, Subscription
from tasker.bus.pull import PullLoop
from tasker.clock import Clock, SystemClock
from tasker.errors import Unavailable, Undecodable
from tasker.events.codec import decode_message
from tasker.events.messages import DEFAULT_TENANT, CancelAttempt, ReportKind, ReportReply, Work
from tasker.events.subjects import Subjects
from tasker.events.task_events import ErrorInfo
from tasker.handlers.attempt import NEVER, Attempt, Key, Stop
from tasker.handlers.attempt_reports import AttemptReports, why_not
from tasker.handlers.context import StepContext
from tasker.handlers.direct_intake import DirectIntake
from tasker.handlers.limits import Limits
from tasker.handlers.outcome import RESULT_INVALID, cancelled_info, cut_message, timeout_info, worker_lost_info
from tasker.handlers.reports import Reporter
from tasker.handlers.runner import Invocable, Life, Runner
from tasker.handlers.served_queues import ServedQueues
from tasker.handlers.server_clock import ServerClock
from tasker.handlers.slots import Slots
from tasker.handlers.starts import Starts
from tasker.handlers.stopping import Stopping
from tasker.handlers.stream_intake import StreamIntake
from tasker.handlers.tick import Tick
from tasker.handlers.vitals import Vitals, WorkerCounts
from tasker.handlers.watch import BEATS_PER_TIMEOUT, Watch
from tasker.handlers.worker_port import WorkerDesk, WorkerPort
from tasker.settings import DirectSettings, StreamSettings, WorkerSettings
from tasker.tracing import tracing_of_process

SLOTS_DEFAULT: Final = WorkerSettings().slots
DRAIN_S_DEFAULT: Final = WorkerSettings().drain_s
LOST_DRAIN_S: Final = 5.0
SETTLE_S: Final = 5.0
UNANSWERED_MAX: Final = 5_000
"""Outcomes on their way above which nothing more is claimed: each holds its result in memory."""

_log = structlog.get_logger(__name__)


class Handlers(Protocol):
    """What a worker can run (`registry.Registry` is one)."""

    def queues(self) -> Iterable[tuple[str, str]]:
        """Return namespace and queue of all work that these handlers take."""
        ...

    def lookup(self, namespace: str, queue: str, handler: str) -> Invocable | None:
        """Return the handler that work of the queue names; None: there is none here."""
        ...


class Worker:
    """Runs handlers for the work of their queues, until it is drained or stopped.

    Args:
        bus: connected; the worker does not close it.
        handlers: what it can run.
        slots: how many attempts at a time, all queues together.
        worker_id: a token; drawn when absent. A new one for each start of a process.
        drain_s: how long `drain` lets running attempts go on.
        streams: settings with which a missing stream or consumer is made.
        direct: settings of what nodes send themselves.
        clock: what every time of an attempt is measured by.
        limits: of single handlers.
        life: opened and closed with the handlers' loop.
        runner: makes what runs the handlers. pull: makes what takes work from a queue.
    """

    def __init__(
        self,
        bus: Bus,
        handlers: Handlers,
        *,
        subjects: Subjects | None = None,
        tenant: str = DEFAULT_TENANT,
        slots: int = SLOTS_DEFAULT,
        worker_id: str | None = None,
        drain_s: float = DRAIN_S_DEFAULT,
        streams: StreamSettings | None = None,
        direct: DirectSettings | None = None,
        clock: Clock | None = None,
        limits: Limits[Attempt] | None = None,
        life: Life | None = None,
        runner: Callable[..., Runner] = Runner,
        pull: Callable[..., PullLoop] = PullLoop,
    ) -> None:
        self.id = worker_id or new_worker_id()
        self.counts = WorkerCounts()
        self._bus = bus
        self._subjects = subjects or Subjects()
        self._tenant = tenant
        self._drain_s = drain_s
        self._attempts: dict[Key, Attempt] = {}
        self._unanswered = 0
        self._keepers: list[asyncio.Task[None]] = []
        self._cancels: Subscription | None = None
        self._unhook: Callable[[], object] | None = None
        self._changed = asyncio.Event()
        self._ready = asyncio.Event()
        self._tracing = tracing_of_process()
        self._started = False
        self._draining = False
        self._stopped = False

        self._time = clock or SystemClock()
        self._clock = ServerClock(bus, self._subjects.work_stream, self._time)
        self._slots = Slots(slots)
        self._limits: Limits[Attempt] = limits or Limits()
        self._runner = runner(self._on_ended, life=life)
        self._tick = Tick(self._time, self._on_due)
        self._queues = ServedQueues(
            bus,
            self._subjects,
            tenant,
            streams or StreamSettings(),
            handlers.queues(),
            self._slots,
            self._clock,
            pull,
        )
        self._reporter = Reporter(bus)
        self._direct = DirectIntake(
            bus,
            self._subjects,
            tenant,
            self.id,
            handlers.lookup,
            self._attempts,
            self._queues,
            self._slots,
            self._limits,
            direct or DirectSettings(),
            self._time,
            self.counts,
            take_up=self._take_up,
            give_back=self._return_work,
        )
        self._reports = AttemptReports(self._reporter, self._subjects, tenant, self.id, self._direct.headers)
        self._stream = StreamIntake(
            handlers.lookup,
            self._attempts,
            self._slots,
            self._limits,
            self._tick,
            self._time,
            self._clock,
            self.counts,
            take_up=self._take_up,
            on_backlog=self._direct.tell,
        )
        self._stopping = Stopping(
            self.id,
            self._attempts,
            self._slots,
            self._runner,
            self._tick,
            self._time,
            report=self._report_outcome,
            drop=self._drop,
            end_unrun=self._end_unrun,
            on_lost=self._on_lost,
        )
        self._watch = Watch(
            self._attempts,
            self._stopping,
            self._runner,
            self._reports,
            self._tick,
            self._time,
            self._on_beat_answer,
        )
        self._starts = Starts(self._time, self._report_started)
        self._desk = WorkerDesk(self._reports, self._watch, self._clock)

    # -------------------------------------------------------- life

    async def start(self) -> None:
        """Begin to serve the queues; returns before NATS has answered: see `ready`."""
        self._started = True
        self._runner.start()
        cancels = self._subjects.worker_cancel(self._tenant, self.id)
        self._cancels = self._bus.subscribe(cancels, self._on_cancel_message)
        self._unhook = self._bus.on_reconnect(self._on_reconnect)
        self._keepers.append(asyncio.create_task(self._serve(), name="tasker-worker-serve"))

    async def ready(self) -> None:
        """Return when the worker pulls from all its queues."""
        await self._ready.wait()

    async def lost(self) -> None:
        """Return when the handlers' loop or half of the slots are lost: then only a new process helps."""
        await self._stopping.lost.wait()

    @property
    def lost_why(self) -> str | None:
        """Why only a new process helps; None: this one is well."""
        return self._stopping.lost_why

    @property
    def running(self) -> int:
        """How many attempts hold a slot."""
        return self._slots.busy

    def vitals(self) -> Vitals:
        """Return how the worker is; the handlers' loop is asked for a sign of life."""
        self._runner.ping()
        return Vitals(
            worker=self.id,
            connected=self._bus.connected,
            claiming=not self._slots.closed,
            slots=self._slots.total,
            busy=self._slots.busy,
            waiting=self._limits.waiting,
            unanswered=self._unanswered,
            stuck=len(self._stopping.stuck),
            handlers_silent_s=round(self._runner.silent_s, 3),
            lost_why=self.lost_why,
        )

    @property
    def heartbeat_s_max(self) -> float:
        """The longest heartbeat timeout of what runs now; 0: nothing runs."""
        return max((attempt.work.heartbeat_s for attempt in self._attempts.values()), default=0.0)

    async def drain(self, timeout_s: float | None = None) -> None:
        """Take nothing more, let what runs end (at most `timeout_s`), report it, and stop. Twice is fine."""
        if not self._stopped:
            limit_s = self._drain_s if timeout_s is None else timeout_s
            ends_s = self._time.monotonic_s() + limit_s
            await self._stop_claiming()
            # A claim that is answered `run` belongs to us already: it runs.
            await self._wait_for(lambda: not self._claims(), min(limit_s, SETTLE_S))
            self._give_back_claims()
            await self._wait_for(lambda: not self._going_on(), max(0.0, ends_s - self._time.monotonic_s()))
        await self.stop()

    async def retire(self) -> None:
        """After `lost`: let end what still can, report everything else as `worker_lost`, and stop."""
        await self.drain(LOST_DRAIN_S)

    async def stop(self, *, settle_s: float = SETTLE_S) -> None:
        """End at once: what still runs is cancelled and reported as `worker_lost`. Twice is fine."""
        if self._stopped:
            return
        self._stopped = True
        if not self._started:
            await self._runner.stop()
            return
        await self._stop_claiming()
        self._give_back_claims()
        why = self.lost_why or f"the worker {self.id} was stopped before the handler ended"
        for attempt in self._going_on():
            self._report_outcome(attempt, worker_lost_info(why))
            self._stopping.interrupt(attempt, Stop.LOST)
        await self._wait_for(lambda: not self._attempts, settle_s)
        self._reporter.stop()
        self._direct.stop()
        if self._cancels is not None:
            self._cancels.unsubscribe()
        if self._unhook is not None:
            self._unhook()
        self._tick.stop()
        self._starts.stop()
        if self._bus.connected:
            try:
                await self._bus.flush(timeout_s=SETTLE_S)
            except Unavailable as error:
                _log.debug("last_acks_not_confirmed", error=str(error))
        await self._runner.stop()

    async def _serve(self) -> None:
        await self._queues.open(self._stream.on_work, self._stream.credit)
        self._direct.start()
        self._keepers.append(asyncio.create_task(self._direct.keep(), name="tasker-worker-slots"))
        self._ready.set()
        _log.info("worker_ready", worker=self.id, queues=[f"{queue.namespace}/{queue.name}" for queue in self._queues])
        await self._clock.keep()

    async def _stop_claiming(self) -> None:
        if self._draining:
            return
        self._draining = True
        self._slots.closed = True
        self._stream.closed = True
        for attempt in self._limits.give_up():
            self._reports.give_back(attempt, 0.0)
            self._forget(attempt)
        for keeper in self._keepers:
            keeper.cancel()
        self._direct.close()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self._queues.close()

    def _claims(self) -> list[Attempt]:
        return [attempt for attempt in self._attempts.values() if attempt.claim is not None]

    def _going_on(self) -> list[Attempt]:
        return [attempt for attempt in self._attempts.values() if attempt.goes_on]

    def _give_back_claims(self) -> None:
        """Let another worker ask for what the owner has not answered yet."""
        for attempt in self._claims():
            if attempt.claim is not None:
                attempt.claim.void = True
            self._reports.give_back(attempt, 0.0)
            self._release(attempt)
            self._forget(attempt)

    async def _wait_for(self, condition: Callable[[], bool], limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            _log.warning("worker_not_done", attempts=len(self._attempts), waited_s=limit_s)

    def _on_reconnect(self) -> None:
        self._reporter.hurry()
        self._direct.tell()

    def _on_due(self, now_s: float) -> float:
        return self._watch.look(now_s)

    def _on_lost(self) -> None:
        self._direct.closed = True

    def _return_work(self, work: Work) -> None:
        self._reports.return_work(work)

    # -------------------------------------------------------- an attempt begins

    def _take_up(self, attempt: Attempt, *, may_run: bool) -> None:
        """Hold a slot for an attempt, and run it or ask its owner first."""
        self._attempts[attempt.key] = attempt
        attempt.queue.slots.take()
        attempt.holds_slot = True
        if may_run:
            self._begin(attempt)
        else:
            self.counts.claimed += 1
            attempt.claim = self._reports.send(attempt, "claim", lambda reply: self._on_claim_answer(attempt, reply))
            self._tick.arm(attempt.touch_s)

    def _begin(self, attempt: Attempt) -> None:
        attempt.running = True
        self.counts.run += 1
        work = attempt.work
        now_s = self._time.monotonic_s()
        attempt.deadline_s = now_s + work.start_to_close_s
        attempt.beat_s = now_s + work.heartbeat_s / BEATS_PER_TIMEOUT
        traceparent = work.traceparent
        if self._tracing is not None:
            traceparent = attempt.begin_span(self._tracing, self.id)
        ends_in_s = min(work.start_to_close_s, NEVER if work.deadline_in_s is None else work.deadline_in_s)
        attempt.context = StepContext(
            task_id=work.task_id,
            step=work.step,
            attempt=work.attempt,
            tenant=self._tenant,
            namespace=work.namespace,
            template=work.template,
            idempotency_key=work.idempotency_key,
            worker=self.id,
            deadline_s=now_s + ends_in_s,
            port=WorkerPort(self._desk, attempt),
            correlation_id=work.correlation_id,
            traceparent=traceparent,
            clock=self._time,
        )
        if work.results_ref:
            self._fetch_results(attempt)
        else:
            self._submit(attempt)
        if not attempt.recorded:
            self._starts.report_soon(attempt, now_s)
        self._tick.arm(attempt.due_s())

    def _fetch_results(self, attempt: Attempt) -> None:
        """Ask the owner for the results that did not fit into the message, then run."""
        wanted = attempt.work.results_ref
        results: dict[str, msgspec.Raw] = {}

        def on_answer(step: str, reply: ReportReply) -> None:
            if attempt.reported or attempt.ended:
                return
            if not reply.ok or (reply.reason is not None and not reply.recorded):
                why = f"the owner did not give the result of {step}: {why_not(reply)}"
                attempt.error = worker_lost_info(why)
                self._end_unrun(attempt)
                return
            results[step] = msgspec.Raw(bytes(reply.result))
            if len(results) == len(wanted):
                attempt.results = {**attempt.work.results, **results}
                self._submit(attempt)

        for step in wanted:
            self._reports.send(attempt, "result", lambda reply, step=step: on_answer(step, reply), of=step)  # type: ignore[misc]

    def _submit(self, attempt: Attempt) -> None:
        attempt.submitted = True
        self._runner.submit(attempt)

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
                self._begin(attempt)
            return
        if not reply.ok:
            _log.error("claim_refused", **attempt.ids, error=why_not(reply))
        self.counts.gone += 1
        self._release(attempt)
        self._forget(attempt)

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
            self.counts.gone += 1
            _log.info("attempt_dropped", **attempt.ids, reason=reply.reason)
            self._stopping.stop(attempt, Stop.DROPPED, 0.0 if reply.grace_s is None else reply.grace_s)
            return
        attempt.recorded = True
        if reply.cancel:
            self._stopping.stop(attempt, Stop.CANCELLED, reply.grace_s or 0.0)

    def _on_cancel_message(self, message: Message) -> None:
        try:
            cancel = decode_message(message.data, CancelAttempt)
        except Undecodable as error:
            _log.error("cancel_undecodable", error=str(error))
            return
        attempt = self._attempts.get((cancel.task_id, cancel.step, cancel.attempt))
        if attempt is not None and attempt.goes_on:
            self._stopping.stop(attempt, Stop.CANCELLED, cancel.grace_s)

    # -------------------------------------------------------- an attempt ends

    def _on_ended(self, attempt: Attempt) -> None:
        """Nothing of the attempt runs any more."""
        self._release(attempt)
        self._stopping.stuck.discard(attempt)
        if attempt.reported:
            return
        if attempt.stop is Stop.DROPPED:
            self._drop(attempt)
            return
        self._report_outcome(attempt, _error_of(attempt))

    def _end_unrun(self, attempt: Attempt) -> None:
        """End an attempt that never came to its handler."""
        attempt.ended = True
        attempt.interrupted = attempt.error is None
        self._on_ended(attempt)

    def _report_outcome(self, attempt: Attempt, error: ErrorInfo | None) -> None:
        attempt.reported = True
        attempt.deadline_s = attempt.beat_s = attempt.kill_s = NEVER
        if attempt.started is not None:
            attempt.started.void = True
            attempt.started = None
        if error is None:
            self.counts.completed += 1
        else:
            self.counts.failed += 1
        self._unanswered += 1
        if self._unanswered >= UNANSWERED_MAX:
            self._choke()
        self._send_outcome(attempt, error)
        if attempt.span is not None:
            attempt.end_span(None if error is None else error.type)

    def _send_outcome(self, attempt: Attempt, error: ErrorInfo | None) -> None:
        kind: ReportKind = "completed" if error is None else "failed"
        result = attempt.result if error is None else None
        self._reports.send(
            attempt, kind, lambda reply: self._on_outcome_answer(attempt, reply), result=result, error=error
        )

    def _on_outcome_answer(self, attempt: Attempt, reply: ReportReply) -> None:
        if not reply.ok and attempt.result is not None:
            _log.error("outcome_refused", **attempt.ids, error=why_not(reply))
            attempt.result = None
            error = ErrorInfo(type=RESULT_INVALID, message=cut_message(why_not(reply)), retryable=False)
            self._send_outcome(attempt, error)
            return
        if not reply.ok or not reply.recorded:
            self.counts.refused += 1
            _log.info("outcome_not_recorded", **attempt.ids, error=why_not(reply))
        if not attempt.acked:
            attempt.ack()
        self._unanswered -= 1
        if self._slots.closed:
            self._choke()
        self._forget(attempt)

    def _drop(self, attempt: Attempt) -> None:
        """Forget an attempt whose outcome nobody wants."""
        attempt.end_span("dropped")
        attempt.reported = True
        attempt.deadline_s = attempt.beat_s = attempt.kill_s = NEVER
        self._forget(attempt)

    def _release(self, attempt: Attempt) -> None:
        """Give its slot to others."""
        if attempt.holds_slot:
            attempt.holds_slot = False
            self._direct.on_released(attempt.node, self._time.monotonic_s() - attempt.since_s)
            attempt.queue.slots.release()
            self._limits.leave(attempt.handler)
            if self._limits.waiting:
                self._stream.admit()
            if self._direct.held:
                self._direct.take_held()
            self._queues.wake()
            self._changed.set()

    def _choke(self) -> None:
        """Claim nothing while too many outcomes wait for their answer."""
        closed = self._draining or self._stopping.lost.is_set() or self._unanswered >= UNANSWERED_MAX
        if closed != self._slots.closed:
            self._slots.closed = closed
            self._direct.tell()
            self._queues.wake()

    def _forget(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt.key, None)
        self._changed.set()


def new_worker_id() -> str:
    """Return `<host>-<pid>-<random>`, one NATS token."""
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:40] or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def _error_of(attempt: Attempt) -> ErrorInfo | None:
    """Return how the attempt failed; None when it has a result."""
    if attempt.stop is Stop.TIMEOUT:
        attempt.result = None
        return timeout_info(attempt.work.start_to_close_s, stack=attempt.stack)
    if attempt.interrupted:
        return cancelled_info()
    return attempt.error
