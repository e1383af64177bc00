"""How tasks stand: a question to their owners, by whom it matters whether one has ended and how."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec

from tasker.bus.bus import Message
from tasker.errors import TaskerError, TaskPoisoned, TaskUnknown, Undecodable
from tasker.events.codec import decode_message, encode_message
from tasker.events.envelope import StreamKind
from tasker.events.task_events import ErrorInfo, OptionalRaw
from tasker.service.domain.state import TaskState
from tasker.service.runtime.actor import Turn
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards

WHAT = "standing"
"""How the question is called between nodes."""


class StandingOf(msgspec.Struct, kw_only=True):
    """Node to node: how does this task stand?"""

    tenant: str
    task_id: str


class Standing(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A task's state; once it has `ended` with its `result` or `error`. `gone`: there is no such task any more."""

    ended: bool
    state: str
    result: OptionalRaw = None
    error: ErrorInfo | None = None


class StandingReply(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Node to node: the answer; None: ask again."""

    standing: Standing | None = None


OnStanding = Callable[[Standing | None], None]
"""Takes how the task stands; None: nobody could say."""


class StandingMessage:
    """Tell how the task stands."""

    __slots__ = ("answered", "fail", "tenant")

    def __init__(self, tenant: str, answered: Callable[[Standing], None], fail: Callable[[TaskerError], None]) -> None:
        self.tenant = tenant
        self.answered = answered
        self.fail = fail

    def turn(self, tenant: str, state: TaskState) -> Turn:
        """Return the answer of the task's actor."""
        if tenant != self.tenant:
            return Turn.refusal(TaskUnknown("there is no such task"), self.fail)
        standing = Standing(ended=state.ended, state=str(state.status), result=state.result, error=state.error)
        return Turn.answer(lambda _: self.answered(standing), self.fail)


class Standings:
    """Asks how tasks stand, here or on the node that owns them."""

    def __init__(self, shards: Shards, routes: Routes) -> None:
        self._shards = shards
        self._routes = routes

    def ask(self, tenant: str, task_id: str, done: OnStanding) -> None:
        """Find out how a task stands."""
        stream_id, shard = self._routes.locate(task_id)
        if self._shards.owns(shard):
            self._ask_here(tenant, stream_id, shard, done)
            return

        def on_reply(reply: StandingReply | TaskerError) -> None:
            done(None if isinstance(reply, TaskerError) else reply.standing)

        self._routes.ask(shard, WHAT, StandingOf(tenant=tenant, task_id=task_id), StandingReply, on_reply)

    def on_asked(self, message: Message) -> None:
        """Answer another node's question about a task of ours."""

        def done(standing: Standing | None) -> None:
            self._routes.respond(message, encode_message(StandingReply(standing=standing)))

        try:
            asked = decode_message(message.data, StandingOf)
            stream_id, shard = self._routes.locate(asked.task_id)
        except (Undecodable, ValueError):
            done(None)
            return
        self._ask_here(asked.tenant, stream_id, shard, done)

    def _ask_here(self, tenant: str, stream_id: UUID, shard: int, done: OnStanding) -> None:
        message = StandingMessage(tenant, done, lambda error: done(_told_by(error)))
        self._shards.send(shard, stream_id, StreamKind.TASK, message)


def _told_by(error: TaskerError) -> Standing | None:
    """Return what a refusal tells: a task that is gone has ended, one that cannot be folded may still run."""
    if isinstance(error, TaskUnknown):
        return Standing(ended=True, state="gone")
    return Standing(ended=False, state="poisoned") if isinstance(error, TaskPoisoned) else None
