"""How attempts are stopped, and what becomes of those that do not end: some cost a slot each, too many the process.

Nothing in Python ends a handler that does not want to. It is asked; after its grace it is reported all the same, and
its slot stays taken until it ends. When half of the slots are lost that way, or the handlers' loop is blocked and does
not come back, only a new process helps: the worker is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from tasker.clock import Clock
from tasker.events.task_events import ErrorInfo
from tasker.handlers.attempt import NEVER, Attempt, Key, Stop
from tasker.handlers.outcome import cancelled_info, timeout_info, worker_lost_info
from tasker.handlers.runner import Runner
from tasker.handlers.slots import Slots
from tasker.handlers.tick import Tick

STOP_GRACE_S: Final = 1.0
"""How long an attempt past its time has to end, and a blocked loop to come back."""

_SILENT_S_MAX: Final = 0.9 * STOP_GRACE_S

_log = structlog.get_logger(__name__)


class Stopping:
    """Stops a worker's attempts.

    Attributes:
        stuck: attempts that were reported and still run.
        lost, lost_why: set when only a new process helps.

    Args:
        attempts: all that the worker holds.
        report: tells an attempt's owner how it failed. drop: forgets one whose outcome nobody wants. end_unrun: ends
            one that never came to its handler.
        on_lost: called before `lost` is set.
    """

    def __init__(  # noqa: PLR0917 - what it steers
        self,
        worker: str,
        attempts: Mapping[Key, Attempt],
        slots: Slots,
        runner: Runner,
        tick: Tick,
        clock: Clock,
        *,
        report: Callable[[Attempt, ErrorInfo], None],
        drop: Callable[[Attempt], None],
        end_unrun: Callable[[Attempt], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.stuck: set[Attempt] = set()
        self.lost = asyncio.Event()
        self.lost_why: str | None = None
        self._worker = worker
        self._attempts = attempts
        self._slots = slots
        self._runner = runner
        self._tick = tick
        self._clock = clock
        self._report = report
        self._drop = drop
        self._end_unrun = end_unrun
        self._on_lost = on_lost

    def stop(self, attempt: Attempt, why: Stop, grace_s: float) -> None:
        """Ask an attempt to stop; it is reported after `grace_s` at the latest, ended or not."""
        if attempt.stop is None:
            now_s = self._clock.monotonic_s()
            left_s = max(0.0, attempt.deadline_s - now_s) + STOP_GRACE_S
            attempt.kill_s = now_s + min(max(0.0, grace_s), left_s)
            self.interrupt(attempt, why)
            self._tick.arm(attempt.kill_s)
        elif why is Stop.DROPPED:
            attempt.stop = why

    def interrupt(self, attempt: Attempt, why: Stop) -> None:
        """Ask an attempt to stop; nobody waits for it."""
        attempt.stop = attempt.stop or why
        attempt.deadline_s = NEVER
        if attempt.stopping or attempt.ended:
            return
        if attempt.submitted:
            self._runner.interrupt(attempt)
        else:
            self._end_unrun(attempt)

    def give_up(self, attempt: Attempt) -> None:
        """Report an attempt that did not end when it was told to; its slot stays taken until it does."""
        attempt.kill_s = NEVER
        self.stuck.add(attempt)
        _log.warning("handler_does_not_end", **attempt.ids, error=str(attempt.stop))
        if attempt.stop is Stop.DROPPED:
            self._drop(attempt)
        elif attempt.stop is Stop.TIMEOUT:
            stack = attempt.stack or self._runner.stack_of(attempt)
            blocked = None
            if attempt.asyncio_task is not None and self._runner.silent_s:
                if stack is None:
                    stack = self._runner.loop_stack()
                blocked = self._blocker_text(attempt)
            self._report(attempt, timeout_info(attempt.work.start_to_close_s, stack=stack, blocked=blocked))
        else:
            self._report(attempt, cancelled_info(self._runner.stack_of(attempt)))

    def look_for_loss(self, now_s: float) -> float:
        """See whether this process can still do its work; returns when to look again."""
        if self.lost.is_set() or not self.stuck:
            return NEVER
        if 2 * len(self.stuck) >= self._slots.total:
            self._lose(f"{len(self.stuck)} of {self._slots.total} slots are held by handlers that do not end")
            return NEVER
        if self._runner.silent_s >= _SILENT_S_MAX:
            blocker = self._blocker()
            if blocker is None or blocker.stop is not None:
                self._lose("the handlers' loop is blocked and does not come back")
                return NEVER
        self._runner.ping()
        return now_s + STOP_GRACE_S / 2

    def _blocker(self) -> Attempt | None:
        live = (one for one in (*self._attempts.values(), *self.stuck) if not one.ended)
        return next((one for one in live if self._runner.is_blocking(one)), None)

    def _blocker_text(self, attempt: Attempt) -> str:
        blocker = self._blocker()
        if blocker is attempt:
            return "it blocks the handlers' loop; the stack shows where"
        by = "" if blocker is None else f" by step {blocker.work.step} of task {blocker.work.task_id}"
        return f"the handlers' loop was blocked{by}; the stack shows where"

    def _lose(self, why: str) -> None:
        self.lost_why = f"the worker {self._worker} gives up: {why}"
        _log.error("worker_lost", worker=self._worker, error=why)
        self._slots.closed = True
        self._on_lost()
        if self._runner.silent_s >= _SILENT_S_MAX:
            self._report_what_cannot_end(self.lost_why)
        self.lost.set()

    def _report_what_cannot_end(self, why: str) -> None:
        """Report what runs on the blocked loop; what runs in a thread may still end by itself."""
        for attempt in list(self._attempts.values()):
            if attempt.goes_on and attempt.is_async:
                if attempt.stop is Stop.TIMEOUT:
                    # Its own time is over, too: whoever else is stuck, this one is told with its line.
                    self.give_up(attempt)
                else:
                    self._report(attempt, worker_lost_info(why))
                self.interrupt(attempt, Stop.LOST)
