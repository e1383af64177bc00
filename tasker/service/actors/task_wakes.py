"""What a task does when the time of something it owes has come, or when that was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasker.events.envelope import US_PER_S
from tasker.events.task_events import TaskReconciled
from tasker.service.actors.children import child_care
from tasker.service.actors.lost_message import LostObligations
from tasker.service.actors.repeats import CHILD, PLACE, ask_again
from tasker.service.actors.task_effects import offer_again
from tasker.service.actors.task_reports import telling_circuits
from tasker.service.actors.waits.event_waiting import watch
from tasker.service.domain.advance import advance
from tasker.service.domain.commands import FireObligation, Reconcile
from tasker.service.domain.obligations import TASK_SCOPE, Kind, obligations_of_scope, parse_obligation
from tasker.service.runtime.actor import Turn
from tasker.service.runtime.due import NEWER_BUILD_S
from tasker.service.runtime.node import Wake

if TYPE_CHECKING:
    from tasker.service.actors.task_actor import TaskActor


def take_wake(actor: TaskActor, wake: Wake, now_us: int) -> Turn | None:
    """Do what is due, if it is still owed."""
    try:
        kind, step, attempt = parse_obligation(wake.obligation)
    except ValueError:
        # A newer build wrote the row, and one may come back: it is not ours to close.
        wake.postpone(round(NEWER_BUILD_S * US_PER_S))
        return None
    state, ports = actor.state, actor.ports
    at_us = obligations_of_scope(state, step or TASK_SCOPE).get(wake.obligation)
    if at_us is None or actor.template is None:
        return _closed(wake)
    match kind:
        case Kind.OFFER:
            offer_again(actor, step, attempt, now_us)
            return None
        case Kind.EVENT:
            watch(actor, step, attempt)
            return None
        case Kind.CHILD:
            ask_again(actor, step, wake.obligation, CHILD, since_us=state.steps[step].dispatched_us, now_us=now_us)
            child_care.look_after(actor, step, attempt)
            return None
        case Kind.PLACE:
            ask_again(actor, step, wake.obligation, PLACE, since_us=state.places[step].asked_us, now_us=now_us)
            ports.places.ask(actor, state.places[step].request)
            return None
        case Kind.HEARTBEAT:
            at_us = max(at_us, actor.heartbeats.due_us(state, step))
        case _:
            pass
    if at_us > now_us:
        wake.again(step or TASK_SCOPE, at_us)
        return None
    if kind is Kind.START_BY:
        allowed_us = max(at_us - state.steps[step].dispatched_us, US_PER_S)
        if ports.is_held(actor, step, attempt):
            # No worker can begin it now. Once it is let go, the time counts anew.
            wake.again(step, now_us + allowed_us, keep=True)
            return None
        until_us = ports.freed_us(actor, step) + allowed_us
        if until_us > now_us:
            # It was let go so late; an owner of before knew, and the log of controls knows.
            wake.again(step, until_us, keep=True)
            return None
    command = FireObligation(obligation=wake.obligation, at_us=now_us, jitter=ports.jitter())
    events = advance(state, actor.template, command)
    if not events:
        return _closed(wake)
    turn = actor.record(events, now_us, wake.fail)
    if step and (actor.template.is_guarded or ports.circuits.watches):
        return telling_circuits(actor, turn, events, step, attempt, kind)
    return turn


def _closed(wake: Wake) -> Turn:
    """Return the end of a closed obligation; what closed it may still be on its way to the log, so this waits."""
    return Turn.answer(lambda _: wake.closed(), wake.fail)


def reconcile(actor: TaskActor, message: LostObligations, now_us: int) -> Turn | None:
    """Record what was lost and is still open, and be woken for it."""
    if actor.template is None:
        return None
    command = Reconcile(lost=message.lost, obligations=message.obligations, at_us=now_us)
    events = advance(actor.state, actor.template, command)
    if not events:
        return None
    # A task with as many events as it may have is blocked instead: nothing wakes it any more.
    found = [name for event in events if isinstance(event, TaskReconciled) for name in event.obligations]

    def committed(_position: int) -> None:
        for name in found:
            _, step, _ = parse_obligation(name)
            at_us = obligations_of_scope(actor.state, step or TASK_SCOPE).get(name)
            if at_us is not None:
                ports = actor.ports
                ports.later(actor, step or TASK_SCOPE, name, max(at_us, ports.now_us()), keep=True)
        if found:
            message.repaired(len(found))

    return actor.record(events, now_us, message.fail, committed)
