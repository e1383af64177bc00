"""What is due of running attempts: the end of their time, heartbeats, a sign of life to the work stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tasker.clock import Clock
from tasker.events.messages import ReportReply
from tasker.handlers.attempt import IN_PROGRESS_S, NEVER, Attempt, Key, Stop
from tasker.handlers.attempt_reports import AttemptReports
from tasker.handlers.progress import TELL_S
from tasker.handlers.runner import Runner
from tasker.handlers.stopping import STOP_GRACE_S, Stopping
from tasker.handlers.tick import Tick

BEATS_PER_TIMEOUT: Final = 3


class Watch:
    """Looks at a worker's attempts.

    Args:
        attempts: all that the worker holds.
        on_beat_answer: takes the owner's answer to a heartbeat.
    """

    def __init__(  # noqa: PLR0917 - what it steers
        self,
        attempts: Mapping[Key, Attempt],
        stopping: Stopping,
        runner: Runner,
        reports: AttemptReports,
        tick: Tick,
        clock: Clock,
        on_beat_answer: Callable[[Attempt, ReportReply], None],
    ) -> None:
        self._attempts = attempts
        self._stopping = stopping
        self._runner = runner
        self._reports = reports
        self._tick = tick
        self._clock = clock
        self._on_beat_answer = on_beat_answer

    def look(self, now_s: float) -> float:
        """Do what is due of any attempt; returns when something is due next."""
        next_s = NEVER
        for attempt in list(self._attempts.values()):
            self._look_at(attempt, now_s)
            next_s = min(next_s, attempt.due_s())
        return min(next_s, self._stopping.look_for_loss(now_s))

    def beat(self, attempt: Attempt) -> None:
        """Send a heartbeat, with the progress, unless one waits to leave."""
        if attempt.beat is None or attempt.beat.sent:
            attempt.progress_told = True
            attempt.beat = self._reports.send(
                attempt, "heartbeat", lambda reply: self._on_beat_answer(attempt, reply), progress=attempt.progress
            )

    def beat_soon(self, attempt: Attempt) -> None:
        """Send a heartbeat within a second, for its progress."""
        attempt.beat_s = min(attempt.beat_s, self._clock.monotonic_s() + TELL_S)
        self._tick.arm(attempt.beat_s)

    def _look_at(self, attempt: Attempt, now_s: float) -> None:
        if now_s >= attempt.deadline_s:
            self._runner.ping()
            self._stopping.stop(attempt, Stop.TIMEOUT, STOP_GRACE_S)
        elif now_s >= attempt.kill_s:
            self._stopping.give_up(attempt)
        if now_s >= attempt.beat_s:
            attempt.beat_s = now_s + attempt.work.heartbeat_s / BEATS_PER_TIMEOUT
            if attempt.recorded:
                self.beat(attempt)
        if now_s >= attempt.touch_s:
            attempt.touch_s = now_s + IN_PROGRESS_S
            attempt.keep()
