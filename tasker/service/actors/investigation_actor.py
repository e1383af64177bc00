"""The actor of the investigations of one task's dead letters.

It decides on what the task's owner, in the same shard, said of the task just before: the entrance asks the task's
actor (`SubjectMessage`) and hands the answer on (`InvestigationMessage`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from tasker.errors import CommandRejected
from tasker.events.state_form import StateForm
from tasker.events.stored import encode_meta, to_new_event
from tasker.service.actors.command_message import CommandMessageBase, Failed
from tasker.service.domain.dead_letters.investigation import (
    INVESTIGATION_FORM,
    InvestigationCommand,
    Investigations,
    Subject,
    decide_investigation,
    evolve_investigation,
    subject_of,
)
from tasker.service.domain.state import TaskState
from tasker.service.runtime.actor import Kept, Owed, Recorded, Turn


class SubjectMessage:
    """To a task's actor: say how the task, or a step of it, is."""

    __slots__ = ("answered", "fail", "step", "tenant")

    def __init__(self, *, tenant: str, step: str, answered: Callable[[Subject], None], fail: Failed) -> None:
        self.tenant = tenant
        self.step = step
        self.answered = answered
        self.fail = fail

    def turn(self, state: TaskState) -> Turn:
        """Return the answer from `state`: like every answer it is given once what it rests on is durable."""
        try:
            subject = subject_of(state, self.step)
        except CommandRejected as refusal:
            return Turn.refusal(refusal, self.fail)
        return Turn.answer(lambda _: self.answered(subject), self.fail)


class InvestigationMessage(CommandMessageBase[InvestigationCommand, Recorded]):
    """Do something about a dead letter of the task `task_id`, of which its owner said `subject`."""

    __slots__ = ("subject", "task_id")

    def __init__(self, *, task_id: UUID, subject: Subject, **asked: Any) -> None:
        super().__init__(**asked)
        self.task_id = task_id
        self.subject = subject


class InvestigationActor(Kept[Investigations]):
    """The investigations of one task."""

    form: ClassVar[StateForm[Investigations]] = INVESTIGATION_FORM

    __slots__ = ("correlation_id", "state", "stream_id")

    def __init__(self, stream_id: UUID, state: Investigations) -> None:
        self.correlation_id: str | None = None
        self.stream_id = stream_id
        self.state = state

    def receive(self, message: InvestigationMessage, now_us: int) -> Turn | None:
        """Decide on `message`; see `Actor`."""
        state, planned = self.state, message.planned
        command_id, request = message.meta.command_id, message.meta.request
        try:
            if planned is None and state.commands.knows(command_id, request):
                return Turn.answer(lambda position: message.answered(position, duplicate=True), message.fail)
            events = decide_investigation(state, str(message.task_id), message.subject, message.command)
        except CommandRejected as refusal:
            return Turn.refusal(refusal, message.fail)
        if planned is not None:
            return Turn.answer(lambda position: planned(position, events), message.fail)
        meta = encode_meta(message.meta)
        new = []
        for event in events:
            seq = state.seq + 1
            new.append(
                to_new_event(event, stream_id=self.stream_id, seq=seq, tenant=message.tenant, at_us=now_us, meta=meta)
            )
            evolve_investigation(state, event, command_id=command_id, request=request)
        duplicate = not events
        return Turn(new, lambda position: message.answered(position, duplicate=duplicate), message.fail, {})

    def owes(self) -> Owed:
        """Return nothing: an investigation is not followed by anything."""
        return {}

    def idle(self) -> bool:
        """Return True: its events are all there is of it."""
        return True
