"""The actor of a template: it decides conflicts and what "no version" means.

Others decide on a template only by what is *committed* of it, so the actor keeps that apart from its
pending state and shows it to the directory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

from tasker.errors import CommandRejected, TaskerError
from tasker.events.envelope import Meta, RecordedEvent
from tasker.events.stored import encode_meta, from_recorded, meta_of, to_new_event
from tasker.events.template_events import AnyTemplateEvent, TemplateEvent
from tasker.service.domain.template_registry import (
    RegisterTemplate,
    TemplateRegistry,
    UseTemplate,
    decide_template,
    evolve_template,
)
from tasker.service.runtime.actor import Owed, Turn


class Registered(Protocol):
    """Takes position, version and hash of what was recorded, and whether it had been before."""

    def __call__(self, position: int, version: str, digest: str, *, duplicate: bool) -> None:
        """Answer the command."""
        ...


class RegisterMessage:
    """Register a version, or choose the one in use."""

    __slots__ = ("answered", "command", "fail", "meta", "tenant")

    def __init__(
        self,
        *,
        tenant: str,
        command: RegisterTemplate | UseTemplate,
        meta: Meta,
        answered: Registered,
        fail: Callable[[TaskerError], None],
    ) -> None:
        self.tenant = tenant
        self.command = command
        self.meta = meta
        self.answered = answered
        self.fail = fail


class ResolveMessage:
    """Tell what is committed of the registrations."""

    __slots__ = ("answered", "fail")

    def __init__(self, answered: Callable[[TemplateRegistry], None], fail: Callable[[TaskerError], None]) -> None:
        self.answered = answered
        self.fail = fail


class TemplateActor:
    """The registrations of one template.

    Attributes:
        committed: what is durable of them; changes only when a commit does.
    """

    __slots__ = ("_pending", "committed", "correlation_id", "stream_id")

    def __init__(self, stream_id: UUID) -> None:
        self.correlation_id: str | None = None
        self.stream_id = stream_id
        self._pending = TemplateRegistry()
        self.committed = TemplateRegistry()

    def fold(self, events: Sequence[RecordedEvent]) -> None:
        """Take up the recorded registrations.

        Raises:
            Undecodable: this build cannot read one of them.
        """
        for recorded in events:
            event = from_recorded(recorded)
            assert isinstance(event, TemplateEvent)  # noqa: S101 - a template's stream holds only these
            command_id = meta_of(recorded).command_id
            evolve_template(self._pending, event, command_id=command_id)  # type: ignore[arg-type]
            evolve_template(self.committed, event)  # type: ignore[arg-type]

    def receive(self, message: RegisterMessage | ResolveMessage, now_us: int) -> Turn | None:
        """Decide on `message`; see `Actor`."""
        if isinstance(message, ResolveMessage):
            return Turn.answer(lambda _: message.answered(self.committed), message.fail)
        command_id = message.meta.command_id
        try:
            events = decide_template(self._pending, message.command, command_id=command_id)
        except CommandRejected as refusal:
            error = refusal
            return Turn.refusal(error, message.fail)
        meta = encode_meta(message.meta)
        new = []
        for event in events:
            seq = self._pending.seq + 1
            new.append(
                to_new_event(event, stream_id=self.stream_id, seq=seq, tenant=message.tenant, at_us=now_us, meta=meta)
            )
            evolve_template(self._pending, event, command_id=command_id)
        version, digest = self._pending.hash_of(message.command.version)
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
