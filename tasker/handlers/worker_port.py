"""What contexts ask of the worker, from their threads: it is done on the worker's loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Sequence

import msgspec

from tasker.errors import StateForbids, TaskerError
from tasker.events.messages import EmittedEvent, Progress, ReportReply, UsageLine
from tasker.handlers.attempt import Attempt
from tasker.handlers.attempt_reports import AttemptReports
from tasker.handlers.live import LiveFeed, LivePublisher
from tasker.handlers.server_clock import ServerClock
from tasker.handlers.watch import Watch


class WorkerDesk:
    """Takes what the contexts of one worker ask. Safe from any thread; make it on the worker's loop."""

    def __init__(self, reports: AttemptReports, watch: Watch, clock: ServerClock, live: LivePublisher) -> None:
        self._loop = asyncio.get_running_loop()
        self._reports = reports
        self._watch = watch
        self.now_us = clock.now_us
        self._live = live

    def beat(self, attempt: Attempt) -> None:
        """Send a heartbeat of the attempt."""

        def beat() -> None:
            if attempt.goes_on:
                self._watch.beat(attempt)

        self._loop.call_soon_threadsafe(beat)

    def tell_progress(self, attempt: Attempt, progress: Progress) -> None:
        """Have the progress leave with a heartbeat within a second."""
        attempt.progress = progress
        feed = attempt.live or attempt.begin_live()
        if feed.put_progress(progress):
            self._arm_live(attempt, feed)
        if not attempt.progress_told:
            return
        attempt.progress_told = False

        def hurry() -> None:
            if attempt.goes_on:
                self._watch.beat_soon(attempt)

        self._loop.call_soon_threadsafe(hurry)

    def stream(self, attempt: Attempt, chunk: bytes) -> None:
        """Have a chunk of the attempt's stream go out live."""
        feed = attempt.live or attempt.begin_live()
        if feed.put_chunk(chunk):
            self._arm_live(attempt, feed)

    def _arm_live(self, attempt: Attempt, feed: LiveFeed) -> None:
        def arm() -> None:
            if attempt.goes_on:
                self._live.arm(attempt.work, feed)

        self._loop.call_soon_threadsafe(arm)

    def ask_result(self, attempt: Attempt, step: str) -> concurrent.futures.Future[bytes]:
        """Return the coming result of another step of the attempt's task."""
        future: concurrent.futures.Future[bytes] = concurrent.futures.Future()

        def on_answer(reply: ReportReply) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if reply.error is not None:
                future.set_exception(TaskerError.from_problem(reply.error))
            elif reply.reason is not None and not reply.recorded:
                future.set_exception(StateForbids(f"the owner gives no result of {step}: {reply.reason}"))
            else:
                future.set_result(bytes(reply.result))

        self._loop.call_soon_threadsafe(lambda: self._reports.send(attempt, "result", on_answer, of=step))
        return future


class WorkerPort:
    """The worker, as the context of one attempt sees it (`context.AttemptPort`)."""

    __slots__ = ("_attempt", "_desk")

    def __init__(self, desk: WorkerDesk, attempt: Attempt) -> None:
        self._desk = desk
        self._attempt = attempt

    def ask_result(self, step: str) -> concurrent.futures.Future[bytes]:
        """Return the coming JSON bytes of another step's result."""
        return self._desk.ask_result(self._attempt, step)

    def beat(self) -> None:
        """Tell the owner now that the attempt is alive."""
        self._desk.beat(self._attempt)

    def tell_progress(self, progress: Progress) -> None:
        """Tell the owner soon how far the attempt is."""
        self._desk.tell_progress(self._attempt, progress)

    def tell_emitted(self, event: EmittedEvent) -> None:
        """Have a domain event reported with the outcome."""
        self._attempt.emitted.append(event)

    def stream(self, chunk: bytes) -> None:
        """Have a chunk of the attempt's stream go out live."""
        self._desk.stream(self._attempt, chunk)

    def tell_usage(self, lines: Sequence[UsageLine]) -> None:
        """Have usage reported with the outcome."""
        (self._attempt.metering or self._attempt.begin_metering()).add(lines)

    def tell_written(self, key: str, value: msgspec.Raw) -> None:
        """Have what the attempt wrote to the state reported with the outcome."""
        self._attempt.written[key] = value

    def now_us(self) -> int:
        """Return the time by the servers' clock, in microseconds of the Unix epoch."""
        return self._desk.now_us()
