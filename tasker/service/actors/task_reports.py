"""How a task takes what workers report of its attempts, and answers their questions before they begin one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from tasker.events.codec import encode_message
from tasker.events.messages import Report, ReportReply
from tasker.events.task_events import AnyTaskEvent, TaskBlocked
from tasker.metrics.catalogue import OUTCOMES
from tasker.service.actors.dispatch.outcomes import outcome_of
from tasker.service.actors.dispatch.reservations import Reservations
from tasker.service.actors.task_effects import offer_again
from tasker.service.actors.task_messages import ReportMessage
from tasker.service.domain.advance import advance
from tasker.service.domain.commands import AnyTaskCommand, StartAttempt
from tasker.service.domain.costs.usage import late_usage_of
from tasker.service.domain.obligations import Kind, obligation_of
from tasker.service.domain.reports import accepted, command_of
from tasker.service.domain.steps.outcome_facts import settle_facts
from tasker.service.runtime.actor import Turn

if TYPE_CHECKING:
    from tasker.service.actors.task_actor import TaskActor

_ASKS: Final = ("claim", "reserve")


def take_report(actor: TaskActor, message: ReportMessage, now_us: int) -> Turn:
    """Record a report, or answer why it changes nothing; what an attempt used that is over is recorded even so."""
    report, template, ports = message.report, actor.template, actor.ports
    if template is None or message.tenant != actor.tenant:
        return _answer(message, ReportReply(ok=True, recorded=False, reason="task_unknown"))
    settle_facts(template, report, ports.prices)
    found = command_of(actor.state, report, at_us=now_us, jitter=ports.jitter())
    if report.kind in _ASKS and _is_denied(actor, report, found, now_us):
        found = ReportReply(ok=True, recorded=False, reason="gone")
    if type(found) is ReportReply:
        if report.kind in _ASKS and not found.run:
            _note_dropped_copy(actor, report.step, report.attempt)
        if report.kind == "peek":
            found.result = msgspec.Raw(encode_message(actor.heartbeats.progress(actor.state, report.of, now_us)))
        elif report.kind == "heartbeat" and found.recorded:
            actor.heartbeats.take(report.step, report.attempt, report.progress, now_us)
        elif report.kind == "returned" and actor.is_offered(report.step, report.attempt):
            offer_again(actor, report.step, report.attempt, now_us)
        late = late_usage_of(actor.state, report, found, now_us) if report.usage else None
        if late is None:
            return _answer(message, found)
        events = advance(actor.state, template, late)
        return actor.record(events, now_us, message.fail, lambda _: message.answered(found), cause=report.traceparent)
    entry = actor.state.steps.get(report.step)
    dispatched_us = 0 if entry is None else entry.dispatched_us
    events = advance(actor.state, template, found)
    if not events:
        return _answer(message, ReportReply(ok=True, recorded=False, reason="not_open"))
    failed, cause = message.fail, report.traceparent
    span = None
    if type(events[0]) is TaskBlocked:
        # The history is full: that was recorded, the report was not.
        reply = ReportReply(ok=True, recorded=False, reason="not_open")
    else:
        ports.step_times.add(report.kind, events, now_us - dispatched_us)
        reply = accepted(report, actor.state.steps[report.step], at_us=now_us)
        if ports.traces is not None and report.kind in OUTCOMES:
            span, cause = ports.traces.result(report, actor.traceparent_of(report.step))
            failed = ports.traces.failing(span, failed)

    def committed(_position: int) -> None:
        if span is not None:
            span.end()
        message.answered(reply)

    turn = actor.record(events, now_us, failed, committed, cause=cause)
    if template.is_guarded or ports.circuits.watches:
        return telling_circuits(actor, turn, events, report.step, report.attempt)
    return turn


def _answer(message: ReportMessage, reply: ReportReply) -> Turn:
    return Turn.answer(lambda _: message.answered(reply), message.fail)


def _is_denied(actor: TaskActor, report: Report, found: AnyTaskCommand | ReportReply, now_us: int) -> bool:
    """Return whether an attempt that could begin by the state may not begin now, or not at this worker."""
    begins = found.run if isinstance(found, ReportReply) else isinstance(found, StartAttempt)
    if not begins or (report.kind == "claim" and isinstance(found, ReportReply)):
        return False
    if actor.ports.holds_back(actor, report.step, report.attempt):
        return True
    if actor.reservations is None:
        if report.kind == "claim":
            return False
        actor.reservations = Reservations()
    until_us = actor.reservations.denied_until_us(report, now_us)
    if until_us:
        # The worker that was promised it may have died of it, or have given it back.
        obligation = obligation_of(Kind.OFFER, report.step, report.attempt)
        actor.ports.later(actor, report.step, obligation, until_us, keep=False)
        # This one is done with its copy, so for the next owner nobody has any, whatever the row said.
        actor.ports.leave_due(actor, report.step, obligation)
    return bool(until_us)


def _note_dropped_copy(actor: TaskActor, step: str, attempt: int) -> None:
    """Let the next offer of what nobody runs be a new message: who asked in vain is done with the one it had."""
    if actor.is_dispatched(step, attempt):
        actor.repeats.at_least_one(step)


def telling_circuits(  # noqa: PLR0917 - the facts of an attempt's end
    actor: TaskActor,
    turn: Turn,
    events: Sequence[AnyTaskEvent],
    step: str,
    attempt: int,
    limit: Kind | None = None,
) -> Turn:
    """Return the turn that also says how an attempt ended by it, if one did."""
    outcome = outcome_of(events, step, attempt, limit=limit)
    if outcome is None:
        return turn
    committed = turn.committed

    def on_committed(position: int) -> None:
        actor.ports.circuits.ended(actor, step, attempt, outcome)
        committed(position)

    return Turn(turn.events, on_committed, turn.failed, turn.owed)
