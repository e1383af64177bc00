"""What a worker's report means in a task's state, and what it is answered.

The owner of a task alone decides that an attempt is lost. A report that equals what is recorded is a
repetition (`duplicate`); one about an attempt that is no longer open is stale, is answered with the
reason and leaves no trace in the log.
"""

from __future__ import annotations

from typing import Final, assert_never

import msgspec

from tasker.events.messages import RefusalReason, Report, ReportReply
from tasker.ids import is_name
from tasker.service.domain.commands import AnyTaskCommand, CompleteAttempt, FailAttempt, StartAttempt, YieldAttempt
from tasker.service.domain.state import (
    STEP_DISPATCHED,
    STEP_RUNNING,
    TASK_ABSENT,
    StepState,
    StepStatus,
    TaskState,
    TaskStatus,
)

_OPEN: Final = (STEP_DISPATCHED, STEP_RUNNING)


def command_of(state: TaskState, report: Report, *, at_us: int, jitter: float) -> AnyTaskCommand | ReportReply:
    """Return the command that `report` amounts to in `state`, or the answer when it changes nothing."""
    step = state.steps.get(report.step)
    if report.kind == "result":
        return _result_of(state, report)
    if report.kind == "input":
        return _answer_value(None if state.status is TaskStatus.ABSENT else state.input, state)
    if report.kind == "returned":
        return ReportReply(ok=True, recorded=False, reason="gone")
    if report.kind == "peek":
        return ReportReply(ok=True, recorded=False)  # what is asked for is no state: the owner adds it
    reason = _closed_reason(state, step, report)
    if step is None or reason is not None:
        return _answer_closed(step, report, reason or "task_unknown")
    match report.kind:
        case "reserve":
            run = step.status is STEP_DISPATCHED and not state.held
            return ReportReply(ok=True, recorded=False, run=run, reason=None if run else "gone")
        case "claim" | "started":
            if step.status is STEP_DISPATCHED and report.kind == "claim" and state.held:
                return ReportReply(ok=True, recorded=False, reason="gone")  # it is offered again when the task goes on
            if step.status is STEP_DISPATCHED:
                return StartAttempt(step=report.step, attempt=report.attempt, worker=report.worker, at_us=at_us)
            if step.worker == report.worker:
                return accepted(report, step, duplicate=True, at_us=at_us)
            return ReportReply(
                ok=True, recorded=False, reason="gone" if report.kind == "claim" else "started_elsewhere"
            )
        case "heartbeat":
            if step.status is not StepStatus.RUNNING or step.worker != report.worker:
                return ReportReply(ok=True, recorded=False, reason="gone")
            return accepted(report, step, at_us=at_us)
        case "completed":
            return CompleteAttempt(
                step=report.step,
                attempt=report.attempt,
                worker=report.worker,
                result=report.result,
                choice=report.choice,
                at_us=at_us,
                emitted=report.emitted,
                usage=report.usage,
                progress=report.progress,
                writes=report.writes,
            )
        case "yielded":
            return YieldAttempt(
                step=report.step,
                attempt=report.attempt,
                worker=report.worker,
                checkpoint=report.checkpoint,
                delay_s=report.after_s,
                at_us=at_us,
                usage=report.usage,
                progress=report.progress,
                writes=report.writes,
            )
        case "failed":
            assert report.error is not None  # noqa: S101 - the entrance refuses a failed report without one
            return FailAttempt(
                step=report.step,
                attempt=report.attempt,
                worker=report.worker,
                error=report.error,
                jitter=jitter,
                at_us=at_us,
                emitted=report.emitted,
                usage=report.usage,
                progress=report.progress,
            )
        case _:
            assert_never(report.kind)


def accepted(report: Report, step: StepState, *, at_us: int, duplicate: bool = False) -> ReportReply:
    """Return the answer to a report that is (now) recorded; a heartbeat's tells whether to stop."""
    cancel_by_us = step.cancel_by_us
    return ReportReply(
        ok=True,
        recorded=True,
        duplicate=duplicate,
        run=report.kind == "claim",
        cancel=cancel_by_us is not None,
        grace_s=None if cancel_by_us is None else max(0.0, (cancel_by_us - at_us) / 1e6),
    )


def _closed_reason(state: TaskState, step: StepState | None, report: Report) -> RefusalReason | None:
    """Return why the attempt takes no report any more; None when it is open."""
    if state.status is TASK_ABSENT:
        return "task_unknown"
    if step is None or step.attempt != report.attempt:
        return "stale_attempt"
    if state.ended:
        return "task_ended"
    if step.status not in _OPEN or state.blocked_reason == "history_limit":
        return "not_open"
    return None


def _answer_closed(step: StepState | None, report: Report, reason: RefusalReason) -> ReportReply:
    if step is not None and step.ended_attempt == report.attempt and _repeats(step, report):
        return ReportReply(ok=True, recorded=True, duplicate=True)
    if report.kind in ("claim", "reserve"):
        reason = "gone"
    return ReportReply(ok=True, recorded=False, reason=reason)


def _repeats(step: StepState, report: Report) -> bool:
    """Return whether `report` says of its attempt what is recorded of it."""
    match report.kind:
        case "started":
            return step.worker == report.worker
        case "completed":
            return step.result is not None and step.result == report.result
        case "failed":
            return step.error == report.error
        case "yielded":
            return step.checkpoint is not None and step.checkpoint == report.checkpoint
        case _:
            return False


def _result_of(state: TaskState, report: Report) -> ReportReply:
    of = report.of or ""
    return _answer_value(state.result_of(of) if is_name(of) else state.result_at(of), state)


def _answer_value(value: msgspec.Raw | None, state: TaskState) -> ReportReply:
    if value is None:
        reason: RefusalReason = "task_unknown" if state.status is TaskStatus.ABSENT else "not_open"
        return ReportReply(ok=True, recorded=False, reason=reason)
    return ReportReply(ok=True, recorded=False, result=value)
