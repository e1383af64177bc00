"""The actor of a task whose events cannot be folded."""

from __future__ import annotations

from uuid import UUID

from tasker.errors import TaskPoisoned
from tasker.events.envelope import US_PER_S
from tasker.service.actors.investigation_actor import SubjectMessage
from tasker.service.actors.task_messages import TaskMessage
from tasker.service.domain.dead_letters.investigation import POISONED_TASK
from tasker.service.domain.obligations import TASK_SCOPE
from tasker.service.runtime.actor import Owed, Turn
from tasker.service.runtime.due import NEWER_BUILD_S, UNFOLDED, UNFOLDED_US
from tasker.service.runtime.node import Wake


class PoisonedActor:
    """A task whose events cannot be folded: it answers every message with the reason, and others go on.

    Only what is done about it as a dead letter of its `tenant` goes on.
    """

    __slots__ = ("_detail", "_tenant", "correlation_id", "shard", "stream_id")

    def __init__(self, stream_id: UUID, shard: int, detail: str, *, tenant: str = "") -> None:
        self._tenant = tenant
        self.stream_id = stream_id
        self.shard = shard
        self._detail = detail
        self.correlation_id: str | None = None

    def receive(self, message: TaskMessage, now_us: int) -> Turn | None:  # noqa: ARG002 - the protocol's
        """Refuse `message`."""
        if isinstance(message, Wake):
            message.postpone(round(NEWER_BUILD_S * US_PER_S))
            return None
        if isinstance(message, SubjectMessage) and message.tenant == self._tenant and not message.step:
            return Turn.answer(lambda _: message.answered(POISONED_TASK), message.fail)
        return Turn.refusal(TaskPoisoned(self._detail), message.fail)

    def owes(self) -> Owed:
        """Return that a build which can fold it must look: what else it owes cannot be known."""
        return {TASK_SCOPE: {UNFOLDED: UNFOLDED_US}}

    def idle(self) -> bool:
        """Return True: a build that understands the events may come."""
        return True
