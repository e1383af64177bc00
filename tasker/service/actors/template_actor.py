"""The actor of a template: it decides conflicts and what "no version" means.

Others decide on a template only by what is *committed* of it, so the actor keeps that apart from its
pending state and shows it to the directory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol
from uuid import UUID

from tasker.errors import CommandRejected
from tasker.events.state_form import StateForm
from tasker.events.stored import encode_meta, to_new_event
from tasker.events.template_events import AnyTemplateEvent
from tasker.service.actors.command_message import CommandMessageBase, Failed
from tasker.service.domain.template_registry import (
    TEMPLATE_FORM,
    RegisterTemplate,
    TemplateRegistry,
    UseTemplate,
    decide_template,
    evolve_template,
)
from tasker.service.runtime.actor import Kept, Owed, Turn


class Registered(Protocol):
    """Takes position, version and hash of what was recorded, and whether it had been before."""

    def __call__(self, position: int, version: str, digest: str, *, duplicate: bool) -> None:
        """Answer the command."""
        ...


class RegisterMessage(CommandMessageBase[RegisterTemplate | UseTemplate, Registered]):
    """Register a version, or choose the one in use."""

    __slots__ = ()


class ResolveMessage:
    """Tell what is committed of the registrations."""

    __slots__ = ("answered", "fail")

    def __init__(self, answered: Callable[[TemplateRegistry], None], fail: Failed) -> None:
        self.answered = answered
        self.fail = fail


class TemplateActor(Kept[TemplateRegistry]):
    """The registrations of one template.

    Attributes:
        state: what is recorded of them, pending events included.
        committed: what is durable of them; changes only when a commit does.
    """

    form: ClassVar[StateForm[TemplateRegistry]] = TEMPLATE_FORM

    __slots__ = ("committed", "correlation_id", "state", "stream_id")

    def __init__(self, stream_id: UUID, state: TemplateRegistry) -> None:
        self.correlation_id: str | None = None
        self.stream_id = stream_id
        self.state = state
        self.committed = copy.deepcopy(state)

    def receive(self, message: RegisterMessage | ResolveMessage, now_us: int) -> Turn | None:
        """Decide on `message`; see `Actor`."""
        if isinstance(message, ResolveMessage):
            return Turn.answer(lambda _: message.answered(self.committed), message.fail)
        planned = message.planned
        command_id, request = (message.meta.command_id, message.meta.request) if planned is None else (None, None)
        try:
            events = decide_template(self.state, message.command, command_id=command_id, request=request)
        except CommandRejected as refusal:
            return Turn.refusal(refusal, message.fail)
        if planned is not None:
            return Turn.answer(lambda position: planned(position, events), message.fail)
        meta = encode_meta(message.meta)
        new = []
        for event in events:
            seq = self.state.seq + 1
            new.append(
                to_new_event(event, stream_id=self.stream_id, seq=seq, tenant=message.tenant, at_us=now_us, meta=meta)
            )
            evolve_template(self.state, event, command_id=command_id, request=request)
        version, digest = self.state.hash_of(message.command.version)
        return Turn(new, lambda position: self._committed(message, events, position, version, digest), message.fail, {})

    def _committed(
        self, message: RegisterMessage, events: Sequence[AnyTemplateEvent], position: int, version: str, digest: str
    ) -> None:
        for event in events:
            evolve_template(self.committed, event)
        message.answered(position, version, digest, duplicate=not events)

    def owes(self) -> Owed:
        """Return nothing: registrations are not followed by anything."""
        return {}

    def idle(self) -> bool:
        """Return False: templates are few, and every new task asks for one."""
        return False
