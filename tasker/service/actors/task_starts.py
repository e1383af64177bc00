"""How a task comes to be: it is created at once or, under the caps of its template, once it is let in.

While it asks, further commands for it wait with the first one: those that create it too, and other starts that go to a
task which waits for more of them (`debounce`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tasker.errors import Busy, CommandRejected, KeyConflict, TaskerError, Unavailable
from tasker.service.actors.limits.admission_news import Admission, AdmissionLook, Admitted
from tasker.service.actors.limits.postponing import PostponeMessage
from tasker.service.actors.task_messages import CreateMessage
from tasker.service.domain.advance import advance
from tasker.service.domain.commands import CreateTask
from tasker.service.domain.dry_run import would_cause
from tasker.service.domain.limits.admission import singleton_of
from tasker.service.domain.limits.debounce import check_start, debounce_of, is_start_of, waits_for_more
from tasker.service.domain.state import TASK_ABSENT
from tasker.service.runtime.actor import Turn
from tasker.templates import CompiledTemplate

if TYPE_CHECKING:
    from tasker.service.actors.task_actor import TaskActor


def create(actor: TaskActor, message: CreateMessage, now_us: int) -> Turn | None:
    """Create the task, have it ask to be let in, or answer with the one that is there."""
    planned, state = message.planned, actor.state
    if state.status is not TASK_ABSENT:
        if message.tenant == actor.tenant and message.request_hash == state.request_hash:
            if planned is not None:
                return Turn.answer(lambda position: planned(position, ()), message.fail)
            return Turn.answer(lambda position: message.answered(position, duplicate=True), message.fail)
        conflict = KeyConflict(
            "the key belongs to a task with another input or version; use a new key for another request",
            task_id=actor.task_id,
        )
        return Turn.refusal(conflict, message.fail)
    if isinstance(message.plan, TaskerError):
        return Turn.refusal(message.plan, message.fail)
    try:
        template, command = message.plan(now_us)
        if planned is not None:
            check_start(template, command)
            foreseen = would_cause(state, template, command)
            return Turn.answer(lambda position: planned(position, foreseen), message.fail)
        if template.is_capped and not message.is_admitted:
            _ask_to_be_admitted(actor, template, message, command)
            return None
        events = advance(state, template, command)
    except CommandRejected as refusal:
        return Turn.refusal(refusal, message.fail)
    actor.begin(template, message.tenant, message.meta)
    return actor.record(
        events,
        now_us,
        message.fail,
        lambda position: message.answered(position, duplicate=False),
        meta=message.meta,
    )


def _ask_to_be_admitted(
    actor: TaskActor, template: CompiledTemplate, message: CreateMessage, command: CreateTask
) -> None:
    singleton, debounce = singleton_of(template, command.input), debounce_of(template, command.input)
    if debounce is not None:
        check_start(template, command)
        debounce = debounce if message.debounced is not None else None
    if actor.admitting is not None:
        actor.admitting.waiting.append(message)
        return
    actor.admitting = Admission(message, template, command, singleton, debounce)
    actor.ports.admissions.ask(actor, template, actor.admitting)


def take_admission(actor: TaskActor, message: Admitted, now_us: int) -> Turn | None:
    """Create the task that asked to be let in, or refuse all who asked for it."""
    admission = message.admission
    if admission is not actor.admitting:
        # This object was rebuilt since. A place that was given comes back by its key's look.
        return Turn.refusal(Unavailable("the task is being rebuilt", retry_after_s=0.2), message.fail)
    actor.admitting = None
    if message.error is not None:
        return Turn.refusal(message.error, message.fail)
    if message.running is not None:
        return _attach(admission, message.running, message.position)
    first, *others = admission.waiting
    first.plan, first.is_admitted = admission.plan, True
    turn = create(actor, first, now_us)
    assert turn is not None  # noqa: S101 - it asks no more
    later: tuple[CreateMessage | PostponeMessage, ...] = (*others, *admission.behind)

    def committed(position: int) -> None:
        turn.committed(position)
        admission.settle()
        actor.ports.admissions.again(actor, later)

    def failed(error: TaskerError) -> None:
        turn.failed(error)
        admission.settle()
        for one in later:
            one.fail(error)

    return Turn(turn.events, committed, failed, turn.owed)


def _attach(admission: Admission, running: str, at: str | None) -> Turn:
    """Return the answer to starts of which there may be one: the task that runs, or that it is there.

    `at`: where that task took the start, if it waited for it.
    """
    first = admission.waiting[0]
    conflict = KeyConflict("the key belongs to a start with another input or version", task_id=running)
    moment = Unavailable("the task went to another one", retry_after_s=0.2)
    busy = Busy(f"task {running} of the same singleton runs", retry_after_s=1.0, task_id=running)

    def committed(position: int) -> None:
        admission.settle()
        for one in admission.waiting:
            if one.request_hash != first.request_hash:
                one.fail(moment if at is None else conflict)
            elif at is not None and one.debounced is not None:
                one.debounced(at, running)
            elif one.attached is None or at is not None:
                one.fail(busy)
            else:
                one.attached(position, running)
        for other in admission.behind:
            other.fail(moment)

    return Turn.answer(committed, admission.fail)


def answer_look(actor: TaskActor, message: AdmissionLook) -> Turn | None:
    """Say whether a place that the task was given is still its own; None: it does not know yet."""
    admitting, state = actor.admitting, actor.state
    if admitting is not None and admitting.at_us == message.at_us:
        message.answered(None)
        return None
    stands = message.tenant == actor.tenant and state.admitted_us == message.at_us and not state.ended
    if message.until_begun:
        stands = stands and waits_for_more(state)
    return Turn.answer(lambda _: message.answered(stands), message.fail)


def postpone(actor: TaskActor, message: PostponeMessage, now_us: int) -> Turn | None:
    """Take another start, or say that the task waits for no more of them."""
    admitting, state = actor.admitting, actor.state
    if admitting is not None and admitting.at_us == message.at_us:
        admitting.behind.append(message)
        return None
    try:
        template = actor.template_for(message.tenant)
        command = msgspec.structs.replace(message.command, at_us=now_us)
        is_known = is_start_of(state, command.start, command.request_hash)
        is_asked = not is_known and state.admitted_us == message.at_us
        events = advance(state, template, command) if is_asked else ()
    except CommandRejected as refusal:
        return Turn.refusal(refusal, message.fail)
    if not events:
        return Turn.answer(lambda position: message.answered(position if is_known else None), message.fail)
    return actor.record(events, now_us, message.fail, message.answered, meta=message.meta)
