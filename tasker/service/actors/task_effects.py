"""What the world is told of a task's events once they are committed.

By then the task may have moved on: what is told is what still holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from tasker.events.envelope import US_PER_S
from tasker.events.task_events import (
    ChildRequested,
    ChildStarted,
    EventAwaited,
    PlaceRequested,
    StepAttemptFailed,
    StepCancelled,
    StepCancelRequested,
    StepDispatched,
    StepResolved,
    StepSkipped,
    TaskPaused,
    TaskStarted,
    TaskUnpaused,
    TaskUpdated,
)
from tasker.service.actors import repeats
from tasker.service.actors.children import child_care
from tasker.service.actors.waits.event_waiting import watch
from tasker.service.domain.limits.places import place_of
from tasker.service.domain.obligations import Kind, obligation_of
from tasker.service.domain.state import STEP_DISPATCHED
from tasker.service.domain.steps.children import waiting_child

if TYPE_CHECKING:
    from tasker.service.actors.task_actor import TaskActor

Effect = (
    StepDispatched
    | StepCancelRequested
    | StepCancelled
    | StepSkipped
    | StepResolved
    | StepAttemptFailed
    | ChildRequested
    | ChildStarted
    | EventAwaited
    | PlaceRequested
    | TaskStarted
    | TaskUpdated
    | TaskPaused
    | TaskUnpaused
)

EFFECTS: Final = frozenset(get_args(Effect))
"""Events that the world is told of after their commit."""


def perform(actor: TaskActor, effect: Effect) -> None:
    """Tell the world of one committed event."""
    state, ports = actor.state, actor.ports
    match effect:
        case StepDispatched(step=step, attempt=attempt):
            actor.repeats.begin(step)
            if actor.is_offered(step, attempt):
                at_us = ports.now_us() + repeats.OFFER.first_us
                ports.later(actor, step, obligation_of(Kind.OFFER, step, attempt), at_us, keep=False)
                ports.offer(actor, step, attempt, offer=0)
        case (
            StepCancelled(step=step, attempt=attempt)
            | StepSkipped(step=step, attempt=attempt)
            | StepResolved(step=step, attempt=attempt)
        ):
            worker = state.steps[step].worker if step in state.steps else None
            if worker is not None:
                ports.tell_cancel(actor, worker, step, attempt, 0.0)
            ports.taken_back(actor, step, attempt)
        case StepAttemptFailed(step=step, attempt=attempt):
            ports.taken_back(actor, step, attempt)
        case ChildRequested(step=step, attempt=attempt):
            if waiting_child(state, step, attempt) is not None:
                actor.repeats.begin(step)
                at_us = ports.now_us() + repeats.CHILD.first_us
                ports.later(actor, step, obligation_of(Kind.CHILD, step, attempt), at_us, keep=False)
                child_care.look_after(actor, step, attempt)
        case ChildStarted(step=step, attempt=attempt):
            # It was being started while its step was asked to stop.
            if waiting_child(state, step, attempt) is not None and state.steps[step].cancel_by_us:
                child_care.cancel(actor, step, attempt)
            child_care.hold(actor, step, attempt)
        case TaskPaused(children=children) | TaskUnpaused(children=children):
            _set_aside(actor)
            for step, entry in state.steps.items() if children else ():
                child_care.hold(actor, step, entry.attempt)
        case PlaceRequested(step=step, attempt=attempt):
            place = place_of(state, step, attempt)
            if place is not None and not place.held:
                _ask_for_place(actor, effect, keep=False)
        case EventAwaited(step=step, attempt=attempt):
            watch(actor, step, attempt)
        case TaskStarted():
            _begun(actor)
        case TaskUpdated(priority=priority):
            if priority is not None:
                _reprioritize(actor)
        case StepCancelRequested(step=step, attempt=attempt, grace_until_us=until_us):
            if waiting_child(state, step, attempt) is not None:
                child_care.cancel(actor, step, attempt)
            worker = state.steps[step].worker
            if worker is not None:
                ports.tell_cancel(actor, worker, step, attempt, max(0.0, (until_us - ports.now_us()) / US_PER_S))


def offer_again(actor: TaskActor, step: str, attempt: int, now_us: int) -> None:
    """Offer an attempt once more that nobody has begun."""
    obligation = obligation_of(Kind.OFFER, step, attempt)
    offers = repeats.look_again(actor, step, obligation, repeats.OFFER, now_us, keep=False)
    if offers > 1 or actor.is_rebuilt:
        # Its row may say a later time. Until the stream has the offer it waits in memory alone.
        actor.ports.leave_due(actor, step, obligation)
    actor.ports.offer(actor, step, attempt, offer=offers)


def _ask_for_place(actor: TaskActor, request: PlaceRequested, *, keep: bool) -> None:
    """Ask, and soon again unless it is answered: for the first time, or as the priority is another one."""
    actor.repeats.begin(request.step)
    at_us = actor.ports.now_us() + repeats.PLACE.first_us
    actor.ports.later(actor, request.step, obligation_of(Kind.PLACE, request.step, request.attempt), at_us, keep=keep)
    actor.ports.places.ask(actor, request)


def _begun(actor: TaskActor) -> None:
    """Let other starts know that the task has begun (`debounce`)."""
    at_us, template = actor.state.admitted_us, actor.template
    if at_us is not None and template is not None and template.spec.debounce is not None:
        actor.ports.admissions.begun(actor, actor.tenant, template, at_us)


def _set_aside(actor: TaskActor) -> None:
    """Let nothing wait for a slot or a turn while the task is paused; at its end all is offered anew."""
    for step, entry in actor.state.steps.items() if actor.state.held else ():
        if entry.status is STEP_DISPATCHED:
            actor.ports.taken_back(actor, step, entry.attempt)


def _reprioritize(actor: TaskActor) -> None:
    for place in actor.state.places.values():
        if not place.held and not place.denied:
            # Its row says to ask again in up to a minute, which the next owner would heed.
            _ask_for_place(actor, place.request, keep=True)
    for step, entry in actor.state.steps.items():
        if actor.is_offered(step, entry.attempt):
            # The work stream may have a copy, too.
            offer = max(1, actor.repeats.of(step))
            actor.ports.reprioritized(actor, step, entry.attempt, offer=offer)
