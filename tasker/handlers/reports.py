"""What a worker tells the owners, sent in batches until it is answered.

Each subject that reports go to is a lane with a few requests in flight. While they are, further reports wait and leave
together: the batch grows with the load by itself. A lane that gets no answer backs off and goes on for ever; order
within a lane may change by that, and the owner does not depend on it.

A report's home is the lane of its task's shard, which whoever owns the shard hears. Work that a node sent itself is
reported to that node, all its shards in one lane; what that lane cannot deliver goes home.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
import structlog

from tasker.bus.bus import Bus, Message
from tasker.bus.guard import call_guarded
from tasker.errors import BodyTooLarge, TaskerError
from tasker.events.codec import BODY_BYTES_MAX
from tasker.events.messages import ReportReply

_log = structlog.get_logger(__name__)

REQUESTS_IN_FLIGHT: Final = 8
REPORTS_MAX: Final = 64
"""In one request, far below what the owner takes: smaller ones in flight keep worker, owner and log busy at once."""

ANSWER_TIMEOUT_S: Final = 5.0
BACKOFF_S_BASE: Final = 0.05
BACKOFF_S_MAX: Final = 2.0

DETOUR_S: Final = 2.0
"""How long a node's lane that failed is left alone."""

_ENVELOPE_BYTES = 2
_BUSY: Final = (429, 503, 504)
_replies = msgspec.json.Decoder(list[ReportReply] | ReportReply)

OnAnswer = Callable[[ReportReply], None]


class Outgoing:
    """One report on its way.

    Attributes:
        lasting: sent until it is answered; else lost with its request to its home (a heartbeat: the next one comes).
        void: nobody wants it any more; it is not sent (again), and its answer is dropped.
        sent: it left at least once.
        alone: it stood in a body that was refused as a whole, so it goes by itself.
        home: the subject that always has an answer in the end.
    """

    __slots__ = ("alone", "body", "home", "lasting", "on_answer", "sent", "void")

    def __init__(self, body: bytes, on_answer: OnAnswer, *, lasting: bool = True, home: str = "") -> None:
        self.body = body
        self.home = home
        self.on_answer = on_answer
        self.lasting = lasting
        self.void = False
        self.sent = False
        self.alone = False


class Reporter:
    """The lanes of one worker."""

    def __init__(
        self, bus: Bus, *, answer_timeout_s: float = ANSWER_TIMEOUT_S, draw: Callable[[], float] = random.random
    ) -> None:
        self._bus = bus
        self._draw = draw
        self._answer_timeout_s = answer_timeout_s
        self._lanes: dict[str, _Lane] = {}

    def send(self, subject: str, report: Outgoing) -> None:
        """Send a report; its `on_answer` is called with the owner's verdict, however long that takes."""
        self._lane(subject).send(report)

    def send_by(self, subject: str, headers: Callable[[], Mapping[str, str]], report: Outgoing) -> None:
        """Send a report on a short way to its home, with `headers` on each request; its home takes it otherwise."""
        lane = self._lanes.get(subject)
        if lane is None:
            self._forget_idle_detours()
            lane = self._lanes[subject] = _Lane(
                self._bus, subject, self._answer_timeout_s, self._draw, headers, self._send_home
            )
        if lane.is_avoided():
            self._send_home([report])
        else:
            lane.send(report)

    def _forget_idle_detours(self) -> None:
        """Drop the lanes of nodes that have nothing to carry: each start of a node has another name."""
        for subject in [subject for subject, lane in self._lanes.items() if lane.is_idle_detour]:
            del self._lanes[subject]

    def _send_home(self, reports: Iterable[Outgoing]) -> None:
        for report in reports:
            self._lane(report.home).send(report)

    def _lane(self, subject: str) -> _Lane:
        lane = self._lanes.get(subject)
        if lane is None:
            lane = self._lanes[subject] = _Lane(self._bus, subject, self._answer_timeout_s, self._draw)
        return lane

    def hurry(self) -> None:
        """End all backing off: the connection is back."""
        for lane in self._lanes.values():
            lane.hurry()

    def stop(self) -> None:
        """Send nothing more; unanswered reports are forgotten."""
        for lane in self._lanes.values():
            lane.stop()


class _Lane:
    def __init__(  # noqa: PLR0917 - what its reporter has, and where it leads
        self,
        bus: Bus,
        subject: str,
        answer_timeout_s: float,
        draw: Callable[[], float],
        headers: Callable[[], Mapping[str, str]] | None = None,
        send_home: Callable[[Iterable[Outgoing]], None] | None = None,
    ) -> None:
        self._bus = bus
        self._draw = draw
        self._headers = headers
        self._send_home = send_home
        self._avoid_until_s = 0.0
        self._subject = subject
        self._answer_timeout_s = answer_timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Outgoing] = deque()
        self._in_flight = 0
        self._scheduled = False
        self._failures = 0
        self._backoff: asyncio.TimerHandle | None = None
        self._stopped = False

    def send(self, report: Outgoing) -> None:
        self._waiting.append(report)
        self._schedule()

    def is_avoided(self) -> bool:
        return self._loop.time() < self._avoid_until_s

    @property
    def is_idle_detour(self) -> bool:
        """Whether it leads to a node, no report is in it, and it need not be avoided."""
        return self._send_home is not None and not (self._waiting or self._in_flight or self.is_avoided())

    def hurry(self) -> None:
        self._avoid_until_s = 0.0
        if self._backoff is not None:
            self._backoff.cancel()
            self._backoff = None
            self._schedule()

    def stop(self) -> None:
        self._stopped = True
        self._waiting.clear()
        if self._backoff is not None:
            self._backoff.cancel()

    def _schedule(self) -> None:
        """Send at the end of this turn of the loop, so that what comes in one turn leaves together."""
        if not self._scheduled and self._backoff is None and self._in_flight < REQUESTS_IN_FLIGHT:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        while self._waiting and self._backoff is None and self._in_flight < REQUESTS_IN_FLIGHT:
            batch = self._take_batch()
            if batch:
                self._ask(batch)

    def _take_batch(self) -> list[Outgoing]:
        batch: list[Outgoing] = []
        body_bytes = _ENVELOPE_BYTES
        limit_bytes = min(BODY_BYTES_MAX, self._bus.payload_bytes_max)
        waiting = self._waiting
        while waiting and len(batch) < REPORTS_MAX:
            report = waiting[0]
            if not report.void:
                body_bytes += len(report.body) + 1
                if batch and (body_bytes > limit_bytes or report.alone or batch[0].alone):
                    break
                report.sent = True
                batch.append(report)
            waiting.popleft()
        return batch

    def _ask(self, batch: list[Outgoing]) -> None:
        def on_reply(reply: Message | TaskerError) -> None:
            self._in_flight -= 1
            if not self._stopped:
                self._answered(batch, reply)
                self._schedule()

        body = b"[%b]" % b",".join([report.body for report in batch])
        self._in_flight += 1
        try:
            headers = None if self._headers is None else self._headers()
            self._bus.ask(self._subject, body, on_reply, timeout_s=self._answer_timeout_s, headers=headers)
        except BodyTooLarge as error:
            self._in_flight -= 1
            if self._send_home is not None:  # with less around it
                self._again(batch, error, retry_after_s=None)
            else:
                self._refused_whole(batch, ReportReply(ok=False, recorded=False, error=error.problem()))
        except TaskerError as error:
            self._in_flight -= 1
            self._again(batch, error, retry_after_s=None)

    def _answered(self, batch: list[Outgoing], reply: Message | TaskerError) -> None:
        if isinstance(reply, TaskerError):
            self._again(batch, reply, retry_after_s=None)
            return
        try:
            verdicts = _replies.decode(reply.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._again(batch, error, retry_after_s=None)
            return
        if isinstance(verdicts, ReportReply):
            self._refused_whole(batch, verdicts)
            return
        if len(verdicts) != len(batch):
            error_text = f"{len(verdicts)} verdicts on {len(batch)} reports"
            self._again(batch, error_text, retry_after_s=None)
            return
        busy = [
            (report, verdict)
            for report, verdict in zip(batch, verdicts, strict=True)
            if not self._decided(report, verdict)
        ]
        if len(busy) == len(batch):
            self._again(batch, busy[0][1].error, retry_after_s=max(_retry_after_s(verdict) for _, verdict in busy))
            return
        self._failures = 0
        if busy and self._send_home is not None:
            self._send_home(report for report, _ in busy)
        elif busy:  # single tasks are busy, not the shard: only their reports wait
            delay_s = max(BACKOFF_S_BASE, *(_retry_after_s(verdict) for _, verdict in busy))
            self._loop.call_later(delay_s, self._send_all, [report for report, _ in busy if report.lasting])

    def _send_all(self, reports: list[Outgoing]) -> None:
        if not self._stopped:
            self._waiting.extend(reports)
            self._schedule()

    def _refused_whole(self, batch: list[Outgoing], verdict: ReportReply) -> None:
        if len(batch) == 1:
            self._failures = 0
            if not self._decided(batch[0], verdict):
                self._again(batch, verdict.error, retry_after_s=_retry_after_s(verdict))
        elif _is_busy(verdict):
            self._again(batch, verdict.error, retry_after_s=_retry_after_s(verdict))
        else:
            # One of them is at fault. Each goes alone, so that the others get their own verdict.
            for report in batch:
                report.alone = True
            self._waiting.extendleft(reversed(batch))

    def _decided(self, report: Outgoing, verdict: ReportReply) -> bool:
        """Hand the verdict on; False when there is none yet."""
        if report.void:
            return True
        if _is_busy(verdict):
            return False
        call_guarded(report.on_answer, verdict)
        return True

    def _again(self, batch: list[Outgoing], why: object, *, retry_after_s: float | None) -> None:
        if self._send_home is not None:
            self._avoid_until_s = self._loop.time() + DETOUR_S
            waiting = [*batch, *self._waiting]
            self._waiting.clear()
            _log.info("reports_sent_home", subject=self._subject, error=str(why), reports=len(waiting))
            # Also what does not last: all beats of an attempt would be lost, since each tries this lane first.
            self._send_home(report for report in waiting if not report.void)
            return
        self._waiting.extendleft(report for report in reversed(batch) if report.lasting and not report.void)
        self._failures += 1
        delay_s = min(BACKOFF_S_MAX, BACKOFF_S_BASE * 2.0 ** min(self._failures - 1, 10))
        delay_s = max(retry_after_s or 0.0, delay_s * (0.5 + 0.5 * self._draw()))
        if self._failures in (1, 10) or self._failures % 100 == 0:
            _log.warning("report_unanswered", subject=self._subject, error=str(why), failures=self._failures)
        if self._backoff is None and not self._stopped:
            self._backoff = self._loop.call_later(delay_s, self._resume)

    def _resume(self) -> None:
        self._backoff = None
        self._schedule()


def _is_busy(verdict: ReportReply) -> bool:
    return not verdict.ok and verdict.error is not None and verdict.error.status in _BUSY


def _retry_after_s(verdict: ReportReply) -> float:
    if verdict.error is None or verdict.error.retry_after_s is None:
        return 0.0
    return min(verdict.error.retry_after_s, BACKOFF_S_MAX * 5)
